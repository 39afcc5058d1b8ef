/* grouped_avx512.c - panel functions for AVX-512 with weights in groups (kernels/weights/form.h): up to 12
 * rows x 32 outputs in registers.
 *
 * Values become bf16, which holds them exactly, and are multiplied like bf16; the scale comes once a run. Of
 * codes of 4 bits VPERMW looks up 32 in one instruction, since it passes over all but the lowest bits of its
 * places: four shifts of a line of 128 codes are all that they need. Integers of 8 bits are looked up as FP8
 * is (panel_avx512.c). Sums over runs stay in registers where rows are few, else they wait in the first cache.
 *
 * Two and three rows of 4 bits are too few chains of additions to keep the multipliers busy: then two runs are under
 * way at once. A single row of them, and bytes, wait for memory rather, which the processor fetches ahead best where
 * all lies in order. Measured on Zen 4 (one core, cold, in turns), time over that with several runs at once: one row of
 * int8, of Q8_0, of 4 bits .73, .94, .92; two and three rows of bytes .92 to .96, of 4 bits 1.04.
 */
#ifdef __x86_64__
#include "kernels/cpu/fast/code_table.h"
#include "kernels/cpu/fast/grouped_avx512.h"
#include "kernels/cpu/fast/target.h"
#include "kernels/cpu/fast/tile.h"

#include <immintrin.h>
#include <string.h>

TARGET_BEGIN(TARGET_AVX512)

#define ROWS 12

INLINE float loadf(const uint8_t *p)
{
    float v;
    memcpy(&v, p, 4);
    return v;
}

/* ---- values as bf16 -------------------------------------------------------------------------- */

/* Of 4 bits; of 8 bits, without and with -128, which takes an instruction that costs a fifth of the time of
 * many rows. */
enum codes { FOUR, EIGHT, LEAST };

/* FOUR: the sixteen values, twice; else low and high bytes of the sizes 0 (LEAST: 128), 1, 2, ... 127. */
struct decoder {
    __m512i table[4];
};

INLINE __m512i bf16_of(const int8_t sixteen[16])
{
    __m512i whole = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)sixteen));
    return _mm512_castsi256_si512((__m256i)_mm512_cvtneps_pbh(_mm512_cvtepi32_ps(whole)));
}

#define SIZE_BITS(n)                                                                               \
    ((n) >= 64   ? 133 << 7 | ((n)-64) * 2                                                         \
     : (n) >= 32 ? 132 << 7 | ((n)-32) * 4                                                         \
     : (n) >= 16 ? 131 << 7 | ((n)-16) * 8                                                         \
     : (n) >= 8  ? 130 << 7 | ((n)-8) * 16                                                         \
     : (n) >= 4  ? 129 << 7 | ((n)-4) * 32                                                         \
     : (n) >= 2  ? 128 << 7 | ((n)-2) * 64                                                         \
     : (n) == 1  ? 127 << 7                                                                        \
                 : 134 << 7) /* 128; what is 0 is masked out */
#define BITS(e, m) SIZE_BITS(8 * (e) + (m))
static const struct code_table sizes = CODE_TABLE(BITS);

INLINE struct decoder decoder(const enum codes codes, const struct grouped *g)
{
    struct decoder d;
    if (codes == FOUR) {
        __m512i values = bf16_of(g->values);
        d.table[0] = _mm512_inserti64x4(values, _mm512_castsi512_si256(values), 1);
    } else {
        d.table[0] = _mm512_loadu_si512(sizes.low);
        d.table[1] = _mm512_loadu_si512(sizes.low + 64);
        d.table[2] = _mm512_maskz_loadu_epi8(codes == LEAST ? -1ull : -2ull, sizes.high);
        d.table[3] = _mm512_loadu_si512(sizes.high + 64);
    }
    return d;
}

/* A line: of one pair of inputs outputs 0..15, 16..31; four: of another pair, too. */
INLINE void decode(const struct decoder *d, const enum codes codes, const uint8_t *w,
                   __m512i pair[4])
{
    __m512i code = _mm512_loadu_si512(w);
    if (codes == FOUR) {
        pair[0] = _mm512_permutexvar_epi16(code, d->table[0]);
        pair[1] = _mm512_permutexvar_epi16(_mm512_srli_epi16(code, 4), d->table[0]);
        pair[2] = _mm512_permutexvar_epi16(_mm512_srli_epi16(code, 8), d->table[0]);
        pair[3] = _mm512_permutexvar_epi16(_mm512_srli_epi16(code, 12), d->table[0]);
        return;
    }
#ifndef EMULATED_AVX512
    __asm__("" : "+v"(code)); /* or gcc loads it three times: each lookup writes over its places */
#endif
    __m512i low = _mm512_permutex2var_epi8(d->table[0], code, d->table[1]);
    __m512i high = _mm512_permutex2var_epi8(d->table[2], code, d->table[3]);
    if (codes == LEAST)
        high = _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(code, code), high);
    high = _mm512_ternarylogic_epi32(high, code, _mm512_set1_epi8((char)0x80), 0xf8);
    pair[0] = _mm512_unpacklo_epi8(low, high);
    pair[1] = _mm512_unpackhi_epi8(low, high);
}

INLINE __m512 first_of(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}

INLINE __m512 second_of(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
}

typedef int32_t pair_of_row __attribute__((may_alias, aligned(1)));

/* As an instruction, because gcc would rather broadcast once for both halves, which takes a unit that shuffles
 * (Zen 4), as looking up does; of an operand in memory it takes none. */
INLINE __m512 add_product(__m512 sum, __m512i w, const uint8_t *x)
{
    const pair_of_row *pair = (const void *)x;
#ifdef EMULATED_AVX512 /* tests/avx512 */
    sum = _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)_mm512_set1_epi32(*pair));
#else
    __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*pair));
#endif
    return sum;
}

/* sum += a pair of inputs of one row times its weights; wide: the row is f32. */
INLINE void multiply(__m512 sum[2], const __m512i pair[2], const uint8_t *x, const bool wide)
{
    if (wide) {
        __m512 v = _mm512_set1_ps(loadf(x + 4)), u = _mm512_set1_ps(loadf(x));
        for (int h = 0; h < 2; h++) {
            sum[h] = _mm512_fmadd_ps(second_of(pair[h]), v, sum[h]);
            sum[h] = _mm512_fmadd_ps(first_of(pair[h]), u, sum[h]);
        }
    } else {
        for (int h = 0; h < 2; h++)
            sum[h] = add_product(sum[h], pair[h], x);
    }
}

/* ---- tiles ----------------------------------------------------------------------------------- */

#define FEW 4 /* rows at most that are alone with their weights */

/* Runs that scales are asked for ahead: of 4 bits and 32 inputs, as far as their codes (AHEAD). */
#define AHEAD_RUNS 16

/* How far a tile has come. */
struct place {
    const uint8_t *w, *x, *fetch, *x_fetch, *sums, *scale;
};

/* The sum of a run's inputs. */
INLINE float sum_of(const uint8_t *sums, const size_t n)
{
    float sum = loadf(sums);
    for (size_t i = 1; i < n; i++)
        sum += loadf(sums + 4 * i);
    return sum;
}

/* Bytes of what a run of 32 outputs is multiplied with, or of what is subtracted. */
INLINE size_t scale_bytes(const enum scales_kept kept)
{
    return PANEL * (kept == HALF ? sizeof(f16_t) : sizeof(float));
}

INLINE __m512 scale_at(const enum scales_kept kept, const uint8_t *p, const int half)
{
    if (kept == HALF)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p + 32 * half)));
    return _mm512_loadu_ps(p + 64 * half);
}

/* Sums over runs, of m rows: few stay in registers, more wait in c. */
INLINE void load_sums(const float *c, const int m, __m512 y[][2])
{
#pragma GCC unroll 4
    for (int r = 0; r < m; r++)
        for (int h = 0; h < 2; h++)
            y[r][h] = _mm512_loadu_ps(c + r * PANEL + 16 * h);
}

INLINE void store_sums(float *c, const int m, __m512 y[][2])
{
#pragma GCC unroll 4
    for (int r = 0; r < m; r++)
        for (int h = 0; h < 2; h++)
            _mm512_storeu_ps(c + r * PANEL + 16 * h, y[r][h]);
}

/* Adds a run's scales x its sums, less minima x the sum of its inputs. */
INLINE void scale_run(const struct tile *t, const struct place *at, const int m,
                      const enum scales_kept kept, const bool mins, const size_t units,
                      __m512 sum[][2], __m512 y[][2])
{
    const uint8_t *behind = at->scale + (mins ? scale_bytes(kept) : 0);
    const __m512 scale[2] = {scale_at(kept, at->scale, 0), scale_at(kept, at->scale, 1)};
    const __m512 min[2] = {scale_at(kept, behind, 0), scale_at(kept, behind, 1)};
#pragma GCC unroll 12
    for (int r = 0; r < m; r++) {
        float all = mins ? sum_of(at->sums + (size_t)r * X_ROW, units) : 0;
        if (m > FEW)
            load_sums(t->c + r * PANEL, 1, y);
        __m512 *of_row = m > FEW ? y[0] : y[r];
        for (int h = 0; h < 2; h++) {
            of_row[h] = _mm512_fmadd_ps(scale[h], sum[r][h], of_row[h]);
            if (mins)
                of_row[h] = _mm512_fnmadd_ps(min[h], _mm512_set1_ps(all), of_row[h]);
        }
        if (m > FEW)
            store_sums(t->c + r * PANEL, 1, y);
    }
}

/* Few rows wait for memory, which the second cache asks more of at a time than the first. */
INLINE void fetch_line(struct place *at, const int m, const size_t step)
{
    if (m <= FEW)
        _mm_prefetch((const char *)at->fetch, _MM_HINT_T1);
    else
        _mm_prefetch((const char *)at->fetch, _MM_HINT_T0);
    at->fetch += step;
}

/* `runs` runs of n inputs each. */
INLINE void add_runs(const struct tile *t, const struct decoder *d, struct place *at, const int m,
                     const int runs, const enum codes codes, const bool wide,
                     const enum scales_kept kept, const size_t n, __m512 y[][2])
{
    const bool four = codes == FOUR;
    const size_t inputs = four ? 4 : 2, step = t->prefetch_step * inputs / 2;
    const size_t w_run = n * (four ? PANEL / 2 : PANEL), x_run = n * (wide ? 4 : 2);
    __m512 sum[ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < m * runs; r++)
        sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += inputs) {
#pragma GCC unroll 2
        for (int u = 0; u < runs; u++) {
            __m512i pair[4];
            decode(d, codes, at->w + (size_t)u * w_run, pair);
            fetch_line(at, m, step);
#pragma GCC unroll 2
            for (size_t j = 0; j < inputs / 2; j++) {
                if (m > FEW) {
                    _mm_prefetch((const char *)at->x_fetch, _MM_HINT_T0);
                    at->x_fetch += t->x_step;
                }
#pragma GCC unroll 12
                for (int r = 0; r < m; r++)
                    multiply(sum[u * m + r], pair + 2 * j,
                             at->x + (size_t)u * x_run + (size_t)r * X_ROW + j * (wide ? 8 : 4),
                             wide);
            }
        }
        at->w += 64;
        at->x += inputs * (wide ? 4 : 2);
    }
    at->w += (size_t)(runs - 1) * w_run;
    at->x += (size_t)(runs - 1) * x_run;
    const size_t unit = x_unit(t->grouped), units = (n + unit - 1) / unit;
    const size_t scales = scale_bytes(kept) * (t->grouped->mins ? 2 : 1);
#pragma GCC unroll 2
    for (int u = 0; u < runs; u++) {
        if (kept == HALF)
            for (size_t line = 0; line < scales; line += 64)
                _mm_prefetch((const char *)at->scale + AHEAD_RUNS * scales + line, _MM_HINT_T1);
        if (t->grouped->mins)
            scale_run(t, at, m, kept, true, units, sum + u * m, y);
        else
            scale_run(t, at, m, kept, false, units, sum + u * m, y);
        at->scale += scales;
        at->sums += units * 4;
    }
}

INLINE void tile(const struct tile *t, const int m, const enum codes codes, const bool wide,
                 const enum scales_kept kept)
{
    const int together = codes == FOUR && (m == 2 || m == 3) ? 2 : 1;
    const size_t inputs = t->grouped->inputs;
    const struct decoder d = decoder(codes, t->grouped);
    const size_t scales = kept == HALF ? scale_bytes(HALF) * (t->grouped->mins ? 2 : 1) : 0;
    struct place at = {t->w,      t->x,    t->prefetch,
                       t->x_next, t->sums, (const uint8_t *)t->scale + t->group * scales};
    __m512 y[FEW][2];
    if (t->first)
        memset(t->c, 0, (size_t)m * PANEL * sizeof *t->c);
    if (m <= FEW)
        load_sums(t->c, m, y);
    for (size_t left = t->k, passed = t->passed, n; left; left -= n, passed = 0) {
        n = inputs - passed;
        if (together > 1 && n == inputs && left >= (size_t)together * n) {
            add_runs(t, &d, &at, m, together, codes, wide, kept, n, y);
            n *= (size_t)together;
            continue;
        }
        n = left < n ? left : n;
        add_runs(t, &d, &at, m, 1, codes, wide, kept, n, y);
    }
    if (m <= FEW)
        store_sums(t->c, m, y);
}

/* ---- one function per number of rows --------------------------------------------------------- */

#define TILE(name, m, codes, wide, kept)                                                           \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        tile(t, m, codes, wide, kept);                                                             \
    }
#define TILES_10(name, ...)                                                                        \
    TILE(name, 1, __VA_ARGS__)                                                                     \
    TILE(name, 2, __VA_ARGS__)                                                                     \
    TILE(name, 3, __VA_ARGS__)                                                                     \
    TILE(name, 4, __VA_ARGS__)                                                                     \
    TILE(name, 5, __VA_ARGS__)                                                                     \
    TILE(name, 6, __VA_ARGS__)                                                                     \
    TILE(name, 7, __VA_ARGS__)                                                                     \
    TILE(name, 8, __VA_ARGS__)                                                                     \
    TILE(name, 9, __VA_ARGS__)                                                                     \
    TILE(name, 10, __VA_ARGS__)
#define NAMES_10(name)                                                                             \
    NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8,          \
        name##_9, name##_10

/* Rows of f32 need both inputs of a pair unpacked, and leave room for fewer. */
#define FAMILY_WIDE(name, codes, format)                                                           \
    TILES_10(name, codes, true, WIDE)                                                              \
    static tile_fn *const name##_fn[] = {NAMES_10(name)};                                          \
    static const struct tiles name##_set = {name##_fn, 10, format, X_F32};
#define FAMILY(name, codes, format, kept)                                                          \
    TILES_10(name, codes, false, kept)                                                             \
    TILE(name, 11, codes, false, kept)                                                             \
    TILE(name, 12, codes, false, kept)                                                             \
    static tile_fn *const name##_fn[] = {NAMES_10(name), name##_11, name##_12};                    \
    static const struct tiles name##_set = {name##_fn, ROWS, format, X_BF16};

FAMILY(tile_g8, EIGHT, W_G8, WIDE)
FAMILY(tile_g8_half, EIGHT, W_G8, HALF)
FAMILY(tile_g8_least, LEAST, W_G8, WIDE)
FAMILY(tile_g8_least_half, LEAST, W_G8, HALF)
FAMILY_WIDE(tile_g8_f32, LEAST, W_G8)
FAMILY(tile_g4, FOUR, W_G4, WIDE)
FAMILY(tile_g4_half, FOUR, W_G4, HALF)
FAMILY_WIDE(tile_g4_f32, FOUR, W_G4)

INLINE void panel(const struct panel *p, const struct tiles *wide, const struct tiles *half)
{
    if (tile_scales_kept(&p->grouped->scales) == HALF)
        tile_panel_as(p, half, HALF);
    else
        tile_panel(p, wide);
}

void avx512_panel_g8(const struct panel *p)
{
    if (p->grouped->least)
        panel(p, &tile_g8_least_set, &tile_g8_least_half_set);
    else
        panel(p, &tile_g8_set, &tile_g8_half_set);
}

void avx512_panel_g4(const struct panel *p)
{
    panel(p, &tile_g4_set, &tile_g4_half_set);
}

void avx512_panel_g8_f32(const struct panel *p)
{
    tile_panel(p, &tile_g8_f32_set);
}

void avx512_panel_g4_f32(const struct panel *p)
{
    tile_panel(p, &tile_g4_f32_set);
}

TARGET_END
#endif
