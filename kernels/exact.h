/* exact.h - sums of an FFN that come out the same in whatever order they are made.
 *
 * What a row gets from a layer's FFN is the sum, over the experts it chose, of weight x expert(x), and
 * shared(x). Ranks share out the experts, and the intermediate dimension inside them, in many ways:
 * layout.ffn {expert: 2} adds all of one expert on one rank before another's, {tensor: 2} adds half of
 * every expert first. No order of rounded additions can serve both: a sum of rows first and a sum of
 * columns first differ in their last bits. So nothing is rounded until all is added:
 *
 *   slices  The intermediate dimension is cut at places that hang on its width alone
 *           (schedule/placement.h), never on the layout. The product with a slice of `down` is one chain
 *           of f32 from 0, as in linear: a rank has whole slices or none.
 *   terms   weight x that product (weight 1 for the shared expert and dense MLPs) is rounded once, to a
 *           multiple of EXACT_STEP. The product of two f32 is exact in double, so exact_term() is that one
 *           rounding: adding EXACT_SHIFT leaves no bits below the step, taking it off is exact.
 *   sums    Doubles that are multiples of the step, below 2^20: additions are exact, in any order and on
 *           any rank. They travel as doubles when there are several FFN ranks.
 *   result  Rounded to f32 once, when all is added; then the residual stream takes it.
 *
 * A term's rounding is at most 2^-33, against 2^-25 x |term| for f32: less for all terms above 1/256, and
 * 2^-24 of a residual stream of 1/512. Sums beyond 2^20 lose nothing of their accuracy, which is that of a
 * double, only the promise that orders agree. NaN and infinity come through.
 *
 * CUDA adds in f32, the shared expert first and the others in their order, when what comes out is bf16 and the
 * matrices are TILED (kernels/cuda/ffn_down.cu): a sum that is rounded to bf16 on every rank depends on their
 * number anyway, and slices cost time there. For other matrices (kernels/cuda/plain.cu) it adds exactly whatever comes out.
 */
#ifndef TANDEM_KERNELS_EXACT_H
#define TANDEM_KERNELS_EXACT_H

#include <stddef.h>
#include <string.h>

#define EXACT_STEP 0x1p-32
#define EXACT_SHIFT                                                                                \
    0x1.8p+20 /* 1.5 x 2^52 steps: for terms below 2^19 its own last bit is a step */

/* Parts that any device adds with one rounding at the end; more may be rounded in between. */
#define EXACT_PARTS 64

static inline double exact_term(float weight, float product)
{
    return (double)weight * (double)product + EXACT_SHIFT - EXACT_SHIFT;
}

/* sum[0 .. n - 1] = the terms of all parts, n_parts of them and at least one, from `at` on. */
static inline void exact_sum(const void *const *parts, int n_parts, size_t at, size_t n,
                             double *sum)
{
    memcpy(sum, (const double *)parts[0] + at, n * sizeof *sum);
    for (int p = 1; p < n_parts; p++)
        for (size_t i = 0; i < n; i++)
            sum[i] += ((const double *)parts[p])[at + i];
}

#endif
