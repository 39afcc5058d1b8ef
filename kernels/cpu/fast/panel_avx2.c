/* panel_avx2.c - panel functions for AVX2: f32 arithmetic on weights that are widened in registers.
 *
 * Sixteen registers hold 6 rows x 16 outputs, so a panel is gone through twice, half by half; the
 * second time it is in the cache. One or two rows take all 32 outputs at once: then memory sets the
 * pace, and it likes to be read in one go. See panel_avx512.c for what both have in common.
 */
#ifdef __x86_64__
#include "kernels/cpu/fast/panel_avx2.h"
#include "kernels/cpu/fast/target.h"
#include "kernels/cpu/fast/tile.h"

#include <immintrin.h>
#include <string.h>

TARGET_BEGIN(TARGET_AVX2)

#define EACH_ROW(DO)  DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define EACH_WIDE(DO) DO(0) DO(1)

/* Sums of row r: a, b for eight outputs each; c, d for the other half of the panel where a tile
 * takes all of it. */
#define DECLARE(r)      __m256 a##r = _mm256_setzero_ps(), b##r = a##r;
#define DECLARE_WIDE(r) __m256 c##r = _mm256_setzero_ps(), d##r = c##r;
#define TAKE_UP(r)                                                                                 \
    if (m > r) {                                                                                   \
        a##r = _mm256_loadu_ps(sums + r * PANEL);                                                  \
        b##r = _mm256_loadu_ps(sums + r * PANEL + 8);                                              \
    }
#define TAKE_UP_WIDE(r)                                                                            \
    if (wide && m > r) {                                                                           \
        c##r = _mm256_loadu_ps(sums + r * PANEL + 16);                                             \
        d##r = _mm256_loadu_ps(sums + r * PANEL + 24);                                             \
    }
#define PUT_BACK(r)                                                                                \
    if (m > r) {                                                                                   \
        _mm256_storeu_ps(sums + r * PANEL, a##r);                                                  \
        _mm256_storeu_ps(sums + r * PANEL + 8, b##r);                                              \
    }
#define PUT_BACK_WIDE(r)                                                                           \
    if (wide && m > r) {                                                                           \
        _mm256_storeu_ps(sums + r * PANEL + 16, c##r);                                             \
        _mm256_storeu_ps(sums + r * PANEL + 24, d##r);                                             \
    }

/* One input (`at` bytes into the rows) times the weights w0, w1 (and w2, w3). */
#define MULTIPLY_AT(r, at)                                                                         \
    if (m > r) {                                                                                   \
        __m256 v = _mm256_set1_ps(loadf(x + (at) + r * X_ROW));                                    \
        a##r = _mm256_fmadd_ps(w0, v, a##r);                                                       \
        b##r = _mm256_fmadd_ps(w1, v, b##r);                                                       \
    }
#define MULTIPLY_WIDE_AT(r, at)                                                                    \
    if (wide && m > r) {                                                                           \
        __m256 v = _mm256_set1_ps(loadf(x + (at) + r * X_ROW));                                    \
        c##r = _mm256_fmadd_ps(w2, v, c##r);                                                       \
        d##r = _mm256_fmadd_ps(w3, v, d##r);                                                       \
    }
#define MULTIPLY(r)             MULTIPLY_AT(r, 0)
#define MULTIPLY_SECOND(r)      MULTIPLY_AT(r, 4)
#define MULTIPLY_WIDE(r)        MULTIPLY_WIDE_AT(r, 0)
#define MULTIPLY_WIDE_SECOND(r) MULTIPLY_WIDE_AT(r, 4)

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

/* ---- weights of eight outputs to f32 -------------------------------------------------------- */

INLINE __m256 bf16_first(const uint8_t *w)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(load8(w), 16));
}

INLINE __m256 bf16_second(const uint8_t *w)
{
    return _mm256_castsi256_ps(_mm256_and_si256(load8(w), _mm256_set1_epi32((int)0xffff0000)));
}

/* Eight codes (the low bytes) to f32, exactly: as the top of a float whose exponent is 120 too
 * small, which also makes subnormal codes come out right. */
INLINE __m256 f8_wide(__m256i code)
{
    __m256i low = _mm256_and_si256(code, _mm256_set1_epi32(0x7f));
    __m256i sign = _mm256_slli_epi32(_mm256_and_si256(code, _mm256_set1_epi32(0x80)), 24);
    __m256i nan = _mm256_cmpeq_epi32(low, _mm256_set1_epi32(0x7f));
    __m256 a =
        _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(low, 20)), _mm256_set1_ps(0x1p120f));
    return _mm256_or_ps(a, _mm256_castsi256_ps(_mm256_or_si256(sign, nan)));
}

/* Eight codes of sign and magnitude. */
INLINE __m256 i8_wide(__m256i code)
{
    __m256i low = _mm256_and_si256(code, _mm256_set1_epi32(0x7f));
    __m256i sign = _mm256_slli_epi32(_mm256_and_si256(code, _mm256_set1_epi32(0x80)), 24);
    return _mm256_or_ps(_mm256_cvtepi32_ps(low), _mm256_castsi256_ps(sign));
}

/* The pairs of outputs 8 v .. 8 v + 7: eight bytes from each of two lanes (code_place). */
INLINE __m256i code_pairs(const uint8_t *w, int v)
{
    const uint8_t *p = w + v % 2 * 32 + v / 2 * 8;
    __m128i low = _mm_loadl_epi64((const __m128i *)p);
    __m128i high = _mm_loadl_epi64((const __m128i *)(p + 16));
    return _mm256_cvtepu16_epi32(_mm_unpacklo_epi64(low, high));
}

INLINE __m256 code_first(const uint8_t *w, int v, const bool whole)
{
    __m256i code = code_pairs(w, v);
    return whole ? i8_wide(code) : f8_wide(code);
}

INLINE __m256 code_second(const uint8_t *w, int v, const bool whole)
{
    __m256i code = _mm256_srli_epi32(code_pairs(w, v), 8);
    return whole ? i8_wide(code) : f8_wide(code);
}

/* ---- tiles: m rows, half a panel (wide: all of it) from output 16 x half --------------------- */

#define BEGIN_TILE                                                                                 \
    const uint8_t *w = t->w, *x = t->x, *fetch = t->prefetch, *const *more = t->more;              \
    size_t left = t->k;                                                                            \
    float *sums = t->c + 16 * half;                                                                \
    EACH_ROW(DECLARE)                                                                              \
    EACH_WIDE(DECLARE_WIDE)                                                                        \
    if (!t->first) {                                                                               \
        EACH_ROW(TAKE_UP)                                                                          \
        EACH_WIDE(TAKE_UP_WIDE)                                                                    \
    }

#define END_TILE                                                                                   \
    EACH_ROW(PUT_BACK)                                                                             \
    EACH_WIDE(PUT_BACK_WIDE)

/* The first time through a panel the memory behind it is fetched. */
#define FETCH(lines)                                                                               \
    if (half == 0) {                                                                               \
        prefetch(fetch);                                                                           \
        if ((lines) == 2)                                                                          \
            prefetch(fetch + 64);                                                                  \
        fetch += t->prefetch_step;                                                                 \
    }

INLINE void tile_f32(const struct tile *t, const int m, const bool wide, const int half)
{
    BEGIN_TILE
    EACH_STEP(
        1, const float *f = (const float *)(const void *)w + 16 * half;
        __m256 w0 = _mm256_loadu_ps(f), w1 = _mm256_loadu_ps(f + 8);
        FETCH(2) EACH_ROW(MULTIPLY) if (wide) {
            __m256 w2 = _mm256_loadu_ps(f + 16), w3 = _mm256_loadu_ps(f + 24);
            EACH_WIDE(MULTIPLY_WIDE)
        } w += 128;
        x += 4;);
    END_TILE
}

INLINE void tile_bf16(const struct tile *t, const int m, const bool wide, const int half)
{
    BEGIN_TILE
    EACH_STEP(
        2, const uint8_t *p = w + 64 * half; FETCH(2) {
            __m256 w0 = bf16_first(p), w1 = bf16_first(p + 32);
            EACH_ROW(MULTIPLY)
        } {
            __m256 w0 = bf16_second(p), w1 = bf16_second(p + 32);
            EACH_ROW(MULTIPLY_SECOND)
        } if (wide) {
            {
                __m256 w2 = bf16_first(p + 64), w3 = bf16_first(p + 96);
                EACH_WIDE(MULTIPLY_WIDE)
            }
            {
                __m256 w2 = bf16_second(p + 64), w3 = bf16_second(p + 96);
                EACH_WIDE(MULTIPLY_WIDE_SECOND)
            }
        } w += 128;
        x += 8;);
    END_TILE
}

/* One pair of inputs in 8 bits: FP8, or whole numbers. */
#define CODE_STEP(whole)                                                                           \
    {                                                                                              \
        __m256 w0 = code_first(w, 2 * half, whole), w1 = code_first(w, 2 * half + 1, whole);       \
        EACH_ROW(MULTIPLY)                                                                         \
    }                                                                                              \
    {                                                                                              \
        __m256 w0 = code_second(w, 2 * half, whole), w1 = code_second(w, 2 * half + 1, whole);     \
        EACH_ROW(MULTIPLY_SECOND)                                                                  \
    }                                                                                              \
    if (wide) {                                                                                    \
        {                                                                                          \
            __m256 w2 = code_first(w, 2, whole), w3 = code_first(w, 3, whole);                     \
            EACH_WIDE(MULTIPLY_WIDE)                                                               \
        }                                                                                          \
        {                                                                                          \
            __m256 w2 = code_second(w, 2, whole), w3 = code_second(w, 3, whole);                   \
            EACH_WIDE(MULTIPLY_WIDE_SECOND)                                                        \
        }                                                                                          \
    }                                                                                              \
    w += 64;                                                                                       \
    x += 8;

INLINE void tile_f8(const struct tile *t, const int m, const bool wide, const int half)
{
    BEGIN_TILE
    EACH_STEP(2, FETCH(1) CODE_STEP(false));
    END_TILE
}

INLINE void tile_i8(const struct tile *t, const int m, const bool wide, const int half)
{
    BEGIN_TILE
    EACH_STEP(2, FETCH(1) CODE_STEP(true));
    END_TILE
}

/* Fresh sums for each block of 128 inputs, then c += scale x sum. A chunk begins with a block. */
INLINE void tile_f8_scaled(const struct tile *t, const int m, const bool wide, const int half)
{
    const uint8_t *w = t->w, *x = t->x, *fetch = t->prefetch;
    const float *scale = t->scale;
    float *sums = t->c + 16 * half;
    bool first = t->first;
    for (size_t left = t->k, run; left; left -= run, scale += 2) {
        run = left < F8_BLOCK ? left : F8_BLOCK;
        EACH_ROW(DECLARE)
        EACH_WIDE(DECLARE_WIDE)
        for (size_t i = 0; i < run; i += 2) {
            FETCH(1)
            CODE_STEP(false)
        }
        __m256 s = _mm256_set1_ps(scale[half]), zero = _mm256_setzero_ps();
#define SCALE(sum, at) _mm256_fmadd_ps(s, sum, first ? zero : _mm256_loadu_ps(sums + (at)))
#define SCALE_ROW(r)                                                                               \
    if (m > r) {                                                                                   \
        a##r = SCALE(a##r, r * PANEL);                                                             \
        b##r = SCALE(b##r, r * PANEL + 8);                                                         \
    }
#define SCALE_WIDE(r)                                                                              \
    if (wide && m > r) {                                                                           \
        c##r = SCALE(c##r, r * PANEL + 16);                                                        \
        d##r = SCALE(d##r, r * PANEL + 24);                                                        \
    }
        EACH_ROW(SCALE_ROW)
        s = _mm256_set1_ps(scale[1]);
        EACH_WIDE(SCALE_WIDE)
        END_TILE
        first = false;
    }
}

/* ---- one function per number of rows -------------------------------------------------------- */

#define TILE_WIDE(name, m)                                                                         \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        name(t, m, true, 0);                                                                       \
    }
#define TILE_HALVES(name, m)                                                                       \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        name(t, m, false, 0);                                                                      \
        name(t, m, false, 1);                                                                      \
    }
#define FAMILY(name, rows, w_format, x_format)                                                     \
    TILE_WIDE(name, 1)                                                                             \
    TILE_WIDE(name, 2)                                                                             \
    TILE_HALVES(name, 3)                                                                           \
    TILE_HALVES(name, 4)                                                                           \
    TILE_HALVES(name, 5)                                                                           \
    TILE_HALVES(name, 6)                                                                           \
    static tile_fn *const name##_fn[] = {NULL,     name##_1, name##_2, name##_3,                   \
                                         name##_4, name##_5, name##_6};                            \
    static const struct tiles name##_set = {name##_fn, rows, w_format, x_format};

FAMILY(tile_f32, 6, W_F32, X_F32)
FAMILY(tile_bf16, 6, W_BF16, X_F32)
FAMILY(tile_f8, 6, W_F8, X_F32)
FAMILY(tile_f8_scaled, 6, W_F8, X_F32)
FAMILY(tile_i8, 6, W_I8, X_F32)

/* ---- what fast.h asks for ------------------------------------------------------------------- */

void avx2_panel_f32(const struct panel *p)
{
    tile_panel(p, &tile_f32_set);
}

void avx2_panel_bf16(const struct panel *p)
{
    tile_panel(p, &tile_bf16_set);
}

void avx2_panel_f8(const struct panel *p)
{
    tile_panel(p, p->scale ? &tile_f8_scaled_set : &tile_f8_set);
}

void avx2_panel_i8(const struct panel *p)
{
    tile_panel(p, &tile_i8_set);
    for (size_t i = 0; i < p->rows; i++)
        for (size_t j = 0; j < PANEL; j += 8) {
            float *c = p->c + i * PANEL + j;
            _mm256_storeu_ps(c, _mm256_mul_ps(_mm256_loadu_ps(c), _mm256_loadu_ps(p->scale + j)));
        }
}

void avx2_parts_f32(const struct parts *p)
{
    tile_parts(p, &tile_f32_set);
}

void avx2_parts_bf16(const struct parts *p)
{
    tile_parts(p, &tile_bf16_set);
}

void avx2_parts_f8(const struct parts *p)
{
    tile_parts(p, &tile_f8_set);
}

TARGET_END
#endif
