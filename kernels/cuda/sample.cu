/* sample.cu - one token a row (ops.h: sample). One block a row, no sorting.
 *
 * Candidates have a total order: larger logit, then lower token. "The first candidate whose running
 * count (or sum of probabilities) exceeds a bound" is found digit by digit: 256 bins, and the bin in
 * which the bound is passed. The first digit is the distance to the largest logit in eighths, which
 * spreads a vocabulary over many bins; then come the 8 bytes of a key that has the total order,
 * among the candidates of that one bin only. top_k, top_p and the draw are such searches, each among
 * what the search before has left.
 * Probabilities relative to the largest are integers, multiples of 2^-40: their sums do not depend
 * on the order of additions, so atomics give the same bits every time. A bin adds them in three
 * parts of 14 bits, since shared memory has no 64-bit addition of its own: a loop of compare and swap
 * would take its place. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 512
#define WARPS   (THREADS / 32)
#define BINS    256
#define PARTS   3
#define LISTED  4096 /* candidates of one bin that are kept in shared memory */

typedef unsigned long long u64;

struct sample_row { /* struct sample_params of ops.h */
    float temperature, top_p;
    int32_t top_k;
    float uniform, within;
};

struct sample_space {
    uint32_t mass[PARTS][BINS], count[BINS];
    u64 found[3]; /* bin, mass before, count before */
    u64 each[WARPS];
    double scratch[WARPS];
    uint32_t near, listed;
    int32_t list[LISTED];
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

/* Where a search has come to: the bin of the first digit, then `digits` bytes of the key. */
struct sample_path {
    int coarse; /* -1: not yet found */
    int digits;
    u64 key;         /* its first `digits` bytes */
    u64 mass, count; /* of the candidates before */
};

static __device__ __forceinline__ int coarse_bin(const sample_query &q, float logit)
{
    return (int)fminf((q.most - logit) * 8.0f, (float)(BINS - 1));
}

/* The candidate's next digit, or -1 when it is not on the path. */
static __device__ __forceinline__ int digit_of(const sample_query &q, const sample_path &path,
                                               int token)
{
    float logit = q.logits[token];
    if (path.coarse < 0)
        return coarse_bin(q, logit);
    u64 key = key_of(logit, token);
    int shift = 56 - 8 * path.digits;
    bool on =
        coarse_bin(q, logit) == path.coarse && (path.digits == 0 || key >> (shift + 8) == path.key);
    return on ? (int)(key >> shift & 255) : -1;
}

static __device__ void count_bins(const sample_query &q, sample_space *s, const sample_path &path)
{
    bool listed = path.coarse >= 0 && s->listed <= LISTED;
    int n = listed ? (int)s->listed : q.vocab;
    for (int i = (int)threadIdx.x; i < BINS; i += THREADS)
        s->mass[0][i] = s->mass[1][i] = s->mass[2][i] = s->count[i] = 0;
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n; i += THREADS) {
        int token = listed ? s->list[i] : i, bin = digit_of(q, path, token);
        if (bin < 0)
            continue;
        block_add(&s->count[bin], 1u);
        u64 mass = mass_of(q.logits[token], q.most, q.temperature);
        for (int part = 0; part < PARTS && mass > 0; part++, mass >>= 14)
            block_add(&s->mass[part][bin], (uint32_t)(mass & 0x3fff));
    }
    __syncthreads();
}

static __device__ __forceinline__ u64 bin_mass(const sample_space *s, int bin)
{
    return (u64)s->mass[0][bin] + ((u64)s->mass[1][bin] << 14) + ((u64)s->mass[2][bin] << 28);
}

/* The bin in which `bound` is passed, or the last one that has candidates. One thread. */
static __device__ void choose_bin(sample_space *s, const sample_path &path, bool by_count,
                                  u64 bound)
{
    int last = 0;
    u64 m = path.mass, c = path.count, last_m = m, last_c = c;
    for (int bin = 0; bin < BINS; bin++) {
        if (s->count[bin] == 0)
            continue;
        last = bin, last_m = m, last_c = c;
        m += bin_mass(s, bin);
        c += s->count[bin];
        if ((by_count ? c : m) > bound)
            break;
    }
    s->found[0] = (u64)last;
    s->found[1] = last_m;
    s->found[2] = last_c;
    s->listed = 0;
}

/* Puts the candidates of the path's bin into the list, as many as have room; counts all. */
static __device__ void list_bin(const sample_query &q, sample_space *s, const sample_path &path)
{
    for (int i = (int)threadIdx.x; i < q.vocab; i += THREADS)
        if (coarse_bin(q, q.logits[i]) == path.coarse) {
            uint32_t place = block_add(&s->listed, 1u);
            if (place < LISTED)
                s->list[place] = i;
        }
    __syncthreads();
}

/* The first candidate with which the running count (by_count) or mass exceeds `bound`; the last one
 * when none does. Both totals up to and including it come back in *mass and *count. */
static __device__ int search(const sample_query &q, sample_space *s, bool by_count, u64 bound,
                             u64 *mass, u64 *count)
{
    sample_path path = {-1, 0, 0, 0, 0};
    uint32_t listed = 0;
    while (path.digits < 8) {
        count_bins(q, s, path);
        if (threadIdx.x == 0)
            choose_bin(s, path, by_count, bound);
        __syncthreads();
        path.mass = s->found[1];
        path.count = s->found[2];
        if (path.coarse < 0) {
            path.coarse = (int)s->found[0];
            list_bin(q, s, path);
            listed = s->listed;
        } else {
            path.key = path.key << 8 | s->found[0];
            path.digits++;
        }
        __syncthreads();
        if (threadIdx.x == 0)
            s->listed = listed;
        __syncthreads();
    }
    int token = (int)(path.key & 0xffffffffu);
    *mass = path.mass + mass_of(q.logits[token], q.most, q.temperature);
    *count = path.count + 1;
    return token;
}

/* The mass of all. */
static __device__ u64 mass_of_all(const sample_query &q, sample_space *s)
{
    u64 mass = 0;
    for (int i = (int)threadIdx.x; i < q.vocab; i += THREADS)
        mass += mass_of(q.logits[i], q.most, q.temperature);
    for (int mask = 16; mask > 0; mask >>= 1)
        mass += warp_xor(mass, mask);
    if (threadIdx.x % 32 == 0)
        s->each[threadIdx.x / 32] = mass;
    __syncthreads();
    mass = 0;
    for (int i = 0; i < WARPS; i++)
        mass += s->each[i];
    __syncthreads();
    return mass;
}

/* How many logits are at most `within` below the largest. */
static __device__ int count_within(const sample_query &q, sample_space *s, float within)
{
    if (threadIdx.x == 0)
        s->near = 0;
    __syncthreads();
    uint32_t mine = 0;
    for (int i = (int)threadIdx.x; i < q.vocab; i += THREADS)
        mine += q.logits[i] - q.most >= -within;
    block_add(&s->near, mine);
    __syncthreads();
    int n = (int)s->near;
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
    if (kept < (u64)q.vocab)
        search(q, s, true, kept - 1, &total, &count);
    else
        total = mass_of_all(q, s);
    if (p.top_p < 1.0f) {
        u64 enough = (u64)ceil((double)p.top_p * (double)total), set, tokens;
        search(q, s, false, enough > 0 ? enough - 1 : 0, &set, &tokens);
        if (tokens < kept)
            total = set;
    }
    u64 uniform = (u64)(p.uniform * 0x1p24f); /* a multiple of 2^-24: exact */
    u64 bound = (total >> 24) * uniform + (((total & 0xffffffu) * uniform) >> 24);
    return search(q, s, false, bound, &ignored, &ignored);
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
        s->each[threadIdx.x / 32] = best;
    __syncthreads();
    for (int i = 0; i < WARPS; i++)
        best = s->each[i] < best ? s->each[i] : best;
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
    double total = 0.0;
    for (int i = (int)threadIdx.x; i < vocab; i += THREADS)
        total += (double)expf(q.logits[i] - q.most);
    total = block_sum(total, s->scratch, WARPS);
    if (threadIdx.x == 0) {
        tokens[row] = token;
        logprobs[row] = (float)((double)(q.logits[token] - q.most) - log(total));
    }
}

extern "C" void cuda_sample(cudaStream_t stream, const float *logits, int n, int vocab,
                            const void *params, int32_t *tokens, float *logprobs)
{
    launch(sample_kernel, n, THREADS, sizeof(sample_space), stream, logits, vocab,
           (const sample_row *)params, tokens, logprobs);
}
