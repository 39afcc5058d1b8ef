/* form.h - the few forms in which backends keep weight matrices, filled from any codec (codec.h).
 *
 * F32 and BF16: numbers. F8: the codes of e4m3, one f32 scale for every 128 rows and columns of the
 * checkpoint's tensor. I8 and I4, the grouped forms: integers, in groups of inputs of one row:
 *
 *     w = (d * scale) * value - (m * min)       products and difference in f32, in this order
 *
 * value: an int8, or values[code] of a 4-bit code. d and m are shared by `outer` inputs, scale and
 * min (small integers) by `inner` inputs; inner divides outer. Columns are counted from the
 * beginning of the part, which always begins a group; the last group may be shorter. This one
 * equation is exactly what every format of codec.h means: nothing is lost by keeping its bits so.
 * Products do not make w: they multiply inputs with values and scale the sums of runs (form_run).
 * A backend keeps d and m in `factor`, which holds them exactly, once per outer; scale and min as
 * int8 once per inner, where the form has them; else they count as 1.
 *
 *     format      form  outer  inner  bits a weight
 *     Q4_0        I4    32            4.5      values -8..7
 *     Q4_1        I4    32            5        m
 *     Q4_K        I4    256    32     4.63     m, scale, min
 *     IQ4_XS      I4    256    32     4.31     scale; values of a curve
 *     AWQ 128     I4    128           4.19     m is d: only min is stored
 *     Q6_K        I8    256    16     8.56     scale
 *     int8        I8    all           8        one f32 a row
 *
 * Pure descriptions; any thread.
 */
#ifndef TANDEM_KERNELS_WEIGHTS_FORM_H
#define TANDEM_KERNELS_WEIGHTS_FORM_H

#include "base/dtype.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum form_kind { FORM_F32, FORM_BF16, FORM_F8, FORM_I8, FORM_I4 };

/* What is subtracted. */
enum form_mins {
    MINS_NONE,   /* nothing: m = 0 */
    MINS_OUTER,  /* m of its own, min = 1 */
    MINS_INNER,  /* m of its own and min */
    MINS_SHARED, /* m = d, and min */
};

struct weight_form {
    enum form_kind kind;
    /* The rest: I8 and I4 only. */
    const int8_t *values; /* I4: [16], what the codes stand for */
    enum dtype factor;    /* of d and m: F32, F16, BF16 */
    size_t outer, inner; /* multiples of 16; of a whole row: of FORM_RUN, no less than its inputs */
    bool scales;         /* is there a scale per inner? */
    enum form_mins mins;
};

/* Whether it is one of the grouped forms. */
static inline bool form_is_grouped(enum form_kind kind)
{
    return kind == FORM_I8 || kind == FORM_I4;
}

/* The numbers of one inner group. */
struct form_group {
    float d, m;
    int scale, min;
};

/* The equation above. */
static inline float form_value(const struct form_group *g, int value)
{
    return (g->d * (float)g->scale) * (float)value - (g->m * (float)g->min);
}

/* Products with grouped forms and FP8 scale the sums of runs: of so many inputs under one scale, counted
 * from a column of the checkpoint's tensor that is a multiple of it. It divides every group and FORM_RUN,
 * so that no run is cut by what kernels take at a time. */
#define FORM_RUN 128

static inline size_t form_run(const struct weight_form *f)
{
    size_t run = f->inner & (0 - f->inner);
    return form_is_grouped(f->kind) && run < FORM_RUN ? run : FORM_RUN;
}

/* Inputs of its first run that lie before a part that begins at a column of the checkpoint's tensor; as far as
 * slices begin at multiples of 16. Shorter runs are of groups, which a part begins. */
static inline size_t form_before(const struct weight_form *f, size_t column)
{
    return form_run(f) == FORM_RUN ? column % FORM_RUN / 16 * 16 : 0;
}

/* The group of a whole row of k inputs. */
static inline size_t form_whole_row(size_t k)
{
    return k ? (k + FORM_RUN - 1) / FORM_RUN * FORM_RUN : FORM_RUN;
}

/* Gate and up of one MLP lie side by side: where their forms are not alike, both are multiplied as numbers. */
static inline bool form_alike(const struct weight_form *a, const struct weight_form *b)
{
    return a->kind == b->kind && a->inner == b->inner && a->values == b->values &&
           (a->mins == MINS_NONE) == (b->mins == MINS_NONE);
}

/* Groups of k inputs. */
static inline size_t form_groups(size_t k, size_t size)
{
    return (k + size - 1) / size;
}

/* Bytes that k inputs of one row take in a form without gaps, scales included (F8: not). */
size_t form_row_bytes(const struct weight_form *f, size_t k);

#endif
