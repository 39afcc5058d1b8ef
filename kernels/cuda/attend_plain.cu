/* attend_plain.cu - attend (ops.h) for every shape and number format: f32 runs and odd head sizes.
 * One block a row and head, online softmax over tiles of 128 tokens, everything in f32. */
#include "kernels/cuda/kv.cuh"

#define THREADS 128
#define WARPS   (THREADS / 32)

struct attend_space {
    float *query, *sum; /* [D] */
    float *p;           /* [THREADS] */
    float *scratch;     /* [WARPS] */
    int *block;         /* [THREADS / KV_TOKENS] of this tile */
};

static __device__ float block_max(float v, float *scratch)
{
    v = warp_max(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        scratch[threadIdx.x / 32] = v;
    __syncthreads();
    for (int i = 0; i < WARPS; i++)
        v = fmaxf(v, scratch[i]);
    return v;
}

static __device__ float score(const cuda_kv &kv, const float *query, int block, int token,
                              int kv_head, float scale)
{
    size_t base = kv_base(kv, block, kv_head, false);
    float dot = 0.0f;
    for (int d = 0; d < kv.head_dim; d++)
        dot = fmaf(query[d], load_number(kv.data, base + kv_place(kv, token, d, false), kv.type),
                   dot);
    return dot * scale;
}

static __device__ void add_values(const cuda_kv &kv, const attend_space &s, int tokens, int kv_head,
                                  float keep)
{
    for (int d = (int)threadIdx.x; d < kv.head_dim; d += THREADS) {
        float sum = s.sum[d] * keep;
        for (int t = 0; t < tokens; t++) {
            size_t at = kv_base(kv, s.block[t / KV_TOKENS], kv_head, true) +
                        kv_place(kv, t % KV_TOKENS, d, true);
            sum = fmaf(s.p[t], load_number(kv.data, at, kv.type), sum);
        }
        s.sum[d] = sum;
    }
}

static __global__ void attend_kernel(cuda_kv kv, cuda_batch batch, int heads, int act,
                                     const void *q, void *out)
{
    float *memory = (float *)shared_memory();
    attend_space s = {memory, memory + kv.head_dim, memory + 2 * kv.head_dim,
                      memory + 2 * kv.head_dim + THREADS,
                      (int *)(memory + 2 * kv.head_dim + THREADS + WARPS)};
    int row = (int)blockIdx.x, head = (int)blockIdx.y, kv_head = head / (heads / kv.kv_heads);
    int context = batch.row_pos[row] + 1, d = kv.head_dim, me = (int)threadIdx.x;
    const int32_t *blocks = batch.blocks + (size_t)batch.row_seg[row] * batch.blocks_stride;
    size_t base = ((size_t)row * heads + head) * d;
    float scale = 1.0f / sqrtf((float)d), most = -INFINITY, total = 0.0f;

    for (int i = me; i < d; i += THREADS) {
        s.query[i] = load_number(q, base + i, act);
        s.sum[i] = 0.0f;
    }
    for (int start = 0; start < context; start += THREADS) {
        int tokens = context - start < THREADS ? context - start : THREADS;
        __syncthreads();
        if (me < (tokens + KV_TOKENS - 1) / KV_TOKENS)
            s.block[me] = blocks[start / KV_TOKENS + me];
        __syncthreads();
        float mine = me < tokens ? score(kv, s.query, s.block[me / KV_TOKENS], me % KV_TOKENS,
                                         kv_head, scale)
                                 : -INFINITY;
        float now = fmaxf(most, block_max(mine, s.scratch));
        float p = me < tokens ? expf(mine - now) : 0.0f, keep = expf(most - now);
        s.p[me] = p;
        total = fmaf(total, keep, block_sum(p, s.scratch, WARPS));
        add_values(kv, s, tokens, kv_head, keep);
        most = now;
    }
    __syncthreads();
    for (int i = me; i < d; i += THREADS)
        store_number(out, base + i, act, s.sum[i] / total);
}

extern "C" void cuda_attend_plain(cudaStream_t stream, const struct cuda_kv *kv,
                                  const struct cuda_batch *batch, int heads, int act, const void *q,
                                  void *out)
{
    size_t shared = (2 * (size_t)kv->head_dim + THREADS + WARPS + THREADS / KV_TOKENS) * 4;
    launch(attend_kernel, dim3(batch->rows, heads), THREADS, shared, stream, *kv, *batch, heads,
           act, q, out);
}
