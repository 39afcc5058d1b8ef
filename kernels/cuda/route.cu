/* route.cu - the router (ops.h: route, tally). First the logits: a block makes 4 experts for 8 rows; its
 * warps share the columns, so that much is on its way at a time, and their sums are added in their
 * order. Then one warp a row: softmax, and K times the best that is left. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define WARPS   8
#define THREADS (WARPS * 32)
#define EXPERTS 4
#define ROWS    8

/* Four columns of a row from `i` on, 0 behind its end. What is known at compile time lets the loads
 * of several rows be on their way together. */
template <int TYPE, bool ALIGNED>
static __device__ __forceinline__ float4 columns(const void *p, size_t base, int i, int hidden)
{
    if (ALIGNED)
        return load_number4(p, base + i, TYPE);
    float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
    v.x = load_number(p, base + i, TYPE);
    if (i + 1 < hidden)
        v.y = load_number(p, base + i + 1, TYPE);
    if (i + 2 < hidden)
        v.z = load_number(p, base + i + 2, TYPE);
    if (i + 3 < hidden)
        v.w = load_number(p, base + i + 3, TYPE);
    return v;
}

template <int TYPE, bool ALIGNED>
static __global__ void logits_kernel(const float *gate, const void *x, int n, int hidden,
                                     int experts, float *logits)
{
    grid_begin();
    float *shares = (float *)shared_memory(); /* [warp][row x expert] */
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    int row = (int)blockIdx.x * ROWS, expert = (int)blockIdx.y * EXPERTS;
    float sum[ROWS][EXPERTS] = {{0.0f}};
    for (int i = (int)threadIdx.x * 4; i < hidden; i += THREADS * 4) {
        float4 g[EXPERTS], v[ROWS];
#pragma unroll
        for (int e = 0; e < EXPERTS; e++) {
            int from = expert + e < experts ? expert + e : expert;
            g[e] = columns<NUMBER_F32, ALIGNED>(gate, (size_t)from * hidden, i, hidden);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            int from = row + r < n ? row + r : row;
            v[r] = columns<TYPE, ALIGNED>(x, (size_t)from * hidden, i, hidden);
        }
#pragma unroll
        for (int at = 0; at < ROWS * EXPERTS; at++) {
            float4 a = v[at / EXPERTS], b = g[at % EXPERTS];
            float s = sum[at / EXPERTS][at % EXPERTS];
            sum[at / EXPERTS][at % EXPERTS] =
                fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, s))));
        }
    }
#pragma unroll
    for (int at = 0; at < ROWS * EXPERTS; at++) {
        float share = warp_sum(sum[at / EXPERTS][at % EXPERTS]);
        if (lane == 0)
            shares[warp * ROWS * EXPERTS + at] = share;
    }
    __syncthreads();
    row += lane / EXPERTS;
    expert += lane % EXPERTS;
    if (warp > 0 || row >= n || expert >= experts)
        return;
    float total = shares[lane];
    for (int w = 1; w < WARPS; w++)
        total += shares[w * ROWS * EXPERTS + lane];
    logits[(size_t)row * experts + expert] = total;
}

/* The best of n not yet taken: larger c, then lower number; -1 when none is left. A NaN is never
 * better than anything. */
static __device__ int best_left(const float *c, const int *taken, int n, int lane)
{
    int best = -1;
    float best_c = -INFINITY;
    for (int e = lane; e < n; e += 32)
        if (!taken[e] && c[e] > best_c) {
            best = e;
            best_c = c[e];
        }
    for (int mask = 16; mask > 0; mask >>= 1) {
        int other = warp_xor(best, mask);
        float other_c = warp_xor(best_c, mask);
        if (other >= 0 && (best < 0 || other_c > best_c || (other_c == best_c && other < best))) {
            best = other;
            best_c = other_c;
        }
    }
    return best;
}

/* What one row's warp works in. */
struct choose_space {
    float *p, *c, *chosen, *mark; /* scores, with bias, [topk], [groups] */
    int *taken, *open;            /* [experts], [groups] */
};

static __device__ void softmax(float *p, int experts, int lane)
{
    float most = -INFINITY, total = 0.0f;
    for (int e = lane; e < experts; e += 32)
        most = fmaxf(most, p[e]);
    most = warp_max(most);
    for (int e = lane; e < experts; e += 32) {
        p[e] = expf(p[e] - most);
        total += p[e];
    }
    total = warp_sum(total);
    for (int e = lane; e < experts; e += 32)
        p[e] = p[e] / total;
}

/* Marks the experts of all runs but the best as taken. */
static __device__ void close_groups(const cuda_router &r, const choose_space &s, int lane)
{
    int run = r.experts / r.groups;
    for (int g = lane; g < r.groups; g += 32) {
        float first = -INFINITY, second = -INFINITY;
        for (int e = g * run; e < (g + 1) * run; e++) {
            second = s.c[e] > first ? first : s.c[e] > second ? s.c[e] : second;
            first = s.c[e] > first ? s.c[e] : first;
        }
        s.mark[g] = run > 1 ? first + second : first;
        s.open[g] = 0;
    }
    for (int k = 0; k < r.topk_groups; k++) {
        __syncwarp();
        int g = best_left(s.mark, s.open, r.groups, lane);
        __syncwarp();
        if (lane == 0 && g >= 0)
            s.open[g] = 1;
    }
    __syncwarp();
    for (int e = lane; e < r.experts; e += 32)
        s.taken[e] = !s.open[e / run];
}

static __global__ void choose_kernel(const float *logits, const float *bias, cuda_router r,
                                     int32_t *ids, float *weights)
{
    grid_begin();
    choose_space s;
    s.p = (float *)shared_memory();
    s.c = s.p + r.experts;
    s.chosen = s.c + r.experts;
    s.mark = s.chosen + r.topk;
    s.taken = (int *)(s.mark + r.groups);
    s.open = s.taken + r.experts;
    int lane = (int)threadIdx.x;
    size_t row = blockIdx.x;
    for (int e = lane; e < r.experts; e += 32) {
        float z = logits[row * r.experts + e] + (bias && r.bias_counts ? bias[e] : 0.0f);
        s.p[e] = r.sigmoid ? 1.0f / (1.0f + expf(-z)) : z;
        s.taken[e] = 0;
    }
    if (!r.sigmoid)
        softmax(s.p, r.experts, lane);
    for (int e = lane; e < r.experts; e += 32)
        s.c[e] = bias && !r.bias_counts ? s.p[e] + bias[e] : s.p[e];
    __syncwarp();
    if (r.groups > 1)
        close_groups(r, s, lane);
    float sum = 0.0f;
    for (int k = 0; k < r.topk; k++) {
        __syncwarp();
        int e = best_left(s.c, s.taken, r.experts, lane);
        __syncwarp();
        if (lane == 0) {
            ids[row * r.topk + k] = e < 0 ? k : e;
            s.chosen[k] = e < 0 ? NAN : s.p[e];
            sum += s.chosen[k];
            s.taken[e < 0 ? k : e] = 1;
        }
    }
    if (lane == 0)
        for (int k = 0; k < r.topk; k++) {
            float w = r.renormalize ? s.chosen[k] / (sum + r.epsilon) : s.chosen[k];
            weights[row * r.topk + k] = w * r.factor;
        }
}

template <int TYPE>
static void start_logits(cudaStream_t stream, const float *gate, const void *x, int n, int hidden,
                         int experts, float *logits)
{
    dim3 grid((n + ROWS - 1) / ROWS, (experts + EXPERTS - 1) / EXPERTS);
    bool aligned = hidden % 4 == 0 && (((uintptr_t)gate | (uintptr_t)x) & 15) == 0;
    launch_early(aligned ? logits_kernel<TYPE, true> : logits_kernel<TYPE, false>, grid, THREADS,
                 WARPS * ROWS * EXPERTS * sizeof(float), stream, gate, x, n, hidden, experts,
                 logits);
}

extern "C" void cuda_route(cudaStream_t stream, const struct cuda_router *r, const float *gate,
                           const float *bias, const void *x, int act, int n, int hidden,
                           float *logits, int32_t *ids, float *weights)
{
    (act == NUMBER_F32 ? start_logits<NUMBER_F32>
                       : start_logits<NUMBER_BF16>)(stream, gate, x, n, hidden, r->experts, logits);
    size_t numbers = 3 * (size_t)r->experts + r->topk + 2 * (size_t)r->groups;
    launch_early(choose_kernel, n, 32, numbers * 4, stream, (const float *)logits, bias, *r, ids,
                 weights);
}

/* An expert a block. Dead rows are no block's choice, and the first one's to mark. */
static __global__ void tally_kernel(int32_t *ids, int n, int topk, const int32_t *live,
                                    uint64_t *counts)
{
    int32_t mine = 0;
    int end = (live && *live < n ? *live : n) * topk;
    for (int i = (int)threadIdx.x; i < end; i += THREADS)
        mine += ids[i] == (int)blockIdx.x;
    for (int i = end + (int)threadIdx.x; i < n * topk && blockIdx.x == 0; i += THREADS)
        ids[i] = -1;
    mine = block_sum(mine, (int32_t *)shared_memory(), WARPS);
    if (threadIdx.x == 0)
        counts[blockIdx.x] += (uint64_t)mine;
}

extern "C" void cuda_tally(cudaStream_t stream, int32_t *ids, int n, int topk, const int32_t *live,
                           int experts, uint64_t *counts)
{
    launch(tally_kernel, experts, THREADS, WARPS * sizeof(int32_t), stream, ids, n, topk, live,
           counts);
}
