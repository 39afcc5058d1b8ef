/* group.cu - which rows go to which expert, in row order (kernels.h: struct cuda_groups). One block
 * an expert looks through all choices; places come from counting, so the order never varies. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 256
#define WARPS   (THREADS / 32)

/* The choice of `expert` by this row, or -1; *first: no other choice of the row is a smaller expert
 * held here. */
static __device__ int find_choice(const int32_t *ids, int topk, int first_expert, int expert,
                                  bool *first)
{
    int found = -1;
    *first = true;
    for (int k = 0; k < topk; k++) {
        if (ids[k] == expert && found < 0)
            found = k;
        if (ids[k] >= first_expert && ids[k] < expert)
            *first = false;
    }
    return found;
}

static __device__ void mark_any(struct cuda_groups g, const int32_t *ids, int topk, int n,
                                int first_expert)
{
    for (int row = (int)threadIdx.x; row < n; row += THREADS) {
        bool any = false;
        for (int k = 0; k < topk; k++) {
            int local = ids[(size_t)row * topk + k] - first_expert;
            any = any || (local >= 0 && local < g.experts);
        }
        g.any[row] = any;
    }
}

static __global__ void group_kernel(struct cuda_groups g, const int32_t *ids, const float *weights,
                                    int topk, int n, int first_expert)
{
    int *warp_count = (int *)shared_memory(), expert = (int)blockIdx.x, listed = 0;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    if (expert == g.experts) {
        mark_any(g, ids, topk, n, first_expert);
        return;
    }
    size_t list = (size_t)expert * g.capacity;
    for (int base = 0; base < n; base += THREADS) {
        int row = base + (int)threadIdx.x;
        bool first = false;
        int k = row < n ? find_choice(ids + (size_t)row * topk, topk, first_expert,
                                      first_expert + expert, &first)
                        : -1;
        uint32_t chosen = warp_ballot(k >= 0);
        if (lane == 0)
            warp_count[warp] = bit_count(chosen);
        __syncthreads();
        int place = listed + bit_count(chosen & ((1u << lane) - 1u));
        for (int w = 0; w < WARPS; w++) {
            if (w < warp)
                place += warp_count[w];
            listed += warp_count[w];
        }
        if (k >= 0) {
            g.row[list + place] = row | (first ? GROUP_FIRST : 0);
            g.weight[list + place] = weights[(size_t)row * topk + k];
        }
        __syncthreads();
    }
    if (threadIdx.x == 0)
        g.count[expert] = listed;
}

extern "C" void cuda_group(cudaStream_t stream, const struct cuda_groups *g, const int32_t *ids,
                           const float *weights, int topk, int n, int first_expert)
{
    launch(group_kernel, g->experts + 1, THREADS, WARPS * sizeof(int), stream, *g, ids, weights,
           topk, n, first_expert);
}
