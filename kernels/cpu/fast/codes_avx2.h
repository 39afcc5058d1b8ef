/* codes_avx2.h - packed numbers of all formats to eight outputs of f32, for AVX2. Included once, by
 * panel_avx2.c, where the instruction set is chosen.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_CODES_AVX2_H
#define TANDEM_KERNELS_CPU_FAST_CODES_AVX2_H

#include "kernels/cpu/fast/tile.h"

INLINE float loadf(const uint8_t *p)
{
    float v;
    memcpy(&v, p, 4);
    return v;
}

INLINE void prefetch(const uint8_t *p)
{
    _mm_prefetch((const char *)p, _MM_HINT_T0);
}

INLINE __m256i load8(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

INLINE __m256 first_of(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

INLINE __m256 second_of(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000)));
}

/* The 32 codes of outputs 16 half .. 16 half + 15 of a pair of inputs: of each 16 bytes the lower
 * or upper eight. */
INLINE __m256i half_codes(const uint8_t *w, const int half)
{
    __m256i a = load8(w), b = load8(w + 32);
    return half ? _mm256_unpackhi_epi64(a, b) : _mm256_unpacklo_epi64(a, b);
}

/* Low and high bytes of the pairs that codes stand for. */
struct bytes {
    __m256i low, high;
};

INLINE __m256i pairs_of(struct bytes b, const int upper)
{
    return upper ? _mm256_unpackhi_epi8(b.low, b.high) : _mm256_unpacklo_epi8(b.low, b.high);
}

/* FP8 to bf16, exactly. The exponent is 120 too small, and bf16 has it half a byte to the left;
 * codes below 8 have none, so those below 16 are looked up (saturation makes the places of all
 * others negative, which gives 0). */
INLINE struct bytes f8_bytes(__m256i code)
{
    __m256i size = _mm256_and_si256(code, _mm256_set1_epi8(0x7f));
    __m256i few = _mm256_adds_epu8(size, _mm256_set1_epi8(0x70));
    __m256i few_high = _mm256_shuffle_epi8(
        _mm256_setr_epi8(0, 59, 59, 59, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 0, 59, 59,
                         59, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60),
        few);
    /* what differs from the code's own low bits */
    __m256i few_low = _mm256_shuffle_epi8(_mm256_setr_epi8(0, 16, -96, -16, 64, 112, 32, 16, 0, 0,
                                                           0, 0, 0, 0, 0, 0, 0, 16, -96, -16, 64,
                                                           112, 32, 16, 0, 0, 0, 0, 0, 0, 0, 0),
                                          few);
    __m256i up = _mm256_and_si256(_mm256_srli_epi16(code, 4), _mm256_set1_epi8(15));
    __m256i down = _mm256_and_si256(_mm256_slli_epi16(code, 4), _mm256_set1_epi8(-16));
    __m256i nan = _mm256_cmpeq_epi8(size, _mm256_set1_epi8(0x7f));
    __m256i low = _mm256_xor_si256(down, few_low);
    __m256i high = _mm256_shuffle_epi8(
        _mm256_setr_epi8(0, 61, 62, 63, 64, 65, 66, 67, -128, -67, -66, -65, -64, -63, -62, -61, 0,
                         61, 62, 63, 64, 65, 66, 67, -128, -67, -66, -65, -64, -63, -62, -61),
        up);
    return (struct bytes){low, _mm256_or_si256(_mm256_or_si256(high, few_high), nan)};
}

/* 32 codes of FP8 of a pair of inputs as pairs of bf16: of outputs in the lower and the upper half. */
INLINE void store_pairs(const uint8_t *w, uint8_t *pairs)
{
    struct bytes b = f8_bytes(load8(w));
    _mm256_store_si256((__m256i *)(void *)pairs, pairs_of(b, 0));
    _mm256_store_si256((__m256i *)(void *)(pairs + 64), pairs_of(b, 1));
}

/* A tile's FP8 to pairs of bf16, as a panel has them. */
static void decode_f8(const struct tile *t)
{
    const uint8_t *w = t->w, *const *more = t->more;
    uint8_t *pairs = t->pairs;
    for (size_t left = t->k, run; left; left -= run) {
        run = t->more && t->piece < left ? t->piece : left;
        for (size_t i = 0; i < run; i += 2, w += 64, pairs += 128) {
            store_pairs(w, pairs);
            store_pairs(w + 32, pairs + 32);
        }
        if (left > run)
            w = *more++ + t->offset;
    }
}

/* How weights lie, and what becomes of their sums: scaled ones are made afresh for each block of
 * 128 inputs, then c += scale x sum. */
enum kind { F32, BF16, BF16_SCALED, F8, F8_SCALED };

INLINE bool is_scaled(const enum kind kind)
{
    return kind == BF16_SCALED || kind == F8_SCALED;
}

/* Bytes of one pair of inputs of a panel. */
INLINE size_t pair_bytes(const enum kind kind)
{
    return kind == F32 ? 256 : kind <= BF16_SCALED ? 128 : 64;
}

/* A pair of inputs of outputs 16 half .. 16 half + 15, not yet widened: outputs 0..7, 8..15 of both. */
struct codes {
    __m256i v[2];
};

INLINE struct codes codes_at(const enum kind kind, const uint8_t *w, const bool wide,
                             const int half)
{
    __m256i a = _mm256_setzero_si256(), b = a;
    if (kind == BF16 || kind == BF16_SCALED) {
        a = load8(w + 64 * half);
        b = load8(w + 64 * half + 32);
    } else if (kind >= F8 && wide) {
        a = pairs_of(f8_bytes(load8(w)), half);
        b = pairs_of(f8_bytes(load8(w + 32)), half);
    } else if (kind >= F8) {
        struct bytes code = f8_bytes(half_codes(w, half));
        a = pairs_of(code, 0);
        b = pairs_of(code, 1);
    }
    return (struct codes){{a, b}};
}

/* Input 0 or 1 (second) of the pair, its outputs 8 v .. 8 v + 7, as f32. */
INLINE __m256 weights_of(const enum kind kind, const struct codes *c, const uint8_t *w,
                         const int half, const bool second, const int v)
{
    if (kind == F32)
        return _mm256_loadu_ps((const float *)(const void *)w + PANEL * second + 16 * half + 8 * v);
    return second ? second_of(c->v[v]) : first_of(c->v[v]);
}

#endif
