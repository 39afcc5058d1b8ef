/* lane.h - the arithmetic of one lane: what vector backends compute in each of their lanes, in plain
 * C, so that every processor gives the same bits. Internal to kernels/cpu.
 *
 * Functions of the same name in kernels/cpu/fast do the same steps on sixteen lanes. All numbers are
 * f32; subnormal ones count as 0 on the way in and out (cpu_device_open() tells the processor so).
 * lane_exp() is in kernels/mass.h.
 */
#ifndef TANDEM_KERNELS_CPU_LANE_H
#define TANDEM_KERNELS_CPU_LANE_H

#include "kernels/mass.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define LANES 16

/* 2^x for x up to 100: relative error 2e-7; exactly 1 for 0, and 0 from -160 down (so -inf gives
 * 0); NaN stays. */
static inline float lane_exp2(float x)
{
    if (x != x)
        return x;
    x = x < -160.0f ? -160.0f : x;
    float n = floorf(x), r = x - n;
    float p = fmaf(r, 0x1.e974fcp-10f, 0x1.277854p-7f);
    p = fmaf(r, p, 0x1.c91ce6p-5f);
    p = fmaf(r, p, 0x1.ebdb56p-3f);
    p = fmaf(r, p, 0x1.62e4bap-1f);
    return lane_scale2(fmaf(r, p, 1.0f), n);
}

/* ln x for finite x > 0, within 3e-16 of its size or of 1: the same steps everywhere, which a C
 * library does not promise. x = m 2^e with m about 1; ln m = 2 artanh s for s = (m - 1) / (m + 1). */
static inline double lane_log(double x)
{
    int e;
    double m = frexp(x, &e);
    if (m < 0x1.6a09e667f3bcdp-1) {
        m *= 2;
        e--;
    }
    double s = (m - 1) / (m + 1), square = s * s, sum = 0;
    for (int k = 23; k > 1; k -= 2)
        sum = (sum + 1.0 / k) * square;
    return 2 * s * (1 + sum) + e * 0x1.62e42fefa39efp-1;
}

/* The sum of sixteen: in halves, 16 to 8 to 4 to 2 to 1. */
static inline float lane_sum(const float x[LANES])
{
    float sum[LANES];
    memcpy(sum, x, sizeof sum);
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++)
            sum[l] += sum[l + half];
    return sum[0];
}

/* Sums over at most MASS_RUN numbers are made in f32, in LANES running sums; the rest in double: the
 * tail of a vocabulary of 1e5 must not get lost. */
#define MASS_RUN 2048

/* The sum of exp((x - most) * factor). */
static inline double lane_mass(const float *x, size_t n, float most, float factor)
{
    double total = 0;
    for (size_t first = 0; first < n; first += MASS_RUN) {
        size_t end = n - first < MASS_RUN ? n : first + MASS_RUN;
        float sums[LANES] = {0};
        for (size_t i = first; i < end; i++)
            sums[(i - first) % LANES] += lane_exp((x[i] - most) * factor);
        total += (double)lane_sum(sums);
    }
    return total;
}

#endif
