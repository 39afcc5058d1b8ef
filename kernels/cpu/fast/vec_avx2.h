/* vec_avx2.h - sixteen floats at once: AVX2, as two vectors of eight. See vec_avx512.h, whose
 * functions these are; include within TARGET_BEGIN(TARGET_AVX2).
 */
#ifndef TANDEM_KERNELS_CPU_FAST_VEC_AVX2_H
#define TANDEM_KERNELS_CPU_FAST_VEC_AVX2_H

#include "kernels/cpu/fast/turn_avx2.h"

typedef struct {
    __m256 a, b;
} v16;

#define DOTS 2 /* rows and experts of the router at a time: their sums stay in registers */

INLINE v16 v_set(float x)
{
    return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

INLINE v16 v_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

INLINE void v_store(float *p, v16 x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}

INLINE v16 v_add(v16 x, v16 y)
{
    return (v16){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}

INLINE v16 v_sub(v16 x, v16 y)
{
    return (v16){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}

INLINE v16 v_mul(v16 x, v16 y)
{
    return (v16){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}

INLINE v16 v_div(v16 x, v16 y)
{
    return (v16){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}

INLINE v16 v_fma(v16 x, v16 y, v16 z)
{
    return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}

INLINE v16 v_max(v16 x, v16 y)
{
    return (v16){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}

INLINE v16 v_min(v16 x, v16 y)
{
    return (v16){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}

INLINE v16 v_abs(v16 x)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}

INLINE v16 v_round(v16 x)
{
    return (v16){_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                 _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

INLINE __m256 v_power2(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

INLINE v16 v_fraction(v16 x)
{
    return (v16){_mm256_sub_ps(x.a, _mm256_floor_ps(x.a)),
                 _mm256_sub_ps(x.b, _mm256_floor_ps(x.b))};
}

/* In two steps, because 2^n alone may be too large or too small for a float. */
INLINE __m256 v_scale2_half(__m256 x, __m256 n)
{
    __m256i whole = _mm256_cvtps_epi32(_mm256_floor_ps(n)), half = _mm256_srai_epi32(whole, 1);
    return _mm256_mul_ps(_mm256_mul_ps(x, v_power2(half)), v_power2(_mm256_sub_epi32(whole, half)));
}

INLINE v16 v_scale2(v16 x, v16 n)
{
    return (v16){v_scale2_half(x.a, n.a), v_scale2_half(x.b, n.b)};
}

/* The same for x from 1 to 2, where results that are subnormal are 0: the exponent alone changes. */
INLINE __m256 v_scale2_flushed_half(__m256 x, __m256 n)
{
    __m256i by = _mm256_slli_epi32(_mm256_cvtps_epi32(_mm256_floor_ps(n)), 23);
    __m256 tiny = _mm256_cmp_ps(n, _mm256_set1_ps(-126.0f), _CMP_LT_OQ);
    return _mm256_andnot_ps(tiny,
                            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), by)));
}

INLINE v16 v_scale2_flushed(v16 x, v16 n)
{
    return (v16){v_scale2_flushed_half(x.a, n.a), v_scale2_flushed_half(x.b, n.b)};
}

/* All ones in the elements of half `h` (0, 1) that are among the first n of 16. */
INLINE __m256i v_first(size_t n, int h)
{
    __m256i place =
        _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(8 * h));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), place);
}

INLINE v16 v_keep(v16 x, size_t n, float other)
{
    __m256 o = _mm256_set1_ps(other);
    return (v16){_mm256_blendv_ps(o, x.a, _mm256_castsi256_ps(v_first(n, 0))),
                 _mm256_blendv_ps(o, x.b, _mm256_castsi256_ps(v_first(n, 1)))};
}

INLINE unsigned v_at_least(v16 x, v16 y)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ)) |
           (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)) << 8;
}

INLINE unsigned v_nan(v16 x)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x.a, x.a, _CMP_UNORD_Q)) |
           (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x.b, x.b, _CMP_UNORD_Q)) << 8;
}

INLINE float v_sum(v16 x)
{
    __m256 b = _mm256_add_ps(x.a, x.b);
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

INLINE float v_most(v16 x)
{
    __m256 b = _mm256_max_ps(x.a, x.b);
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

INLINE void v_add_half_floors(double *sum, __m256 a)
{
    a = _mm256_floor_ps(a);
    __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(a));
    __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
    _mm256_storeu_pd(sum, _mm256_add_pd(_mm256_loadu_pd(sum), low));
    _mm256_storeu_pd(sum + 4, _mm256_add_pd(_mm256_loadu_pd(sum + 4), high));
}

/* sum[0..15] += floor(a[0..15]) */
INLINE void v_add_floors(double *sum, v16 a)
{
    v_add_half_floors(sum, a.a);
    v_add_half_floors(sum + 8, a.b);
}

/* sum[j] += exact_term(weight, product[j]) for eight j. */
INLINE void v_add_terms(double *sum, const float *product, double weight)
{
    __m256d w = _mm256_set1_pd(weight), shift = _mm256_set1_pd(EXACT_SHIFT);
    for (size_t j = 0; j < 8; j += 4) {
        __m256d term = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm_loadu_ps(product + j)), w, shift);
        term = _mm256_sub_pd(term, shift);
        _mm256_storeu_pd(sum + j, _mm256_add_pd(_mm256_loadu_pd(sum + j), term));
    }
}

/* ---- other formats -------------------------------------------------------------------------- */

INLINE v16 v_load_n(const float *p, size_t n)
{
    return (v16){_mm256_maskload_ps(p, v_first(n, 0)), _mm256_maskload_ps(p + 8, v_first(n, 1))};
}

INLINE void v_store_n(float *p, size_t n, v16 x)
{
    _mm256_maskstore_ps(p, v_first(n, 0), x.a);
    _mm256_maskstore_ps(p + 8, v_first(n, 1), x.b);
}

/* There are no masks for 16 and 8 bits: the end of a row goes through a buffer. */
INLINE v16 v_load_bf16(const bf16_t *p, size_t n)
{
    bf16_t end[16] = {0};
    if (n < 16)
        p = memcpy(end, p, n * sizeof *p);
    __m256i a = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    __m256i b = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p + 8)));
    return (v16){_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
                 _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
}

INLINE __m256i v_bf16_half(__m256 x)
{
    __m256i u = _mm256_castps_si256(x), half = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(half, _mm256_set1_epi32(1));
    __m256i round = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(_mm256_srli_epi32(round, 16),
                              _mm256_or_si256(half, _mm256_set1_epi32(0x40)), nan);
}

/* Two halves of 32-bit numbers below 2^16 (or 2^8, below) in one vector of bytes. */
INLINE __m256i v_narrow(__m256i a, __m256i b)
{
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
}

INLINE void v_store_bf16(bf16_t *p, size_t n, v16 x)
{
    __m256i narrow = v_narrow(v_bf16_half(x.a), v_bf16_half(x.b));
    bf16_t end[16];
    _mm256_storeu_si256((__m256i *)(n < 16 ? end : p), narrow);
    if (n < 16)
        memcpy(p, end, n * sizeof *p);
}

/* Nothing is faster here than the other form, and no row is multiplied in bf16. */
INLINE void v_store_bf16_fast(bf16_t *p, v16 x, v16 y)
{
    v_store_bf16(p, 16, x);
    v_store_bf16(p + 16, 16, y);
}

INLINE __m256 v_to_bf16_half(__m256 x)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(v_bf16_half(x), 16));
}

INLINE v16 v_to_bf16(v16 x)
{
    return (v16){v_to_bf16_half(x.a), v_to_bf16_half(x.b)};
}

INLINE __m256 v_f8_half(__m256i code)
{
    __m256i sign = _mm256_slli_epi32(_mm256_srli_epi32(code, 7), 31);
    __m256i low = _mm256_and_si256(code, _mm256_set1_epi32(0x7f));
    __m256i tiny = _mm256_cmpgt_epi32(_mm256_set1_epi32(8), low); /* steps of 2^-9 */
    __m256 a = _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_slli_epi32(low, 20), _mm256_set1_epi32(120 << 23)));
    __m256 steps = _mm256_mul_ps(_mm256_cvtepi32_ps(low), _mm256_set1_ps(0x1p-9f));
    a = _mm256_blendv_ps(a, steps, _mm256_castsi256_ps(tiny));
    __m256i nan = _mm256_cmpeq_epi32(low, _mm256_set1_epi32(0x7f));
    __m256 bits = _mm256_or_ps(a, _mm256_castsi256_ps(sign));
    return _mm256_blendv_ps(bits, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)),
                            _mm256_castsi256_ps(nan));
}

INLINE v16 v_load_f8(const f8e4m3_t *p, size_t n)
{
    f8e4m3_t end[16] = {0};
    if (n < 16)
        p = memcpy(end, p, n);
    __m128i codes = _mm_loadu_si128((const __m128i *)p);
    return (v16){v_f8_half(_mm256_cvtepu8_epi32(codes)),
                 v_f8_half(_mm256_cvtepu8_epi32(_mm_srli_si128(codes, 8)))};
}

INLINE __m256i v_to_f8_half(__m256 x)
{
    __m256i u = _mm256_castps_si256(x);
    __m256i sign = _mm256_slli_epi32(_mm256_srli_epi32(u, 31), 7);
    __m256 size = _mm256_min_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), x), _mm256_set1_ps(448.0f));
    __m256i s = _mm256_castps_si256(size);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(s, 20), _mm256_set1_epi32(1));
    __m256i normal = _mm256_add_epi32(s, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7ffff)));
    normal = _mm256_sub_epi32(_mm256_srli_epi32(normal, 20), _mm256_set1_epi32(120 << 3));
    __m256i small = _mm256_castps_si256(_mm256_add_ps(size, _mm256_set1_ps(0x1p14f)));
    small = _mm256_sub_epi32(small, _mm256_set1_epi32((127 + 14) << 23));
    __m256 below = _mm256_cmp_ps(size, _mm256_set1_ps(0x1p-6f), _CMP_LT_OQ);
    __m256i code = _mm256_blendv_epi8(normal, small, _mm256_castps_si256(below));
    __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    code = _mm256_blendv_epi8(code, _mm256_set1_epi32(0x7f), _mm256_castps_si256(nan));
    return _mm256_or_si256(code, sign);
}

INLINE __m128i v_bytes(__m256i a, __m256i b)
{
    __m256i narrow = v_narrow(a, b);
    return _mm_packus_epi16(_mm256_castsi256_si128(narrow), _mm256_extracti128_si256(narrow, 1));
}

INLINE void v_store_f8(f8e4m3_t *p, size_t n, v16 x)
{
    f8e4m3_t end[16];
    _mm_storeu_si128((__m128i *)(n < 16 ? end : p), v_bytes(v_to_f8_half(x.a), v_to_f8_half(x.b)));
    if (n < 16)
        memcpy(p, end, n);
}

#endif
