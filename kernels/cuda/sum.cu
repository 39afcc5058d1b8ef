/* sum.cu - sum (ops.h): partial sums of several ranks, added in order. One block a row. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 256

/* In fours where the width allows it. */
static __global__ void sum4_kernel(cuda_parts parts, int n_parts, int type, int width, void *out)
{
    size_t row = (size_t)blockIdx.x * width;
    for (int i = (int)threadIdx.x * 4; i < width; i += THREADS * 4) {
        float4 v = load_number4(parts.part[0], row + i, type);
        for (int p = 1; p < n_parts; p++) {
            float4 add = load_number4(parts.part[p], row + i, type);
            v.x += add.x, v.y += add.y, v.z += add.z, v.w += add.w;
        }
        store_number4(out, row + i, type, v);
    }
}

static __global__ void sum_kernel(cuda_parts parts, int n_parts, int type, int width, void *out)
{
    size_t row = (size_t)blockIdx.x * width;
    for (int i = (int)threadIdx.x; i < width; i += THREADS) {
        float v = load_number(parts.part[0], row + i, type);
        for (int p = 1; p < n_parts; p++)
            v += load_number(parts.part[p], row + i, type);
        store_number(out, row + i, type, v);
    }
}

static __global__ void sum_exact_kernel(cuda_parts parts, int n_parts, int width, double *out)
{
    size_t row = (size_t)blockIdx.x * width;
    for (int i = (int)threadIdx.x; i < width; i += THREADS) {
        double v = 0.0;
        for (int p = 0; p < n_parts; p++)
            v += ((const double *)parts.part[p])[row + i];
        out[row + i] = v;
    }
}

extern "C" void cuda_sum(cudaStream_t stream, const struct cuda_parts *parts, int n_parts, int type,
                         int n, int width, void *out)
{
    if (type == NUMBER_F64)
        launch(sum_exact_kernel, n, THREADS, 0, stream, *parts, n_parts, width, (double *)out);
    else if (width % 4 == 0)
        launch(sum4_kernel, n, THREADS, 0, stream, *parts, n_parts, type, width, out);
    else
        launch(sum_kernel, n, THREADS, 0, stream, *parts, n_parts, type, width, out);
}
