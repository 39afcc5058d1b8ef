/* group.cu - which rows go to which expert (kernels.h: struct cuda_groups). One block a list looks
 * through all choices, once to count and once to write; places come from counting, so the order
 * never varies. A thread looks after neighbouring rows. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/number.cuh"

#define THREADS 256
#define WARPS   (THREADS / 32)

/* One row as seen from one list. */
struct look {
    int choice;   /* the row's choice that is this expert, or -1 */
    int held;     /* its choices held here */
    bool lower;   /* one of them is a smaller expert, */
    bool higher;  /* or a larger one */
    bool listed;  /* the row belongs on the list, */
    bool finish;  /* to be finished there */
    bool slotted; /* it needs a slot */
};

/* Rows of each kind: in a thread's rows, then in front of them. */
struct tally {
    int finish, other;   /* on this list */
    int three, two, one; /* rows that need a slot: of three or more experts here, of two, of one */
};

static __device__ look look_at(const int32_t *ids, int topk, int first_expert, int experts, int e,
                               bool early)
{
    look l = {-1, 0, false, false, false, false, false};
    for (int k = 0; k < topk; k++) {
        int local = ids[k] - first_expert;
        if (local < 0 || local >= experts)
            continue;
        l.held++;
        if (local == e && l.choice < 0)
            l.choice = k;
        l.lower = l.lower || local < e;
        l.higher = l.higher || local > e;
    }
    l.slotted = l.held > (early ? 1 : 0);
    l.listed = e < experts ? l.choice >= 0 : !early || l.held == 0;
    l.finish = l.listed && (e == experts || (early && !l.higher));
    return l;
}

static __device__ void count(tally *t, const look &l)
{
    t->finish += l.finish;
    t->other += l.listed && !l.finish;
    t->three += l.slotted && l.held > 2;
    t->two += l.slotted && l.held == 2;
    t->one += l.slotted && l.held == 1;
}

/* The sum of `value` over the threads before this one, and over all of the block. */
static __device__ int sum_before(int value, int *scratch, int *total)
{
    int lane = (int)threadIdx.x % 32, before = 0, sum = value;
    for (int mask = 1; mask < 32; mask *= 2) {
        int other = warp_xor(sum, mask);
        before += (lane & mask) != 0 ? other : 0;
        sum += other;
    }
    __syncthreads();
    if (lane == 0)
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
                                    int topk, int n, int first_expert, int early)
{
    int *scratch = (int *)shared_memory(), e = (int)blockIdx.x;
    int each = (n + THREADS - 1) / THREADS, from = (int)threadIdx.x * each;
    int to = from + each < n ? from + each : n;
    tally t = {0, 0, 0, 0, 0}, all;
    for (int row = from; row < to; row++)
        count(&t, look_at(ids + (size_t)row * topk, topk, first_expert, g.experts, e, early));
    t.finish = sum_before(t.finish, scratch, &all.finish);
    t.other = sum_before(t.other, scratch, &all.other);
    t.three = sum_before(t.three, scratch, &all.three);
    t.two = sum_before(t.two, scratch, &all.two);
    t.one = sum_before(t.one, scratch, &all.one);
    cuda_entry *list = g.entry + (size_t)e * g.capacity;
    for (int row = from; row < to; row++) {
        look l = look_at(ids + (size_t)row * topk, topk, first_expert, g.experts, e, early);
        int slot = l.held > 2    ? t.three
                   : l.held == 2 ? all.three + t.two
                                 : all.three + all.two + t.one;
        cuda_entry entry = {row, l.slotted ? slot : -1,
                            l.choice >= 0 ? weights[(size_t)row * topk + l.choice] : 0.0f,
                            !l.lower};
        if (l.listed)
            list[l.finish ? t.finish : all.finish + t.other] = entry;
        count(&t, l);
    }
    if (threadIdx.x == 0) {
        g.count[e] = all.finish + all.other;
        g.finish[e] = all.finish;
    }
}

extern "C" void cuda_group(cudaStream_t stream, const struct cuda_groups *g, const int32_t *ids,
                           const float *weights, int topk, int n, int first_expert, int early)
{
    launch(group_kernel, g->experts + 1, THREADS, WARPS * sizeof(int), stream, *g, ids, weights,
           topk, n, first_expert, early);
}
