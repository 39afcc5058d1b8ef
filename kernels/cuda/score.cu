/* score.cu - log probabilities of tokens (ops.h: score). One block a row; every one of the k likeliest
 * is a pass over the row: the smallest key above the one before. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/vocab.cuh"

struct score_space {
    u64 each[VOCAB_WARPS];
    double scratch[VOCAB_WARPS];
};

static __global__ void __launch_bounds__(VOCAB_THREADS, 1)
    score_kernel(const float *all, int vocab, const int32_t *targets, float *own, int k,
                 int32_t *top, float *logprobs)
{
    score_space *s = (score_space *)shared_memory();
    size_t row = blockIdx.x;
    const float *logits = all + row * (size_t)vocab;
    u64 key = vocab_next(logits, vocab, 0, s->each);
    float most = logits[key == 0 ? 0 : vocab_token(key)], nan = bits_to_f32(0x7fc00000u);
    bool fine = key != 0 && fabsf(most) < INFINITY;
    double total = fine ? vocab_log_total(logits, vocab, most, s->scratch) : 0.0;
    if (threadIdx.x == 0)
        own[row] =
            fine && targets[row] >= 0 ? vocab_logprob(logits[targets[row]], most, total) : nan;
    for (int j = 0; j < k; j++) {
        bool some = fine && key != ~(u64)0;
        if (threadIdx.x == 0) {
            size_t at = row * (size_t)k + (size_t)j;
            top[at] = some ? vocab_token(key) : -1;
            logprobs[at] = some ? vocab_logprob(logits[vocab_token(key)], most, total) : nan;
        }
        if (some && j + 1 < k)
            key = vocab_next(logits, vocab, key + 1, s->each);
    }
}

extern "C" void cuda_score(cudaStream_t stream, const float *logits, int n, int vocab,
                           const int32_t *targets, float *own, int k, int32_t *top, float *logprobs)
{
    launch(score_kernel, n, VOCAB_THREADS, sizeof(score_space), stream, logits, vocab, targets, own,
           k, top, logprobs);
}
