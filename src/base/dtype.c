#include "base/dtype.h"

#include "base/err.h"

#include <math.h>
#include <string.h>

size_t dtype_size(enum dtype t)
{
    static const size_t size[DTYPE_COUNT] = {4, 2, 1, 1, 2, 8};
    if ((unsigned)t >= DTYPE_COUNT)
        die("unknown number format %d", (int)t);
    return size[t];
}

const char *dtype_name(enum dtype t)
{
    static const char *const name[DTYPE_COUNT] = {"f32", "bf16", "fp8", "int8", "f16", "f64"};
    return (unsigned)t < DTYPE_COUNT ? name[t] : "unknown";
}

/* A smaller float without its sign, `mantissa` bits under an exponent of that bias, is finite. No
 * subnormal f32 occurs on the way: a processor may have been told to take them for 0. */
static float widen(uint32_t sign, uint32_t rest, int mantissa, uint32_t bias)
{
    float f;
    if (rest >> mantissa == 0) {
        f = ldexpf((float)rest, 1 - (int)bias - mantissa);
        return sign ? -f : f;
    }
    uint32_t bits = sign << 31 | ((rest << (23 - mantissa)) + ((127 - bias) << 23));
    memcpy(&f, &bits, sizeof f);
    return f;
}

float f32_from_f16(f16_t h)
{
    uint32_t sign = h >> 15, rest = h & 0x7fff;
    if (rest >= 0x7c00) { /* infinity, NaN */
        uint32_t bits = sign << 31 | 0x7f800000u | (rest & 0x3ff) << 13;
        float f;
        memcpy(&f, &bits, sizeof f);
        return f;
    }
    return widen(sign, rest, 10, 15);
}

f16_t f16_from_f32(float f)
{
    f16_t sign = signbit(f) ? 0x8000 : 0;
    float a = fabsf(f);
    if (isnan(f))
        return sign | 0x7e00;
    if (a >= 65520.0f) /* half of the step behind the largest number, 65504 */
        return sign | 0x7c00;
    int exponent;
    frexpf(a, &exponent); /* a = m x 2^exponent, 0.5 <= m < 1 */
    if (a == 0.0f || exponent < -13)
        exponent = -13; /* subnormals share the smallest exponent */
    /* In units of 2^(exponent-11) the number is an integer once rounded; a carry into the next
     * exponent is right as it falls. */
    int units = (int)rintf(ldexpf(a, 11 - exponent));
    return (f16_t)(sign | ((exponent + 13) * 1024 + units));
}

float f32_from_f8e4m3(f8e4m3_t b)
{
    uint32_t rest = b & 0x7f;
    return rest == 0x7f ? NAN : widen(b >> 7, rest, 3, 7);
}

f8e4m3_t f8e4m3_from_f32(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint32_t sign = bits >> 24 & 0x80u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u)
        return (f8e4m3_t)(sign | 0x7fu);
    if (bits >= 0x43e00000u) /* 448 */
        return (f8e4m3_t)(sign | 0x7eu);
    if (bits < 0x3c800000u) { /* 2^-6: units of 2^-9, which are the last bits of 2^14 and above */
        float units = fabsf(f) + 0x1p14f;
        memcpy(&bits, &units, sizeof bits);
        return (f8e4m3_t)(sign | (bits & 15u));
    }
    /* To the nearest of three bits, ties to even; exponents begin at 2^-7 instead of 2^-127. */
    return (f8e4m3_t)(sign | (((bits + 0x7ffffu + (bits >> 20 & 1u)) >> 20) - (120u << 3)));
}
