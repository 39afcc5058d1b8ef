/* number.cuh - number formats inside kernels: exact twins of base/dtype.h, and packed conversions.
 *
 * An element type is passed at run time as the int of enum dtype (base/dtype.h).
 */
#ifndef TANDEM_CUDA_NUMBER_CUH
#define TANDEM_CUDA_NUMBER_CUH

#include "kernels/cuda/launch.cuh"
#include "kernels/exact.h"

/* The values of enum dtype. */
enum { NUMBER_F32, NUMBER_BF16, NUMBER_F8E4M3, NUMBER_I8, NUMBER_F64 = 5 };

static __device__ __forceinline__ float bf16_value(uint16_t b)
{
    return bits_to_f32((uint32_t)b << 16);
}

static __device__ __forceinline__ uint16_t bf16_round(float f)
{
    return (uint16_t)pack_bf16(f, 0.0f);
}

/* e4m3 has 4 exponent bits with bias 7: moved to where f32 has its lowest exponent bits, the value
 * is 2^-120 of what it should be. Exact, subnormals included. */
static __device__ __forceinline__ float e4m3_value(uint8_t b)
{
    if ((b & 0x7f) == 0x7f)
        return bits_to_f32(0x7fc00000u | (uint32_t)(b & 0x80) << 24);
    float magnitude = bits_to_f32((uint32_t)(b & 0x7f) << 20) * 0x1p120f;
    return (b & 0x80) ? -magnitude : magnitude;
}

/* Nearest even, saturating to 448; NaN stays NaN. */
static __device__ __forceinline__ uint8_t e4m3_round(float f)
{
    uint32_t bits = f32_to_bits(f);
    uint8_t sign = (uint8_t)(bits >> 24 & 0x80);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return sign | 0x7f;
    if (magnitude >= f32_to_bits(464.0f))
        return sign | 0x7e;
    if (magnitude < f32_to_bits(0x1p-6f)) {
        /* Subnormal: units of 2^-9. Adding 2^14 leaves exactly those as the last mantissa bits. */
        float units = bits_to_f32(magnitude) + 0x1p14f;
        return sign | (uint8_t)(f32_to_bits(units) - f32_to_bits(0x1p14f));
    }
    uint32_t rounded = magnitude + 0x7ffffu + (magnitude >> 20 & 1u);
    uint32_t code = (rounded >> 20) - ((127u - 7u) << 3);
    return sign | (uint8_t)(code > 0x7e ? 0x7e : code);
}

/* Four e4m3 to bf16, packed so that it is quick (card/pack.c: split_code): two have their sign at bit 15 and
 * the rest at 4 to 10 of either half, where bf16 wants them; of the others the sign is at bit 11, the
 * next three bits at 12 and the last four at 0. NaN codes become 480. */
static __device__ __forceinline__ void e4m3x4_split(uint32_t v, uint32_t *lo, uint32_t *hi)
{
    uint32_t other = (v << 4 & 0x80f080f0u) | (v >> 4 & 0x07000700u);
    *lo = mul_bf16x2(v & 0x87f087f0u, 0x7b807b80u); /* 2^120 */
    *hi = mul_bf16x2(other, 0x7b807b80u);
}

#define I8_BIAS 8388736.0f /* 2^23 + 128 */

/* Four int8, the first two less lo_bias - I8_BIAS, the others less hi_bias - I8_BIAS, to bf16; exact up to
 * 256: 2^23 + (v + 128) is a float whose last byte is v + 128. */
static __device__ __forceinline__ uint32_t i8x2_bf16(uint32_t biased, uint32_t s0, uint32_t s1,
                                                     float bias)
{
    float a = bits_to_f32(byte_perm(biased, 0x4b000000u, s0)) - bias;
    float b = bits_to_f32(byte_perm(biased, 0x4b000000u, s1)) - bias;
    return byte_perm(f32_to_bits(a), f32_to_bits(b), 0x7632);
}

static __device__ __forceinline__ void i8x4_bf16(uint32_t v, float lo_bias, float hi_bias,
                                                 uint32_t *lo, uint32_t *hi)
{
    uint32_t biased = v ^ 0x80808080u;
    *lo = i8x2_bf16(biased, 0x7440, 0x7441, lo_bias);
    *hi = i8x2_bf16(biased, 0x7442, 0x7443, hi_bias);
}

/* Two codes of 4 bits (bits 0..3 and 16..19 of v) less a zero, to bf16, exact: a bf16 that begins with
 * 0x43 is 128 + its last 7 bits. minus: -(128 + zero), twice. */
static __device__ __forceinline__ uint32_t u4x2_bf16(uint32_t v, uint32_t minus)
{
    return add_bf16x2((v & 0x000f000fu) | 0x43004300u, minus);
}

/* Two e2m1 (the same bits), doubled: 2 exponent bits with bias 1, moved to where bf16 has its lowest,
 * are 2^-127 of that. */
static __device__ __forceinline__ uint32_t e2m1x2_bf16(uint32_t v)
{
    uint32_t small = (v << 12 & 0x80008000u) | (v << 6 & 0x01c001c0u);
    return mul_bf16x2(small, 0x7f007f00u);
}

/* Eight codes of ggml's 4-bit curve to bytes: of codes 0..3 and 4..7 of v. A selector's highest bit would
 * repeat a sign, so the lower and the upper eight values are looked up apart. */
static __device__ __forceinline__ void curve_i8x8(uint32_t v, uint32_t *lo, uint32_t *hi)
{
    const uint32_t table[4] = {0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u};
    uint32_t at = v & 0x77777777u, upper = v >> 3 & 0x11111111u;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t mask = byte_perm(0xff00u, 0, upper >> 16 * i);
        uint32_t low = byte_perm(table[0], table[1], at >> 16 * i);
        uint32_t high = byte_perm(table[2], table[3], at >> 16 * i);
        *(i ? hi : lo) = (low & ~mask) | (high & mask);
    }
}

/* Element i of an array of type `type` as f32, and back. */
static __device__ __forceinline__ float load_number(const void *p, size_t i, int type)
{
    switch (type) {
    case NUMBER_F32:
        return ((const float *)p)[i];
    case NUMBER_BF16:
        return bf16_value(((const uint16_t *)p)[i]);
    case NUMBER_F8E4M3:
        return e4m3_value(((const uint8_t *)p)[i]);
    default:
        return (float)((const int8_t *)p)[i];
    }
}

static __device__ __forceinline__ void store_number(void *p, size_t i, int type, float value)
{
    if (type == NUMBER_F32)
        ((float *)p)[i] = value;
    else if (type == NUMBER_BF16)
        ((uint16_t *)p)[i] = bf16_round(value);
    else
        ((uint8_t *)p)[i] = e4m3_round(value);
}

/* Four neighbouring elements, f32 or bf16; p + i must be aligned to four of them. */
static __device__ __forceinline__ float4 load_number4(const void *p, size_t i, int type)
{
    if (type == NUMBER_F32)
        return *(const float4 *)((const float *)p + i);
    uint2 v = *(const uint2 *)((const uint16_t *)p + i);
    float4 r = {bits_to_f32(v.x << 16), bits_to_f32(v.x & 0xffff0000u), bits_to_f32(v.y << 16),
                bits_to_f32(v.y & 0xffff0000u)};
    return r;
}

static __device__ __forceinline__ void store_number4(void *p, size_t i, int type, float4 value)
{
    if (type == NUMBER_F32) {
        *(float4 *)((float *)p + i) = value;
    } else {
        uint2 v = {pack_bf16(value.x, value.y), pack_bf16(value.z, value.w)};
        *(uint2 *)((uint16_t *)p + i) = v;
    }
}

static __device__ __forceinline__ float bias_at(const float *bias, int i)
{
    return bias ? bias[i] : 0.0f;
}

/* exact_term() of kernels/exact.h. */
static __device__ __forceinline__ double exact_share(float weight, float product)
{
    return (double)weight * (double)product + EXACT_SHIFT - EXACT_SHIFT;
}

/* The sum of exact terms, as `type`. */
static __device__ __forceinline__ void store_exact(void *p, size_t i, int type, double sum)
{
    if (type == NUMBER_F64)
        ((double *)p)[i] = sum;
    else
        store_number(p, i, type, (float)sum);
}

/* An intermediate (ops.h: struct mlp_part), from what gate and up gave with their biases. */
static __device__ __forceinline__ float swiglu(float alpha, float limit, float gate, float up)
{
    bool sharp = alpha > 0.0f, limited = limit > 0.0f;
    float slope = sharp ? -alpha : -1.0f;
    gate = sharp && limited && gate > limit ? limit : gate;
    float open = gate / (1.0f + expf(slope * gate));
    if (limited) {
        open = !sharp && open > limit ? limit : open;
        up = up > limit ? limit : up < -limit ? -limit : up;
    }
    return open * (sharp ? up + 1.0f : up);
}

/* The sum of v of the lanes before this one; v becomes that of all. */
template <typename T> static __device__ __forceinline__ T lanes_before(T *v)
{
    int lane = (int)threadIdx.x % 32;
    T before = 0;
    for (int mask = 1; mask < 32; mask *= 2) {
        T other = warp_xor(*v, mask);
        before += lane & mask ? other : 0;
        *v += other;
    }
    return before;
}

/* The sum of a block of `warps` warps through shared memory (one T a warp). The order of the additions
 * is fixed by the thread's place alone. All threads get the result. */
template <typename T> static __device__ __forceinline__ T block_sum(T v, T *scratch, int warps)
{
    v = warp_sum(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        scratch[threadIdx.x / 32] = v;
    __syncthreads();
    T sum = scratch[0];
    for (int i = 1; i < warps; i++)
        sum += scratch[i];
    return sum;
}

#endif
