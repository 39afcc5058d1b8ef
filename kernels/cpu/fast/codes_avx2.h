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

/* Sign and magnitude to integers, in the upper half of 16 bits; the lower half is anything. */
INLINE struct bytes i8_bytes(__m256i code)
{
    code = _mm256_sign_epi8(_mm256_and_si256(code, _mm256_set1_epi8(0x7f)), code);
    return (struct bytes){code, code};
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

INLINE __m256i load_twice(const uint8_t *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
}

/* Scales of a group's outputs, by eights, times 2^-24, and what is subtracted: in memory, registers are
 * few. */
struct group {
    __m256 scale[4];
    const float *min;
};

INLINE struct group group_at(const float *scale, const bool wide, const int half)
{
    struct group g = {.min = scale + PANEL};
    for (int i = wide ? 0 : 2 * half; i < (wide ? 4 : 2 * half + 2); i++)
        g.scale[i] = _mm256_mul_ps(_mm256_loadu_ps(scale + 8 * i), _mm256_set1_ps(0x1p-24f));
    return g;
}

/* Outputs 8 v .. 8 v + 7 of sixteen codes of a grouped form, which `codes` holds twice: (scale *
 * code) - min as form_value() makes it. Codes come 24 bits too far left; the products are exact, so that
 * rounding them changes nothing (struct grouped: odd). i: of these outputs among the panel's eights. */
INLINE __m256 group_wide(__m256i codes, const int v, const struct group *g, const int i,
                         const bool mins)
{
    const char o = (char)(8 * v), z = -1;
    const __m256i upper =
        _mm256_setr_epi8(z, z, z, o, z, z, z, o + 1, z, z, z, o + 2, z, z, z, o + 3, z, z, z, o + 4,
                         z, z, z, o + 5, z, z, z, o + 6, z, z, z, o + 7);
    __m256 w = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(codes, upper));
    return mins ? _mm256_fmsub_ps(w, g->scale[i], _mm256_loadu_ps(g->min + 8 * i))
                : _mm256_mul_ps(w, g->scale[i]);
}

/* How weights lie, and what becomes of their sums: scaled ones are made afresh for each block of
 * 128 inputs, then c += scale x sum. */
enum kind { F32, BF16, BF16_SCALED, F8, F8_SCALED, I8, G8, G8_MINS, G4, G4_MINS };

INLINE bool is_scaled(const enum kind kind)
{
    return kind == BF16_SCALED || kind == F8_SCALED;
}

INLINE bool has_mins(const enum kind kind)
{
    return kind == G8_MINS || kind == G4_MINS;
}

/* Bytes of one pair of inputs of a panel. */
INLINE size_t pair_bytes(const enum kind kind)
{
    return kind == F32 ? 256 : kind <= BF16_SCALED ? 128 : kind >= G4 ? 32 : 64;
}

/* A pair of inputs of outputs 16 half .. 16 half + 15, not yet widened. Grouped: the first input,
 * the second; else outputs 0..7, 8..15 of both. */
struct codes {
    __m256i v[2];
};

INLINE struct codes codes_at(const enum kind kind, const uint8_t *w, const bool wide,
                             const int half, __m256i values)
{
    __m256i a = _mm256_setzero_si256(), b = a;
    if (kind == BF16 || kind == BF16_SCALED) {
        a = load8(w + 64 * half);
        b = load8(w + 64 * half + 32);
    } else if (kind >= G4) {
        __m256i pair = load_twice(w + 16 * half), low = _mm256_set1_epi8(15);
        a = _mm256_shuffle_epi8(values, _mm256_and_si256(pair, low));
        b = _mm256_shuffle_epi8(values, _mm256_and_si256(_mm256_srli_epi16(pair, 4), low));
    } else if (kind >= G8) {
        a = load_twice(w + 16 * half);
        b = load_twice(w + PANEL + 16 * half);
    } else if (kind >= F8 && wide) {
        struct bytes c = kind == I8 ? i8_bytes(load8(w)) : f8_bytes(load8(w));
        struct bytes d = kind == I8 ? i8_bytes(load8(w + 32)) : f8_bytes(load8(w + 32));
        a = pairs_of(c, half);
        b = pairs_of(d, half);
    } else if (kind >= F8) {
        __m256i code = half_codes(w, half);
        struct bytes c = kind == I8 ? i8_bytes(code) : f8_bytes(code);
        a = pairs_of(c, 0);
        b = pairs_of(c, 1);
    }
    return (struct codes){{a, b}};
}

/* Input 0 or 1 (second) of the pair, its outputs 8 v .. 8 v + 7, as f32. g: of a grouped
 * form. */
INLINE __m256 weights_of(const enum kind kind, const struct codes *c, const uint8_t *w,
                         const int half, const bool second, const int v, const struct group *g)
{
    if (kind == F32)
        return _mm256_loadu_ps((const float *)(const void *)w + PANEL * second + 16 * half + 8 * v);
    if (kind == I8) {
        __m256i code = second ? c->v[v] : _mm256_slli_epi32(c->v[v], 16);
        return _mm256_cvtepi32_ps(_mm256_srai_epi32(code, 24));
    }
    if (kind >= G8)
        return group_wide(c->v[second], v, g, 2 * half + v, has_mins(kind));
    return second ? second_of(c->v[v]) : first_of(c->v[v]);
}

#endif
