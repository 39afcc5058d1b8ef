/* score.cu - log probabilities of tokens (ops.h: score). One block a row; every one of the k likeliest
 * is a pass over the row: the smallest key above the one before. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 512
#define WARPS   (THREADS / 32)

typedef unsigned long long u64;

struct score_space {
    u64 best[WARPS];
    double scratch[WARPS];
};

/* Ascending keys are descending logits, then ascending tokens. */
static __device__ __forceinline__ u64 key_of(float logit, int token)
{
    uint32_t bits = f32_to_bits(logit == 0.0f ? 0.0f : logit); /* -0 equals 0 */
    uint32_t rising = (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
    return (u64)~rising << 32 | (uint32_t)token;
}

/* The smallest key above `after`, or of all; ~0 when there is none; 0 for a NaN. */
static __device__ u64 next_key(const float *logits, int vocab, bool any, u64 after, score_space *s)
{
    u64 best = ~(u64)0;
    bool nan = false;
    for (int i = (int)threadIdx.x; i < vocab; i += THREADS) {
        u64 key = key_of(logits[i], i);
        nan = nan || logits[i] != logits[i];
        if ((any || key > after) && key < best)
            best = key;
    }
    if (nan)
        best = 0;
    for (int mask = 16; mask > 0; mask >>= 1) {
        u64 other = warp_xor(best, mask);
        best = other < best ? other : best;
    }
    if (threadIdx.x % 32 == 0)
        s->best[threadIdx.x / 32] = best;
    __syncthreads();
    for (int i = 0; i < WARPS; i++)
        best = s->best[i] < best ? s->best[i] : best;
    __syncthreads();
    return best;
}

/* As sample.cu makes it. */
static __device__ __forceinline__ float log_of(float logit, float most, double log_total)
{
    return (float)((double)(logit - most) - log_total);
}

static __global__ void score_kernel(const float *all, int vocab, const int32_t *targets, float *own,
                                    int k, int32_t *top, float *logprobs)
{
    score_space *s = (score_space *)shared_memory();
    size_t row = blockIdx.x;
    const float *logits = all + row * (size_t)vocab;
    u64 key = next_key(logits, vocab, true, 0, s);
    int token = (int)(key & 0xffffffffu);
    float most = logits[key == 0 ? 0 : token], nan = bits_to_f32(0x7fc00000u);
    bool fine = key != 0 && fabsf(most) < INFINITY;
    double total = 0.0;
    for (int i = (int)threadIdx.x; i < vocab && fine; i += THREADS)
        total += (double)expf(logits[i] - most);
    total = log(block_sum(total, s->scratch, WARPS));
    if (threadIdx.x == 0)
        own[row] = fine && targets[row] >= 0 ? log_of(logits[targets[row]], most, total) : nan;
    for (int j = 0; j < k; j++) {
        bool some = fine && key != ~(u64)0;
        token = (int)(key & 0xffffffffu);
        if (threadIdx.x == 0) {
            top[row * (size_t)k + (size_t)j] = some ? token : -1;
            logprobs[row * (size_t)k + (size_t)j] = some ? log_of(logits[token], most, total) : nan;
        }
        if (some && j + 1 < k)
            key = next_key(logits, vocab, false, key, s);
    }
}

extern "C" void cuda_score(cudaStream_t stream, const float *logits, int n, int vocab,
                           const int32_t *targets, float *own, int k, int32_t *top, float *logprobs)
{
    launch(score_kernel, n, THREADS, sizeof(score_space), stream, logits, vocab, targets, own, k,
           top, logprobs);
}
