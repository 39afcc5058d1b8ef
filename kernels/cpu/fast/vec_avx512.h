/* vec_avx512.h - sixteen floats at once: AVX-512. vec_avx2.h has the same functions; the bodies in
 * *_body.h are written in these and compiled for both, with the same results bit for bit.
 *
 * Include within TARGET_BEGIN(TARGET_AVX512). Counts n are 1..16: elements from n on are read as 0
 * and not written.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_VEC_AVX512_H
#define TANDEM_KERNELS_CPU_FAST_VEC_AVX512_H

#include "kernels/cpu/fast/turn_avx2.h"

typedef __m512 v16;

#define DOTS 4 /* rows and experts of the router at a time: their sums stay in registers */

INLINE __mmask16 v_first(size_t n)
{
    return (__mmask16)((1u << n) - 1u);
}

INLINE v16 v_set(float x)
{
    return _mm512_set1_ps(x);
}

INLINE v16 v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

INLINE void v_store(float *p, v16 a)
{
    _mm512_storeu_ps(p, a);
}

INLINE v16 v_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}

INLINE v16 v_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}

INLINE v16 v_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}

INLINE v16 v_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}

/* a * b + c, rounded once */
INLINE v16 v_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* The second operand when either is NaN. */
INLINE v16 v_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}

INLINE v16 v_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}

INLINE v16 v_abs(v16 a)
{
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff)));
}

INLINE v16 v_round(v16 a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* a - floor(a), rounded to the nearest: VREDUCEPS would round this down as well. */
INLINE v16 v_fraction(v16 a)
{
    return _mm512_sub_ps(a, _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
}

/* a * 2^floor(n), |n| < 250 */
INLINE v16 v_scale2(v16 a, v16 n)
{
    return _mm512_scalef_ps(a, n);
}

/* The same; where x is from 1 to 2 and subnormal results are 0, others have a shorter way. */
INLINE v16 v_scale2_flushed(v16 x, v16 n)
{
    return v_scale2(x, n);
}

/* The first n elements of a, `other` behind them. */
INLINE v16 v_keep(v16 a, size_t n, float other)
{
    return _mm512_mask_blend_ps(v_first(n), _mm512_set1_ps(other), a);
}

/* Bit i: a[i] >= b[i]. */
INLINE unsigned v_at_least(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}

/* Bit i: a[i] is NaN. */
INLINE unsigned v_nan(v16 a)
{
    return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}

/* In halves: 16 to 8 to 4 to 2 to 1, as plain_dot() adds. */
INLINE float v_sum(v16 a)
{
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

INLINE float v_most(v16 a)
{
    __m256 b = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

/* sum[0..15] += floor(a[0..15]) */
INLINE void v_add_floors(double *sum, v16 a)
{
    a = _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(a));
    __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
    _mm512_storeu_pd(sum, _mm512_add_pd(_mm512_loadu_pd(sum), low));
    _mm512_storeu_pd(sum + 8, _mm512_add_pd(_mm512_loadu_pd(sum + 8), high));
}

INLINE void v_add_terms(double *sum, const float *product, double weight)
{
    __m512d w = _mm512_set1_pd(weight), shift = _mm512_set1_pd(EXACT_SHIFT);
    __m512d term = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm256_loadu_ps(product)), w, shift);
    term = _mm512_sub_pd(term, shift);
    _mm512_storeu_pd(sum, _mm512_add_pd(_mm512_loadu_pd(sum), term));
}

/* ---- other formats -------------------------------------------------------------------------- */

INLINE v16 v_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(v_first(n), p);
}

INLINE void v_store_n(float *p, size_t n, v16 a)
{
    _mm512_mask_storeu_ps(p, v_first(n), a);
}

INLINE v16 v_load_bf16(const bf16_t *p, size_t n)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(v_first(n), p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* Rounds as bf16_from_f32() does, subnormal numbers and NaN too; the upper halves are 0. */
INLINE __m512i v_bf16(v16 a)
{
    __m512i u = _mm512_castps_si512(a), half = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(half, _mm512_set1_epi32(1));
    __m512i round = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __m512i r = _mm512_srli_epi32(round, 16);
    return _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), half,
                                _mm512_set1_epi32(0x40));
}

INLINE void v_store_bf16(bf16_t *p, size_t n, v16 a)
{
    _mm256_mask_storeu_epi16(p, v_first(n), _mm512_cvtepi32_epi16(v_bf16(a)));
}

/* The nearest bf16, as f32. */
INLINE v16 v_to_bf16(v16 a)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(v_bf16(a), 16));
}

/* Two of them, the fast form: subnormal numbers become 0. */
INLINE void v_store_bf16_fast(bf16_t *p, v16 a, v16 b)
{
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(b, a));
}

INLINE v16 v_load_f8(const f8e4m3_t *p, size_t n)
{
    __m512i code = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(v_first(n), p));
    __m512i sign = _mm512_slli_epi32(_mm512_srli_epi32(code, 7), 31);
    __m512i low = _mm512_and_si512(code, _mm512_set1_epi32(0x7f));
    /* Without an exponent codes count in steps of 2^-9, whose f32 are no shifted codes. */
    __mmask16 tiny = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(8), low);
    __m512i a = _mm512_add_epi32(_mm512_slli_epi32(low, 20), _mm512_set1_epi32(120 << 23));
    v16 steps = _mm512_mul_ps(_mm512_cvtepi32_ps(low), v_set(0x1p-9f));
    a = _mm512_mask_mov_epi32(a, tiny, _mm512_castps_si512(steps));
    __m512i bits = _mm512_or_si512(a, sign);
    __mmask16 nan = _mm512_cmpeq_epi32_mask(low, _mm512_set1_epi32(0x7f));
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, nan, _mm512_set1_epi32(0x7fc00000)));
}

/* Rounds as f8e4m3_from_f32() does. */
INLINE void v_store_f8(f8e4m3_t *p, size_t n, v16 a)
{
    __m512i u = _mm512_castps_si512(a);
    __m512i sign = _mm512_slli_epi32(_mm512_srli_epi32(u, 31), 7);
    v16 size = v_min(v_abs(a), v_set(448.0f)); /* NaN is dealt with below */
    __m512i s = _mm512_castps_si512(size);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(s, 20), _mm512_set1_epi32(1));
    __m512i normal = _mm512_add_epi32(s, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7ffff)));
    normal = _mm512_sub_epi32(_mm512_srli_epi32(normal, 20), _mm512_set1_epi32(120 << 3));
    /* Below 2^-6 the codes count in steps of 2^-9, the last place of 2^14. */
    __m512i small = _mm512_castps_si512(_mm512_add_ps(size, v_set(0x1p14f)));
    small = _mm512_sub_epi32(small, _mm512_set1_epi32((127 + 14) << 23));
    __m512i code =
        _mm512_mask_mov_epi32(normal, _mm512_cmp_ps_mask(size, v_set(0x1p-6f), _CMP_LT_OQ), small);
    code = _mm512_mask_mov_epi32(code, v_nan(a) & 0xffff, _mm512_set1_epi32(0x7f));
    _mm_mask_storeu_epi8(p, v_first(n), _mm512_cvtepi32_epi8(_mm512_or_si512(code, sign)));
}

#endif
