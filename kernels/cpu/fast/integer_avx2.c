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

#define ROWS_MOST 4
#define QUADS     (INTEGER_GROUP / 4) /* of inputs in a group */

/* How weights lie: bytes; codes of 4 bits with the sum of the row; values that they stand for. */
enum kind { BYTES, CODES, VALUES };

/* What all groups of a tile have in common. */
struct common {
    __m256i values; /* VALUES: the table, twice */
    int offset;     /* CODES: value = code + offset */
};

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

INLINE struct octet octet_at(const enum kind kind, const uint8_t *w, const struct common *c)
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
INLINE __m256i products(const enum kind kind, const struct octet *o, const __m256i *x,
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

/* c += one run's products: sum of the row's codes in it, and scale x that sum. */
INLINE void add_run(const enum kind kind, bool mins, const struct common *common, __m256i sum,
                    const struct integers *x, int all, float term, const float *scale, float *c)
{
    if (kind == CODES)
        sum = _mm256_add_epi32(sum, _mm256_set1_epi32(all * common->offset));
    __m256 part = _mm256_mul_ps(_mm256_set1_ps(x->scale), _mm256_cvtepi32_ps(sum));
    __m256 y = _mm256_fmadd_ps(_mm256_loadu_ps(scale), part, _mm256_loadu_ps(c));
    if (mins)
        y = _mm256_fnmadd_ps(_mm256_loadu_ps(scale + PANEL), _mm256_set1_ps(term), y);
    _mm256_storeu_ps(c, y);
}

/* One group of m rows times 32 outputs. next: the scales of its second half, where that has its own. */
INLINE void group(const enum kind kind, bool mins, const int m, const struct common *common,
                  const uint8_t *w, const uint8_t *x, const float *scale, const float *next,
                  float *c)
{
    __m256i broad[ROWS_MOST][QUADS];
#pragma GCC unroll 4
    for (int r = 0; r < m; r++)
#pragma GCC unroll 8
        for (int q = 0; q < QUADS; q++)
            broad[r][q] = broadcast((const int8_t *)x + r * X_ROW + 4 * q);
#pragma GCC unroll 1
    for (int at = 0; at < PANEL; at += 8) {
        struct octet o = octet_at(kind, w + 4 * at, common);
#pragma GCC unroll 4
        for (int r = 0; r < m; r++) {
            const struct integers *row = (const void *)(x + r * X_ROW);
            float *to = c + r * PANEL + at;
            if (next) {
                add_run(kind, mins, common, products(kind, &o, broad[r], 0, QUADS / 2), row,
                        row->sum[0], row->term[0], scale + at, to);
                add_run(kind, mins, common, products(kind, &o, broad[r], QUADS / 2, QUADS), row,
                        row->sum[1], row->term[1], next + at, to);
            } else {
                add_run(kind, mins, common, products(kind, &o, broad[r], 0, QUADS), row, row->all,
                        row->term_all, scale + at, to);
            }
        }
    }
}

/* halves: a run is half a group. */
INLINE void tile(const struct tile *t, const enum kind kind, bool mins, const bool halves,
                 const int m)
{
    const size_t step = mins ? 2 * PANEL : PANEL, half = INTEGER_GROUP / 2;
    const size_t bytes = kind == BYTES ? INTEGER_GROUP * PANEL : INTEGER_GROUP * PANEL / 2;
    const uint8_t *w = t->w, *x = t->x, *fetch = t->prefetch;
    const size_t fetched = t->prefetch_step * half; /* tile_blocks() counts pairs of inputs */
    const size_t inputs = t->grouped->inputs;
    struct common common = {.values = _mm256_setzero_si256()};
    if (kind != BYTES) {
        const __m128i *values = (const __m128i *)(const void *)t->grouped->values;
        common.values = _mm256_broadcastsi128_si256(_mm_loadu_si128(values));
        common.offset = t->grouped->values[0];
    }
    if (t->first)
        memset(t->c, 0, (size_t)m * PANEL * sizeof *t->c);
    size_t passed = t->passed;
    const float *scale = t->scale;
    for (size_t i = 0; i < t->k; i += INTEGER_GROUP) {
        const float *next = NULL;
        for (size_t line = 0; line < fetched; line += 64)
            _mm_prefetch((const char *)fetch + line, _MM_HINT_T0);
        fetch += fetched;
        if (halves)
            next = passed + half == inputs ? scale + step : scale;
        group(kind, mins, m, &common, w, x, scale, next, t->c);
        w += bytes;
        x += sizeof(struct integers);
        passed += INTEGER_GROUP;
        for (; passed >= inputs; passed -= inputs)
            scale += step;
    }
}

/* ---- one function per number of rows --------------------------------------------------------- */

#define TILE(name, kind, mins, halves, m)                                                          \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        tile(t, kind, mins, halves, m);                                                            \
    }
#define FEW(name, kind, mins, halves, format)                                                      \
    TILE(name, kind, mins, halves, 1)                                                              \
    TILE(name, kind, mins, halves, 2)                                                              \
    static tile_fn *const name##_fn[] = {NULL, name##_1, name##_2};                                \
    static const struct tiles name##_set = {name##_fn, 2, format, X_INTEGERS};
#define FAMILY(name, kind, mins, format)                                                           \
    TILE(name, kind, mins, false, 1)                                                               \
    TILE(name, kind, mins, false, 2)                                                               \
    TILE(name, kind, mins, false, 3)                                                               \
    TILE(name, kind, mins, false, 4)                                                               \
    static tile_fn *const name##_fn[] = {NULL, name##_1, name##_2, name##_3, name##_4};            \
    static const struct tiles name##_set = {name##_fn, ROWS_MOST, format, X_INTEGERS};

/* What few models have looks at t->grouped->mins as it runs. */
FAMILY(bytes, BYTES, t->grouped->mins, W_Q8)
FAMILY(codes, CODES, false, W_Q4)
FAMILY(codes_mins, CODES, true, W_Q4)
FAMILY(values, VALUES, t->grouped->mins, W_Q4)
FEW(bytes_halves, BYTES, t->grouped->mins, true, W_Q8)
FEW(codes_halves, CODES, t->grouped->mins, true, W_Q4)
FEW(values_halves, VALUES, t->grouped->mins, true, W_Q4)

static bool in_halves(const struct panel *p)
{
    return p->grouped->inputs % INTEGER_GROUP != 0;
}

void avx2_panel_q8(const struct panel *p)
{
    tile_panel(p, in_halves(p) ? &bytes_halves_set : &bytes_set);
}

/* Do the codes count up by one? */
static bool count_up(const int8_t *values)
{
    for (int i = 1; i < 16; i++)
        if (values[i] != values[0] + i)
            return false;
    return true;
}

void avx2_panel_q4(const struct panel *p)
{
    if (!count_up(p->grouped->values))
        tile_panel(p, in_halves(p) ? &values_halves_set : &values_set);
    else if (in_halves(p))
        tile_panel(p, &codes_halves_set);
    else
        tile_panel(p, p->grouped->mins ? &codes_mins_set : &codes_set);
}

TARGET_END
#endif
