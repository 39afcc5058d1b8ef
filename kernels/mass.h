/* mass.h - probabilities as whole numbers: what the sampler (ops.h: sample) adds and compares.
 *
 * A candidate's mass is exp((logit - most) x factor), most being the row's largest logit, in steps of 2^-40,
 * rounded down. Sums of whole numbers do not depend on the order of additions: so a backend need not sort a
 * vocabulary to know where a running sum passes a bound, threads may add as they come, and CPUs and GPUs draw
 * the same token from the same logits. 2^24 candidates fit into 64 bits. A mass of 0 is a probability below
 * 1e-12 of the largest: never drawn.
 *
 * The exponential is a fixed row of f32 operations, each rounded once (no contraction: -ffp-contract=off,
 * -fmad=false), which vector backends repeat in their lanes (vec_*.h).
 */
#ifndef TANDEM_KERNELS_MASS_H
#define TANDEM_KERNELS_MASS_H

#include <float.h>
#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define MASS_FN static __host__ __device__ __forceinline__
#else
#define MASS_FN static inline
#endif

#define MASS_STEPS 0x1p40f
#define MASS_FAR   28.5f /* exponents from -28.5 down have no mass: exp(-28.5) is below half a step */

/* x * 2^n for whole n, |n| < 250: in two steps, because 2^n alone may not be a float. */
MASS_FN float lane_scale2(float x, float n)
{
    int whole = (int)n, half = whole >> 1;
    union {
        unsigned bits;
        float value;
    } a, b;
    a.bits = (unsigned)(half + 127) << 23;
    b.bits = (unsigned)(whole - half + 127) << 23;
    return x * a.value * b.value;
}

/* e^x: relative error 1e-7 also for large |x|, because ln 2 is taken off in two pieces. */
MASS_FN float lane_exp(float x)
{
    if (x != x)
        return x;
    x = x < -110.0f ? -110.0f : x > 90.0f ? 90.0f : x;
    float n = rintf(x * 0x1.715476p+0f);
    float r = fmaf(n, -0x1.7f7d1cp-20f, fmaf(n, -0x1.62e4p-1f, x));
    float p = fmaf(r, 0x1.6ae722p-10f, 0x1.12678ep-7f);
    p = fmaf(r, p, 0x1.555822p-5f);
    p = fmaf(r, p, 0x1.55541ap-3f);
    p = fmaf(r, p, 0x1.fffffcp-2f);
    p = fmaf(r, p, 1.0f);
    return lane_scale2(fmaf(r, p, 1.0f), n);
}

MASS_FN float mass_factor(float temperature)
{
    return fminf(1.0f / temperature, FLT_MAX);
}

MASS_FN uint64_t mass_of(float logit, float most, float factor)
{
    return (uint64_t)(lane_exp((logit - most) * factor) * MASS_STEPS);
}

/* The least sum that is top_p of the total; at least 1. */
MASS_FN uint64_t mass_enough(uint64_t total, float top_p)
{
    uint64_t enough = (uint64_t)ceil((double)top_p * (double)total);
    return enough > 0 ? enough : 1;
}

/* total x uniform, rounded down; uniform is a multiple of 2^-24 in [0, 1). The first candidate whose running
 * sum exceeds it is drawn. */
MASS_FN uint64_t mass_share(uint64_t total, float uniform)
{
    uint64_t u = (uint64_t)(uniform * 0x1p24f);
    u = u < 0xffffff ? u : 0xffffff;
    return (total >> 24) * u + (((total & 0xffffff) * u) >> 24);
}

#endif
