/* sample.cu - one token a row (ops.h: sample). One block a row, no sorting.
 *
 * Candidates have a total order: larger logit, then lower token. "The first candidate whose running
 * count (or sum of probabilities) exceeds a bound" is found digit by digit: 256 bins, and the bin in
 * which the bound is passed, until that bin has one candidate. The first digit is the distance to the
 * largest logit, in steps that spread the row over the bins; then come the 8 bytes of a key that has
 * the total order. top_k, top_p and the draw are such searches, each among what the search before
 * has left. So once the first digit is found, the candidates up to its bin are put into a list in
 * shared memory, if they are few enough, and no later search looks at the row again; if they are too
 * many, those of this one bin are, for this search.
 * Probabilities are whole numbers (kernels/mass.h), so atomics give the same bits every time. A bin
 * adds them in three parts of 14 bits, since shared memory has no 64-bit addition of its own: a loop
 * of compare and swap would take its place. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/vocab.cuh"
#include "kernels/mass.h"

#define BINS     256
#define PARTS    3
#define LISTED   4096
#define FARTHEST 32.0f /* below the largest logit: from here on all fall into the last bin */

struct sample_row { /* struct sample_params of ops.h */
    float temperature, top_p;
    int32_t top_k;
    float uniform, within;
};

struct sample_candidate {
    int32_t token;
    float logit;
};

struct sample_space {
    uint32_t mass[PARTS][BINS], count[BINS];
    u64 found[4]; /* bin, mass before, count before, count in it; at the end: key */
    u64 each[VOCAB_WARPS];
    double scratch[VOCAB_WARPS];
    uint32_t near, places;
    sample_candidate list[LISTED];
};

struct sample_query {
    const float *logits;
    int vocab;
    float most, factor, grain; /* grain: bins for 1 of the first digit */
    int listed;                /* candidates in the list, -1: all of the row are looked at */
};

/* Where a search has come to: the bin of the first digit, then `digits` bytes of the key. */
struct sample_path {
    int coarse; /* -1: not yet found */
    int digits;
    u64 key;                 /* its first `digits` bytes */
    u64 mass, count, inside; /* of the candidates before it; candidates on it */
};

static __device__ __forceinline__ int coarse_bin(const sample_query &q, float logit)
{
    return (int)fminf((q.most - logit) * q.grain, (float)(BINS - 1));
}

/* The candidate's next digit, or -1 when it is not on the path. At the end of the path all have
 * digit 0. */
static __device__ __forceinline__ int digit_of(const sample_query &q, const sample_path &path,
                                               int token, float logit)
{
    int coarse = coarse_bin(q, logit);
    if (path.coarse < 0)
        return coarse;
    u64 key = vocab_key(logit, token);
    bool on =
        coarse == path.coarse && (path.digits == 0 || key >> (64 - 8 * path.digits) == path.key);
    if (!on)
        return -1;
    return path.digits < 8 ? (int)(key >> (56 - 8 * path.digits) & 255) : 0;
}

/* f(token, logit) for every candidate that is left to look at. */
template <typename F>
static __device__ __forceinline__ void each_candidate(const sample_query &q, const sample_space *s,
                                                      F f)
{
    if (q.listed < 0)
        vocab_each(q.logits, q.vocab, f);
    for (int i = (int)threadIdx.x; i < q.listed; i += VOCAB_THREADS)
        f(s->list[i].token, s->list[i].logit);
}

static __device__ void count_bins(const sample_query &q, sample_space *s, const sample_path &path,
                                  bool masses)
{
    for (int i = (int)threadIdx.x; i < BINS; i += VOCAB_THREADS)
        s->mass[0][i] = s->mass[1][i] = s->mass[2][i] = s->count[i] = 0;
    __syncthreads();
    each_candidate(q, s, [&](int token, float logit) {
        int bin = digit_of(q, path, token, logit);
        if (bin < 0)
            return;
        block_add(&s->count[bin], 1u);
        u64 mass = masses ? mass_of(logit, q.most, q.factor) : 0;
        for (int part = 0; part < PARTS && mass > 0; part++, mass >>= 14)
            block_add(&s->mass[part][bin], (uint32_t)(mass & 0x3fff));
    });
    __syncthreads();
}

static __device__ __forceinline__ u64 bin_mass(const sample_space *s, int bin)
{
    return (u64)s->mass[0][bin] + ((u64)s->mass[1][bin] << 14) + ((u64)s->mass[2][bin] << 28);
}

/* The bin in which `bound` is passed, or the last one that has candidates. One warp, whose lanes
 * have 8 bins each. */
static __device__ void choose_bin(sample_space *s, const sample_path &path, bool by_count,
                                  u64 bound)
{
    const int own = BINS / 32;
    int lane = (int)threadIdx.x, best = -1;
    u64 mass = 0, count = 0, found[3] = {0, 0, 0};
    for (int bin = lane * own; bin < (lane + 1) * own; bin++) {
        mass += bin_mass(s, bin);
        count += s->count[bin];
    }
    u64 m = path.mass + lanes_before(&mass), c = path.count + lanes_before(&count);
    bool passed = false;
    for (int bin = lane * own; bin < (lane + 1) * own && !passed; bin++) {
        if (s->count[bin] == 0)
            continue;
        best = bin, found[0] = m, found[1] = c, found[2] = s->count[bin];
        m += bin_mass(s, bin);
        c += s->count[bin];
        passed = (by_count ? c : m) > bound;
    }
    uint32_t any = warp_ballot(passed), some = warp_ballot(best >= 0);
    bool first = passed && (any & ((1u << lane) - 1)) == 0, last = any == 0 && some >> lane == 1;
    if (first || last) {
        s->found[0] = (u64)best;
        for (int i = 0; i < 3; i++)
            s->found[1 + i] = found[i];
    }
}

/* Puts the candidates of bins `from` to `to` into the list. */
static __device__ void list_bins(sample_query &q, sample_space *s, int from, int to)
{
    if (threadIdx.x == 0)
        s->places = 0;
    __syncthreads();
    each_candidate(q, s, [&](int token, float logit) {
        int bin = coarse_bin(q, logit);
        if (bin < from || bin > to)
            return;
        sample_candidate *place = &s->list[block_add(&s->places, 1u)];
        place->token = token;
        place->logit = logit;
    });
    __syncthreads();
    q.listed = (int)s->places;
}

/* The first candidate with which the running count (by_count) or mass exceeds `bound`; the last one
 * when none does. */
static __device__ u64 search(sample_query &q, sample_space *s, bool by_count, u64 bound, u64 *count)
{
    sample_path path = {-1, 0, 0, 0, 0, 0};
    bool lasting = true; /* the list has all candidates up to the bin */
    do {
        count_bins(q, s, path, !by_count);
        if (threadIdx.x < 32)
            choose_bin(s, path, by_count, bound);
        __syncthreads();
        path.mass = s->found[1];
        path.count = s->found[2];
        path.inside = s->found[3];
        if (path.coarse >= 0) {
            path.key = path.key << 8 | s->found[0];
            path.digits++;
            continue;
        }
        path.coarse = (int)s->found[0];
        if (q.listed < 0 && path.inside <= LISTED) {
            lasting = path.count + path.inside <= LISTED;
            list_bins(q, s, lasting ? 0 : path.coarse, path.coarse);
        }
    } while (path.inside > 1 && path.digits < 8);
    __syncthreads();
    each_candidate(q, s, [&](int token, float logit) {
        if (digit_of(q, path, token, logit) >= 0)
            s->found[0] = vocab_key(logit, token);
    });
    __syncthreads();
    u64 key = s->found[0];
    __syncthreads();
    if (!lasting)
        q.listed = -1;
    *count = path.count + 1;
    return key;
}

/* The mass of the candidates up to `key`. */
static __device__ u64 mass_up_to(const sample_query &q, sample_space *s, u64 key)
{
    u64 mass = 0;
    each_candidate(q, s, [&](int token, float logit) {
        mass += vocab_key(logit, token) <= key ? mass_of(logit, q.most, q.factor) : 0;
    });
    return block_sum(mass, s->each, VOCAB_WARPS);
}

/* How many logits are at most `within` below the largest. */
static __device__ int count_within(const sample_query &q, sample_space *s, float within)
{
    uint32_t mine = 0;
    if (threadIdx.x == 0)
        s->near = 0;
    __syncthreads();
    vocab_each(q.logits, q.vocab, [&](int, float logit) { mine += logit - q.most >= -within; });
    block_add(&s->near, mine);
    __syncthreads();
    return (int)s->near;
}

/* Spreads the finite logits, or those that are not too far, over the bins. */
static __device__ float grain_of(const sample_query &q, sample_space *s)
{
    u64 most = 0; /* the bits of a float that is not negative have its order */
    vocab_each(q.logits, q.vocab, [&](int, float logit) {
        float far = q.most - logit;
        u64 bits = far < FARTHEST ? f32_to_bits(far) : f32_to_bits(FARTHEST);
        most = bits > most && far < INFINITY ? bits : most;
    });
    float range = bits_to_f32((uint32_t)~vocab_least(~most, s->each));
    return range > 0.0f ? (float)(BINS - 1) / range : 0.0f;
}

static __device__ int draw(sample_query &q, sample_space *s, sample_row p)
{
    u64 key = ~(u64)0, count;
    q.grain = grain_of(q, s);
    if (p.within > 0.0f) { /* keeps the first candidates, as top_k does */
        int near = count_within(q, s, p.within);
        p.top_k = p.top_k > 0 && p.top_k < near ? p.top_k : near;
    }
    u64 kept = p.top_k > 0 && p.top_k < q.vocab ? (u64)p.top_k : (u64)q.vocab;
    if (kept < (u64)q.vocab)
        key = search(q, s, true, kept - 1, &count);
    u64 total = mass_up_to(q, s, key);
    if (p.top_p < 1.0f) {
        key = search(q, s, false, mass_enough(total, p.top_p) - 1, &count);
        if (count < kept)
            total = mass_up_to(q, s, key);
    }
    return vocab_token(search(q, s, false, mass_share(total, p.uniform), &count));
}

static __global__ void __launch_bounds__(VOCAB_THREADS, 1)
    sample_kernel(const float *logits, int vocab, const sample_row *params, int32_t *tokens,
                  float *logprobs)
{
    sample_space *s = (sample_space *)shared_memory();
    size_t row = blockIdx.x;
    sample_row p = params[row];
    sample_query q = {logits + row * vocab, vocab, 0.0f, mass_factor(p.temperature), 0.0f, -1};
    u64 first = vocab_next(q.logits, vocab, 0, s->each);
    int token = vocab_token(first);
    q.most = q.logits[first == 0 ? 0 : token];
    if (first == 0 || !(fabsf(q.most) < INFINITY)) {
        if (threadIdx.x == 0) {
            tokens[row] = -1;
            logprobs[row] = bits_to_f32(0x7fc00000u);
        }
        return;
    }
    if (p.temperature > 0.0f)
        token = draw(q, s, p);
    double total = vocab_log_total(q.logits, vocab, q.most, s->scratch);
    if (threadIdx.x == 0) {
        tokens[row] = token;
        logprobs[row] = vocab_logprob(q.logits[token], q.most, total);
    }
}

extern "C" void cuda_sample(cudaStream_t stream, const float *logits, int n, int vocab,
                            const void *params, int32_t *tokens, float *logprobs)
{
    launch(sample_kernel, n, VOCAB_THREADS, sizeof(sample_space), stream, logits, vocab,
           (const sample_row *)params, tokens, logprobs);
}
