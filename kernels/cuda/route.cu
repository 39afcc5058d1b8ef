/* route.cu - the router (ops.h: route). First the logits: a block makes 4 experts for 8 rows, each
 * warp one row, so that the gate is read once for 8 rows. Then one warp a row: softmax, and K times
 * the best that is left. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define WARPS   8
#define THREADS (WARPS * 32)
#define EXPERTS 4

static __global__ void logits_kernel(const float *gate, const void *x, int act, int n, int hidden,
                                     int experts, float *logits)
{
    int row = (int)(blockIdx.x * WARPS + threadIdx.x / 32), lane = (int)threadIdx.x % 32;
    int first = (int)blockIdx.y * EXPERTS;
    if (row >= n)
        return;
    float sum[EXPERTS] = {0.0f};
    for (int i = lane; i < hidden; i += 32) {
        float v = load_number(x, (size_t)row * hidden + i, act);
#pragma unroll
        for (int e = 0; e < EXPERTS; e++)
            if (first + e < experts)
                sum[e] = fmaf(gate[(size_t)(first + e) * hidden + i], v, sum[e]);
    }
#pragma unroll
    for (int e = 0; e < EXPERTS; e++) {
        float total = warp_sum(sum[e]);
        if (lane == 0 && first + e < experts)
            logits[(size_t)row * experts + first + e] = total;
    }
}

/* The best expert not yet taken: larger p, then lower number. p of a taken one is negative. A NaN
 * is never better, and never worse, than anything: the lowest number wins then. */
static __device__ int best_left(const float *p, int experts, int lane)
{
    int best = -1;
    float best_p = -1.0f;
    for (int e = lane; e < experts; e += 32) {
        if (p[e] < 0.0f)
            continue;
        if (best < 0 || p[e] > best_p) {
            best = e;
            best_p = p[e];
        }
    }
    for (int mask = 16; mask > 0; mask >>= 1) {
        int other = warp_xor(best, mask);
        float other_p = warp_xor(best_p, mask);
        bool equal = !(other_p > best_p) && !(other_p < best_p);
        if (other >= 0 && (best < 0 || other_p > best_p || (equal && other < best))) {
            best = other;
            best_p = other_p;
        }
    }
    return best;
}

static __global__ void choose_kernel(const float *logits, int experts, int topk, int renormalize,
                                     int32_t *ids, float *weights)
{
    float *p = (float *)shared_memory(), *chosen = p + experts;
    int lane = (int)threadIdx.x;
    size_t row = blockIdx.x;
    float most = -INFINITY, total = 0.0f;
    for (int e = lane; e < experts; e += 32)
        most = fmaxf(most, logits[row * experts + e]);
    most = warp_max(most);
    for (int e = lane; e < experts; e += 32) {
        p[e] = expf(logits[row * experts + e] - most);
        total += p[e];
    }
    total = warp_sum(total);
    for (int e = lane; e < experts; e += 32)
        p[e] = p[e] / total;
    float sum = 0.0f;
    for (int k = 0; k < topk; k++) {
        __syncwarp();
        int e = best_left(p, experts, lane);
        __syncwarp();
        if (lane == 0) {
            ids[row * topk + k] = e;
            chosen[k] = p[e];
            sum += p[e];
            p[e] = -1.0f;
        }
    }
    if (lane == 0)
        for (int k = 0; k < topk; k++)
            weights[row * topk + k] = renormalize ? chosen[k] / sum : chosen[k];
}

extern "C" void cuda_route(cudaStream_t stream, const float *gate, const void *x, int act, int n,
                           int hidden, int experts, int topk, int renormalize, float *logits,
                           int32_t *ids, float *weights)
{
    dim3 grid((n + WARPS - 1) / WARPS, (experts + EXPERTS - 1) / EXPERTS);
    launch(logits_kernel, grid, THREADS, 0, stream, gate, x, act, n, hidden, experts, logits);
    launch(choose_kernel, n, 32, ((size_t)experts + topk) * sizeof(float), stream,
           (const float *)logits, experts, topk, renormalize, ids, weights);
}
