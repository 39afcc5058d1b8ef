/* runtime.cpp - the CUDA runtime and cuBLAS for tests, on a CPU.
 *
 * Work waits in its stream until someone needs its result: a synchronization, a query, a free. Then
 * streams take turns by chance (TANDEM_EMU_SEED), but a wait for an event lets nothing of its
 * stream pass before the record has run. So what only happened to be in order comes out wrong. */
#include "emulation.h"

#include <cublas_v2.h>

#include <chrono>
#include <deque>
#include <stdio.h>
#include <stdlib.h>
#include <vector>

struct CUevent_st {
    uint64_t recorded, happened; /* number of the last record enqueued, and run */
    double at;
};

struct work {
    std::function<void()> run;
    cudaEvent_t wait; /* not before record `number` of this event */
    uint64_t number;
};

struct CUstream_st {
    std::deque<work> queue;
};

static std::vector<cudaStream_t> streams;
static size_t bytes_taken;

static const size_t device_bytes = (size_t)16 << 30;

static uint64_t chance()
{
    static uint64_t state;
    if (state == 0) {
        const char *seed = getenv("TANDEM_EMU_SEED");
        state = (seed ? strtoull(seed, NULL, 10) : 1) * 0x9e3779b97f4a7c15u | 1;
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static bool blocked(cudaStream_t s)
{
    const work &w = s->queue.front();
    return w.wait && w.wait->happened < w.number;
}

/* Runs one piece of work of some stream that can; false when there is none. */
static bool run_one(cudaStream_t first)
{
    std::vector<cudaStream_t> can;
    if (first && !first->queue.empty() && !blocked(first) && chance() % 4 != 0)
        can.push_back(first);
    else
        for (cudaStream_t s : streams)
            if (!s->queue.empty() && !blocked(s))
                can.push_back(s);
    if (can.empty())
        return false;
    cudaStream_t s = can[chance() % can.size()];
    work w = std::move(s->queue.front());
    s->queue.pop_front();
    if (w.run)
        w.run();
    return true;
}

static void stuck()
{
    fprintf(stderr, "CUDA emulation: streams wait for each other\n");
    abort();
}

static void run_stream(cudaStream_t s)
{
    while (!s->queue.empty())
        if (!run_one(s))
            stuck();
}

static void run_all()
{
    while (run_one(NULL))
        ;
    for (cudaStream_t s : streams)
        if (!s->queue.empty())
            stuck();
}

void emu::enqueue(cudaStream_t stream, std::function<void()> run)
{
    if (!stream) {
        fprintf(stderr, "CUDA emulation: work for the default stream\n");
        abort();
    }
    stream->queue.push_back({std::move(run), NULL, 0});
}

static int devices()
{
    const char *count = getenv("TANDEM_EMU_DEVICES");
    return count ? atoi(count) : 2;
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInsufficientDriver:
        return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNotReady:
        return "device not ready";
    default:
        return "unknown error";
    }
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = devices() < 0 ? 0 : devices();
    return devices() < 0 ? cudaErrorInsufficientDriver : cudaSuccess;
}

cudaError_t cudaSetDevice(int)
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *about, int)
{
    memset(about, 0, sizeof *about);
    snprintf(about->name, sizeof about->name, "emulation");
    about->major = 8;
    about->multiProcessorCount = 3; /* few and odd, so that blocks have much to do */
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device)
{
    snprintf(text, (size_t)size, "0000:%02x:00.0", device);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    run_all();
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total)
{
    *total = device_bytes;
    *left = bytes_taken < device_bytes ? device_bytes - bytes_taken : 0;
    return cudaSuccess;
}

/* 256 bytes in front hold the size. Large blocks stay as the system gives them: filling them would
 * cost more than it finds. */
cudaError_t cudaMalloc(void **p, size_t bytes)
{
    if (bytes > device_bytes - (bytes_taken < device_bytes ? bytes_taken : device_bytes))
        return cudaErrorMemoryAllocation;
    unsigned char *base = (unsigned char *)aligned_alloc(256, (bytes + 256 + 255) / 256 * 256);
    if (!base)
        return cudaErrorMemoryAllocation;
    memcpy(base, &bytes, sizeof bytes);
    memset(base + 256, 0xff, bytes < (size_t)1 << 24 ? bytes : (size_t)1 << 24);
    bytes_taken += bytes;
    *p = base + 256;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p)
        return cudaSuccess;
    run_all();
    unsigned char *base = (unsigned char *)p - 256;
    size_t bytes;
    memcpy(&bytes, base, sizeof bytes);
    bytes_taken -= bytes;
    free(base);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    *p = aligned_alloc(256, (bytes + 255) / 256 * 256);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void *p)
{
    run_all();
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind,
                            cudaStream_t stream)
{
    emu::enqueue(stream, [=]() { memcpy(to, from, bytes); });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    emu::enqueue(stream, [=]() { memset(p, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = new CUstream_st;
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    run_stream(stream);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == stream)
            streams.erase(streams.begin() + (long)i--);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    run_stream(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    run_one(NULL);
    return stream->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    stream->queue.push_back({nullptr, event, event->recorded});
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    *event = new CUevent_st();
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    return cudaEventCreate(event);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    run_all(); /* waits in queues point at it */
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    uint64_t number = ++event->recorded;
    emu::enqueue(stream, [=]() {
        event->happened = number;
        event->at =
            std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
                .count();
    });
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (event->happened < event->recorded)
        run_one(NULL);
    return event->happened < event->recorded ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    while (event->happened < event->recorded)
        if (!run_one(NULL))
            stuck();
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    *milliseconds = (float)((to->at - from->at) * 1e3);
    return cudaSuccess;
}

/* ---- cuBLAS -----------------------------------------------------------------------------------
 */

struct cublasContext {
    cudaStream_t stream;
};

cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    *handle = new cublasContext();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                            int m, int n, int k, const void *alpha, const void *a,
                            cudaDataType a_type, int lda, const void *b, cudaDataType b_type,
                            int ldb, const void *beta, void *c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t)
{
    if (op_a != CUBLAS_OP_T || op_b != CUBLAS_OP_N || a_type != CUDA_R_16BF ||
        b_type != CUDA_R_16BF || compute != CUBLAS_COMPUTE_32F || *(const float *)alpha != 1 ||
        *(const float *)beta != 0 || lda < k || ldb < k || ldc < m)
        return CUBLAS_STATUS_INVALID_VALUE;
    emu::enqueue(handle->stream, [=]() {
        for (int j = 0; j < n; j++)
            for (int i = 0; i < m; i++) {
                const uint16_t *x = (const uint16_t *)a + (size_t)i * lda;
                const uint16_t *y = (const uint16_t *)b + (size_t)j * ldb;
                float sum = 0;
                for (int p = 0; p < k; p++)
                    sum += bits_to_f32((uint32_t)x[p] << 16) * bits_to_f32((uint32_t)y[p] << 16);
                if (c_type == CUDA_R_32F)
                    ((float *)c)[(size_t)j * ldc + i] = sum;
                else
                    ((uint16_t *)c)[(size_t)j * ldc + i] = (uint16_t)round_to_bf16(sum);
            }
    });
    return CUBLAS_STATUS_SUCCESS;
}
