/* gate.cu - bias and gate (ops.h): what is done to activations element by element. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 256

static __global__ void bias_kernel(const float *bias, size_t total, int width, void *x, int type)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < total)
        store_number(x, i, type, load_number(x, i, type) + bias[i % width]);
}

static __global__ void gate_kernel(const float *g, size_t total, int width, void *x, int act)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < total)
        store_number(x, i, act, load_number(x, i, act) * (1.0f / (1.0f + expf(-g[i / width]))));
}

static unsigned grid_for(size_t total)
{
    return (unsigned)((total + THREADS - 1) / THREADS);
}

extern "C" void cuda_bias(cudaStream_t stream, const float *bias, int n, int width, void *x,
                          int type)
{
    size_t total = (size_t)n * width;
    launch(bias_kernel, grid_for(total), THREADS, 0, stream, bias, total, width, x, type);
}

extern "C" void cuda_gate(cudaStream_t stream, const float *g, int n, int heads, int width, void *x,
                          int act)
{
    size_t total = (size_t)n * heads * width;
    launch(gate_kernel, grid_for(total), THREADS, 0, stream, g, total, width, x, act);
}
