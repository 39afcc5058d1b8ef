/* integer.h - rows as integers of 8 bits, for products of integers (device.h: int8_products). Internal
 * to kernels/cpu; what every processor computes, in plain C.
 *
 * A row is cut into groups of 32 inputs, counted from the first input of the part of the matrix that
 * it is multiplied with:
 *
 *     scale = max|x| / 127,  code = x / scale, rounded to the nearest, to even when half way
 *
 * in f32. Where the scale is 0 (all inputs are, or it would be subnormal), so are the codes. A group with a
 * NaN or an infinity has a scale of NaN and codes of 0: all outputs of the row then are NaN.
 *
 * Inputs that share the scales of both factors are a run: a group of 32 or, where the weights' own
 * groups (kernels/weights/form.h) are no multiple of 32 inputs, each half of it. In the order of their inputs
 * the runs go into one chain of f32, each step rounded once:
 *
 *     y += weight scale * (scale * sum of code * value)      values are the weights' integers
 *     y -= weight minimum * (scale * sum of code)            where there are minima
 *
 * The sums are of integers below 2^24: exact, whatever their order. The term in parentheses is one
 * rounded product.
 */
#ifndef TANDEM_KERNELS_CPU_INTEGER_H
#define TANDEM_KERNELS_CPU_INTEGER_H

#include "kernels/weights/form.h"

#include <math.h>
#include <string.h>

#define INTEGER_GROUP 32

/* One group of a row: a line of the cache. */
struct integers {
    int8_t code[INTEGER_GROUP];
    float scale;
    int32_t sum[2]; /* of the codes of each half */
    int32_t all;    /* of both */
    float term[2];  /* scale * sum */
    float term_all; /* scale * all */
    int32_t unused;
};

static inline size_t integer_groups(size_t k)
{
    return (k + INTEGER_GROUP - 1) / INTEGER_GROUP;
}

/* Inputs of a run. */
static inline size_t integer_run(const struct weight_form *f)
{
    return f->inner % INTEGER_GROUP == 0 ? INTEGER_GROUP : INTEGER_GROUP / 2;
}

/* One group from 32 numbers, zeros where the row has fewer. */
static inline void integer_group(const float x[INTEGER_GROUP], struct integers *to)
{
    int32_t bits[INTEGER_GROUP], most = 0;
    memcpy(bits, x, sizeof bits);
    for (int i = 0; i < INTEGER_GROUP; i++) { /* as integers, NaN and infinity are the largest */
        int32_t size = bits[i] & 0x7fffffff;
        most = size > most ? size : most;
    }
    float largest;
    memcpy(&largest, &most, sizeof largest);
    *to = (struct integers){.scale = most < 0x7f800000 ? largest / 127.0f : NAN};
    if (to->scale > 0) {
        int32_t code[INTEGER_GROUP];
        for (int i = 0; i < INTEGER_GROUP; i++)
            code[i] = (int32_t)rintf(x[i] / to->scale);
        for (int i = 0; i < INTEGER_GROUP; i++)
            to->code[i] = (int8_t)code[i];
        for (int i = 0; i < INTEGER_GROUP / 2; i++) {
            to->sum[0] += code[i];
            to->sum[1] += code[i + INTEGER_GROUP / 2];
        }
    }
    to->all = to->sum[0] + to->sum[1];
    for (int h = 0; h < 2; h++)
        to->term[h] = to->scale * (float)to->sum[h];
    to->term_all = to->scale * (float)to->all;
}

/* k numbers of a row. */
static inline void integer_row(const float *x, size_t k, struct integers *to)
{
    for (size_t i = 0; i < k; i += INTEGER_GROUP, to++) {
        float some[INTEGER_GROUP] = {0};
        size_t n = k - i < INTEGER_GROUP ? k - i : INTEGER_GROUP;
        memcpy(some, x + i, n * sizeof *some);
        integer_group(some, to);
    }
}

#endif
