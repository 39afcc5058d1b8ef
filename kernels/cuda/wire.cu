/* wire.cu - wire_encode and wire_decode (ops.h): the number formats of the exchange. One warp does
 * 128 columns of a row, four a lane. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 256
#define WARPS   (THREADS / 32)
#define COLUMNS 128

static __global__ void encode_kernel(const void *x, int act, int n, int hidden, int wire,
                                     void *rows, float *scales)
{
    int blocks = (hidden + COLUMNS - 1) / COLUMNS;
    size_t job = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (job >= (size_t)n * blocks)
        return;
    size_t row = job / blocks * hidden;
    int column = (int)(job % blocks) * COLUMNS + (int)(threadIdx.x % 32) * 4;
    float v[4], largest = 0.0f; /* a NaN does not count, and becomes the code of NaN */
    for (int c = 0; c < 4; c++) {
        v[c] = column + c < hidden ? load_number(x, row + column + c, act) : 0.0f;
        largest = fmaxf(largest, fabsf(v[c]));
    }
    float scale = 1.0f;
    if (wire == NUMBER_F8E4M3) {
        largest = warp_max(largest);
        scale = largest / 448.0f;
        if (scale == 0.0f)
            scale = 1.0f;
        if (threadIdx.x % 32 == 0)
            scales[job] = scale;
    }
    for (int c = 0; c < 4; c++)
        if (column + c < hidden)
            store_number(rows, row + column + c, wire, wire == NUMBER_F8E4M3 ? v[c] / scale : v[c]);
}

static __global__ void decode_kernel(int wire, const void *rows, const float *scales, int n,
                                     int hidden, void *x, int act)
{
    int blocks = (hidden + COLUMNS - 1) / COLUMNS;
    size_t job = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (job >= (size_t)n * blocks)
        return;
    size_t row = job / blocks * hidden;
    int column = (int)(job % blocks) * COLUMNS + (int)(threadIdx.x % 32) * 4;
    float scale = wire == NUMBER_F8E4M3 ? scales[job] : 1.0f;
    for (int c = 0; c < 4; c++)
        if (column + c < hidden)
            store_number(x, row + column + c, act,
                         load_number(rows, row + column + c, wire) * scale);
}

static unsigned grid_for(int n, int hidden)
{
    size_t jobs = (size_t)n * ((hidden + COLUMNS - 1) / COLUMNS);
    return (unsigned)((jobs + WARPS - 1) / WARPS);
}

extern "C" void cuda_wire_encode(cudaStream_t stream, const void *x, int act, int n, int hidden,
                                 int wire, void *rows, float *scales)
{
    launch(encode_kernel, grid_for(n, hidden), THREADS, 0, stream, x, act, n, hidden, wire, rows,
           scales);
}

extern "C" void cuda_wire_decode(cudaStream_t stream, int wire, const void *rows,
                                 const float *scales, int n, int hidden, void *x, int act)
{
    launch(decode_kernel, grid_for(n, hidden), THREADS, 0, stream, wire, rows, scales, n, hidden, x,
           act);
}
