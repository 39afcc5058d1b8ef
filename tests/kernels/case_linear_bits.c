/* case_linear_bits.c - y = x W^T where it is hard to come to the same bits on all processors. */
#include "tests/kernels/case_linear.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/shapes.h"

#include <math.h>

/* Computes for the sake of its bits, which must be the first processor's (rig_trace_begin()). */
static void check_bits(struct rig *r, struct linear_inputs *in, int n)
{
    int *all = rig_host(r, (size_t)n, sizeof *all);
    for (int i = 0; i < n; i++)
        all[i] = i;
    in->x = rig_values(r, r->act, (size_t)n * in->w.part.k, 1);
    run_linear(r, in, all, n);
    rig_clear(r);
}

/* Codes in groups: few and many rows, inputs of several chunks, of which the longest have sums for a second chunk;
 * parts that begin within a run. */
static void check_bits_of_groups(struct rig *r)
{
    static const size_t groups[] = {16, 32, 48, 64, 128, 0}, inputs[] = {1300, 330, 4240};
    static const int rows[] = {1, 2, 3, 5, 13, 31};
    for (size_t i = 0; i < 2 * 4 * COUNT(groups); i++) {
        size_t group = groups[i / 4 % COUNT(groups)], k = inputs[i % 5 % COUNT(inputs)];
        int n = rows[(i + i / COUNT(rows)) % COUNT(rows)], bits = i % 2 ? 8 : 4;
        bool zeros = i / 2 % 2;
        rig_at(r, "linear: bits of %d bits by %zu%s, n 37, k %zu, rows %d", bits, group,
               zeros ? ", zeros" : "", k, n);
        struct linear_inputs in = {.keep = WEIGHT_KEEP, .out = DTYPE_F32};
        in.w = rig_packed(r, bits, group, DTYPE_F16, zeros, 37, k);
        check_bits(r, &in, n);
        size_t column = 16 * (i % 9);
        rig_at(r, "linear: bits of int8, n 37, k 300 from (0, %zu), rows %d", column, n);
        in = (struct linear_inputs){.keep = WEIGHT_INT8, .out = DTYPE_F32};
        in.w = rig_weight(r, DTYPE_BF16, 37, 300, 0, column);
        check_bits(r, &in, n);
    }
}

/* Scales whose products are small or subnormal, and that are so themselves. */
static void check_bits_of_small(struct rig *r)
{
    static const int exponents[] = {-110, -128, -140};
    enum { GROUPS = 11 };
    for (size_t i = 0; i < 4 * COUNT(exponents); i++) {
        int n = i % 2 ? 13 : 2, bits = i / 2 % 2 ? 8 : 4, exponent = exponents[i / 4];
        rig_at(r, "linear: %d bits, scales of 2^%d, n 37, k 330, rows %d", bits, exponent, n);
        struct linear_inputs in = {.keep = WEIGHT_KEEP, .out = DTYPE_F32};
        in.w = rig_packed(r, bits, 32, DTYPE_F32, bits == 4, 37, 330);
        float *scale = rig_values(r, DTYPE_F32, 37 * GROUPS, 1);
        for (size_t s = 0; s < 37 * GROUPS; s++)
            scale[s] = ldexpf(scale[s], exponent);
        in.w.part.scale = scale;
        check_bits(r, &in, n);
    }
}

int case_linear_bits(const struct backend *b)
{
    struct device_limits limits = {.rows = 31, .hidden = 4240};
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        rig_open(&r, b, shape_acts[a], DTYPE_BF16, 2, &limits);
        check_bits_of_groups(&r);
        check_bits_of_small(&r);
        failures += rig_close(&r);
    }
    return failures;
}
