/* runtime.cpp - devices and memory of the CUDA runtime, and cuBLAS, for tests, on a CPU. Streams
 * are in queues.cpp. */
#include "emulation.h"

#include <cublas_v2.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static size_t bytes_taken;

static const size_t device_bytes = (size_t)16 << 30;

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
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureUnjoined:
        return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation:
        return "dependency created on uncaptured work in another stream";
    case cudaErrorCapturedEvent:
        return "operation not permitted on an event last recorded in a capturing stream";
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

/* TANDEM_EMU_DRIVER: what the driver can do, as 12040. */
cudaError_t cudaDriverGetVersion(int *version)
{
    const char *driver = getenv("TANDEM_EMU_DRIVER");
    *version = driver ? atoi(driver) : devices() < 0 ? 0 : 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

static int current_device;

cudaError_t cudaSetDevice(int device)
{
    current_device = device;
    return cudaSuccess;
}

int emu::device()
{
    return current_device;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *about, int device)
{
    memset(about, 0, sizeof *about);
    const char *unlike =
        getenv("TANDEM_EMU_UNLIKE"); /* from this device on they are of another kind */
    snprintf(about->name, sizeof about->name, "emulation%s",
             unlike && device >= atoi(unlike) ? " of another card" : "");
    const char *shared = getenv("TANDEM_EMU_SHARED"), *count = getenv("TANDEM_EMU_PROCESSORS");
    emu::the_card = emu::card();
    if (shared)
        emu::the_card.shared = (size_t)atoi(shared) * 1024;
    if (count)
        emu::the_card.processors = atoi(count);
    /* A card's own number: host and place. */
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    memcpy(about->uuid.bytes, host, 15);
    about->uuid.bytes[15] = (char)device;
    about->multiProcessorCount = emu::the_card.processors;
    about->sharedMemPerBlockOptin = emu::the_card.shared;
    about->major = 9; /* whatever its memory: kernels overlap here (emulation.h: overlaps()) */
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device)
{
    snprintf(text, (size_t)size, "0000:%02x:00.0", device);
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
    if (emu::capturing())
        return cudaErrorStreamCaptureUnsupported;
    if (bytes > device_bytes - (bytes_taken < device_bytes ? bytes_taken : device_bytes))
        return cudaErrorMemoryAllocation;
    unsigned char *base = (unsigned char *)aligned_alloc(256, (bytes + 256 + 255) / 256 * 256);
    if (!base)
        return cudaErrorMemoryAllocation;
    memcpy(base, &bytes, sizeof bytes);
    memset(base + 256, 0xff, bytes < (size_t)1 << 24 ? bytes : (size_t)1 << 24);
    bytes_taken += bytes;
    *p = base + 256;
    emu::count_memory(*p, bytes);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p)
        return cudaSuccess;
    if (emu::capturing())
        return cudaErrorStreamCaptureUnsupported;
    emu::finish();
    unsigned char *base = (unsigned char *)p - 256;
    size_t bytes;
    memcpy(&bytes, base, sizeof bytes);
    bytes_taken -= bytes;
    emu::count_memory(p, 0);
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
    emu::finish();
    free(p);
    return cudaSuccess;
}

/* ---- cuBLAS -----------------------------------------------------------------------------------
 */

struct cublasContext {
    cudaStream_t stream;
    void *workspace;
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
    handle->workspace = NULL;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void *workspace, size_t bytes)
{
    handle->workspace = workspace;
    memset(workspace, 0xff, bytes < 4096 ? bytes : 4096); /* nothing else may be there */
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b,
                            int m, int n, int k, const void *alpha, const void *a,
                            cudaDataType a_type, int lda, const void *b, cudaDataType b_type,
                            int ldb, const void *beta, void *c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t)
{
    if (!handle->workspace || op_a != CUBLAS_OP_T || op_b != CUBLAS_OP_N || a_type != CUDA_R_16BF ||
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
