#include "exchange/nccl_wire.h"

#include "base/mem.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void nccl_must(ncclResult_t code, const char *what)
{
    if (code == ncclInProgress)
        die("NCCL: %s has not ended when it returned: do not set NCCL_COMM_BLOCKING=0", what);
    if (code != ncclSuccess)
        die("NCCL: %s failed: %s. %s (NCCL_DEBUG=INFO says more)", what, ncclGetErrorString(code),
            ncclGetLastError(NULL));
}

int nccl_rail(const struct exchange_shape *s, const struct exchange_place *p)
{
    return p->index % s->layout.tensor;
}

int nccl_instance(const struct exchange_shape *s, const struct exchange_place *p)
{
    return p->attention ? 0 : p->index / s->layout.tensor;
}

/* ---- who is there --------------------------------------------------------------------------- */

struct rank_gpu {
    char host[64], gpu[128];
    int version;
};

/* Whether ranks i and j, i < j, can be in one job; dies on rank j when they cannot. */
static bool check_pair(const struct rank_gpu *all, int i, int j, int rank)
{
    bool version = all[i].version == all[j].version;
    bool gpu = strcmp(all[i].host, all[j].host) != 0 || strcmp(all[i].gpu, all[j].gpu) != 0;
    if (rank == j && !version)
        die("this rank has NCCL %d, rank %d on %s has %d; all hosts need the same", all[j].version,
            i, all[i].host, all[i].version);
    if (rank == j && !gpu)
        die("ranks %d and %d share one GPU (%s), which NCCL does not allow: start as many ranks on "
            "a host as it has GPUs, and do not give each rank a CUDA_VISIBLE_DEVICES of its own "
            "unless they differ (srun --gpus-per-task=1 --gpu-bind=none lets each see all)",
            i, j, all[j].gpu);
    return version && gpu;
}

/* Ranks with different NCCLs, or two ranks on one GPU, hang or crash later: found here. Every rank
 * finds the same first pair, whose second rank speaks; the others wait until it ends them. */
static void check_ranks(const struct exchange_place *p)
{
    struct rank_gpu mine = {{0}, {0}, 0}, *all;
    int rank, size, length;
    char host[MPI_MAX_PROCESSOR_NAME];
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_processor_name(host, &length);
    snprintf(mine.host, sizeof mine.host, "%.63s", host);
    p->backend->device->describe(p->device, mine.gpu, sizeof mine.gpu);
    nccl_must(ncclGetVersion(&mine.version), "ncclGetVersion");
    all = mem_zeroed((size_t)size, sizeof *all);
    MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, MPI_COMM_WORLD);
    bool good = true;
    for (int j = 1; good && j < size; j++)
        for (int i = 0; good && i < j; i++)
            good = check_pair(all, i, j, rank);
    MPI_Barrier(MPI_COMM_WORLD);
    free(all);
}

/* ---- communicators -------------------------------------------------------------------------- */

static ncclComm_t world_communicator(void)
{
    ncclUniqueId id;
    ncclComm_t world;
    int rank, size;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (rank == 0)
        nccl_must(ncclGetUniqueId(&id), "ncclGetUniqueId");
    MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    nccl_must(ncclCommInitRank(&world, size, id, rank), "ncclCommInitRank");
    return world;
}

/* Without scratch memory, and before others: NCCL's kernels must not wait for room until a large
 * matrix product has ended. */
static struct stream *open_stream(void)
{
    int least, greatest;
    struct stream *s = mem_zeroed(1, sizeof *s);
    cuda_check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "asking for priorities");
    cuda_check(cudaStreamCreateWithPriority(&s->cuda, cudaStreamNonBlocking, greatest),
               "making a stream");
    return s;
}

/* Splits off the rail and the instance for one direction. */
static void split(const struct exchange_shape *s, const struct exchange_place *p, ncclComm_t world,
                  struct direction *d)
{
    int rail = nccl_rail(s, p), instance = nccl_instance(s, p);
    int key = p->attention ? p->index : s->layout.attention + instance;
    bool gathers = p->ffn && s->layout.tensor > 1;
    nccl_must(ncclCommSplit(world, rail, key, &d->rail, NULL), "splitting off a rail");
    nccl_must(
        ncclCommSplit(world, gathers ? instance : NCCL_SPLIT_NOCOLOR, rail, &d->instance, NULL),
        "splitting off an FFN instance");
    if (!gathers)
        d->instance = NULL;
}

void nccl_connect(const struct exchange_shape *s, const struct exchange_place *p,
                  struct direction *both)
{
    check_ranks(p);
    /* Streams come before NCCL makes its own: hardware queues are dealt in this order, and the
     * first ones are then not shared. */
    for (int i = 0; i < 2; i++)
        both[i].stream = open_stream();
    ncclComm_t world = world_communicator();
    for (int i = 0; i < 2; i++) {
        split(s, p, world, &both[i]);
        both[i].passed = p->backend->device->event_create(p->device);
    }
    nccl_must(ncclCommDestroy(world), "ncclCommDestroy");
}

void nccl_disconnect(const struct exchange_place *p, struct direction *both)
{
    const struct device_ops *dev = p->backend->device;
    for (int i = 0; i < 2; i++) {
        dev->stream_sync(p->device, both[i].stream);
        if (both[i].instance)
            nccl_must(ncclCommDestroy(both[i].instance), "ncclCommDestroy");
        nccl_must(ncclCommDestroy(both[i].rail), "ncclCommDestroy");
        dev->event_destroy(p->device, both[i].passed);
        dev->stream_destroy(p->device, both[i].stream);
    }
}
