/* one_gpu.cu - NCCL for tests of several ranks on one real GPU, which NCCL itself refuses.
 * Preloaded before the program (tests/cuda/gpu.sh), it takes the place of what Tandem calls of
 * NCCL, and gives each rank a GPU of another name.
 *
 * A communicator has a mailbox for every pair of ranks, in memory that the processes share and the
 * GPU sees. A send is a kernel that waits until the mailbox is empty and fills it, a receive one
 * that waits until it is full; the counters are on the device, so that both can be captured in
 * graphs. So streams, events and graphs are put to the test, NCCL is not. Slow: processes share the
 * GPU by turns. */
#include <cuda_runtime.h>
#include <nccl.h>

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROOM ((size_t)2 << 20) /* bytes of one mailbox */

struct mailbox {
    volatile uint64_t written, read, bytes;
    unsigned char pad[104];
    volatile uint32_t data[ROOM / 4];
};

struct ncclComm {
    MPI_Comm mpi;
    int rank, size;
    mailbox *boxes;            /* [from][to] */
    uint64_t *sent, *received; /* device: [size] */
};

static __global__ void send_kernel(mailbox *box, const unsigned char *from, size_t bytes,
                                   uint64_t *sent)
{
    uint64_t before = *sent;
    if (threadIdx.x == 0)
        while (box->read < before)
            __nanosleep(200);
    __syncthreads();
    for (size_t i = threadIdx.x; i < bytes / 4; i += blockDim.x)
        box->data[i] = ((const uint32_t *)from)[i];
    __threadfence_system();
    __syncthreads();
    if (threadIdx.x == 0) {
        box->bytes = bytes;
        *sent = before + 1;
        __threadfence_system();
        box->written = before + 1;
    }
}

static __global__ void receive_kernel(mailbox *box, unsigned char *to, size_t bytes,
                                      uint64_t *received)
{
    uint64_t before = *received;
    if (threadIdx.x == 0) {
        while (box->written <= before)
            __nanosleep(200);
        __threadfence_system();
        if (box->bytes != bytes) {
            printf("one_gpu: %llu bytes sent, %llu wanted\n", (unsigned long long)box->bytes,
                   (unsigned long long)bytes);
            __trap();
        }
    }
    __syncthreads();
    for (size_t i = threadIdx.x; i < bytes / 4; i += blockDim.x)
        ((uint32_t *)to)[i] = box->data[i];
    __threadfence_system();
    __syncthreads();
    if (threadIdx.x == 0) {
        *received = before + 1;
        box->read = before + 1;
    }
}

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "one_gpu: %s: %s\n", what, cudaGetErrorString(cudaGetLastError()));
    MPI_Abort(MPI_COMM_WORLD, 3);
}

/* Collective over mpi, which belongs to the communicator then. */
static ncclComm_t make_comm(MPI_Comm mpi)
{
    static int number;
    struct ncclComm *c = new ncclComm();
    char name[64];
    c->mpi = mpi;
    MPI_Comm_rank(mpi, &c->rank);
    MPI_Comm_size(mpi, &c->size);
    size_t bytes = sizeof(mailbox) * (size_t)c->size * (size_t)c->size;
    snprintf(name, sizeof name, "/one_gpu_%d_%d", (int)getpid(), number++);
    MPI_Bcast(name, sizeof name, MPI_CHAR, 0, mpi);
    int file = shm_open(name, O_RDWR | O_CREAT, 0600);
    must(file >= 0 && ftruncate(file, (off_t)bytes) == 0, "shared memory");
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    must(p != MAP_FAILED, "shared memory");
    close(file);
    MPI_Barrier(mpi);
    shm_unlink(name);
    must(cudaHostRegister(p, bytes, cudaHostRegisterMapped) == cudaSuccess, "pinning it");
    must(cudaHostGetDevicePointer((void **)&c->boxes, p, 0) == cudaSuccess, "mapping it");
    must(cudaMalloc((void **)&c->sent, 2 * (size_t)c->size * 8) == cudaSuccess &&
             cudaMemset(c->sent, 0, 2 * (size_t)c->size * 8) == cudaSuccess &&
             cudaDeviceSynchronize() == cudaSuccess,
         "counters");
    c->received = c->sent + c->size;
    return c;
}

static void send(const void *from, size_t bytes, int peer, ncclComm_t c, cudaStream_t stream)
{
    must(bytes <= ROOM && bytes % 4 == 0, "a message of an odd or large size");
    send_kernel<<<1, 256, 0, stream>>>(c->boxes + c->rank * c->size + peer,
                                       (const unsigned char *)from, bytes, c->sent + peer);
    must(cudaPeekAtLastError() == cudaSuccess, "sending");
}

static void receive(void *to, size_t bytes, int peer, ncclComm_t c, cudaStream_t stream)
{
    receive_kernel<<<1, 256, 0, stream>>>(c->boxes + peer * c->size + c->rank, (unsigned char *)to,
                                          bytes, c->received + peer);
    must(cudaPeekAtLastError() == cudaSuccess, "receiving");
}

extern "C" {
cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int)
{
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    snprintf(text, (size_t)size, "shared %d", rank);
    return cudaSuccess;
}

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    memset(id, 0, sizeof *id);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int, ncclUniqueId, int rank)
{
    MPI_Comm mpi;
    MPI_Comm_split(MPI_COMM_WORLD, 0, rank, &mpi);
    *comm = make_comm(mpi);
    return ncclSuccess;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *part, ncclConfig_t *)
{
    MPI_Comm mpi;
    MPI_Comm_split(comm->mpi, color == NCCL_SPLIT_NOCOLOR ? MPI_UNDEFINED : color, key, &mpi);
    *part = mpi == MPI_COMM_NULL ? NULL : make_comm(mpi);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    MPI_Comm_free(&comm->mpi); /* memory goes with the process */
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t *state)
{
    *state = ncclSuccess;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t)
{
    return "";
}

const char *ncclGetLastError(ncclComm_t)
{
    return "";
}

/* Memory is any memory, and nothing is taken in place. */
#if NCCL_VERSION_CODE >= 21900
ncclResult_t ncclMemAlloc(void **memory, size_t bytes)
{
    return cudaMalloc(memory, bytes) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclMemFree(void *memory)
{
    return cudaFree(memory) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclCommRegister(const ncclComm_t, void *, size_t, void **handle)
{
    *handle = NULL;
    return ncclSuccess;
}

ncclResult_t ncclCommDeregister(const ncclComm_t, void *)
{
    return ncclSuccess;
}
#endif

/* Operations of a group run in the order of the calls: enough for what nccl.c puts into one. */
ncclResult_t ncclGroupStart(void)
{
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    return ncclSuccess;
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    send(from, count, peer, comm, stream);
    return ncclSuccess;
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    receive(to, count, peer, comm, stream);
    return ncclSuccess;
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t,
                           ncclComm_t comm, cudaStream_t stream)
{
    for (int i = 0; i < comm->size; i++)
        if (i != comm->rank)
            send(from, count, i, comm, stream);
    for (int i = 0; i < comm->size; i++)
        if (i != comm->rank)
            receive((char *)to + (size_t)i * count, count, i, comm, stream);
    return ncclSuccess;
}
}
