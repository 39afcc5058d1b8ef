/* norm.cu - residual_norm and norm (ops.h). One block a row; the row waits in shared memory between
 * the sum of its squares and its scaling, so it is read once and written once. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 512
#define WARPS   (THREADS / 32)

/* V elements from the i-th on are handled together; V is 4 where width and places allow it. */
template <int V>
static __device__ __forceinline__ void load_some(const void *p, size_t i, int type, float v[V])
{
    if (V == 4) {
        float4 four = load_number4(p, i, type);
        memcpy(v, &four, V * sizeof *v);
    } else {
        v[0] = load_number(p, i, type);
    }
}

template <int V>
static __device__ __forceinline__ void store_some(void *p, size_t i, int type, const float v[V])
{
    if (V == 4) {
        float4 four;
        memcpy(&four, v, V * sizeof *v);
        store_number4(p, i, type, four);
    } else {
        store_number(p, i, type, v[0]);
    }
}

template <int V, int PART>
static __device__ float add_parts(float *x, float *row, struct cuda_parts parts, int n_parts,
                                  size_t base, int width)
{
    float squares = 0.0f;
#pragma unroll 4
    for (int i = (int)threadIdx.x * V; i < width; i += THREADS * V) {
        float v[V], add[V];
        load_some<V>(x, base + i, NUMBER_F32, v);
        for (int p = 0; p < n_parts && PART != NUMBER_F64; p++) {
            load_some<V>(parts.part[p], base + i, PART, add);
            for (int c = 0; c < V; c++)
                v[c] += add[c];
        }
        for (int c = 0; c < V && PART == NUMBER_F64; c++) {
            double sum = 0.0;
            for (int p = 0; p < n_parts; p++)
                sum += ((const double *)parts.part[p])[base + i + c];
            v[c] += (float)sum;
        }
        if (n_parts > 0)
            store_some<V>(x, base + i, NUMBER_F32, v);
        store_some<V>(row, i, NUMBER_F32, v);
        for (int c = 0; c < V; c++)
            squares = fmaf(v[c], v[c], squares);
    }
    return squares;
}

template <int V>
static __device__ float load_row(const void *x, float *row, size_t base, int width, int act)
{
    float squares = 0.0f;
    for (int i = (int)threadIdx.x * V; i < width; i += THREADS * V) {
        float v[V];
        load_some<V>(x, base + i, act, v);
        store_some<V>(row, i, NUMBER_F32, v);
        for (int c = 0; c < V; c++)
            squares = fmaf(v[c], v[c], squares);
    }
    return squares;
}

template <int V>
static __device__ void scale_row(const float *row, const float *gain, float factor, void *y,
                                 size_t base, int width, int act)
{
    for (int i = (int)threadIdx.x * V; i < width; i += THREADS * V) {
        float v[V], g[V];
        load_some<V>(row, i, NUMBER_F32, v);
        load_some<V>(gain, i, NUMBER_F32, g);
        for (int c = 0; c < V; c++)
            v[c] = v[c] * factor * g[c];
        store_some<V>(y, base + i, act, v);
    }
}

template <int V, int PART>
static __global__ void residual_kernel(float *x, struct cuda_parts parts, int n_parts,
                                       const float *gain, float eps, int width, void *y, int act)
{
    grid_begin();
    float *row = (float *)shared_memory() + WARPS, *scratch = (float *)shared_memory();
    size_t base = (size_t)blockIdx.x * width;
    float squares = add_parts<V, PART>(x, row, parts, n_parts, base, width);
    if (y == NULL)
        return;
    squares = block_sum(squares, scratch, WARPS);
    scale_row<V>(row, gain, 1.0f / sqrtf(squares / (float)width + eps), y, base, width, act);
}

template <int V>
static __global__ void norm_kernel(cuda_rows x, const float *gain, float eps, int width,
                                   cuda_rows y)
{
    grid_begin();
    float *row = (float *)shared_memory() + WARPS, *scratch = (float *)shared_memory();
    size_t from = (size_t)blockIdx.x * x.stride, to = (size_t)blockIdx.x * y.stride;
    float squares = block_sum(load_row<V>(x.data, row, from, width, x.type), scratch, WARPS);
    scale_row<V>(row, gain, 1.0f / sqrtf(squares / (float)width + eps), y.data, to, width, y.type);
}

extern "C" size_t cuda_norm_shared(int width)
{
    return ((size_t)width + WARPS) * sizeof(float);
}

/* Four at a time needs rows and pointers aligned to 16 bytes. Parts stand one behind the other: with
 * widths of 8 they are, whatever the number of rows, so that a row is always added up alike. */
static bool by_four(int width, const void *a, const void *b, const void *c)
{
    return width % 8 == 0 && (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c) & 15) == 0;
}

template <int V>
static void start_residual(cudaStream_t stream, float *x, const struct cuda_parts *parts,
                           int n_parts, int part_type, const float *gain, float eps, int n,
                           int width, void *y, int act)
{
    launch_early(part_type == NUMBER_F32   ? residual_kernel<V, NUMBER_F32>
                 : part_type == NUMBER_F64 ? residual_kernel<V, NUMBER_F64>
                                           : residual_kernel<V, NUMBER_BF16>,
                 n, THREADS, cuda_norm_shared(width), stream, x, *parts, n_parts, gain, eps, width,
                 y, act);
}

extern "C" void cuda_residual_norm(cudaStream_t stream, float *x, const struct cuda_parts *parts,
                                   int n_parts, int part_type, const float *gain, float eps, int n,
                                   int width, void *y, int act)
{
    bool four = by_four(width, x, gain, y);
    for (int i = 0; i < n_parts; i++)
        four = four && by_four(width, parts->part[i], NULL, NULL);
    (four ? start_residual<4> : start_residual<1>)(stream, x, parts, n_parts, part_type, gain, eps,
                                                   n, width, y, act);
}

extern "C" void cuda_norm(cudaStream_t stream, const struct cuda_rows *x, const float *gain,
                          float eps, int n, int width, const struct cuda_rows *y)
{
    bool four = by_four(width, x->data, gain, y->data) && x->stride % 4 == 0 && y->stride % 4 == 0;
    launch_early(four ? norm_kernel<4> : norm_kernel<1>, n, THREADS, cuda_norm_shared(width),
                 stream, *x, gain, eps, width, *y);
}
