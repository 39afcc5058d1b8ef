#include "base/dtype.h"

#include "base/err.h"

#include <math.h>

size_t dtype_size(enum dtype t)
{
    static const size_t size[DTYPE_COUNT] = {4, 2, 1, 1};
    if ((unsigned)t >= DTYPE_COUNT)
        die("unknown number format %d", (int)t);
    return size[t];
}

const char *dtype_name(enum dtype t)
{
    static const char *const name[DTYPE_COUNT] = {"f32", "bf16", "fp8", "int8"};
    return (unsigned)t < DTYPE_COUNT ? name[t] : "unknown";
}

float f32_from_f8e4m3(f8e4m3_t b)
{
    int exponent = b >> 3 & 15, mantissa = b & 7;
    float sign = b & 0x80 ? -1.0f : 1.0f;
    if (exponent == 15 && mantissa == 7)
        return NAN;
    if (exponent == 0)
        return sign * ldexpf((float)mantissa, -9); /* subnormal: m/8 x 2^-6 */
    return sign * ldexpf((float)(8 + mantissa), exponent - 10);
}

f8e4m3_t f8e4m3_from_f32(float f)
{
    uint8_t sign = signbit(f) ? 0x80 : 0;
    if (isnan(f))
        return sign | 0x7f;
    float a = fabsf(f);
    if (a >= 448.0f)
        return sign | 0x7e;
    int exponent;
    frexpf(a, &exponent); /* a = m x 2^exponent, 0.5 <= m < 1 */
    if (a == 0.0f || exponent - 1 < -6)
        exponent = -5; /* subnormals share the smallest exponent */
    /* In units of 2^(exponent-1-3) the number is an integer once rounded; 16 carries over. */
    int units = (int)rintf(ldexpf(a, 4 - exponent));
    if (units >= 16) {
        units = 8;
        exponent++;
    }
    if (exponent - 1 > 8 || (exponent - 1 == 8 && units > 14))
        return sign | 0x7e;
    if (units < 8)
        return (f8e4m3_t)(sign | units);
    return (f8e4m3_t)(sign | (exponent - 1 + 7) << 3 | (units - 8));
}
