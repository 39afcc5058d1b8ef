/* sample.cu - one token a row (ops.h: sample). One block a row, no sorting.
 *
 * Candidates have a total order: larger logit, then lower token. It is the order of a 64-bit key,
 * and "the first candidate whose running count (or sum of probabilities) exceeds a bound" is found
 * digit by digit: 256 bins of the next 8 bits of the key, and the bin in which the bound is passed.
 * top_k, top_p and the draw are three such searches, each among what the search before has left.
 * Probabilities relative to the largest are integers, multiples of 2^-40: their sums do not depend
 * on the order of additions, so atomics give the same bits every time. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 512
#define WARPS   (THREADS / 32)
#define BINS    256

typedef unsigned long long u64;

struct sample_row { /* struct sample_params of ops.h */
    float temperature, top_p;
    int32_t top_k;
    float uniform, within;
};

struct sample_space {
    u64 mass[BINS];
    uint32_t count[BINS];
    u64 found[4]; /* key prefix, mass before, count before, count of the bin */
    float scratch[WARPS];
};

/* Ascending keys are descending logits, then ascending tokens. */
static __device__ __forceinline__ u64 key_of(float logit, int token)
{
    uint32_t bits = f32_to_bits(logit == 0.0f ? 0.0f : logit); /* -0 equals 0 */
    uint32_t rising = (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
    return (u64)~rising << 32 | (uint32_t)token;
}

static __device__ __forceinline__ u64 mass_of(float logit, float most, float temperature)
{
    return (u64)(expf((logit - most) / temperature) * 0x1p40f + 0.5f);
}

struct sample_query {
    const float *logits;
    int vocab;
    float most, temperature;
};

static __device__ void count_bins(const sample_query &q, sample_space *s, u64 prefix, int shift)
{
    for (int i = (int)threadIdx.x; i < BINS; i += THREADS) {
        s->mass[i] = 0;
        s->count[i] = 0;
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < q.vocab; i += THREADS) {
        u64 key = key_of(q.logits[i], i);
        if (shift < 56 && (key >> (shift + 8)) != (prefix >> (shift + 8)))
            continue;
        int bin = (int)(key >> shift & 255);
        block_add(&s->mass[bin], mass_of(q.logits[i], q.most, q.temperature));
        block_add(&s->count[bin], 1u);
    }
    __syncthreads();
}

/* The key of the first candidate with which the running count (by_count) or mass exceeds `bound`;
 * the last one when none does. Both totals up to and including it come back in *mass and *count. */
static __device__ u64 search(const sample_query &q, sample_space *s, bool by_count, u64 bound,
                             u64 *mass, u64 *count)
{
    u64 prefix = 0, mass_before = 0, count_before = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
        count_bins(q, s, prefix, shift);
        if (threadIdx.x == 0) {
            int bin = 0, last = 0;
            u64 m = mass_before, c = count_before;
            for (; bin < BINS; bin++) {
                if (s->count[bin] == 0)
                    continue;
                last = bin;
                if ((by_count ? c + s->count[bin] : m + s->mass[bin]) > bound)
                    break;
                m += s->mass[bin];
                c += s->count[bin];
            }
            if (bin == BINS) { /* none: the last one there is */
                m -= s->mass[last];
                c -= s->count[last];
            }
            s->found[0] = prefix | (u64)last << shift;
            s->found[1] = m;
            s->found[2] = c;
        }
        __syncthreads();
        prefix = s->found[0];
        mass_before = s->found[1];
        count_before = s->found[2];
        __syncthreads();
    }
    int token = (int)(prefix & 0xffffffffu);
    *mass = mass_before + mass_of(q.logits[token], q.most, q.temperature);
    *count = count_before + 1;
    return prefix;
}

/* How many logits are at most `within` below the largest. */
static __device__ int count_within(const sample_query &q, sample_space *s, float within)
{
    if (threadIdx.x == 0)
        s->count[0] = 0;
    __syncthreads();
    uint32_t mine = 0;
    for (int i = (int)threadIdx.x; i < q.vocab; i += THREADS)
        mine += q.logits[i] - q.most >= -within;
    block_add(&s->count[0], mine);
    __syncthreads();
    int n = (int)s->count[0];
    __syncthreads();
    return n;
}

static __device__ int draw(const sample_query &q, sample_space *s, sample_row p)
{
    u64 total, count, ignored;
    if (p.within > 0.0f) { /* keeps the first candidates, as top_k does */
        int near = count_within(q, s, p.within);
        p.top_k = p.top_k > 0 && p.top_k < near ? p.top_k : near;
    }
    u64 kept = p.top_k > 0 && p.top_k < q.vocab ? (u64)p.top_k : (u64)q.vocab;
    search(q, s, true, kept - 1, &total, &count);
    if (p.top_p < 1.0f) {
        u64 enough = (u64)ceil((double)p.top_p * (double)total), set, tokens;
        search(q, s, false, enough > 0 ? enough - 1 : 0, &set, &tokens);
        if (tokens < kept)
            total = set;
    }
    u64 uniform = (u64)(p.uniform * 0x1p24f); /* a multiple of 2^-24: exact */
    u64 bound = (total >> 24) * uniform + (((total & 0xffffffu) * uniform) >> 24);
    return (int)(search(q, s, false, bound, &ignored, &ignored) & 0xffffffffu);
}

/* The first of the largest logits, and whether there is a NaN. */
static __device__ int first_of(const sample_query &q, sample_space *s)
{
    u64 best = ~(u64)0;
    bool nan = false;
    for (int i = (int)threadIdx.x; i < q.vocab; i += THREADS) {
        u64 key = key_of(q.logits[i], i);
        nan = nan || q.logits[i] != q.logits[i];
        best = key < best ? key : best;
    }
    if (nan)
        best = 0; /* before every number */
    for (int mask = 16; mask > 0; mask >>= 1) {
        u64 other = warp_xor(best, mask);
        best = other < best ? other : best;
    }
    if (threadIdx.x % 32 == 0)
        s->mass[threadIdx.x / 32] = best;
    __syncthreads();
    for (int i = 0; i < WARPS; i++)
        best = s->mass[i] < best ? s->mass[i] : best;
    __syncthreads();
    int token = (int)(best & 0xffffffffu);
    float value = q.logits[best == 0 ? 0 : token];
    return best == 0 || !(fabsf(value) < INFINITY) ? -1 : token;
}

static __global__ void sample_kernel(const float *logits, int vocab, const sample_row *params,
                                     int32_t *tokens, float *logprobs)
{
    sample_space *s = (sample_space *)shared_memory();
    size_t row = blockIdx.x;
    sample_row p = params[row];
    sample_query q = {logits + row * vocab, vocab, 0.0f, p.temperature};
    int token = first_of(q, s);
    if (token < 0) {
        if (threadIdx.x == 0) {
            tokens[row] = -1;
            logprobs[row] = bits_to_f32(0x7fc00000u);
        }
        return;
    }
    q.most = q.logits[token];
    if (p.temperature > 0.0f)
        token = draw(q, s, p);
    float total = 0.0f;
    for (int i = (int)threadIdx.x; i < vocab; i += THREADS)
        total += expf(q.logits[i] - q.most);
    total = block_sum(total, s->scratch, WARPS);
    if (threadIdx.x == 0) {
        tokens[row] = token;
        logprobs[row] = q.logits[token] - q.most - logf(total);
    }
}

extern "C" void cuda_sample(cudaStream_t stream, const float *logits, int n, int vocab,
                            const void *params, int32_t *tokens, float *logprobs)
{
    launch(sample_kernel, n, THREADS, sizeof(sample_space), stream, logits, vocab,
           (const sample_row *)params, tokens, logprobs);
}
