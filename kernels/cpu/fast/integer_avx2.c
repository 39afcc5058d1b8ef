/* integer_avx2.c - panel functions for AVX2 where both factors are integers (kernels/cpu/integer.h).
 *
 * A vector has four inputs of eight outputs; the same four inputs of a row are broadcast against it.
 * VPMADDUBSW multiplies bytes without a sign with bytes that have one and adds pairs in 16 bits:
 *
 *   codes   of 4 bits, 0..15, as they are: the sums of 32 inputs fit into 16 bits, and one VPMADDWD makes
 *           them 32. Where a code stands for code - 8, as much is taken off 8 x the sum of the row's codes
 *   values  any others: |value| times the row's code with the value's sign; two products fit into 16
 *           bits, and every four inputs are made 32 at once
 *
 * A tile is at most four rows; weights are decoded once for all of them. Their broadcast inputs are made
 * once for a group of 32 and used by all 32 outputs; sums in f32 wait in the first cache.
 */
#ifdef __x86_64__
#include "kernels/cpu/fast/integer_avx2.h"
#include "kernels/cpu/fast/target.h"
#include "kernels/cpu/fast/tile.h"
#include "kernels/cpu/integer.h"

#include <immintrin.h>
#include <string.h>

TARGET_BEGIN(TARGET_AVX2)

#define INTEGER_ROWS 4
#define QUADS        (INTEGER_GROUP / 4) /* of inputs in a group */

/* What all groups of a tile have in common. */
struct common {
    __m256i values; /* VALUES: the table, twice */
    int offset;     /* CODES: value = code + offset */
};

INLINE struct common common_of(const enum integer_kind kind, const struct grouped *g)
{
    struct common c = {.values = _mm256_setzero_si256()};
    if (kind != BYTES) {
        __m128i values = _mm_loadu_si128((const __m128i *)(const void *)g->values);
        c.values = _mm256_broadcastsi128_si256(values);
        c.offset = g->values[0];
    }
    return c;
}

INLINE __m256i load32(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

INLINE __m256i broadcast(const int8_t *four)
{
    int v;
    memcpy(&v, four, sizeof v);
    return _mm256_set1_epi32(v);
}

/* Four inputs each of eight outputs, all inputs of a group: q-th of them in code[q]. */
struct octet {
    __m256i code[QUADS];
};

INLINE struct octet octet_at(const enum integer_kind kind, const uint8_t *w, const struct common *c)
{
    struct octet o;
    if (kind == BYTES) {
#pragma GCC unroll 8
        for (int q = 0; q < QUADS; q++)
            o.code[q] = load32(w + 4 * PANEL * q);
        return o;
    }
    const __m256i low = _mm256_set1_epi8(15);
#pragma GCC unroll 4
    for (int q = 0; q < QUADS; q += 2) {
        __m256i both = load32(w + 2 * PANEL * q);
        o.code[q] = _mm256_and_si256(both, low);
        o.code[q + 1] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
        if (kind == VALUES) {
            o.code[q] = _mm256_shuffle_epi8(c->values, o.code[q]);
            o.code[q + 1] = _mm256_shuffle_epi8(c->values, o.code[q + 1]);
        }
    }
    return o;
}

/* The sums of quads first .. end - 1 for eight outputs. x: the row's, broadcast. */
INLINE __m256i products(const enum integer_kind kind, const struct octet *o, const __m256i *x,
                        const int first, const int end)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int q = first; q < end; q++) {
        __m256i pairs;
        if (kind == CODES) {
            pairs = _mm256_maddubs_epi16(o->code[q], x[q]);
            sum = q == first ? pairs : _mm256_add_epi16(sum, pairs);
        } else {
            pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(o->code[q]),
                                         _mm256_sign_epi8(x[q], o->code[q]));
            pairs = _mm256_madd_epi16(pairs, ones);
            sum = q == first ? pairs : _mm256_add_epi32(sum, pairs);
        }
    }
    return kind == CODES ? _mm256_madd_epi16(sum, ones) : sum;
}

/* c += one run's products. more: what its sums lack, offset x the sum of the row's codes; term: scale x
 * that sum. */
INLINE void add_run(const enum integer_kind kind, bool mins, __m256i sum, const struct integers *x,
                    __m256i more, float term, const float *scale, float *c)
{
    if (kind == CODES)
        sum = _mm256_add_epi32(sum, more);
    __m256 part = _mm256_mul_ps(_mm256_set1_ps(x->scale), _mm256_cvtepi32_ps(sum));
    __m256 y = _mm256_fmadd_ps(_mm256_loadu_ps(scale), part, _mm256_loadu_ps(c));
    if (mins)
        y = _mm256_fnmadd_ps(_mm256_loadu_ps(scale + PANEL), _mm256_set1_ps(term), y);
    _mm256_storeu_ps(c, y);
}

INLINE void group(const enum integer_kind kind, bool mins, const int m, const struct common *common,
                  const uint8_t *w, const uint8_t *x, const float *scale, const float *next,
                  float *c)
{
    __m256i broad[INTEGER_ROWS][QUADS], more[INTEGER_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < m; r++) {
        const struct integers *row = (const void *)(x + r * X_ROW);
        more[r] = _mm256_set1_epi32(row->all * common->offset);
#pragma GCC unroll 8
        for (int q = 0; q < QUADS; q++)
            broad[r][q] = broadcast(row->code + 4 * q);
    }
#pragma GCC unroll 1
    for (int at = 0; at < PANEL; at += 8) {
        struct octet o = octet_at(kind, w + 4 * at, common);
#pragma GCC unroll 4
        for (int r = 0; r < m; r++) {
            const struct integers *row = (const void *)(x + r * X_ROW);
            float *to = c + r * PANEL + at;
            if (!next) {
                add_run(kind, mins, products(kind, &o, broad[r], 0, QUADS), row, more[r],
                        row->term_all, scale + at, to);
                continue;
            }
            for (int h = 0; h < 2; h++) {
                __m256i sum = h ? products(kind, &o, broad[r], QUADS / 2, QUADS)
                                : products(kind, &o, broad[r], 0, QUADS / 2);
                add_run(kind, mins, sum, row, _mm256_set1_epi32(row->sum[h] * common->offset),
                        row->term[h], (h ? next : scale) + at, to);
            }
        }
    }
}

#define INTEGER_PANEL(form) avx2_panel_##form
#include "kernels/cpu/fast/integer_tile.h"

TARGET_END
#endif
