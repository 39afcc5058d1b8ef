/* attend_plain.cu - attend (ops.h) for every shape and number format: f32 runs and odd head sizes.
 * One block a row and head, online softmax over tiles of 128 tokens, everything in f32. */
#include "kernels/cuda/kv.cuh"

#define THREADS 128
#define WARPS   (THREADS / 32)

struct attend_space {
    float *query, *sum; /* [key_dim], [value_dim] */
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
    for (int d = 0; d < kv.key_dim; d++)
        dot = fmaf(query[d], load_number(kv.data, base + kv_place(kv, token, d, false), kv.type),
                   dot);
    return dot * scale;
}

/* Of a tile's tokens begin .. end - 1; what stands before and after them is not looked at. */
static __device__ void add_values(const cuda_kv &kv, const attend_space &s, int begin, int end,
                                  int kv_head, float keep)
{
    for (int d = (int)threadIdx.x; d < kv.value_dim; d += THREADS) {
        float sum = s.sum[d] * keep;
        for (int t = begin; t < end; t++) {
            size_t at = kv_base(kv, s.block[t / KV_TOKENS], kv_head, true) +
                        kv_place(kv, t % KV_TOKENS, d, true);
            sum = fmaf(s.p[t], load_number(kv.data, at, kv.type), sum);
        }
        s.sum[d] = sum;
    }
}

/* Tiles begin where the block of the first token that is seen begins: a function of the row's
 * position alone. */
static __global__ void attend_kernel(cuda_attn spec, cuda_kv kv, cuda_batch batch, int act,
                                     const void *q, void *out)
{
    float *memory = (float *)shared_memory();
    attend_space s = {memory, memory + kv.key_dim, memory + kv.key_dim + kv.value_dim,
                      memory + kv.key_dim + kv.value_dim + THREADS,
                      (int *)(memory + kv.key_dim + kv.value_dim + THREADS + WARPS)};
    int row = (int)blockIdx.x, head = (int)blockIdx.y, me = (int)threadIdx.x;
    int kv_head = head / (spec.heads / kv.kv_heads), seg = batch.row_seg[row];
    int context = batch.row_pos[row] + 1;
    int first = spec.window > 0 && context > spec.window ? context - spec.window : 0;
    size_t at = (size_t)row * spec.heads + head;
    float most = spec.sinks ? spec.sinks[head] : -INFINITY, total = spec.sinks ? 1.0f : 0.0f;

    for (int i = me; i < kv.key_dim; i += THREADS)
        s.query[i] = load_number(q, at * kv.key_dim + i, act);
    for (int i = me; i < kv.value_dim; i += THREADS)
        s.sum[i] = 0.0f;
    for (int start = first / KV_TOKENS * KV_TOKENS; start < context; start += THREADS) {
        int begin = first > start ? first - start : 0;
        int end = context - start < THREADS ? context - start : THREADS;
        __syncthreads();
        if (me < (end + KV_TOKENS - 1) / KV_TOKENS)
            s.block[me] = kv_block(batch, seg, start + me * KV_TOKENS);
        __syncthreads();
        bool seen = me >= begin && me < end;
        float mine =
            seen ? score(kv, s.query, s.block[me / KV_TOKENS], me % KV_TOKENS, kv_head, spec.scale)
                 : -INFINITY;
        float now = fmaxf(most, block_max(mine, s.scratch));
        float p = seen ? expf(mine - now) : 0.0f, keep = expf(most - now);
        s.p[me] = p;
        total = fmaf(total, keep, block_sum(p, s.scratch, WARPS));
        add_values(kv, s, begin, end, kv_head, keep);
        most = now;
    }
    __syncthreads();
    for (int i = me; i < kv.value_dim; i += THREADS)
        store_number(out, at * kv.value_dim + i, act, s.sum[i] / total);
}

extern "C" void cuda_attend_plain(cudaStream_t stream, const struct cuda_attn *spec,
                                  const struct cuda_kv *kv, const struct cuda_batch *batch, int act,
                                  const void *q, void *out)
{
    size_t numbers = (size_t)kv->key_dim + kv->value_dim + THREADS + WARPS + THREADS / KV_TOKENS;
    launch(attend_kernel, dim3(batch->rows, spec->heads), THREADS, numbers * 4, stream, *spec, *kv,
           *batch, act, q, out);
}
