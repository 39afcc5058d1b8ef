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
#define INTEGER_KEPT
#define QUADS (INTEGER_GROUP / 4) /* of inputs in a group */

/* Blocks of so few rows of bytes go over memory as fast as a core can: the processor fetches ahead better by itself. */
#define LEFT_ALONE 2

/* Bytes ahead of them that scales of groups are fetched. */
#define FACTORS_AHEAD 1024

/* What all groups of a tile have in common. */
struct common {
    __m512i values; /* VALUES: the table, 128 too large, four times */
    __m512i offset; /* integer = what is multiplied + offset */
};

INLINE struct common common_of(const enum integer_kind kind, const struct grouped *g)
{
    uint8_t table[64] = {0};
    struct common c = {.offset = _mm512_set1_epi32(kind == CODES ? g->values[0] : -128)};
    for (int i = 0; i < 64 && kind == VALUES; i++)
        table[i] = (uint8_t)(g->values[i % 16] + 128);
    c.values = _mm512_loadu_si512(table);
    return c;
}

/* A line of bytes. For few rows in two halves: twice the instructions, so that the core looks half as far ahead
 * and leaves its first cache's queue to what the processor fetches by itself. Measured on Zen 4, cold, one row of bytes:
 * .91 of the time. */
INLINE __m512i line_at(const uint8_t *w, const int m)
{
    if (m > LEFT_ALONE)
        return _mm512_loadu_si512(w);
    __m256i low = _mm256_loadu_si256((const void *)w);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low),
                              _mm256_loadu_si256((const void *)(w + 32)), 1);
}

/* Four inputs each of sixteen outputs: quad q of a group, outputs from 16 half. */
INLINE __m512i quad_at(const enum integer_kind kind, const uint8_t *w, const int m, int q, int half,
                       const struct common *c)
{
    if (kind == BYTES)
        return _mm512_xor_si512(line_at(w + 4 * PANEL * q + 64 * half, m),
                                _mm512_set1_epi8((char)0x80));
    __m512i both = _mm512_loadu_si512(w + 4 * PANEL * (q / 2) + 64 * half);
    if (q % 2)
        both = _mm512_srli_epi32(both, 4);
    __m512i code = _mm512_and_si512(both, _mm512_set1_epi8(15));
    return kind == VALUES ? _mm512_shuffle_epi8(c->values, code) : code;
}

INLINE __m512i broadcast(const void *four)
{
    int v;
    memcpy(&v, four, sizeof v);
    return _mm512_set1_epi32(v);
}

/* Two lines to the second cache: the first can wait for few lines at a time. */
INLINE void fetch_two(const uint8_t *p)
{
    _mm_prefetch((const char *)p, _MM_HINT_T1);
    _mm_prefetch((const char *)p + 64, _MM_HINT_T1);
}

/* Of the weights to come. But one row of 4 bits asks the first: measured on Zen 4, cold, .85 of the time on one core,
 * .92 on two whose memory gives 60 GB/s; two and four rows 1.09 and 1.34. */
INLINE void fetch_weights(const enum integer_kind kind, const int m, const uint8_t *p)
{
    if (kind == BYTES || m > 1) {
        fetch_two(p);
        return;
    }
    _mm_prefetch((const char *)p, _MM_HINT_T0);
    _mm_prefetch((const char *)p + 64, _MM_HINT_T0);
}

/* What integers of a run are multiplied with, and what is subtracted, as f32. */
struct factors {
    __m512 scale[2], min[2];
};

/* Of sixteen outputs from `at` on. */
INLINE __m512 half_at(const struct scales_at *s, int at, bool small)
{
    __m512 v = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(s->factors + 2 * at)));
    if (!small)
        return v;
    __m128i bytes = _mm_loadu_si128((const void *)(s->small + at));
    return _mm512_mul_ps(v, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)));
}

INLINE void factors_at(enum scales_kept kept, bool mins, const struct scales_at *s,
                       struct factors *f)
{
    const float *wide = (const void *)s->factors;
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        f->scale[h] =
            kept == WIDE ? _mm512_loadu_ps(wide + 16 * h) : half_at(s, 16 * h, kept == SMALL);
        if (mins)
            f->min[h] = kept == WIDE ? _mm512_loadu_ps(wide + PANEL + 16 * h)
                                     : half_at(s, PANEL + 16 * h, kept == SMALL);
    }
}

/* c += one run's products, of halves of a group or of all. */
INLINE void add_run(bool mins, const int m, const bool all, const int half, __m512i sum[][2],
                    const uint8_t *x, const struct factors *f, float *c)
{
#pragma GCC unroll 8
    for (int r = 0; r < m; r++) {
        const struct integers *row = (const void *)(x + r * X_ROW);
        __m512 scale = _mm512_set1_ps(row->scale);
        __m512 term = _mm512_set1_ps(all ? row->term_all : row->term[half]);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            float *to = c + r * PANEL + 16 * h;
            __m512 part = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(sum[r][h]));
            __m512 y = _mm512_fmadd_ps(f->scale[h], part, _mm512_loadu_ps(to));
            if (mins)
                y = _mm512_fnmadd_ps(f->min[h], term, y);
            _mm512_storeu_ps(to, y);
        }
    }
}

/* Quads first .. end - 1 of m rows. */
INLINE void run(const enum integer_kind kind, enum scales_kept kept, bool mins, const int m,
                const struct common *common, const struct integers_at *at, const int first,
                const int end, const struct scales_at *scale, float *c)
{
    const bool all = end - first == QUADS;
    __m512i sum[INTEGER_ROWS][2];
#pragma GCC unroll 8
    for (int r = 0; r < m; r++) {
        const struct integers *row = (const void *)(at->x + r * X_ROW);
        const int32_t *codes = all ? &row->all : &row->sum[first > 0];
        sum[r][0] = sum[r][1] = _mm512_mullo_epi32(broadcast(codes), common->offset);
    }
#pragma GCC unroll 8
    for (int q = first; q < end; q++) {
        __m512i low = quad_at(kind, at->w, m, q, 0, common);
        __m512i high = quad_at(kind, at->w, m, q, 1, common);
        if (kind == BYTES ? m > LEFT_ALONE : q % 2 == 0)
            fetch_weights(kind, m, at->fetch + q * at->step);
#pragma GCC unroll 8
        for (int r = 0; r < m; r++) {
            __m512i four = broadcast(at->x + r * X_ROW + 4 * q);
            sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], low, four);
            sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], high, four);
        }
    }
    if (kind != BYTES)
        fetch_two(scale->factors + FACTORS_AHEAD);
    struct factors f;
    if (mins) {
        factors_at(kept, true, scale, &f);
        add_run(true, m, all, first > 0, sum, at->x, &f, c);
    } else {
        factors_at(kept, false, scale, &f);
        add_run(false, m, all, first > 0, sum, at->x, &f, c);
    }
}

INLINE void group(const enum integer_kind kind, enum scales_kept kept, bool mins, const int m,
                  const struct common *common, const struct integers_at *at,
                  const struct scales_at *scale, const struct scales_at *next, float *c)
{
    if (next) {
        run(kind, kept, mins, m, common, at, 0, QUADS / 2, scale, c);
        run(kind, kept, mins, m, common, at, QUADS / 2, QUADS, next, c);
    } else {
        run(kind, kept, mins, m, common, at, 0, QUADS, scale, c);
    }
}

#define INTEGER_PANEL(form) avx512_panel_##form
#include "kernels/cpu/fast/integer_tile.h"

TARGET_END
#endif
