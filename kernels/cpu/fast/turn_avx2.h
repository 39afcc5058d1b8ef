/* turn_avx2.h - v_turn(), with AVX2 also where there is AVX-512: half as wide, its shuffles are twice as fast. Include
 * within TARGET_BEGIN().
 */
#ifndef TANDEM_KERNELS_CPU_FAST_TURN_AVX2_H
#define TANDEM_KERNELS_CPU_FAST_TURN_AVX2_H

#define TURN_ROW ((size_t)4 * PANEL) /* bytes of a pair of inputs in a panel of bf16 */

/* Of two tokens two dimensions each: those in the middle change places. */
INLINE __m256i v_turn_pairs(const uint8_t *from)
{
    const __m256i order = _mm256_setr_epi64x(0x0706030205040100, 0x0f0e0b0a0d0c0908,
                                             0x0706030205040100, 0x0f0e0b0a0d0c0908);
    return _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(const void *)from), order);
}

INLINE void v_turn_put(uint8_t *to, __m256i x)
{
    _mm256_storeu_si256((__m256i *)(void *)to, x);
}

/* Four pairs of dimensions of four pairs of tokens. */
INLINE void v_turn(const uint8_t *from, uint8_t *to)
{
    __m256i a = v_turn_pairs(from), b = v_turn_pairs(from + TURN_ROW);
    __m256i c = v_turn_pairs(from + 2 * TURN_ROW), d = v_turn_pairs(from + 3 * TURN_ROW);
    __m256i low = _mm256_unpacklo_epi64(a, b), low2 = _mm256_unpacklo_epi64(c, d);
    __m256i high = _mm256_unpackhi_epi64(a, b), high2 = _mm256_unpackhi_epi64(c, d);
    v_turn_put(to, _mm256_permute2x128_si256(low, low2, 0x20));
    v_turn_put(to + TURN_ROW, _mm256_permute2x128_si256(high, high2, 0x20));
    v_turn_put(to + 2 * TURN_ROW, _mm256_permute2x128_si256(low, low2, 0x31));
    v_turn_put(to + 3 * TURN_ROW, _mm256_permute2x128_si256(high, high2, 0x31));
}

#endif
