/* traffic.h - bytes and operations of the CUDA kernels, from what their code loads and stores. That it is
 * what they do is counted, at small shapes (traffic.c).
 *
 * least: weights, inputs and outputs once each. moved: what the operation's kernels must move even
 * when every repeated read inside one kernel is found in a cache: the same, and what goes through
 * memory between kernels (partial sums, chunks of attention, shares of the experts), written and
 * read. Where that fits into the L2 cache less reaches memory.
 */
#ifndef TANDEM_TESTS_CUDA_TRAFFIC_H
#define TANDEM_TESTS_CUDA_TRAFFIC_H

#include "kernels/cuda/device_cuda.h"

struct traffic {
    double least, moved, flops;
};

/* y = x W^T, bf16 x, y of y_bytes; weights of bf16 (2 bytes), e4m3 (1), or in groups with their numbers. */
static inline struct traffic traffic_linear(double n, double out, double in, double weight_bytes,
                                            double y_bytes)
{
    double scales = weight_bytes == 1 ? out * in / 128 / 128 * 4 : 0;
    int splits = cuda_linear_splits((int)out, (int)in);
    struct traffic t = {.flops = 2 * n * out * in};
    t.least = out * in * weight_bytes + scales + n * in * 2 + n * out * y_bytes;
    /* Partial sums; weights once for every panel of rows. */
    int panels = splits > 1 ? ((int)n + LINEAR_PANEL - 1) / LINEAR_PANEL : 1;
    t.moved = t.least + (splits > 1 ? 2.0 * splits * n * out * 4 : 0) +
              (panels - 1) * (out * in * weight_bytes + scales);
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

/* What one device holds of a layer of e4m3 experts. A row chooses `topk` of `all` experts, every choice
 * as likely as any other, and `here` of them are held, cut to `inter` columns; `shared` columns of
 * the shared one. */
struct traffic_experts {
    int hidden, here, all, topk, inter, shared;
};

/* bf16 in and out; the numbers of rows are the expected ones, all experts have some. What lies between
 * the kernels is written and read once: h, the shares of all rows of experts and of the shared one, and the lists. Where
 * shares are made and added in one kernel there are no more of them than its ring has columns for, and none of the
 * shared one. */
static inline struct traffic traffic_ffn(int n, const struct traffic_experts *x)
{
    bool joins = cuda_ffn_joins(x->here, n, x->topk, x->hidden, x->shared);
    double held = (double)x->topk * x->here / x->all,
           pairs = n * (held + (x->shared > 0 && !joins));
    int columns = joins ? FFN_RING_STRIDE(x->hidden) : FFN_STRIDE(x->hidden);
    double weights = 3.0 * x->hidden * (x->here * x->inter + x->shared) * (1 + 4.0 / 128 / 128);
    double middle = n * (held * x->inter + x->shared) * 2;
    struct traffic t = {.flops = 6.0 * n * x->hidden * (held * x->inter + x->shared)};
    t.least = weights + 2.0 * n * x->hidden * 2;
    t.moved = t.least + 2 * middle + 2 * pairs * columns * 4 +
              n * (3 * held * (double)sizeof(struct cuda_entry) + 4.0 * x->topk * 4);
    return t;
}

#endif
