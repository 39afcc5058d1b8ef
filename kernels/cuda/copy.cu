/* copy.cu - copy (ops.h): rows from one number format to another. One warp does 128 columns of a
 * row, four a lane. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 256
#define WARPS   (THREADS / 32)
#define COLUMNS 128 /* that share one scale */

static __global__ void copy_kernel(cuda_rows from, cuda_rows to, int n, int width)
{
    grid_begin();
    int blocks = (width + COLUMNS - 1) / COLUMNS;
    size_t job = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (job >= (size_t)n * blocks)
        return;
    size_t read = job / blocks * from.stride, write = job / blocks * to.stride;
    int column = (int)(job % blocks) * COLUMNS + (int)(threadIdx.x % 32) * 4;
    float by = from.type == NUMBER_F8E4M3 ? from.scale[job] : 1.0f;
    float v[4], largest = 0.0f; /* a NaN does not count, and becomes the code of NaN */
    for (int c = 0; c < 4; c++) {
        v[c] =
            column + c < width ? load_number(from.data, read + column + c, from.type) * by : 0.0f;
        largest = fmaxf(largest, fabsf(v[c]));
    }
    float scale = 1.0f;
    if (to.type == NUMBER_F8E4M3) {
        largest = warp_max(largest);
        scale = largest / 448.0f;
        if (scale == 0.0f)
            scale = 1.0f;
        if (threadIdx.x % 32 == 0)
            to.scale[job] = scale;
    }
    for (int c = 0; c < 4; c++)
        if (column + c < width)
            store_number(to.data, write + column + c, to.type,
                         to.type == NUMBER_F8E4M3 ? v[c] / scale : v[c]);
}

extern "C" void cuda_copy(cudaStream_t stream, const struct cuda_rows *from,
                          const struct cuda_rows *to, int n, int width)
{
    size_t jobs = (size_t)n * ((width + COLUMNS - 1) / COLUMNS);
    launch_early(copy_kernel, (unsigned)((jobs + WARPS - 1) / WARPS), THREADS, 0, stream, *from,
                 *to, n, width);
}

extern "C" int cuda_copy_overlaps(void)
{
    return overlaps((const void *)copy_kernel);
}
