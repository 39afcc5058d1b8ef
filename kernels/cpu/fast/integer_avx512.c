/* integer_avx512.c - panel functions for AVX-512 where both factors are integers
 * (kernels/cpu/integer.h).
 *
 * VPDPBUSD multiplies four bytes without a sign with four that have one and adds all to 32 bits: weights
 * are the former, a row's codes, broadcast, the latter. Codes of 4 bits are taken as they are; bytes, and
 * what other codes stand for, 128 too large. What that makes too much is a multiple of the sum of the row's
 * codes.
 *
 * A tile is at most eight rows; weights are decoded once for all of them.
 */
#ifdef __x86_64__
#include "kernels/cpu/fast/target.h"
#include "kernels/cpu/fast/tile.h"
#include "kernels/cpu/fast/integer_avx512.h"
#include "kernels/cpu/integer.h"

#include <immintrin.h>
#include <string.h>

/* With sanitizers gcc looks at half groups also where there are none, and their scales are NULL. */
#if defined(__SANITIZE_ADDRESS__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Warray-bounds"
#endif

TARGET_BEGIN(TARGET_AVX512)

#define INTEGER_ROWS 8
#define QUADS        (INTEGER_GROUP / 4) /* of inputs in a group */

/* What all groups of a tile have in common. */
struct common {
    __m512i values; /* VALUES: the table, 128 too large, four times */
    int offset;     /* integer = what is multiplied + offset */
};

INLINE struct common common_of(const enum integer_kind kind, const struct grouped *g)
{
    uint8_t table[64] = {0};
    struct common c = {.offset = kind == CODES ? g->values[0] : -128};
    for (int i = 0; i < 64 && kind == VALUES; i++)
        table[i] = (uint8_t)(g->values[i % 16] + 128);
    c.values = _mm512_loadu_si512(table);
    return c;
}

/* Four inputs each of sixteen outputs: quad q of a group, outputs from 16 half. */
INLINE __m512i quad_at(const enum integer_kind kind, const uint8_t *w, int q, int half,
                       const struct common *c)
{
    if (kind == BYTES)
        return _mm512_xor_si512(_mm512_loadu_si512(w + 4 * PANEL * q + 64 * half),
                                _mm512_set1_epi8((char)0x80));
    __m512i both = _mm512_loadu_si512(w + 4 * PANEL * (q / 2) + 64 * half);
    if (q % 2)
        both = _mm512_srli_epi32(both, 4);
    __m512i code = _mm512_and_si512(both, _mm512_set1_epi8(15));
    return kind == VALUES ? _mm512_shuffle_epi8(c->values, code) : code;
}

INLINE __m512i broadcast(const int8_t *four)
{
    int v;
    memcpy(&v, four, sizeof v);
    return _mm512_set1_epi32(v);
}

/* c += one run's products of sixteen outputs: of codes whose sum is `all`. */
INLINE void add_run(bool mins, const struct common *common, __m512i sum, const struct integers *x,
                    int all, float term, const float *scale, float *c)
{
    sum = _mm512_add_epi32(sum, _mm512_set1_epi32(all * common->offset));
    __m512 part = _mm512_mul_ps(_mm512_set1_ps(x->scale), _mm512_cvtepi32_ps(sum));
    __m512 y = _mm512_fmadd_ps(_mm512_loadu_ps(scale), part, _mm512_loadu_ps(c));
    if (mins)
        y = _mm512_fnmadd_ps(_mm512_loadu_ps(scale + PANEL), _mm512_set1_ps(term), y);
    _mm512_storeu_ps(c, y);
}

/* Quads first .. end - 1 of m rows. */
INLINE void run(const enum integer_kind kind, bool mins, const int m, const struct common *common,
                const uint8_t *w, const uint8_t *x, const int first, const int end,
                const float *scale, float *c)
{
    const bool all = end - first == QUADS;
    __m512i sum[INTEGER_ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < m; r++)
        sum[r][0] = sum[r][1] = _mm512_set1_epi32(0);
#pragma GCC unroll 8
    for (int q = first; q < end; q++) {
        __m512i low = quad_at(kind, w, q, 0, common), high = quad_at(kind, w, q, 1, common);
#pragma GCC unroll 8
        for (int r = 0; r < m; r++) {
            __m512i four = broadcast((const int8_t *)x + r * X_ROW + 4 * q);
            sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], low, four);
            sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], high, four);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < m; r++) {
        const struct integers *row = (const void *)(x + r * X_ROW);
        int codes = all ? row->all : row->sum[first > 0];
        float term = all ? row->term_all : row->term[first > 0];
        for (int h = 0; h < 2; h++)
            add_run(mins, common, sum[r][h], row, codes, term, scale + 16 * h,
                    c + r * PANEL + 16 * h);
    }
}

INLINE void group(const enum integer_kind kind, const enum integer_scales kept, bool mins,
                  const int m, const struct common *common, const uint8_t *w, const uint8_t *x,
                  const struct scales_at *scale, const struct scales_at *next, float *c)
{
    const float *first = (const void *)scale->factors;
    (void)kept;
    if (next) {
        run(kind, mins, m, common, w, x, 0, QUADS / 2, first, c);
        run(kind, mins, m, common, w, x, QUADS / 2, QUADS, (const void *)next->factors, c);
    } else {
        run(kind, mins, m, common, w, x, 0, QUADS, first, c);
    }
}

#define INTEGER_PANEL(form) avx512_panel_##form
#include "kernels/cpu/fast/integer_tile.h"

TARGET_END
#endif
