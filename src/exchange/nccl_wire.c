#include "exchange/nccl_wire.h"

#include "base/mem.h"
#include "exchange/call.h"
#include "schedule/rails.h"

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

/* ---- who is there --------------------------------------------------------------------------- */

struct rank_gpu {
    char host[64], gpu[128]; /* gpu: as describe() names it, with a number of its own */
    int rank, version;       /* the launcher's number; NCCL's version */
};

/* NCCL's version; dies when it has not all that this program calls, which must be asked before it is called. */
static int version_found(void)
{
    int v;
    nccl_must(ncclGetVersion(&v), "ncclGetVersion");
    if (v < NCCL_RUNS)
        die("the NCCL that was found when the program started is %d.%d.%d, %d.%d is needed: look "
            "at LD_LIBRARY_PATH",
            v / 10000, v / 100 % 100, v % 100, NCCL_RUNS / 10000, NCCL_RUNS / 100 % 100);
    return v;
}

/* Whether ranks i and j, i < j, can be in one job; dies on rank j when they cannot. */
static bool check_pair(const struct rank_gpu *all, int i, int j, int rank)
{
    bool version = all[i].version == all[j].version;
    bool gpu = strcmp(all[i].gpu, all[j].gpu) != 0;
    if (rank == j && !version)
        die("this rank has NCCL %d, rank %d on %s has %d; all hosts need the same", all[j].version,
            all[i].rank, all[i].host, all[i].version);
    if (rank == j && !gpu)
        die("ranks %d and %d share one GPU (%s), which NCCL does not allow: start as many ranks on "
            "a host as it has GPUs, and do not give each rank a CUDA_VISIBLE_DEVICES of its own "
            "unless they differ (srun --gpus-per-task=1 --gpu-bind=none lets each see all)",
            all[i].rank, all[j].rank, all[j].gpu);
    return version && gpu;
}

/* Ranks with different NCCLs, or two ranks on one GPU, hang or crash later: found here. Every rank
 * finds the same first pair, whose second rank speaks; the others wait until it ends them. */
static void check_ranks(const struct endpoint *end)
{
    struct rank_gpu mine = {.rank = -1}, *all;
    const struct place *p = &end->place;
    int length, size = layout_ranks(&p->layout);
    char host[MPI_MAX_PROCESSOR_NAME];
    mpi_must(MPI_Get_processor_name(host, &length), "MPI_Get_processor_name");
    mpi_must(MPI_Comm_rank(MPI_COMM_WORLD, &mine.rank), "MPI_Comm_rank");
    snprintf(mine.host, sizeof mine.host, "%.63s", host);
    end->backend->device->describe(end->device, mine.gpu, sizeof mine.gpu);
    mine.version = version_found();
    all = mem_zeroed((size_t)size, sizeof *all);
    mpi_must(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, end->cell),
             "MPI_Allgather of GPUs");
    bool good = true;
    for (int j = 1; good && j < size; j++)
        for (int i = 0; good && i < j; i++)
            good = check_pair(all, i, j, p->rank);
    mpi_meet(end->cell);
    free(all);
}

/* ---- communicators -------------------------------------------------------------------------- */

static ncclComm_t cell_communicator(const struct endpoint *end)
{
    ncclUniqueId id;
    ncclComm_t all;
    if (end->place.rank == 0)
        nccl_must(ncclGetUniqueId(&id), "ncclGetUniqueId");
    mpi_must(MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, end->cell), "MPI_Bcast of NCCL's id");
    nccl_must(ncclCommInitRank(&all, layout_ranks(&end->place.layout), id, end->place.rank),
              "ncclCommInitRank");
    return all;
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
static void split(const struct place *p, ncclComm_t all, int blocks, struct direction *d)
{
    /* A block of NCCL leaves no room for one of ours beside it, and ours are laid out for so many on
     * each processor: a few blocks find processors that are free, many would make kernels run twice. */
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    if (blocks > 0)
        config.maxCTAs = blocks;
    int rail = rails_of(p), instance = rails_instance(p);
    int key = p->attention ? p->index : p->layout.attention + instance;
    bool gathers = p->ffn && p->layout.tensor > 1;
    nccl_must(ncclCommSplit(all, rail, key, &d->rail, &config), "splitting off a rail");
    nccl_must(
        ncclCommSplit(all, gathers ? instance : NCCL_SPLIT_NOCOLOR, rail, &d->instance, &config),
        "splitting off an FFN instance");
    if (!gathers)
        d->instance = NULL;
}

#if NCCL_VERSION_CODE >= 21900

static ncclResult_t take(size_t bytes, char **memory)
{
    return ncclMemAlloc((void **)memory, bytes);
}

static void give_back(char *memory)
{
    if (memory)
        nccl_must(ncclMemFree(memory), "giving back memory of the exchange");
}

/* That a network or a GPU cannot use it in place is no failure, however NCCL says so: then it travels through
 * buffers of NCCL, as everything else does. */
static void *show(ncclComm_t user, char *memory, size_t bytes)
{
    void *handle = NULL;
    ncclResult_t r = ncclCommRegister(user, memory, bytes, &handle);
    if (r == ncclInvalidUsage || r == ncclInvalidArgument || r == ncclSystemError ||
        r == ncclUnhandledCudaError) {
        cudaGetLastError();
        return NULL;
    }
    nccl_must(r, "ncclCommRegister");
    return handle;
}

static void hide(ncclComm_t user, void *handle)
{
    nccl_must(ncclCommDeregister(user, handle), "ncclCommDeregister");
}

#else

static ncclResult_t take(size_t bytes, char **memory)
{
    return cudaMalloc((void **)memory, bytes) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

static void give_back(char *memory)
{
    cuda_check(cudaFree(memory), "giving back memory of the exchange");
}

static void *show(ncclComm_t user, char *memory, size_t bytes)
{
    (void)user;
    (void)memory;
    (void)bytes;
    return NULL;
}

static void hide(ncclComm_t user, void *handle)
{
    (void)user;
    (void)handle;
}

#endif

static void took(ncclResult_t code, size_t bytes)
{
    char what[80];
    snprintf(what, sizeof what, "taking %zu bytes of device memory for the exchange", bytes);
    nccl_must(code, what);
}

struct buffer nccl_buffer(size_t bytes, const struct direction *both)
{
    struct buffer b = {.user = {both[0].rail, both[0].instance, both[1].rail, both[1].instance}};
    if (bytes > 0)
        took(take(bytes, &b.memory), bytes);
    for (int i = 0; i < BUFFER_USERS && b.memory; i++)
        if (b.user[i])
            b.handle[i] = show(b.user[i], b.memory, bytes);
    return b;
}

void nccl_release(struct buffer *b)
{
    for (int i = 0; i < BUFFER_USERS; i++)
        if (b->handle[i])
            hide(b->user[i], b->handle[i]);
    give_back(b->memory);
    *b = (struct buffer){0};
}

#define PAGE ((size_t)2 << 20)

size_t nccl_buffer_bytes(size_t bytes)
{
    size_t before = 0, after = 0, total, pages = (bytes + PAGE - 1) / PAGE * PAGE;
    if (cudaMemGetInfo(&before, &total) != cudaSuccess)
        return pages; /* the card is elsewhere */
    version_found();
    if (bytes == 0 || bytes > before)
        return pages; /* that there is too little the plan says, with all that is needed */
    char *memory = NULL;
    took(take(bytes, &memory), bytes);
    cuda_check(cudaMemGetInfo(&after, &total), "asking for free memory");
    give_back(memory);
    return before > after + pages ? before - after : pages;
}

void nccl_connect(const struct exchange_shape *shape, const struct endpoint *end,
                  struct direction *both)
{
    mpi_meet(end->cell);
    check_ranks(end);
    /* Streams come before NCCL makes its own: hardware queues are dealt in this order, and the
     * first ones are then not shared. */
    for (int i = 0; i < 2; i++)
        both[i].stream = open_stream();
    ncclComm_t all = cell_communicator(end);
    for (int i = 0; i < 2; i++) {
        split(&end->place, all, shape->nccl_blocks, &both[i]);
        both[i].passed = end->backend->device->event_create(end->device);
    }
    nccl_must(ncclCommDestroy(all), "ncclCommDestroy");
}

void nccl_disconnect(const struct endpoint *end, struct direction *both)
{
    const struct device_ops *dev = end->backend->device;
    for (int i = 0; i < 2; i++) {
        dev->stream_sync(end->device, both[i].stream);
        if (both[i].instance)
            nccl_must(ncclCommDestroy(both[i].instance), "ncclCommDestroy");
        nccl_must(ncclCommDestroy(both[i].rail), "ncclCommDestroy");
        dev->event_destroy(end->device, both[i].passed);
        dev->stream_destroy(end->device, both[i].stream);
    }
}
