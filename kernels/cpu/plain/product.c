/* product.c - x times some outputs of a weight: the order of additions that every backend of the
 * CPU keeps (kernels/cpu/fast/panel.h).
 *
 * The inputs of one output are one chain of multiply-adds, each rounded once, in the order 1, 0, 3,
 * 2, 5, 4, ...: the second of each pair first, as VDPBF16PS takes them; a last run of less than 16 inputs is
 * filled up with zeros, so that -0 becomes 0. FP8 with block scales: every
 * block of 128 inputs is such a chain from 0, and the output is the chain of scale x block. int8:
 * the chain of the integers, times the scale at the end.
 */
#include "kernels/cpu/plain/kept.h"

#include <math.h>
#include <string.h>

#define F8_BLOCK 128
#define RUN      16 /* inputs */

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

WITH_FMA static void add_scaled(const float *scale, const float *block, float *y)
{
    for (size_t o = 0; o < PLAIN_OUTPUTS; o++)
        y[o] = fmaf(scale[o], block[o], y[o]);
}

/* FP8 whose parts begin where vectors do keeps its codes; else it is multiplied as f32. */
static bool has_blocks(const struct weight *w)
{
    return w->form.kind == FORM_F8 && w->row0 % PLAIN_OUTPUTS == 0 && w->col0 % 16 == 0;
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
        if (has_blocks(w))
            plain_load(d, DTYPE_F8E4M3, w->data, (first + o) * w->k, w->k, row);
        else if (w->row_scale)
            for (size_t i = 0; i < w->k; i++)
                row[i] = ((const int8_t *)w->data)[(first + o) * w->k + i];
        else
            plain_weight_row(d, w, first + o, row);
        for (size_t i = 0; i < w->k; i++)
            block[i * PLAIN_OUTPUTS + o] = row[i];
    }
}

static float row_scale(const struct weight *w, size_t row, size_t input)
{
    if (w->row_scale)
        return codec_number(w->factors, w->form.factor, row);
    return w->scale[(w->row0 + row) / F8_BLOCK * w->scale_stride + (w->col0 + input) / F8_BLOCK];
}

void plain_products(const struct weight *w, size_t first, const float *block, struct plain_row x,
                    size_t begin, size_t end, float y[PLAIN_OUTPUTS])
{
    if (w->integers) {
        plain_integer_products(w, first, (const int8_t *)block, x.codes, begin, end, y);
        return;
    }
    memset(y, 0, PLAIN_OUTPUTS * sizeof *y);
    if (!has_blocks(w) && !w->row_scale) {
        plain_chain(block, x.numbers, begin, end, y);
        for (size_t o = 0; end == w->k && end % RUN != 0 && o < PLAIN_OUTPUTS; o++)
            y[o] += 0.0f;
        return;
    }
    size_t outputs = w->n - first < PLAIN_OUTPUTS ? w->n - first : PLAIN_OUTPUTS;
    for (size_t i = begin, stop; i < end; i = stop) {
        float sums[PLAIN_OUTPUTS] = {0}, scale[PLAIN_OUTPUTS] = {0};
        stop = has_blocks(w) ? i + F8_BLOCK - (w->col0 + i) % F8_BLOCK : end;
        stop = stop < end ? stop : end;
        for (size_t o = 0; o < outputs; o++)
            scale[o] = row_scale(w, first + o, i);
        plain_chain(block, x.numbers, i, stop, sums);
        add_scaled(scale, sums, y);
    }
}
