/* group.cu - which rows go to which expert (kernels.h: struct cuda_groups). One block an expert looks
 * through all choices, once to count and once to write; places come from counting, so the order
 * never varies. A thread looks after neighbouring rows. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 256
#define WARPS   (THREADS / 32)

/* One row as seen from one expert. */
struct look {
    int choice; /* the row's choice that is this expert, or -1 */
    int held;   /* experts held here that it chose; an expert chosen twice counts once, */
    int before; /* and how many of them are smaller than this one */
};

static __device__ look look_at(const int32_t *ids, int topk, int first_expert, int experts, int e)
{
    look l = {-1, 0, 0};
    for (int k = 0; k < topk; k++) {
        int local = ids[k] - first_expert;
        bool again = local < 0 || local >= experts;
        for (int j = 0; j < k && !again; j++)
            again = ids[j] == ids[k];
        if (again)
            continue;
        l.held++;
        l.before += local < e;
        if (local == e)
            l.choice = k;
    }
    return l;
}

/* The sum of `value` over the threads before this one, and over all of the block. */
static __device__ int sum_before(int value, int *scratch, int *total)
{
    int sum = value, before = lanes_before(&sum);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        scratch[threadIdx.x / 32] = sum;
    __syncthreads();
    *total = 0;
    for (int w = 0; w < WARPS; w++) {
        before += w < (int)threadIdx.x / 32 ? scratch[w] : 0;
        *total += scratch[w];
    }
    return before;
}

static __global__ void group_kernel(cuda_groups g, const int32_t *ids, const float *weights,
                                    int topk, int n, int first_expert)
{
    grid_begin();
    int *scratch = (int *)shared_memory(), e = (int)blockIdx.x, own = 0, before = 0, count, start;
    int each = (n + THREADS - 1) / THREADS, from = (int)threadIdx.x * each;
    int to = from + each < n ? from + each : n;
    for (int row = from; row < to; row++) {
        look l = look_at(ids + (size_t)row * topk, topk, first_expert, g.experts, e);
        own += l.choice >= 0;
        before += l.before;
    }
    own = sum_before(own, scratch, &count);
    sum_before(before, scratch, &start);
    for (int row = from; row < to; row++) {
        look l = look_at(ids + (size_t)row * topk, topk, first_expert, g.experts, e);
        const size_t stride = g.capacity;
        for (int k = l.held; k < topk && e == 0; k++)
            g.place[k * stride + row] = -1;
        if (l.choice < 0)
            continue;
        cuda_entry entry = {row, weights[(size_t)row * topk + l.choice]};
        g.entry[(size_t)e * g.capacity + own] = entry;
        g.place[l.before * stride + row] = start + own;
        g.weight[(size_t)row * topk + l.before] = entry.weight;
        own++;
    }
    if (threadIdx.x == 0) {
        g.count[e] = count;
        g.start[e] = start;
    }
    for (int i = e * THREADS + (int)threadIdx.x; i < g.n_turns; i += g.experts * THREADS)
        g.turns[i] = 0;
}

extern "C" void cuda_group(cudaStream_t stream, const struct cuda_groups *g, const int32_t *ids,
                           const float *weights, int topk, int n, int first_expert)
{
    launch_early(group_kernel, g->experts, THREADS, WARPS * sizeof(int), stream, *g, ids, weights,
                 topk, n, first_expert);
}
