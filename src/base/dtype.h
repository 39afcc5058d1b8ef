/* dtype.h - number formats: their names, sizes and exact conversions.
 *
 * bf16 is the upper half of an IEEE float, rounded to nearest even. e4m3 is the "fn" form of FP8
 * (OCP 8-bit floating point, NVIDIA and safetensors F8_E4M3): no infinity, 0x7f and 0xff are NaN,
 * the largest number is 448; conversion to it saturates. Pure functions; any thread.
 */
#ifndef TANDEM_BASE_DTYPE_H
#define TANDEM_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype {
    DTYPE_F32,
    DTYPE_BF16,
    DTYPE_F8E4M3,
    DTYPE_I8,
    DTYPE_F16,
    DTYPE_F64,
    DTYPE_COUNT,
};

typedef uint16_t bf16_t;  /* the bits of a bf16 */
typedef uint16_t f16_t;   /* the bits of an IEEE half */
typedef uint8_t f8e4m3_t; /* the bits of an e4m3 */

/* Bytes of one element: 4, 2, 1, 1, 2, 8. */
size_t dtype_size(enum dtype t);

/* The name jobs use: "f32", "bf16", "fp8", "int8", "f16", "f64". */
const char *dtype_name(enum dtype t);

static inline float f32_from_bf16(bf16_t b)
{
    uint32_t bits = (uint32_t)b << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline bf16_t bf16_from_f32(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (bf16_t)(bits >> 16 | 0x40u); /* a NaN stays one */
    return (bf16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* IEEE half: exact to f32; to the nearest even from it, too large numbers to infinity. */
float f32_from_f16(f16_t h);
f16_t f16_from_f32(float f);

float f32_from_f8e4m3(f8e4m3_t b);
f8e4m3_t f8e4m3_from_f32(float f);

#endif
