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
 * A tile is at most four rows. Of a group it takes 16 outputs at a time (one row: all 32), decoded once for
 * all rows, and keeps their sums of integers in registers; sums in f32 wait in the first cache.
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
#define INTEGER_KEPT
#define QUADS (INTEGER_GROUP / 4) /* of inputs in a group */

/* Keeps the compiler from adding up in another order: it would hold all products of a group until then,
 * far more than there are registers. */
#define IN_ORDER(sum) __asm__("" : "+x"(sum))

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

/* Quad q of eight outputs; of codes, two quads lie in the same bytes. */
INLINE __m256i quad_at(const enum integer_kind kind, const uint8_t *w, const int q,
                       const struct common *c)
{
    if (kind == BYTES)
        return load32(w + 4 * PANEL * q);
    __m256i code = load32(w + 4 * PANEL * (q / 2));
    if (q % 2)
        code = _mm256_srli_epi16(code, 4);
    code = _mm256_and_si256(code, _mm256_set1_epi8(15));
    return kind == VALUES ? _mm256_shuffle_epi8(c->values, code) : code;
}

/* sum (first: 0) + a quad's products: pairs of them in 16 bits of codes, else all four. */
INLINE __m256i add_quad(const enum integer_kind kind, const bool first, __m256i sum, __m256i w,
                        __m256i size, __m256i x)
{
    if (kind == CODES) {
        __m256i pairs = _mm256_maddubs_epi16(w, x);
        return first ? pairs : _mm256_add_epi16(sum, pairs);
    }
    __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(x, w));
    __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    return first ? fours : _mm256_add_epi32(sum, fours);
}

/* Outputs `at` .. at + 7 of what is multiplied (second: subtracted), as f32. */
INLINE __m256 scale_at(const enum scales_kept kept, const struct scales_at *s, int at,
                       const bool second)
{
    at += second ? PANEL : 0;
    if (kept == WIDE)
        return _mm256_loadu_ps((const float *)(const void *)s->factors + at);
    __m256 v = _mm256_cvtph_ps(_mm_loadu_si128((const void *)(s->factors + 2 * at)));
    if (kept == HALF)
        return v;
    __m256i small = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(s->small + at)));
    return _mm256_mul_ps(v, _mm256_cvtepi32_ps(small));
}

/* What integers of a run are multiplied with, and what is subtracted: 8 x octets outputs from `at` on. */
struct factors {
    __m256 scale[PANEL / 8], min[PANEL / 8];
};

INLINE void factors_at(enum scales_kept kept, bool mins, const int octets,
                       const struct scales_at *s, int at, struct factors *f)
{
#pragma GCC unroll 4
    for (int o = 0; o < octets; o++) {
        f->scale[o] = scale_at(kept, s, at + 8 * o, false);
        if (mins)
            f->min[o] = scale_at(kept, s, at + 8 * o, true);
    }
}

/* c += one run's products, of a half of a group or of all of it, of 8 x octets outputs. */
INLINE void add_run(const enum integer_kind kind, const bool mins, const int m, const int octets,
                    const bool all, const int half, __m256i sum[][PANEL / 8],
                    const struct common *common, const uint8_t *x, const struct factors *f,
                    float *c)
{
#pragma GCC unroll 4
    for (int r = 0; r < m; r++) {
        const struct integers *row = (const void *)(x + r * X_ROW);
        __m256i more = _mm256_set1_epi32(common->offset * (all ? row->all : row->sum[half]));
        __m256 scale = _mm256_set1_ps(row->scale);
        __m256 term = _mm256_set1_ps(all ? row->term_all : row->term[half]);
#pragma GCC unroll 4
        for (int o = 0; o < octets; o++) {
            __m256i fours = sum[r][o];
            if (kind == CODES)
                fours = _mm256_add_epi32(_mm256_madd_epi16(fours, _mm256_set1_epi16(1)), more);
            float *to = c + r * PANEL + 8 * o;
            __m256 part = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(fours));
            __m256 y = _mm256_fmadd_ps(part, f->scale[o], _mm256_loadu_ps(to));
            if (mins)
                y = _mm256_fnmadd_ps(term, f->min[o], y);
            _mm256_storeu_ps(to, y);
        }
    }
}

/* A line of the weights to come for each that a quad reads. One row of bytes goes over memory as fast as a
 * core can: the processor fetches ahead better by itself. */
INLINE void fetch_quad(const enum integer_kind kind, const int m, const int octets,
                       const struct integers_at *at, int q, int from)
{
    const char *fetch = (const char *)at->fetch + q * at->step + 4 * from;
    if (kind == BYTES ? m == 1 : q % 2)
        return;
    _mm_prefetch(fetch, _MM_HINT_T1);
    if (octets == 4)
        _mm_prefetch(fetch + 64, _MM_HINT_T1);
}

/* Quads first .. end - 1 of m rows times 8 x octets outputs from `from` on. */
INLINE void run(const enum integer_kind kind, enum scales_kept kept, bool mins, const int m,
                const int octets, const struct common *common, const struct integers_at *at,
                const int first, const int end, const struct scales_at *scale, int from, float *c)
{
    __m256i sum[INTEGER_ROWS][PANEL / 8];
#pragma GCC unroll 8
    for (int q = first; q < end; q++) {
        __m256i quad[PANEL / 8], size[PANEL / 8];
#pragma GCC unroll 4
        for (int o = 0; o < octets; o++) {
            quad[o] = quad_at(kind, at->w + 4 * from + 32 * o, q, common);
            size[o] = kind == CODES ? quad[o] : _mm256_abs_epi8(quad[o]);
        }
        fetch_quad(kind, m, octets, at, q, from);
#pragma GCC unroll 4
        for (int r = 0; r < m; r++) {
            __m256i four = broadcast((const int8_t *)at->x + r * X_ROW + 4 * q);
#pragma GCC unroll 4
            for (int o = 0; o < octets; o++) {
                sum[r][o] = add_quad(kind, q == first, sum[r][o], quad[o], size[o], four);
                IN_ORDER(sum[r][o]);
            }
        }
    }
    const bool all = end - first == QUADS;
    struct factors f;
    if (mins) {
        factors_at(kept, true, octets, scale, from, &f);
        add_run(kind, true, m, octets, all, first > 0, sum, common, at->x, &f, c + from);
    } else {
        factors_at(kept, false, octets, scale, from, &f);
        add_run(kind, false, m, octets, all, first > 0, sum, common, at->x, &f, c + from);
    }
}

INLINE void group(const enum integer_kind kind, enum scales_kept kept, bool mins, const int m,
                  const struct common *common, const struct integers_at *at,
                  const struct scales_at *scale, const struct scales_at *next, float *c)
{
    const int octets = m > 1 ? 2 : 4, half = QUADS / 2;
#pragma GCC unroll 1
    for (int o = 0; o < PANEL; o += 8 * octets) {
        if (!next) {
            run(kind, kept, mins, m, octets, common, at, 0, QUADS, scale, o, c);
        } else {
            run(kind, kept, mins, m, octets, common, at, 0, half, scale, o, c);
            run(kind, kept, mins, m, octets, common, at, half, QUADS, next, o, c);
        }
    }
}

#define INTEGER_PANEL(form) avx2_panel_##form
#include "kernels/cpu/fast/integer_tile.h"

TARGET_END
#endif
