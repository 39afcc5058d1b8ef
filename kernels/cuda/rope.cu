/* rope.cu - rope_append (ops.h): q and k turned by their positions, k and v into the cache. One
 * block a row; a thread turns pairs (j, j + D/2). The cache gets k as it was rounded to the
 * activation type. */
#include "kernels/cuda/kv.cuh"

#define THREADS 256

static __device__ __forceinline__ void turn(void *x, size_t at, int half, int act, float c, float s)
{
    float a = load_number(x, at, act), b = load_number(x, at + half, act);
    store_number(x, at, act, a * c - b * s);
    store_number(x, at + half, act, b * c + a * s);
}

static __global__ void rope_kernel(cuda_kv kv, cuda_batch batch, const float *angles, int heads,
                                   int act, void *q, void *k, const void *v)
{
    int row = (int)blockIdx.x, d = kv.head_dim, half = d / 2, pos = batch.row_pos[row];
    const float *angle = angles + (size_t)pos * half * 2;
    for (int i = (int)threadIdx.x; i < heads * half; i += THREADS) {
        size_t at = ((size_t)row * heads + i / half) * d + i % half;
        turn(q, at, half, act, angle[i % half * 2], angle[i % half * 2 + 1]);
    }
    for (int i = (int)threadIdx.x; i < kv.kv_heads * half; i += THREADS) {
        size_t at = ((size_t)row * kv.kv_heads + i / half) * d + i % half;
        turn(k, at, half, act, angle[i % half * 2], angle[i % half * 2 + 1]);
    }
    __syncthreads();
    int block = batch.blocks[(size_t)batch.row_seg[row] * batch.blocks_stride + pos / KV_TOKENS];
    for (int i = (int)threadIdx.x; i < kv.kv_heads * d; i += THREADS) {
        size_t from = (size_t)row * kv.kv_heads * d + i;
        int head = i / d, j = i % d, token = pos % KV_TOKENS;
        store_number(kv.data, kv_base(kv, block, head, false) + kv_place(kv, token, j, false),
                     kv.type, load_number(k, from, act));
        store_number(kv.data, kv_base(kv, block, head, true) + kv_place(kv, token, j, true),
                     kv.type, load_number(v, from, act));
    }
}

extern "C" void cuda_rope_append(cudaStream_t stream, const struct cuda_kv *kv,
                                 const struct cuda_batch *batch, const float *angles, int heads,
                                 int act, void *q, void *k, const void *v)
{
    launch(rope_kernel, batch->rows, THREADS, 0, stream, *kv, *batch, angles, heads, act, q, k, v);
}
