/* rope.cu - rope_append (ops.h): q and k turned by their positions, k and v into the cache. A thread
 * turns pairs; a row's pairs of q are shared by up to 16 blocks, the first of which does the rest.
 * The cache gets k as it was rounded to the activation type. */
#include "kernels/cuda/kv.cuh"

#define THREADS 256
#define SPREAD  16

/* Turns pair i of all pairs of the row's heads. */
template <int ACT>
static __device__ __forceinline__ void turn(const cuda_attn &spec, void *x, size_t first, int dim,
                                            int i, const float *angle)
{
    int half = spec.rope_dim / 2, j = i % half;
    float c = angle[j * 2], s = angle[j * 2 + 1];
    size_t at = (first + i / half) * dim + spec.rope_at + (spec.neighbors ? 2 * j : j);
    size_t other = at + (spec.neighbors ? 1 : half);
    float a = load_number(x, at, ACT), b = load_number(x, other, ACT);
    store_number(x, at, ACT, a * c - b * s);
    store_number(x, other, ACT, b * c + a * s);
}

template <int ACT>
static __device__ __forceinline__ void append(const cuda_kv &kv, const void *from, int dim, int row,
                                              int block, int token, bool value)
{
    for (int i = (int)threadIdx.x; i < kv.kv_heads * dim; i += THREADS) {
        size_t at = kv_base(kv, block, i / dim, value) + kv_place(kv, token, i % dim, value);
        store_number(kv.data, at, kv.type,
                     load_number(from, (size_t)row * kv.kv_heads * dim + i, ACT));
    }
}

template <int ACT>
static __global__ void rope_kernel(cuda_attn spec, cuda_kv kv, cuda_batch batch,
                                   const float *angles, void *q, void *k, const void *v)
{
    grid_begin();
    int row = (int)blockIdx.x, half = spec.rope_dim / 2, pos = batch.row_pos[row];
    const float *angle = angles + (size_t)pos * spec.rope_dim;
#pragma unroll 4
    for (int i = (int)(blockIdx.y * THREADS + threadIdx.x); i < spec.heads * half;
         i += (int)gridDim.y * THREADS)
        turn<ACT>(spec, q, (size_t)row * spec.heads, kv.key_dim, i, angle);
    if (blockIdx.y > 0)
        return;
    for (int i = (int)threadIdx.x; i < kv.kv_heads * half; i += THREADS)
        turn<ACT>(spec, k, (size_t)row * kv.kv_heads, kv.key_dim, i, angle);
    __syncthreads();
    int block = kv_block(batch, batch.row_seg[row], pos), token = pos % KV_TOKENS;
    append<ACT>(kv, k, kv.key_dim, row, block, token, false);
    if (!kv.value_in_key)
        append<ACT>(kv, v, kv.value_dim, row, block, token, true);
}

extern "C" void cuda_rope_append(cudaStream_t stream, const struct cuda_attn *spec,
                                 const struct cuda_kv *kv, const struct cuda_batch *batch,
                                 const float *angles, int act, void *q, void *k, const void *v)
{
    int pairs = spec->heads * spec->rope_dim / 2, spread = (pairs + THREADS - 1) / THREADS;
    dim3 grid(batch->rows, spread < 1 ? 1 : spread < SPREAD ? spread : SPREAD);
    launch_early(act == NUMBER_F32 ? rope_kernel<NUMBER_F32> : rope_kernel<NUMBER_BF16>, grid,
                 THREADS, 0, stream, *spec, *kv, *batch, angles, q, k, v);
}
