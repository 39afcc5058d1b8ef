/* panel_avx512.c - panel functions for AVX-512: up to 12 rows x 32 outputs in registers.
 *
 * The sums are named variables: compilers spill an array of them. Each loop below is one group of
 * inputs: load the weights of 32 outputs once (two vectors), then for each row one broadcast and
 * two multiply-adds. FP8 is unpacked in registers every time: a scratch copy in bf16 would cost
 * more memory traffic than the five instructions.
 */
#ifdef __x86_64__
#include "kernels/cpu/fast/code_table.h"
#include "kernels/cpu/fast/target.h"
#include "kernels/cpu/fast/tile.h"
#include "kernels/cpu/fast/panel_avx512.h"

#include <immintrin.h>
#include <string.h>

TARGET_BEGIN(TARGET_AVX512)

#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

/* Sums of row r: a for outputs 0..15, b for 16..31. */
#define DECLARE(r) __m512 a##r = _mm512_setzero_ps(), b##r = _mm512_setzero_ps();
#define TAKE_UP(r)                                                                                 \
    if (m > r) {                                                                                   \
        a##r = _mm512_loadu_ps(c + r * PANEL);                                                     \
        b##r = _mm512_loadu_ps(c + r * PANEL + 16);                                                \
    }
#define PUT_BACK(r)                                                                                \
    if (m > r) {                                                                                   \
        _mm512_storeu_ps(c + r * PANEL, a##r);                                                     \
        _mm512_storeu_ps(c + r * PANEL + 16, b##r);                                                \
    }

INLINE int32_t load32(const uint8_t *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return v;
}

INLINE float loadf(const uint8_t *p)
{
    float v;
    memcpy(&v, p, 4);
    return v;
}

INLINE __m512 bf16_dot(__m512 sum, __m512i w, __m512i x)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x);
}

INLINE void prefetch(const uint8_t *p)
{
    _mm_prefetch((const char *)p, _MM_HINT_T0);
}

INLINE void prefetch_far(const uint8_t *p)
{
    _mm_prefetch((const char *)p, _MM_HINT_T1);
}

/* ---- codes of 8 bits to bf16, exactly ------------------------------------------------------- */

#define F8_BITS(e, m)                                                                              \
    ((e) == 15 && (m) == 7 ? 0x7fc0                                                                \
     : (e)                 ? ((e) + 120) << 7 | (m) << 4                                           \
     : (m) >= 4            ? 120 << 7 | ((m)-4) * 32                                               \
     : (m) >= 2            ? 119 << 7 | ((m)-2) * 64                                               \
     : (m) == 1            ? 118 << 7                                                              \
                           : 0)
static const struct code_table f8_table = CODE_TABLE(F8_BITS);

struct decoder {
    __m512i low0, low1, high0, high1, sign;
};

INLINE struct decoder decoder(void)
{
    const struct code_table *t = &f8_table;
    return (struct decoder){
        _mm512_loadu_si512(t->low),   _mm512_loadu_si512(t->low + 64),
        _mm512_loadu_si512(t->high),  _mm512_loadu_si512(t->high + 64),
        _mm512_set1_epi8((char)0x80),
    };
}

/* 64 codes to the bf16 pairs of outputs 0..15 and 16..31. */
INLINE void decode(const struct decoder *d, const uint8_t *w, __m512i *w0, __m512i *w1)
{
    __m512i code = _mm512_loadu_si512(w);
    __m512i low = _mm512_permutex2var_epi8(d->low0, code, d->low1);
    __m512i high = _mm512_permutex2var_epi8(d->high0, code, d->high1);
    high = _mm512_ternarylogic_epi32(high, code, d->sign, 0xf8); /* high | (code & sign) */
    *w0 = _mm512_unpacklo_epi8(low, high);
    *w1 = _mm512_unpackhi_epi8(low, high);
}

/* ---- tiles ---------------------------------------------------------------------------------- */

#define BEGIN_TILE                                                                                 \
    const uint8_t *w = t->w, *x = t->x, *const *more = t->more;                                    \
    const uint8_t *fetch = t->prefetch, *x_fetch = t->x_next;                                      \
    size_t left = t->k, fetch_step = t->prefetch_step, x_step = t->x_step;                         \
    float *c = t->c;                                                                               \
    EACH_ROW(DECLARE)                                                                              \
    if (!t->first) {                                                                               \
        EACH_ROW(TAKE_UP)                                                                          \
    }

/* The most rows of a block that is taken for a single one. (Sets of 10 rows are two such blocks.) */
#define ALONE 5

/* One or two lines of the weights to come, and what is due of the rows: weights to the second cache, because the
 * first can wait for few lines at a time. A single block of few rows with two lines a step goes over memory as fast
 * as a core can: it is left to the processor, who fetches ahead better by itself (but see bf16_times_bf16()).
 * Measured on Zen 4 (two quiet cores, cold), time over that with all of it fetched to the first cache: bf16 with 1
 * row .91, 4 rows .89, 8 rows .92, 16 rows .85; FP8 with 1 row .97, 4 rows .88, 8 rows .94, 16 and 64 rows 1.00. But
 * not where every few KB lie elsewhere (scattered: the KV cache): there fetching takes .88 (4 rows) and .92 (2 rows)
 * of the time without. Rows are near there: not fetching them takes .97 (8 rows, two chiplets; else 1.00). */
#define FETCH(lines, scattered)                                                                    \
    if ((lines) == 1 || m > ALONE || (scattered))                                                  \
        prefetch_far(fetch);                                                                       \
    if ((lines) == 2 && (m > ALONE || (scattered)))                                                \
        prefetch_far(fetch + 64);                                                                  \
    if (m > ALONE && !(scattered))                                                                 \
        prefetch(x_fetch);                                                                         \
    fetch += fetch_step;                                                                           \
    x_fetch += x_step;

/* bf16 weights x bf16 rows. Few rows ask for one line of four where all lies in order. Measured on Zen 4 (cold, in
 * turns), time over that without: experts of 1, 4 and 16 rows .98, .94, .96, products with 1 and 4 rows .94 to 1.01
 * (one of eight medians 1.09). One line of two .85 to 1.17, all lines 1.03 to 1.23, 8 rows with one line of two 1.5. */
INLINE void bf16_times_bf16(const struct tile *t, const int m, const bool scattered)
{
    BEGIN_TILE
#define DOT(r)                                                                                     \
    if (m > r) {                                                                                   \
        __m512i v = _mm512_set1_epi32(load32(x + r * X_ROW));                                      \
        a##r = bf16_dot(a##r, w0, v);                                                              \
        b##r = bf16_dot(b##r, w1, v);                                                              \
    }
    EACH_STEP(2, __m512i w0 = _mm512_loadu_si512(w); __m512i w1 = _mm512_loadu_si512(w + 64);
              if (m <= ALONE && !scattered && i % 4 == 0) prefetch_far(fetch);
              FETCH(2, scattered) EACH_ROW(DOT) w += 128; x += 4;);
    EACH_ROW(PUT_BACK)
}

INLINE void tile_bf16(const struct tile *t, const int m)
{
    bf16_times_bf16(t, m, false);
}

INLINE void tile_bf16_scattered(const struct tile *t, const int m)
{
    bf16_times_bf16(t, m, true);
}

#define MULTIPLY(r)                                                                                \
    if (m > r) {                                                                                   \
        __m512 v = _mm512_set1_ps(loadf(x + r * X_ROW));                                           \
        a##r = _mm512_fmadd_ps(w0, v, a##r);                                                       \
        b##r = _mm512_fmadd_ps(w1, v, b##r);                                                       \
    }
#define MULTIPLY_SECOND(r)                                                                         \
    if (m > r) {                                                                                   \
        __m512 v = _mm512_set1_ps(loadf(x + 4 + r * X_ROW));                                       \
        a##r = _mm512_fmadd_ps(w0, v, a##r);                                                       \
        b##r = _mm512_fmadd_ps(w1, v, b##r);                                                       \
    }

/* f32 weights x f32 rows. */
INLINE void tile_f32(const struct tile *t, const int m)
{
    BEGIN_TILE
    EACH_STEP(
        2,
        {
            __m512 w0 = _mm512_loadu_ps(w + 128), w1 = _mm512_loadu_ps(w + 192);
            FETCH(2, false) EACH_ROW(MULTIPLY_SECOND)
        } {
            __m512 w0 = _mm512_loadu_ps(w), w1 = _mm512_loadu_ps(w + 64);
            FETCH(2, false) EACH_ROW(MULTIPLY)
        } w += 256;
        x += 8;);
    EACH_ROW(PUT_BACK)
}

/* bf16 pairs x f32 rows: the second input of each pair, then the first, as VDPBF16PS adds them. */
INLINE __m512 first_of(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}

INLINE __m512 second_of(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
}

/* Pairs of bf16, in p0 and p1, x rows of f32. */
#define TIMES_F32                                                                                  \
    {                                                                                              \
        __m512 w0 = second_of(p0), w1 = second_of(p1);                                             \
        EACH_ROW(MULTIPLY_SECOND)                                                                  \
    }                                                                                              \
    {                                                                                              \
        __m512 w0 = first_of(p0), w1 = first_of(p1);                                               \
        EACH_ROW(MULTIPLY)                                                                         \
    }                                                                                              \
    x += 8;

INLINE void tile_bf16_f32(const struct tile *t, const int m)
{
    BEGIN_TILE
    EACH_STEP(2, __m512i p0 = _mm512_loadu_si512(w); __m512i p1 = _mm512_loadu_si512(w + 64);
              FETCH(2, false) TIMES_F32 w += 128;);
    EACH_ROW(PUT_BACK)
}

/* 64 codes x rows of bf16, or of f32 (wide). */
#define TIMES_CODES                                                                                \
    __m512i p0, p1;                                                                                \
    decode(&d, w, &p0, &p1);                                                                       \
    FETCH(1, false)                                                                                \
    if (wide) {                                                                                    \
        TIMES_F32                                                                                  \
    } else {                                                                                       \
        __m512i w0 = p0, w1 = p1;                                                                  \
        EACH_ROW(DOT)                                                                              \
        x += 4;                                                                                    \
    }                                                                                              \
    w += 64;

/* FP8 without scales (of the KV cache). */
INLINE void tile_codes(const struct tile *t, const int m, const bool wide)
{
    const struct decoder d = decoder();
    BEGIN_TILE
    EACH_STEP(2, TIMES_CODES);
    EACH_ROW(PUT_BACK)
}

/* FP8 with block scales: fresh sums for each block of 128 inputs, then c += scale x sum. A chunk
 * begins with a block. */
INLINE void tile_scaled(const struct tile *t, const int m, const bool wide)
{
    const struct decoder d = decoder();
    const uint8_t *w = t->w, *x = t->x, *fetch = t->prefetch, *x_fetch = t->x_next;
    size_t fetch_step = t->prefetch_step, x_step = t->x_step;
    const float *scale = t->scale;
    float *c = t->c;
    bool first = t->first;
    size_t passed = t->passed; /* of a block, where a slice begins within it */
    for (size_t left = t->k, run; left; left -= run, scale += 2, passed = 0) {
        run = left < F8_BLOCK - passed ? left : F8_BLOCK - passed;
        EACH_ROW(DECLARE)
        for (size_t i = 0; i < run; i += 2) {
            TIMES_CODES
        }
        __m512 s0 = _mm512_set1_ps(scale[0]), s1 = _mm512_set1_ps(scale[1]);
        __mmask16 before = first ? 0 : 0xffff;
#define SCALE(r)                                                                                   \
    if (m > r) {                                                                                   \
        a##r = _mm512_fmadd_ps(s0, a##r, _mm512_maskz_loadu_ps(before, c + r * PANEL));            \
        b##r = _mm512_fmadd_ps(s1, b##r, _mm512_maskz_loadu_ps(before, c + r * PANEL + 16));       \
    }
        EACH_ROW(SCALE)
        EACH_ROW(PUT_BACK)
        first = false;
    }
}

INLINE void tile_f8(const struct tile *t, const int m)
{
    tile_codes(t, m, false);
}

INLINE void tile_f8_f32(const struct tile *t, const int m)
{
    tile_codes(t, m, true);
}

INLINE void tile_f8_scaled(const struct tile *t, const int m)
{
    tile_scaled(t, m, false);
}

INLINE void tile_f8_f32_scaled(const struct tile *t, const int m)
{
    tile_scaled(t, m, true);
}

/* ---- one function per number of rows -------------------------------------------------------- */

#define TILE(name, m)                                                                              \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        name(t, m);                                                                                \
    }
#define TILES_10(name)                                                                             \
    TILE(name, 1)                                                                                  \
    TILE(name, 2)                                                                                  \
    TILE(name, 3)                                                                                  \
    TILE(name, 4)                                                                                  \
    TILE(name, 5)                                                                                  \
    TILE(name, 6)                                                                                  \
    TILE(name, 7)                                                                                  \
    TILE(name, 8)                                                                                  \
    TILE(name, 9)                                                                                  \
    TILE(name, 10)
#define NAMES_10(name)                                                                             \
    NULL, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6, name##_7, name##_8,          \
        name##_9, name##_10

/* Codes keep their tables in registers and leave room for 12 rows; with rows of f32, which need
 * both inputs of a pair unpacked, for 10. */
#define FAMILY_10(name, w_format, x_format)                                                        \
    TILES_10(name)                                                                                 \
    static tile_fn *const name##_fn[] = {NAMES_10(name)};                                          \
    static const struct tiles name##_set = {name##_fn, 10, w_format, x_format};
#define FAMILY_12(name, w_format, x_format)                                                        \
    TILES_10(name)                                                                                 \
    TILE(name, 11)                                                                                 \
    TILE(name, 12)                                                                                 \
    static tile_fn *const name##_fn[] = {NAMES_10(name), name##_11, name##_12};                    \
    static const struct tiles name##_set = {name##_fn, 12, w_format, x_format};

FAMILY_12(tile_bf16, W_BF16, X_BF16)
FAMILY_12(tile_bf16_scattered, W_BF16, X_BF16)
FAMILY_12(tile_f8, W_F8, X_BF16)
FAMILY_12(tile_f8_scaled, W_F8, X_BF16)
FAMILY_12(tile_f32, W_F32, X_F32)
FAMILY_12(tile_bf16_f32, W_BF16, X_F32)
FAMILY_10(tile_f8_f32, W_F8, X_F32)
FAMILY_10(tile_f8_f32_scaled, W_F8, X_F32)

/* ---- what fast.h asks for ------------------------------------------------------------------- */

void avx512_panel_bf16(const struct panel *p)
{
    tile_panel(p, p->scattered ? &tile_bf16_scattered_set : &tile_bf16_set);
}

void avx512_panel_f8(const struct panel *p)
{
    tile_panel(p, p->scale ? &tile_f8_scaled_set : &tile_f8_set);
}

void avx512_panel_f32(const struct panel *p)
{
    tile_panel(p, &tile_f32_set);
}

void avx512_panel_bf16_f32(const struct panel *p)
{
    tile_panel(p, &tile_bf16_f32_set);
}

void avx512_panel_f8_f32(const struct panel *p)
{
    tile_panel(p, p->scale ? &tile_f8_f32_scaled_set : &tile_f8_f32_set);
}

void avx512_parts_bf16(const struct parts *p)
{
    tile_parts(p, &tile_bf16_scattered_set);
}

void avx512_parts_f8(const struct parts *p)
{
    tile_parts(p, &tile_f8_set);
}

void avx512_parts_f32(const struct parts *p)
{
    tile_parts(p, &tile_f32_set);
}

void avx512_parts_bf16_f32(const struct parts *p)
{
    tile_parts(p, &tile_bf16_f32_set);
}

void avx512_parts_f8_f32(const struct parts *p)
{
    tile_parts(p, &tile_f8_f32_set);
}

TARGET_END
#endif
