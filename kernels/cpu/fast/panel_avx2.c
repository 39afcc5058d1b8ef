/* panel_avx2.c - panel functions for AVX2: f32 arithmetic on weights that are widened in registers.
 *
 * Sixteen registers hold 6 rows x 16 outputs, so a panel is gone through twice, half by half; the
 * second time it is in the cache. One or two rows take all 32 outputs at once: then memory sets the
 * pace, and it likes to be read in one go. See panel_avx512.c for what both have in common. Of each
 * pair of inputs the second is added first, as panel.h says.
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

INLINE __m256 first_of(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

INLINE __m256 second_of(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000)));
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

INLINE __m256 i8_first(const uint8_t *w, int v)
{
    return i8_wide(code_pairs(w, v));
}

INLINE __m256 i8_second(const uint8_t *w, int v)
{
    return i8_wide(_mm256_srli_epi32(code_pairs(w, v), 8));
}

/* 32 codes of FP8 to the two bytes of their bf16, exactly. The exponent is 120 too small, and bf16
 * has it half a byte to the left; codes below 8 have none, so those below 16 are looked up. */
INLINE void f8_bytes(const uint8_t *w, __m256i *low, __m256i *high)
{
    __m256i code = load8(w), size = _mm256_and_si256(code, _mm256_set1_epi8(0x7f));
    __m256i normal = _mm256_cmpgt_epi8(size, _mm256_set1_epi8(15));
    __m256i few_high = _mm256_shuffle_epi8(
        _mm256_setr_epi8(0, 59, 59, 59, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 0, 59, 59,
                         59, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60),
        size);
    __m256i few_low = _mm256_shuffle_epi8(
        _mm256_setr_epi8(0, 0, -128, -64, 0, 32, 64, 96, -128, -112, -96, -80, -64, -48, -32, -16,
                         0, 0, -128, -64, 0, 32, 64, 96, -128, -112, -96, -80, -64, -48, -32, -16),
        size);
    __m256i up = _mm256_and_si256(_mm256_srli_epi16(size, 4), _mm256_set1_epi8(7));
    __m256i down = _mm256_and_si256(_mm256_slli_epi16(size, 4), _mm256_set1_epi8(-16));
    __m256i nan = _mm256_cmpeq_epi8(size, _mm256_set1_epi8(0x7f));
    *high = _mm256_blendv_epi8(few_high, _mm256_add_epi8(up, _mm256_set1_epi8(60)), normal);
    *low = _mm256_blendv_epi8(few_low, down, normal);
    *high = _mm256_or_si256(_mm256_or_si256(*high, nan), _mm256_andnot_si256(size, code));
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

/* Input `at` (0, 1) of a pair. */
#define F32_STEP(at, MULTIPLY_IT, MULTIPLY_IT_WIDE)                                                \
    {                                                                                              \
        const float *f = (const float *)(const void *)(w + 128 * (at)) + 16 * half;                \
        __m256 w0 = _mm256_loadu_ps(f), w1 = _mm256_loadu_ps(f + 8);                               \
        FETCH(2)                                                                                   \
        EACH_ROW(MULTIPLY_IT)                                                                      \
        if (wide) {                                                                                \
            __m256 w2 = _mm256_loadu_ps(f + 16), w3 = _mm256_loadu_ps(f + 24);                     \
            EACH_WIDE(MULTIPLY_IT_WIDE)                                                            \
        }                                                                                          \
    }

INLINE void tile_f32(const struct tile *t, const int m, const bool wide, const int half)
{
    BEGIN_TILE
    EACH_STEP(2, F32_STEP(1, MULTIPLY_SECOND, MULTIPLY_WIDE_SECOND)
                     F32_STEP(0, MULTIPLY, MULTIPLY_WIDE) w += 256;
              x += 8;);
    END_TILE
}

/* bf16 pairs of eight outputs and of eight more. */
#define PAIRS_STEP(p0, p1)                                                                         \
    {                                                                                              \
        __m256 w0 = second_of(p0), w1 = second_of(p1);                                             \
        EACH_ROW(MULTIPLY_SECOND)                                                                  \
    }                                                                                              \
    {                                                                                              \
        __m256 w0 = first_of(p0), w1 = first_of(p1);                                               \
        EACH_ROW(MULTIPLY)                                                                         \
    }

INLINE void tile_bf16(const struct tile *t, const int m, const bool wide, const int half)
{
    BEGIN_TILE
    EACH_STEP(
        2, const uint8_t *p = w + 64 * half;
        FETCH(2) PAIRS_STEP(load8(p), load8(p + 32)) if (wide) {
            {
                __m256 w2 = second_of(load8(p + 64)), w3 = second_of(load8(p + 96));
                EACH_WIDE(MULTIPLY_WIDE_SECOND)
            }
            {
                __m256 w2 = first_of(load8(p + 64)), w3 = first_of(load8(p + 96));
                EACH_WIDE(MULTIPLY_WIDE)
            }
        } w += 128;
        x += 8;);
    END_TILE
}

/* One pair of inputs in 8 bits: whole numbers, or FP8. */
#define I8_STEP                                                                                    \
    {                                                                                              \
        __m256 w0 = i8_second(w, 2 * half), w1 = i8_second(w, 2 * half + 1);                       \
        EACH_ROW(MULTIPLY_SECOND)                                                                  \
    }                                                                                              \
    {                                                                                              \
        __m256 w0 = i8_first(w, 2 * half), w1 = i8_first(w, 2 * half + 1);                         \
        EACH_ROW(MULTIPLY)                                                                         \
    }                                                                                              \
    if (wide) {                                                                                    \
        {                                                                                          \
            __m256 w2 = i8_second(w, 2), w3 = i8_second(w, 3);                                     \
            EACH_WIDE(MULTIPLY_WIDE_SECOND)                                                        \
        }                                                                                          \
        {                                                                                          \
            __m256 w2 = i8_first(w, 2), w3 = i8_first(w, 3);                                       \
            EACH_WIDE(MULTIPLY_WIDE)                                                               \
        }                                                                                          \
    }                                                                                              \
    w += 64;                                                                                       \
    x += 8;

/* Unpacking gives the pairs of eight outputs: of the first half, then of the second. */
#define F8_STEP                                                                                    \
    {                                                                                              \
        __m256i low0, high0, low1, high1;                                                          \
        f8_bytes(w, &low0, &high0);                                                                \
        f8_bytes(w + 32, &low1, &high1);                                                           \
        if (half == 0) {                                                                           \
            __m256i p0 = _mm256_unpacklo_epi8(low0, high0);                                        \
            __m256i p1 = _mm256_unpacklo_epi8(low1, high1);                                        \
            PAIRS_STEP(p0, p1)                                                                     \
        } else {                                                                                   \
            __m256i p0 = _mm256_unpackhi_epi8(low0, high0);                                        \
            __m256i p1 = _mm256_unpackhi_epi8(low1, high1);                                        \
            PAIRS_STEP(p0, p1)                                                                     \
        }                                                                                          \
        if (wide) {                                                                                \
            __m256i p2 = _mm256_unpackhi_epi8(low0, high0);                                        \
            __m256i p3 = _mm256_unpackhi_epi8(low1, high1);                                        \
            {                                                                                      \
                __m256 w2 = second_of(p2), w3 = second_of(p3);                                     \
                EACH_WIDE(MULTIPLY_WIDE_SECOND)                                                    \
            }                                                                                      \
            {                                                                                      \
                __m256 w2 = first_of(p2), w3 = first_of(p3);                                       \
                EACH_WIDE(MULTIPLY_WIDE)                                                           \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    w += 64;                                                                                       \
    x += 8;

INLINE void tile_f8(const struct tile *t, const int m, const bool wide, const int half)
{
    BEGIN_TILE
    EACH_STEP(2, FETCH(1) F8_STEP);
    END_TILE
}

INLINE void tile_i8(const struct tile *t, const int m, const bool wide, const int half)
{
    BEGIN_TILE
    EACH_STEP(2, FETCH(1) I8_STEP);
    END_TILE
}

/* Fresh sums for each block of 128 inputs, then c += scale x sum. */
INLINE void tile_f8_scaled(const struct tile *t, const int m, const bool wide, const int half)
{
    const uint8_t *w = t->w, *x = t->x, *fetch = t->prefetch;
    const float *scale = t->scale;
    float *sums = t->c + 16 * half;
    bool first = t->first;
    size_t passed = t->passed; /* of a block, where a slice begins within it */
    for (size_t left = t->k, run; left; left -= run, scale += 2, passed = 0) {
        run = left < F8_BLOCK - passed ? left : F8_BLOCK - passed;
        EACH_ROW(DECLARE)
        EACH_WIDE(DECLARE_WIDE)
        for (size_t i = 0; i < run; i += 2) {
            FETCH(1)
            F8_STEP
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

/* Grouped forms: (scale * code) - min, each rounded, as form_value() does; then as f32 weights. */

/* Codes of inputs 0 and 1 of a pair, outputs 16 half .. 16 half + 15. */
INLINE void group_codes(const uint8_t *w, int half, const bool four, __m128i values,
                        __m128i code[2])
{
    if (four) {
        __m128i pair = _mm_loadu_si128((const __m128i *)(w + 16 * half));
        __m128i low = _mm_set1_epi8(15);
        code[0] = _mm_shuffle_epi8(values, _mm_and_si128(pair, low));
        code[1] = _mm_shuffle_epi8(values, _mm_and_si128(_mm_srli_epi16(pair, 4), low));
    } else {
        code[0] = _mm_loadu_si128((const __m128i *)(w + 16 * half));
        code[1] = _mm_loadu_si128((const __m128i *)(w + PANEL + 16 * half));
    }
}

/* Outputs 8 v .. 8 v + 7 of the sixteen. */
INLINE __m256 group_wide(__m128i code, int v, const float *scale, const bool mins)
{
    __m128i eight = v ? _mm_unpackhi_epi64(code, code) : code;
    __m256 w = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
    w = _mm256_mul_ps(_mm256_loadu_ps(scale + 8 * v), w);
    return mins ? _mm256_sub_ps(w, _mm256_loadu_ps(scale + PANEL + 8 * v)) : w;
}

#define GROUP_STEP(input, MULTIPLY_IT, MULTIPLY_IT_WIDE)                                           \
    {                                                                                              \
        __m256 w0 = group_wide(near[input], 0, s, mins);                                           \
        __m256 w1 = group_wide(near[input], 1, s, mins);                                           \
        EACH_ROW(MULTIPLY_IT)                                                                      \
        if (wide) {                                                                                \
            __m256 w2 = group_wide(far[input], 0, s + 16, mins);                                   \
            __m256 w3 = group_wide(far[input], 1, s + 16, mins);                                   \
            EACH_WIDE(MULTIPLY_IT_WIDE)                                                            \
        }                                                                                          \
    }

INLINE void tile_grouped(const struct tile *t, const int m, const bool wide, const int half,
                         const bool four, const bool mins)
{
    const float *scale = t->scale;
    size_t passed = t->passed, inputs = t->grouped->inputs;
    __m128i values =
        four ? _mm_loadu_si128((const __m128i *)t->grouped->values) : _mm_setzero_si128();
    BEGIN_TILE(void) more;
    while (left) {
        size_t run = left < inputs - passed ? left : inputs - passed;
        const float *s = scale + 16 * half;
        for (size_t i = 0; i < run; i += 2) {
            __m128i near[2], far[2] = {_mm_setzero_si128(), _mm_setzero_si128()};
            group_codes(w, half, four, values, near);
            if (wide)
                group_codes(w, 1, four, values, far);
            FETCH(1)
            GROUP_STEP(1, MULTIPLY_SECOND, MULTIPLY_WIDE_SECOND)
            GROUP_STEP(0, MULTIPLY, MULTIPLY_WIDE)
            w += four ? PANEL : 2 * PANEL;
            x += 8;
        }
        left -= run;
        passed = 0;
        scale += mins ? 2 * PANEL : PANEL;
    }
    END_TILE
}

#define GROUPED(name, four, mins)                                                                  \
    INLINE void name(const struct tile *t, const int m, const bool wide, const int half)           \
    {                                                                                              \
        tile_grouped(t, m, wide, half, four, mins);                                                \
    }

GROUPED(tile_g8, false, false)
GROUPED(tile_g8_mins, false, true)
GROUPED(tile_g4, true, false)
GROUPED(tile_g4_mins, true, true)

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
FAMILY(tile_g8, 6, W_G8, X_F32)
FAMILY(tile_g8_mins, 6, W_G8, X_F32)
FAMILY(tile_g4, 6, W_G4, X_F32)
FAMILY(tile_g4_mins, 6, W_G4, X_F32)

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

void avx2_panel_g8(const struct panel *p)
{
    tile_panel(p, p->grouped->mins ? &tile_g8_mins_set : &tile_g8_set);
}

void avx2_panel_g4(const struct panel *p)
{
    tile_panel(p, p->grouped->mins ? &tile_g4_mins_set : &tile_g4_set);
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
