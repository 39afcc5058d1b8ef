/* traffic.h - bytes and operations of the CUDA kernels, from what their code loads and stores.
 *
 * least: weights, inputs and outputs once each. moved: what the operation's kernels must move even
 * when every repeated read inside one kernel is found in a cache: the same, and what goes through
 * memory between kernels or between experts (partial sums, chunks of attention, the running sum of
 * the experts), written and read. Where that fits into the L2 cache less reaches memory.
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

/* e4m3 experts and a shared one, bf16 in and out; each row has `held` experts here on average, all
 * experts have rows. */
static inline struct traffic traffic_ffn(double n, double hidden, double experts, double inter,
                                         double shared, double held)
{
    double weights = 3 * hidden * (experts * inter + shared) * (1 + 4.0 / 128 / 128);
    double middle = n * (held * inter + shared) * 2, sums = n * held * hidden * 4;
    struct traffic t = {.flops = 6 * n * hidden * (held * inter + shared)};
    t.least = weights + 2 * n * hidden * 2;
    t.moved = t.least + 2 * middle + 2 * sums;
    return t;
}

#endif
