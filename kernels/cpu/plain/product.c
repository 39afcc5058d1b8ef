/* product.c - x times some outputs of a weight: the order of additions that every backend of the
 * CPU keeps (kernels/cpu/fast/panel.h).
 *
 * The inputs of one output are one chain of multiply-adds, each rounded once, in the order 1, 0, 3,
 * 2, 5, 4, ...: the second of each pair first, as VDPBF16PS takes them; last inputs that are no sixteen
 * are filled up with zeros, so that -0 becomes 0. Codes (FP8, and the integers of grouped forms) are such a
 * chain from 0 for every run of inputs under one scale (form_run), and the output is a chain over the runs,
 * each step rounded once:
 *
 *     y += scale * the run's chain       scale = d * scale and min = m * min are rounded products
 *     y -= min * sum of the run's x      where there are minima
 *
 * That sum adds up sixteen inputs by halves (lane_sum), and one sixteen after the other.
 *
 * Where |min| is much larger than |w| and inputs have a mean, both terms of a run nearly cancel, and their
 * roundings do not: an output is exact for the size of its terms, the sum of (|scale value| + |min|) |x|. It
 * is off by no more than 2 (run + number of runs) 2^-24 of that.
 */
#include "kernels/cpu/lane.h"
#include "kernels/cpu/plain/kept.h"

#include <math.h>
#include <string.h>

/* Compiled twice where that is possible: fmaf() is one instruction on most processors, but not on
 * all that this file may run on. */
#if defined(__x86_64__) && defined(__linux__) && !defined(__clang__)
#define WITH_FMA __attribute__((target_clones("fma", "default")))
#else
#define WITH_FMA
#endif

WITH_FMA void plain_chain(const float *w, const float *x, size_t first, size_t end, float *sums)
{
    float sum[PLAIN_OUTPUTS];
    memcpy(sum, sums, sizeof sum);
    for (size_t i = first; i < end; i += 2)
        for (size_t second = 2; second-- > 0;)
            if (i + second < end)
                for (size_t o = 0; o < PLAIN_OUTPUTS; o++)
                    sum[o] = fmaf(w[(i + second) * PLAIN_OUTPUTS + o], x[i + second], sum[o]);
    memcpy(sums, sum, sizeof sum);
}

/* What a run's chain and the sum of its inputs are multiplied with, of sixteen outputs. */
struct factors {
    float scale[PLAIN_OUTPUTS], min[PLAIN_OUTPUTS];
};

static struct factors factors_of(const struct weight *w, size_t first, size_t input)
{
    struct factors f = {{0}, {0}};
    for (size_t o = 0; o < PLAIN_OUTPUTS && first + o < w->n; o++) {
        if (w->form.kind == FORM_F8) {
            f.scale[o] = w->scale[(w->row0 + first + o) / FORM_RUN * w->scale_stride +
                                  (w->col0 + input) / FORM_RUN];
            continue;
        }
        struct form_group g = plain_group(w, first + o, input);
        f.scale[o] = g.d * (float)g.scale;
        f.min[o] = g.m * (float)g.min;
    }
    return f;
}

WITH_FMA static void add_run(const struct factors *f, const float *chain, bool mins, float sum,
                             float *y)
{
    for (size_t o = 0; o < PLAIN_OUTPUTS; o++) {
        y[o] = fmaf(f->scale[o], chain[o], y[o]);
        if (mins)
            y[o] = fmaf(-f->min[o], sum, y[o]);
    }
}

static float sum_of(const float *x, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i += LANES) {
        float some[LANES] = {0};
        memcpy(some, x + i, (n - i < LANES ? n - i : LANES) * sizeof *some);
        sum = i ? sum + lane_sum(some) : lane_sum(some);
    }
    return sum;
}

void plain_outputs(const struct device *d, const struct weight *w, size_t first, float *block)
{
    if (w->integers) {
        plain_integer_outputs(w, first, (int8_t *)block);
        return;
    }
    float *row = block + w->k * PLAIN_OUTPUTS;
    size_t end = w->n - first < PLAIN_OUTPUTS ? w->n - first : PLAIN_OUTPUTS;
    memset(block, 0, w->k * PLAIN_OUTPUTS * sizeof *block);
    for (size_t o = 0; o < end; o++) {
        if (!w->run)
            plain_weight_row(d, w, first + o, row);
        else if (w->form.kind == FORM_F8)
            plain_load(d, DTYPE_F8E4M3, w->data, (first + o) * w->k, w->k, row);
        else
            for (size_t i = 0; i < w->k; i++)
                row[i] = (float)plain_integer(w, first + o, i);
        for (size_t i = 0; i < w->k; i++)
            block[i * PLAIN_OUTPUTS + o] = row[i];
    }
}

void plain_products(const struct weight *w, size_t first, const float *block, struct plain_row x,
                    size_t begin, size_t end, float y[PLAIN_OUTPUTS])
{
    if (w->integers) {
        plain_integer_products(w, first, (const int8_t *)block, x.codes, begin, end, y);
        return;
    }
    memset(y, 0, PLAIN_OUTPUTS * sizeof *y);
    if (!w->run) {
        plain_chain(block, x.numbers, begin, end, y);
        for (size_t o = 0; end == w->k && end % LANES != 0 && o < PLAIN_OUTPUTS; o++)
            y[o] += 0.0f;
        return;
    }
    bool mins = w->form.mins != MINS_NONE;
    for (size_t i = begin, stop; i < end; i = stop) {
        float chain[PLAIN_OUTPUTS] = {0};
        stop = i + w->run - (w->before + i) % w->run;
        stop = stop < end ? stop : end;
        struct factors f = factors_of(w, first, i);
        plain_chain(block, x.numbers, i, stop, chain);
        add_run(&f, chain, mins, mins ? sum_of(x.numbers + i, stop - i) : 0, y);
    }
}
