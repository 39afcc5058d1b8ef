/* traffic.h - bytes and operations of the CUDA kernels, from what their code loads and stores. That it is
 * what they do is counted, at small shapes (traffic.c).
 *
 * least: weights, inputs and outputs once each. moved: what the operation's kernels must move even
 * when every repeated read inside one kernel is found in a cache: the same, and what goes through
 * memory between kernels or between experts (partial sums, chunks of attention, running sums of the
 * experts), written and read. Where that fits into the L2 cache less reaches memory.
 */
#ifndef TANDEM_TESTS_CUDA_TRAFFIC_H
#define TANDEM_TESTS_CUDA_TRAFFIC_H

#include "kernels/cuda/kernels.h"

struct traffic {
    double least, moved, flops;
};

/* y = x W^T, e4m3 weights (1 byte) or bf16 (2), bf16 x, y of y_bytes. */
static inline struct traffic traffic_linear(double n, double out, double in, double weight_bytes,
                                            double y_bytes)
{
    double scales = weight_bytes < 2 ? out * in / 128 / 128 * 4 : 0;
    int splits = cuda_linear_splits((int)out, (int)in);
    struct traffic t = {.flops = 2 * n * out * in};
    t.least = out * in * weight_bytes + scales + n * in * 2 + n * out * y_bytes;
    t.moved = t.least + (splits > 1 ? 2.0 * splits * n * out * 4 : 0);
    return t;
}

/* n rows with one kv head and `context` tokens each. */
static inline struct traffic traffic_attend(double n, double context, double heads, double d,
                                            int type)
{
    int chunk = ATTEND_CHUNK(type), chunks = ((int)context + chunk - 1) / chunk;
    double part = (double)ATTEND_PARTIAL(heads, d) * 4;
    struct traffic t = {.flops = 4 * n * heads * d * context};
    t.least = n * context * 2 * d * (type == 1 ? 2 : 1) + 2 * n * heads * d * 2;
    t.moved = t.least + (chunks > 1 ? 2 * n * chunks * part : 0);
    return t;
}

/* What one device holds of a layer of e4m3 experts, and where. A row chooses `topk` of `all`
 * experts, every choice as likely as any other, and `here` of them are held, cut to `inter`
 * columns; `shared` columns of the shared one. */
struct traffic_experts {
    int hidden, here, all, topk, inter, shared;
    int processors; /* of the device */
    size_t memory;  /* the most shared memory of one block */
};

static inline double traffic_choose(int n, int k)
{
    double ways = k < 0 || k > n ? 0 : 1;
    for (int i = 0; i < k; i++)
        ways = ways * (n - i) / (i + 1);
    return ways;
}

/* The share of rows with j experts here. */
static inline double traffic_share(const struct traffic_experts *x, int j)
{
    return traffic_choose(x->here, j) * traffic_choose(x->all - x->here, x->topk - j) /
           traffic_choose(x->all, x->topk);
}

/* bf16 in and out; the numbers of rows are the expected ones, all experts have some. Running sums
 * are counted where they go through global memory: those of the rows that have no slot in shared
 * memory, and slots go to rows with many experts first. Such a row writes its sum after each expert
 * here and reads it after that, once each less when rows finish early. Lists of rows are written
 * and read once. */
static inline struct traffic traffic_ffn(int n, const struct traffic_experts *x)
{
    struct cuda_down_place place = cuda_down_place(2, x->hidden, x->processors, x->memory);
    int early = cuda_down_early(2, n, x->here, x->shared, place.slots);
    double held = (double)x->topk * x->here / x->all, slots = place.slots, passes = 0;
    for (int j = x->topk; j > 0; j--) {
        int times = early ? j - 1 : j;
        double rows = times > 0 ? n * traffic_share(x, j) : 0, in = rows < slots ? rows : slots;
        slots -= in;
        passes += times * (rows - in);
    }
    double weights = 3.0 * x->hidden * (x->here * x->inter + x->shared) * (1 + 4.0 / 128 / 128);
    double middle = n * (held * x->inter + x->shared) * 2;
    double listed = n * (held + (early ? traffic_share(x, 0) : 1));
    struct traffic t = {.flops = 6.0 * n * x->hidden * (held * x->inter + x->shared)};
    t.least = weights + 2.0 * n * x->hidden * 2;
    t.moved = t.least + 2 * middle + 2 * passes * x->hidden * 4 +
              2 * listed * (double)sizeof(struct cuda_entry);
    return t;
}

#endif
