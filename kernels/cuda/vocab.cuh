/* vocab.cuh - what sampling and scoring share: passes of a block over the logits of one row.
 *
 * Which thread a token falls to, and in which turn, depends on the token alone, so that sums of
 * doubles have the same bits wherever the row stands.
 */
#ifndef TANDEM_CUDA_VOCAB_CUH
#define TANDEM_CUDA_VOCAB_CUH

#include "kernels/cuda/number.cuh"

#define VOCAB_THREADS 1024
#define VOCAB_WARPS   (VOCAB_THREADS / 32)
#define VOCAB_LOADS   4 /* of 16 bytes, on their way at a time: a row's logits come from far */

typedef unsigned long long u64;

/* The logits of tokens `at` to at + 3, as far as there are so many. A row may begin anywhere. */
static __device__ __forceinline__ float4 vocab_load(const float *logits, int n, int at)
{
    float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
    if (at + 4 <= n && ((uintptr_t)logits & 15) == 0)
        return *(const float4 *)(logits + at);
    if (at < n)
        v.x = logits[at];
    if (at + 1 < n)
        v.y = logits[at + 1];
    if (at + 2 < n)
        v.z = logits[at + 2];
    if (at + 3 < n)
        v.w = logits[at + 3];
    return v;
}

/* f(token, logit) for every token, by some thread. */
template <typename F>
static __device__ __forceinline__ void vocab_each(const float *logits, int n, F f)
{
    for (int i = (int)threadIdx.x * 4; i < n; i += VOCAB_LOADS * VOCAB_THREADS * 4) {
        float4 v[VOCAB_LOADS];
#pragma unroll
        for (int u = 0; u < VOCAB_LOADS; u++)
            v[u] = vocab_load(logits, n, i + u * VOCAB_THREADS * 4);
#pragma unroll
        for (int u = 0; u < VOCAB_LOADS; u++) {
            int at = i + u * VOCAB_THREADS * 4;
            if (at < n)
                f(at, v[u].x);
            if (at + 1 < n)
                f(at + 1, v[u].y);
            if (at + 2 < n)
                f(at + 2, v[u].z);
            if (at + 3 < n)
                f(at + 3, v[u].w);
        }
    }
}

/* Ascending keys are descending logits, then ascending tokens. */
static __device__ __forceinline__ u64 vocab_key(float logit, int token)
{
    uint32_t bits = f32_to_bits(logit == 0.0f ? 0.0f : logit); /* -0 equals 0 */
    uint32_t rising = (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
    return (u64)~rising << 32 | (uint32_t)token;
}

static __device__ __forceinline__ int vocab_token(u64 key)
{
    return (int)(key & 0xffffffffu);
}

/* The smallest of the threads' values, for all of them; scratch [VOCAB_WARPS]. */
static __device__ __forceinline__ u64 vocab_least(u64 v, u64 *scratch)
{
    for (int mask = 16; mask > 0; mask >>= 1) {
        u64 other = warp_xor(v, mask);
        v = other < v ? other : v;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        scratch[threadIdx.x / 32] = v;
    __syncthreads();
    for (int i = 0; i < VOCAB_WARPS; i++)
        v = scratch[i] < v ? scratch[i] : v;
    return v;
}

/* The smallest key of those from `from` on; ~0 when there is none; 0, before every number, when
 * there is a NaN. */
static __device__ u64 vocab_next(const float *logits, int n, u64 from, u64 *scratch)
{
    u64 best = ~(u64)0;
    bool nan = false;
    vocab_each(logits, n, [&](int token, float logit) {
        u64 key = vocab_key(logit, token);
        nan = nan || logit != logit;
        best = key >= from && key < best ? key : best;
    });
    return vocab_least(nan ? 0 : best, scratch);
}

/* log of the sum of exp(logit - most); scratch [VOCAB_WARPS]. */
static __device__ double vocab_log_total(const float *logits, int n, float most, double *scratch)
{
    double total = 0.0;
    vocab_each(logits, n, [&](int, float logit) { total += (double)expf(logit - most); });
    return log(block_sum(total, scratch, VOCAB_WARPS));
}

static __device__ __forceinline__ float vocab_logprob(float logit, float most, double log_total)
{
    return (float)((double)(logit - most) - log_total);
}

#endif
