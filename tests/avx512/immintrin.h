/* immintrin.h (emulated) - the AVX-512 instructions that kernels/cpu/fast uses, for processors
 * without them: the sources of the avx512 backend as they are, compiled with this directory before
 * the compiler's own (tests/cuda/emulation.mk), run on any processor with AVX2.
 *
 * Vectors are GCC's; each function does in plain C what the manual says of the instruction, element
 * by element where that matters. What is not here is not used, and does not compile.
 */
#ifndef TANDEM_TESTS_AVX512_IMMINTRIN_H
#define TANDEM_TESTS_AVX512_IMMINTRIN_H

#include_next <immintrin.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

#define EMULATED_AVX512
#undef TARGET_AVX512 /* kernels/cpu/fast/target.h, which comes before this */
#define TARGET_AVX512                   "avx2,fma"
#define __builtin_cpu_supports(feature) 1

#pragma GCC diagnostic ignored "-Wpsabi" /* all callers are here */
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

#define EMU             static __attribute__((noinline, unused))
#define EMU_EACH(n)     for (int i = 0; i < (n); i++)
#define EMU_BIT(k, i)   ((k) >> (i)&1)
#define EMU_AS(type, x) ((type)(x))

typedef float emu_f16 __attribute__((vector_size(64)));
typedef int32_t emu_i16 __attribute__((vector_size(64)));
typedef uint32_t emu_u16 __attribute__((vector_size(64)));
typedef uint8_t emu_b64 __attribute__((vector_size(64)));

/* ---- moves ---------------------------------------------------------------------------------- */

EMU __m512 emu_loadu_ps(const void *p)
{
    emu_f16 r;
    memcpy(&r, p, sizeof r);
    return (__m512)r;
}

EMU __m512i emu_loadu_si512(const void *p)
{
    return EMU_AS(__m512i, emu_loadu_ps(p));
}

EMU void emu_storeu_ps(void *p, __m512 a)
{
    memcpy(p, &a, sizeof a);
}

EMU void emu_storeu_si512(void *p, __m512i a)
{
    memcpy(p, &a, sizeof a);
}

EMU __m512 emu_maskz_loadu_ps(__mmask16 k, const void *p)
{
    emu_f16 r = {0};
    EMU_EACH(16) if (EMU_BIT(k, i)) r[i] = ((const float *)p)[i];
    return (__m512)r;
}

EMU void emu_mask_storeu_ps(void *p, __mmask16 k, __m512 a)
{
    EMU_EACH(16) if (EMU_BIT(k, i))((float *)p)[i] = ((emu_f16)a)[i];
}

EMU __m256i emu_maskz_loadu_epi16(__mmask16 k, const void *p)
{
    uint16_t r[16] = {0};
    EMU_EACH(16) if (EMU_BIT(k, i)) r[i] = ((const uint16_t *)p)[i];
    return _mm256_loadu_si256((const __m256i *)r);
}

EMU void emu_mask_storeu_epi16(void *p, __mmask16 k, __m256i a)
{
    uint16_t r[16];
    memcpy(r, &a, sizeof r);
    EMU_EACH(16) if (EMU_BIT(k, i))((uint16_t *)p)[i] = r[i];
}

EMU __m512i emu_wide_maskz_loadu_epi8(__mmask64 k, const void *p)
{
    uint8_t r[64] = {0};
    EMU_EACH(64) if (EMU_BIT(k, i)) r[i] = ((const uint8_t *)p)[i];
    return emu_loadu_si512(r);
}

EMU __m128i emu_maskz_loadu_epi8(__mmask16 k, const void *p)
{
    uint8_t r[16] = {0};
    EMU_EACH(16) if (EMU_BIT(k, i)) r[i] = ((const uint8_t *)p)[i];
    return _mm_loadu_si128((const __m128i *)r);
}

EMU void emu_mask_storeu_epi8(void *p, __mmask16 k, __m128i a)
{
    uint8_t r[16];
    memcpy(r, &a, sizeof r);
    EMU_EACH(16) if (EMU_BIT(k, i))((uint8_t *)p)[i] = r[i];
}

EMU __m512 emu_set1_ps(float x)
{
    return (__m512)((emu_f16){0} + x);
}

EMU __m512i emu_set1_epi32(int x)
{
    return (__m512i)((emu_i16){0} + x);
}

EMU __m512i emu_set1_epi8(char x)
{
    return (__m512i)((emu_b64){0} + (uint8_t)x);
}

EMU __m512 emu_setzero_ps(void)
{
    return (__m512)(emu_f16){0};
}

EMU __m256 emu_extractf32x8_ps(__m512 a, int half)
{
    float r[16];
    memcpy(r, &a, sizeof r);
    return _mm256_loadu_ps(r + 8 * half);
}

EMU __m256 emu_castps512_ps256(__m512 a)
{
    return emu_extractf32x8_ps(a, 0);
}

EMU __m512i emu_join_si512(__m256i low, __m256i high)
{
    uint8_t r[64];
    memcpy(r, &low, 32);
    memcpy(r + 32, &high, 32);
    return emu_loadu_si512(r);
}

EMU __m512i emu_inserti64x4(__m512i a, __m256i b, int half)
{
    memcpy((char *)&a + 32 * half, &b, sizeof b);
    return a;
}

EMU __m256i emu_castsi512_si256(__m512i a)
{
    return _mm256_loadu_si256((const __m256i *)&a);
}

/* ---- f32 ------------------------------------------------------------------------------------ */

EMU __m512 emu_add_ps(__m512 a, __m512 b)
{
    return (__m512)((emu_f16)a + (emu_f16)b);
}

EMU __m512 emu_sub_ps(__m512 a, __m512 b)
{
    return (__m512)((emu_f16)a - (emu_f16)b);
}

EMU __m512 emu_mul_ps(__m512 a, __m512 b)
{
    return (__m512)((emu_f16)a * (emu_f16)b);
}

EMU __m512 emu_div_ps(__m512 a, __m512 b)
{
    return (__m512)((emu_f16)a / (emu_f16)b);
}

EMU __m512 emu_join(__m256 low, __m256 high)
{
    float r[16];
    _mm256_storeu_ps(r, low);
    _mm256_storeu_ps(r + 8, high);
    return emu_loadu_ps(r);
}

#define EMU_HALVES(name, ...)                                                                      \
    EMU __m512 emu_##name                                                                          \
    {                                                                                              \
        __m256 r[2];                                                                               \
        for (int h = 0; h < 2; h++)                                                                \
            r[h] = __VA_ARGS__;                                                                    \
        return emu_join(r[0], r[1]);                                                               \
    }
#define EMU_HALF(x) emu_extractf32x8_ps(x, h)

EMU_HALVES(fmadd_ps(__m512 a, __m512 b, __m512 c),
           _mm256_fmadd_ps(EMU_HALF(a), EMU_HALF(b), EMU_HALF(c)))
EMU_HALVES(fnmadd_ps(__m512 a, __m512 b, __m512 c),
           _mm256_fnmadd_ps(EMU_HALF(a), EMU_HALF(b), EMU_HALF(c)))
EMU_HALVES(max_ps(__m512 a, __m512 b), _mm256_max_ps(EMU_HALF(a), EMU_HALF(b)))
EMU_HALVES(min_ps(__m512 a, __m512 b), _mm256_min_ps(EMU_HALF(a), EMU_HALF(b)))
EMU_HALVES(roundscale_ps(__m512 a, int how),
           how & 1 ? _mm256_round_ps(EMU_HALF(a), 9) : _mm256_round_ps(EMU_HALF(a), 8))

/* a * 2^floor(b); in double, which holds every product, and rounded once. */
EMU __m512 emu_scalef_ps(__m512 a, __m512 b)
{
    float r[16];
    EMU_EACH(16)
    {
        float x = ((emu_f16)a)[i], n = ((emu_f16)b)[i];
        r[i] = x != x || n != n ? x + n : (float)ldexp((double)x, (int)floorf(n));
    }
    return emu_loadu_ps(r);
}

EMU __mmask16 emu_cmp_ps_mask(__m512 a, __m512 b, int how)
{
    __mmask16 k = 0;
    EMU_EACH(16)
    {
        float x = ((emu_f16)a)[i], y = ((emu_f16)b)[i];
        int yes = how == _CMP_GE_OQ ? x >= y : how == _CMP_LT_OQ ? x < y : x != x || y != y;
        k = (__mmask16)(k | yes << i);
    }
    return k;
}

EMU __m512 emu_mask_add_ps(__m512 other, __mmask16 k, __m512 a, __m512 b)
{
    emu_f16 r = (emu_f16)other;
    EMU_EACH(16) if (EMU_BIT(k, i)) r[i] = ((emu_f16)a)[i] + ((emu_f16)b)[i];
    return (__m512)r;
}

EMU __m512 emu_mask_blend_ps(__mmask16 k, __m512 a, __m512 b)
{
    emu_f16 r = (emu_f16)a;
    EMU_EACH(16) if (EMU_BIT(k, i)) r[i] = ((emu_f16)b)[i];
    return (__m512)r;
}

/* ---- integers ------------------------------------------------------------------------------- */

EMU __m512i emu_add_epi32(__m512i a, __m512i b)
{
    return (__m512i)((emu_u16)a + (emu_u16)b);
}

EMU __m512i emu_sub_epi32(__m512i a, __m512i b)
{
    return (__m512i)((emu_u16)a - (emu_u16)b);
}

EMU __m512i emu_and_si512(__m512i a, __m512i b)
{
    return (__m512i)((emu_u16)a & (emu_u16)b);
}

EMU __m512i emu_or_si512(__m512i a, __m512i b)
{
    return (__m512i)((emu_u16)a | (emu_u16)b);
}

EMU __m512i emu_xor_si512(__m512i a, __m512i b)
{
    return (__m512i)((emu_u16)a ^ (emu_u16)b);
}

EMU __m512i emu_shuffle_epi8(__m512i a, __m512i places)
{
    uint8_t from[64], at[64], r[64];
    memcpy(from, &a, 64);
    memcpy(at, &places, 64);
    EMU_EACH(64) r[i] = at[i] & 0x80 ? 0 : from[i / 16 * 16 + (at[i] & 15)];
    return emu_loadu_si512(r);
}

/* Bytes of u have no sign, those of s have one. */
EMU __m512i emu_dpbusd_epi32(__m512i sum, __m512i u, __m512i s)
{
    uint8_t x[64];
    int8_t y[64];
    emu_i16 r = (emu_i16)sum;
    memcpy(x, &u, 64);
    memcpy(y, &s, 64);
    EMU_EACH(64) r[i / 4] += x[i] * y[i];
    return (__m512i)r;
}

EMU __m512i emu_mullo_epi32(__m512i a, __m512i b)
{
    return (__m512i)((emu_u16)a * (emu_u16)b);
}

EMU __m512i emu_slli_epi32(__m512i a, int n)
{
    return (__m512i)((emu_u16)a << n);
}

EMU __m512i emu_srli_epi32(__m512i a, int n)
{
    return (__m512i)((emu_u16)a >> n);
}

EMU __mmask16 emu_cmpeq_epi32_mask(__m512i a, __m512i b)
{
    __mmask16 k = 0;
    EMU_EACH(16) k = (__mmask16)(k | (((emu_i16)a)[i] == ((emu_i16)b)[i]) << i);
    return k;
}

EMU __mmask16 emu_cmpgt_epi32_mask(__m512i a, __m512i b)
{
    __mmask16 k = 0;
    EMU_EACH(16) k = (__mmask16)(k | (((emu_i16)a)[i] > ((emu_i16)b)[i]) << i);
    return k;
}

EMU __m512 emu_cvtepi32_ps(__m512i a)
{
    emu_f16 r;
    EMU_EACH(16) r[i] = (float)((emu_i16)a)[i];
    return (__m512)r;
}

EMU __m512i emu_mask_mov_epi32(__m512i other, __mmask16 k, __m512i a)
{
    return EMU_AS(__m512i, emu_mask_blend_ps(k, EMU_AS(__m512, other), EMU_AS(__m512, a)));
}

EMU __m512i emu_mask_or_epi32(__m512i other, __mmask16 k, __m512i a, __m512i b)
{
    return emu_mask_mov_epi32(other, k, emu_or_si512(a, b));
}

/* Only ever with 0xf8: a | (b & c). */
EMU __m512i emu_ternarylogic_epi32(__m512i a, __m512i b, __m512i c, int table)
{
    (void)table;
    return emu_or_si512(a, emu_and_si512(b, c));
}

EMU __m512i emu_permutex2var_epi8(__m512i a, __m512i places, __m512i b)
{
    uint8_t from[128], at[64], r[64];
    memcpy(from, &a, 64);
    memcpy(from + 64, &b, 64);
    memcpy(at, &places, 64);
    EMU_EACH(64) r[i] = from[at[i] & 127];
    return emu_loadu_si512(r);
}

EMU __m512i emu_permutexvar_epi16(__m512i places, __m512i a)
{
    uint16_t from[32], at[32], r[32];
    memcpy(from, &a, 64);
    memcpy(at, &places, 64);
    EMU_EACH(32) r[i] = from[at[i] & 31];
    return emu_loadu_si512(r);
}

EMU __m512i emu_srli_epi16(__m512i a, int n)
{
    uint16_t r[32];
    memcpy(r, &a, 64);
    EMU_EACH(32) r[i] = (uint16_t)(r[i] >> n);
    return emu_loadu_si512(r);
}

EMU __mmask64 emu_test_epi8_mask(__m512i a, __m512i b)
{
    uint8_t x[64], y[64];
    __mmask64 k = 0;
    memcpy(x, &a, 64);
    memcpy(y, &b, 64);
    EMU_EACH(64) k |= (__mmask64)((x[i] & y[i]) != 0) << i;
    return k;
}

EMU __m512i emu_maskz_mov_epi8(__mmask64 k, __m512i a)
{
    uint8_t r[64];
    memcpy(r, &a, 64);
    EMU_EACH(64) if (!EMU_BIT(k, i)) r[i] = 0;
    return emu_loadu_si512(r);
}

EMU __m512i emu_unpack(__m512i a, __m512i b, int high)
{
    uint8_t x[64], y[64], r[64];
    memcpy(x, &a, 64);
    memcpy(y, &b, 64);
    EMU_EACH(32)
    {
        int from = i / 8 * 16 + high * 8 + i % 8;
        r[2 * i] = x[from];
        r[2 * i + 1] = y[from];
    }
    return emu_loadu_si512(r);
}

EMU __m512i emu_cvtepu16_epi32(__m256i a)
{
    uint16_t from[16];
    emu_u16 r;
    memcpy(from, &a, sizeof from);
    EMU_EACH(16) r[i] = from[i];
    return (__m512i)r;
}

EMU __m512 emu_cvtph_ps(__m256i a)
{
    __m256i from[1] = {a};
    emu_f16 r;
    for (int h = 0; h < 2; h++) {
        __m256 half = _mm256_cvtph_ps(((const __m128i *)from)[h]);
        memcpy((char *)&r + 32 * h, &half, sizeof half);
    }
    return (__m512)r;
}

EMU __m512i emu_cvtepi8_epi32(__m128i a)
{
    int8_t from[16];
    emu_i16 r;
    memcpy(from, &a, sizeof from);
    EMU_EACH(16) r[i] = from[i];
    return (__m512i)r;
}

EMU __m512i emu_cvtepu8_epi32(__m128i a)
{
    uint8_t from[16];
    emu_u16 r;
    memcpy(from, &a, sizeof from);
    EMU_EACH(16) r[i] = from[i];
    return (__m512i)r;
}

EMU __m256i emu_cvtepi32_epi16(__m512i a)
{
    uint16_t r[16];
    EMU_EACH(16) r[i] = (uint16_t)((emu_u16)a)[i];
    return _mm256_loadu_si256((const __m256i *)r);
}

EMU __m128i emu_cvtepi32_epi8(__m512i a)
{
    uint8_t r[16];
    EMU_EACH(16) r[i] = (uint8_t)((emu_u16)a)[i];
    return _mm_loadu_si128((const __m128i *)r);
}

/* ---- bf16 ----------------------------------------------------------------------------------- */

EMU __m512 emu_flush(__m512 a) /* subnormal numbers become 0 of their sign */
{
    emu_u16 u = (emu_u16)a, sign = u & 0x80000000u;
    emu_u16 tiny = (emu_u16)((u & 0x7f800000u) == 0);
    return (__m512)((u & ~tiny) | (sign & tiny));
}

/* The pairs' second products are added first, then the first ones; each sum is rounded to the
 * nearest, whatever MXCSR says, and subnormal numbers are 0 on the way in and out. */
EMU __m512 emu_dpbf16_ps(__m512 sum, __m512bh w, __m512bh x)
{
    emu_u16 a = (emu_u16)w, b = (emu_u16)x;
    __m512 second = emu_fmadd_ps(emu_flush((__m512)(a & 0xffff0000u)),
                                 emu_flush((__m512)(b & 0xffff0000u)), emu_flush(sum));
    return emu_flush(emu_fmadd_ps(emu_flush((__m512)(a << 16)), emu_flush((__m512)(b << 16)),
                                  emu_flush(second)));
}

/* ---- doubles -------------------------------------------------------------------------------- */

EMU __m512d emu_loadu_pd(const void *p)
{
    __m512d r;
    memcpy(&r, p, sizeof r);
    return r;
}

EMU void emu_storeu_pd(void *p, __m512d a)
{
    memcpy(p, &a, sizeof a);
}

EMU __m512d emu_set1_pd(double x)
{
    return (__m512d){x, x, x, x, x, x, x, x};
}

EMU __m512d emu_add_pd(__m512d a, __m512d b)
{
    return a + b;
}

EMU __m512d emu_sub_pd(__m512d a, __m512d b)
{
    return a - b;
}

EMU __m512d emu_cvtps_pd(__m256 a)
{
    __m512d r;
    EMU_EACH(8) r[i] = (double)a[i];
    return r;
}

EMU __m512d emu_fmadd_pd(__m512d a, __m512d b, __m512d c)
{
    EMU_EACH(8) c[i] = __builtin_fma(a[i], b[i], c[i]);
    return c;
}

/* To the nearest bf16, subnormal numbers to 0. */
EMU __m256i emu_cvtneps_pbh(__m512 a)
{
    emu_u16 u = (emu_u16)emu_flush(a), nan = (emu_u16)((u & 0x7fffffffu) > 0x7f800000u);
    emu_u16 r = (u + (u >> 16 & 1) + 0x7fffu) >> 16;
    return emu_cvtepi32_epi16((__m512i)((r & ~nan) | ((u >> 16 | 0x40u) & nan)));
}

/* b's sixteen, then a's. */
EMU __m512bh emu_cvtne2ps_pbh(__m512 a, __m512 b)
{
    return EMU_AS(__m512bh, emu_join_si512(emu_cvtneps_pbh(b), emu_cvtneps_pbh(a)));
}

#pragma GCC pop_options

/* ---- the manual's names --------------------------------------------------------------------- */

#undef _mm512_castps_si512
#undef _mm512_inserti64x4
#undef _mm512_srli_epi16
#undef _mm512_castsi512_ps
#undef _mm512_extractf32x8_ps
#undef _mm512_roundscale_ps
#undef _mm512_cmp_ps_mask
#undef _mm512_slli_epi32
#undef _mm512_srli_epi32
#undef _mm512_ternarylogic_epi32
#undef _mm512_cmpeq_epi32_mask
#undef _mm512_cmpgt_epi32_mask
#define _mm512_loadu_ps            emu_loadu_ps
#define _mm512_loadu_pd            emu_loadu_pd
#define _mm512_storeu_pd           emu_storeu_pd
#define _mm512_set1_pd             emu_set1_pd
#define _mm512_add_pd              emu_add_pd
#define _mm512_sub_pd              emu_sub_pd
#define _mm512_cvtps_pd            emu_cvtps_pd
#define _mm512_fmadd_pd            emu_fmadd_pd
#define _mm512_loadu_si512         emu_loadu_si512
#define _mm512_storeu_ps           emu_storeu_ps
#define _mm512_maskz_loadu_ps      emu_maskz_loadu_ps
#define _mm512_mask_storeu_ps      emu_mask_storeu_ps
#define _mm256_maskz_loadu_epi16   emu_maskz_loadu_epi16
#define _mm256_mask_storeu_epi16   emu_mask_storeu_epi16
#define _mm_maskz_loadu_epi8       emu_maskz_loadu_epi8
#define _mm_mask_storeu_epi8       emu_mask_storeu_epi8
#define _mm512_set1_ps             emu_set1_ps
#define _mm512_set1_epi32          emu_set1_epi32
#define _mm512_set1_epi8           emu_set1_epi8
#define _mm512_setzero_ps          emu_setzero_ps
#define _mm512_extractf32x8_ps     emu_extractf32x8_ps
#define _mm512_castps512_ps256     emu_castps512_ps256
#define _mm512_castps_si512(a)     EMU_AS(__m512i, a)
#define _mm512_castsi512_ps(a)     EMU_AS(__m512, a)
#define _mm512_add_ps              emu_add_ps
#define _mm512_sub_ps              emu_sub_ps
#define _mm512_mul_ps              emu_mul_ps
#define _mm512_div_ps              emu_div_ps
#define _mm512_fmadd_ps            emu_fmadd_ps
#define _mm512_fnmadd_ps           emu_fnmadd_ps
#define _mm512_max_ps              emu_max_ps
#define _mm512_min_ps              emu_min_ps
#define _mm512_roundscale_ps       emu_roundscale_ps
#define _mm512_scalef_ps           emu_scalef_ps
#define _mm512_cmp_ps_mask         emu_cmp_ps_mask
#define _mm512_mask_add_ps         emu_mask_add_ps
#define _mm512_mask_blend_ps       emu_mask_blend_ps
#define _mm512_add_epi32           emu_add_epi32
#define _mm512_sub_epi32           emu_sub_epi32
#define _mm512_and_si512           emu_and_si512
#define _mm512_xor_si512           emu_xor_si512
#define _mm512_shuffle_epi8        emu_shuffle_epi8
#define _mm512_dpbusd_epi32        emu_dpbusd_epi32
#define _mm512_or_si512            emu_or_si512
#define _mm512_slli_epi32          emu_slli_epi32
#define _mm512_srli_epi32          emu_srli_epi32
#define _mm512_mullo_epi32         emu_mullo_epi32
#define _mm512_cmpgt_epi32_mask    emu_cmpgt_epi32_mask
#define _mm512_cvtepi32_ps         emu_cvtepi32_ps
#define _mm512_cmpeq_epi32_mask    emu_cmpeq_epi32_mask
#define _mm512_mask_mov_epi32      emu_mask_mov_epi32
#define _mm512_mask_or_epi32       emu_mask_or_epi32
#define _mm512_ternarylogic_epi32  emu_ternarylogic_epi32
#define _mm512_permutex2var_epi8   emu_permutex2var_epi8
#define _mm512_unpacklo_epi8(a, b) emu_unpack(a, b, 0)
#define _mm512_unpackhi_epi8(a, b) emu_unpack(a, b, 1)
#define _mm512_cvtepu16_epi32      emu_cvtepu16_epi32
#define _mm512_cvtepi8_epi32       emu_cvtepi8_epi32
#define _mm512_cvtph_ps            emu_cvtph_ps
#define _mm512_cvtepu8_epi32       emu_cvtepu8_epi32
#define _mm512_cvtepi32_epi16      emu_cvtepi32_epi16
#define _mm512_cvtepi32_epi8       emu_cvtepi32_epi8
#define _mm512_dpbf16_ps           emu_dpbf16_ps
#define _mm512_cvtneps_pbh         emu_cvtneps_pbh
#define _mm512_castsi512_si256     emu_castsi512_si256
#define _mm512_cvtne2ps_pbh        emu_cvtne2ps_pbh
#define _mm512_inserti64x4         emu_inserti64x4
#define _mm512_maskz_loadu_epi8    emu_wide_maskz_loadu_epi8
#define _mm512_maskz_mov_epi8      emu_maskz_mov_epi8
#define _mm512_permutexvar_epi16   emu_permutexvar_epi16
#define _mm512_srli_epi16          emu_srli_epi16
#define _mm512_storeu_si512        emu_storeu_si512
#define _mm512_test_epi8_mask      emu_test_epi8_mask
#define _mm512_castsi256_si512(a)  emu_join_si512(a, _mm256_setzero_si256())

#endif
