/* panel_avx2.c - panel functions for AVX2: f32 arithmetic on weights that are widened first.
 *
 * Sixteen registers hold 6 rows x 16 outputs, so a panel is gone through twice, half by half. One or
 * two rows (of codes: three) take all 32 outputs at once: then memory sets the pace, and it likes to
 * be read in one go. Codes for more rows are widened into the first cache, 128 inputs at a time, and
 * all rows are multiplied with that; bf16 costs too little for it. See panel_avx512.c for what both
 * have in common. Of each pair of inputs the second is added first, as panel.h says.
 */
#ifdef __x86_64__
#include "kernels/cpu/fast/panel_avx2.h"
#include "kernels/cpu/fast/target.h"

#define SHARED 8192 /* for a first cache of 32 KB (tile.h) */
#include "kernels/cpu/fast/tile.h"

#include <immintrin.h>
#include <string.h>

TARGET_BEGIN(TARGET_AVX2)

#define EACH_ROW(DO)  DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define EACH_WIDE(DO) DO(0) DO(1) DO(2)

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

/* One input (`at` bytes into the rows) times the weights w0, w1 of a half. */
#define MULTIPLY(r)                                                                                \
    if (m > r) {                                                                                   \
        __m256 v = _mm256_set1_ps(loadf(x + (at) + r * X_ROW));                                    \
        a##r = _mm256_fmadd_ps(w0, v, a##r);                                                       \
        b##r = _mm256_fmadd_ps(w1, v, b##r);                                                       \
    }
#define MULTIPLY_WIDE(r)                                                                           \
    if (wide && m > r) {                                                                           \
        __m256 v = _mm256_set1_ps(loadf(x + (at) + r * X_ROW));                                    \
        c##r = _mm256_fmadd_ps(w0, v, c##r);                                                       \
        d##r = _mm256_fmadd_ps(w1, v, d##r);                                                       \
    }
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

/* Sign and magnitude to the pairs of outputs 0..7 of a half: 16 of 32 codes, each in the upper half
 * of its 16 bits. */
INLINE __m256i i8_pairs(const uint8_t *w, const int half)
{
    __m256i code = load8(w), zero = _mm256_setzero_si256();
    code = _mm256_sign_epi8(_mm256_and_si256(code, _mm256_set1_epi8(0x7f)), code);
    return half ? _mm256_unpackhi_epi8(zero, code) : _mm256_unpacklo_epi8(zero, code);
}

/* FP8 to the pairs of outputs 0..7 of a half: 16 of 32 codes, to bf16, exactly. The exponent is 120
 * too small, and bf16 has it half a byte to the left; codes below 8 have none, so those below 16 are
 * looked up (saturation makes the places of all others negative, which gives 0). */
INLINE __m256i f8_pairs(const uint8_t *w, const int half)
{
    __m256i code = load8(w), size = _mm256_and_si256(code, _mm256_set1_epi8(0x7f));
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
    high = _mm256_or_si256(_mm256_or_si256(high, few_high), nan);
    return half ? _mm256_unpackhi_epi8(low, high) : _mm256_unpacklo_epi8(low, high);
}

/* Outputs 8 v .. 8 v + 7 of sixteen codes of a grouped form: (scale * code) - min, each rounded, as
 * form_value() does. */
INLINE __m256 group_wide(__m128i code, int v, const float *scale, const bool mins)
{
    __m128i eight = v ? _mm_unpackhi_epi64(code, code) : code;
    __m256 w = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
    w = _mm256_mul_ps(_mm256_loadu_ps(scale + 8 * v), w);
    return mins ? _mm256_sub_ps(w, _mm256_loadu_ps(scale + PANEL + 8 * v)) : w;
}

/* How weights lie, and what becomes of their sums: scaled ones are made afresh for each block of
 * 128 inputs, then c += scale x sum. */
enum kind { F32, F32_SCALED, BF16, F8, F8_SCALED, I8, G8, G8_MINS, G4, G4_MINS };

INLINE bool is_scaled(const enum kind kind)
{
    return kind == F32_SCALED || kind == F8_SCALED;
}

INLINE bool has_mins(const enum kind kind)
{
    return kind == G8_MINS || kind == G4_MINS;
}

/* Bytes of one pair of inputs of a panel. */
INLINE size_t pair_bytes(const enum kind kind)
{
    return kind <= F32_SCALED ? 256 : kind == BF16 ? 128 : kind >= G4 ? 32 : 64;
}

/* A pair of inputs of outputs 16 half .. 16 half + 15, not yet widened. Grouped: the first input,
 * the second; else outputs 0..7, 8..15 of both. */
struct codes {
    __m256i v[2];
};

INLINE struct codes codes_at(const enum kind kind, const uint8_t *w, const int half, __m128i values)
{
    __m256i a = _mm256_setzero_si256(), b = a;
    if (kind == BF16) {
        a = load8(w + 64 * half);
        b = load8(w + 64 * half + 32);
    } else if (kind == I8) {
        a = i8_pairs(w, half);
        b = i8_pairs(w + 32, half);
    } else if (kind >= G4) {
        __m128i pair = _mm_loadu_si128((const __m128i *)(w + 16 * half)), low = _mm_set1_epi8(15);
        a = _mm256_castsi128_si256(_mm_shuffle_epi8(values, _mm_and_si128(pair, low)));
        pair = _mm_and_si128(_mm_srli_epi16(pair, 4), low);
        b = _mm256_castsi128_si256(_mm_shuffle_epi8(values, pair));
    } else if (kind >= G8) {
        a = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(w + 16 * half)));
        b = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(w + PANEL + 16 * half)));
    } else if (kind > F32_SCALED) {
        a = f8_pairs(w, half);
        b = f8_pairs(w + 32, half);
    }
    return (struct codes){{a, b}};
}

/* Input 0 or 1 (second) of the pair, its outputs 8 v .. 8 v + 7, as f32. scale: of a grouped form. */
INLINE __m256 weights_of(const enum kind kind, const struct codes *c, const uint8_t *w,
                         const int half, const bool second, const int v, const float *scale)
{
    if (kind <= F32_SCALED)
        return _mm256_loadu_ps((const float *)(const void *)w + PANEL * second + 16 * half + 8 * v);
    if (kind == I8) {
        __m256i code = second ? c->v[v] : _mm256_slli_epi32(c->v[v], 16);
        return _mm256_cvtepi32_ps(_mm256_srai_epi32(code, 24));
    }
    if (kind >= G8)
        return group_wide(_mm256_castsi256_si128(c->v[second]), v, scale + 16 * half,
                          has_mins(kind));
    return second ? second_of(c->v[v]) : first_of(c->v[v]);
}

/* ---- tiles: m rows, half a panel (wide: all of it) from output 16 x half --------------------- */

/* A pair of inputs of the rows times its weights in `half`: the second first. */
#define TIMES(EACH, MULTIPLY_IT, half)                                                             \
    {                                                                                              \
        const struct codes codes = codes_at(kind, w, half, values);                                \
        TIMES_INPUT(EACH, MULTIPLY_IT, half, 1)                                                    \
        TIMES_INPUT(EACH, MULTIPLY_IT, half, 0)                                                    \
    }
#define TIMES_INPUT(EACH, MULTIPLY_IT, half, second)                                               \
    {                                                                                              \
        const int at = 4 * (second);                                                               \
        __m256 w0 = weights_of(kind, &codes, w, half, second, 0, scale);                           \
        __m256 w1 = weights_of(kind, &codes, w, half, second, 1, scale);                           \
        EACH(MULTIPLY_IT)                                                                          \
    }

/* The sums of a block so far, and of all before it. */
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
#define CLEAR(r)                                                                                   \
    if (m > r)                                                                                     \
        a##r = b##r = _mm256_setzero_ps();
#define CLEAR_WIDE(r)                                                                              \
    if (wide && m > r)                                                                             \
        c##r = d##r = _mm256_setzero_ps();

/* Inputs up to the next group or block of scales, or the end of the piece. */
INLINE size_t run_of(const enum kind kind, const struct tile *t, size_t passed, size_t left)
{
    size_t most = is_scaled(kind) ? F8_BLOCK - passed
                  : kind >= G8    ? t->grouped->inputs - passed
                  : t->more       ? t->piece
                                  : left;
    return left < most ? left : most;
}

/* What lies ahead is asked for in both halves alike, so that memory is never idle. */
INLINE void fetch_lines(const uint8_t *from, const enum kind kind, const bool wide)
{
    int lines = kind == F32 ? 4 : kind == BF16 ? 2 : 1;
    for (int i = 0; i < (wide || lines == 1 ? lines : lines / 2); i++)
        prefetch(from + 64 * i);
}

/* More rows than three take their inputs from the second cache. */
INLINE void tile(const struct tile *t, const enum kind kind, const int m, const bool wide,
                 const int half)
{
    const uint8_t *w = t->w, *x = t->x, *const *more = t->more, *x_fetch = t->x_next;
    size_t fetch_step = t->prefetch_step * (kind == F32 ? 2 : 1) / (wide ? 1 : 2);
    const uint8_t *fetch = half ? t->prefetch_upper : t->prefetch;
    const float *scale = t->scale;
    float *sums = t->c + 16 * half;
    bool first = t->first;
    __m128i values = _mm_setzero_si128();
    if (kind >= G4)
        values = _mm_loadu_si128((const __m128i *)t->grouped->values);
    EACH_ROW(DECLARE)
    EACH_WIDE(DECLARE_WIDE)
    if (!first && !is_scaled(kind)) {
        EACH_ROW(TAKE_UP)
        EACH_WIDE(TAKE_UP_WIDE)
    }
    for (size_t left = t->k, passed = t->passed, run; left; left -= run, passed = 0) {
        run = run_of(kind, t, passed, left);
        for (size_t i = 0; i < run; i += 2) {
            fetch_lines(fetch, kind, wide);
            fetch += fetch_step;
            if (half) {
                prefetch(x_fetch);
                x_fetch += t->x_step;
            }
            TIMES(EACH_ROW, MULTIPLY, half)
            if (wide)
                TIMES(EACH_WIDE, MULTIPLY_WIDE, 1)
            w += pair_bytes(kind);
            x += 8;
        }
        if (is_scaled(kind)) {
            __m256 s = _mm256_set1_ps(scale[half]), zero = _mm256_setzero_ps();
            EACH_ROW(SCALE_ROW)
            s = _mm256_set1_ps(scale[1]);
            EACH_WIDE(SCALE_WIDE)
            EACH_ROW(PUT_BACK)
            EACH_WIDE(PUT_BACK_WIDE)
            EACH_ROW(CLEAR)
            EACH_WIDE(CLEAR_WIDE)
            first = false;
            scale += 2;
        } else if (kind >= G8) {
            scale += has_mins(kind) ? 2 * PANEL : PANEL;
        } else if (more && left > run) {
            w = *more++ + t->offset;
        }
    }
    if (!is_scaled(kind)) {
        EACH_ROW(PUT_BACK)
        EACH_WIDE(PUT_BACK_WIDE)
    }
}

/* ---- one function per number of rows -------------------------------------------------------- */

#define TILE_WIDE(name, kind, m)                                                                   \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        tile(t, kind, m, true, 0);                                                                 \
    }
#define TILE_HALVES(name, kind, m)                                                                 \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        tile(t, kind, m, false, 0);                                                                \
        tile(t, kind, m, false, 1);                                                                \
    }

#define FAMILY(name, kind, w_format)                                                               \
    TILE_WIDE(name, kind, 1)                                                                       \
    TILE_WIDE(name, kind, 2)                                                                       \
    TILE_HALVES(name, kind, 3)                                                                     \
    TILE_HALVES(name, kind, 4)                                                                     \
    TILE_HALVES(name, kind, 5)                                                                     \
    TILE_HALVES(name, kind, 6)                                                                     \
    static tile_fn *const name##_fn[] = {NULL,     name##_1, name##_2, name##_3,                   \
                                         name##_4, name##_5, name##_6};                            \
    static const struct tiles name##_set = {name##_fn, 6, w_format, X_F32};

/* Inputs of a panel, k of them, to f32: [k][32]. */
typedef void widen_fn(const struct tile *t, float *restrict to);

#define WIDEN_HALF(half)                                                                           \
    {                                                                                              \
        const struct codes codes = codes_at(kind, w, half, values);                                \
        WIDEN(half, 0, 0)                                                                          \
        WIDEN(half, 0, 1)                                                                          \
        WIDEN(half, 1, 0)                                                                          \
        WIDEN(half, 1, 1)                                                                          \
    }
#define WIDEN(half, second, v)                                                                     \
    _mm256_store_ps(to + PANEL * (second) + 16 * (half) + 8 * (v),                                 \
                    weights_of(kind, &codes, w, half, second, v, scale));

INLINE void widen(const enum kind kind, const struct tile *t, float *restrict to)
{
    const uint8_t *w = t->w;
    const float *scale = t->scale;
    size_t passed = t->passed;
    __m128i values = _mm_setzero_si128();
    if (kind >= G4)
        values = _mm_loadu_si128((const __m128i *)t->grouped->values);
    for (size_t left = t->k, run; left; left -= run, passed = 0) {
        run = kind >= G8 ? run_of(kind, t, passed, left) : left;
        for (size_t i = 0; i < run; i += 2) {
            WIDEN_HALF(0)
            WIDEN_HALF(1)
            w += pair_bytes(kind);
            to += 2 * PANEL;
        }
        if (kind >= G8)
            scale += has_mins(kind) ? 2 * PANEL : PANEL;
    }
}

/* Codes: up to three rows widen them in registers, more rows take them as f32. */
struct way {
    const struct tiles *few, *many;
    widen_fn *widen;
};

#define WAY(name, kind, w_format, many)                                                            \
    TILE_WIDE(name, kind, 1)                                                                       \
    TILE_WIDE(name, kind, 2)                                                                       \
    TILE_WIDE(name, kind, 3)                                                                       \
    static tile_fn *const name##_fn[] = {NULL, name##_1, name##_2, name##_3};                      \
    static const struct tiles name##_set = {name##_fn, 3, w_format, X_F32};                        \
    static void name##_widen(const struct tile *t, float *restrict to)                             \
    {                                                                                              \
        widen(kind, t, to);                                                                        \
    }                                                                                              \
    static const struct way name##_way = {&name##_set, many, name##_widen};

FAMILY(tile_f32, F32, W_F32)
FAMILY(tile_f32_scaled, F32_SCALED, W_F32)
FAMILY(tile_bf16, BF16, W_BF16)
TILE_WIDE(wide_bf16, BF16, 3)
static tile_fn *const wide_bf16_fn[] = {NULL, tile_bf16_1, tile_bf16_2, wide_bf16_3};
static const struct tiles wide_bf16_set = {wide_bf16_fn, 3, W_BF16, X_F32};
WAY(tile_f8, F8, W_F8, &tile_f32_set)
WAY(tile_f8_scaled, F8_SCALED, W_F8, &tile_f32_scaled_set)
WAY(tile_i8, I8, W_I8, &tile_f32_set)
WAY(tile_g8, G8, W_G8, &tile_f32_set)
WAY(tile_g8_mins, G8_MINS, W_G8, &tile_f32_set)
WAY(tile_g4, G4, W_G4, &tile_f32_set)
WAY(tile_g4_mins, G4_MINS, W_G4, &tile_f32_set)

/* ---- many rows ------------------------------------------------------------------------------ */

/* What will be read soon: weights in two pieces of so many bytes, and rows. */
struct ahead {
    const uint8_t *piece[2], *x;
    size_t bytes;
};

/* All rows x the widened inputs of t. What lies ahead is brought to the first cache meanwhile. */
static void all_rows(const struct tiles *set, struct tile t, size_t rows, const struct ahead *ahead)
{
    size_t blocks = (rows + set->most_rows - 1) / set->most_rows;
    size_t share = (ahead->bytes + blocks - 1) / blocks;
    t.prefetch = ahead->piece[0];
    t.prefetch_upper = ahead->piece[1];
    t.prefetch_step = (4 * share + t.k - 1) / t.k;
    for (size_t b = 0, m; b < blocks; b++, rows -= m) {
        m = (rows + blocks - b - 1) / (blocks - b); /* even blocks: tile.h says why */
        t.x_next = b + 1 < blocks ? t.x + m * X_ROW : ahead->x;
        t.x_step = 2 * m * X_ROW / t.k;
        set->fn[m](&t);
        t.x += m * X_ROW;
        t.c += m * PANEL;
        t.prefetch += share;
        t.prefetch_upper += share;
    }
}

static void panel(const struct panel *p, const struct way *way)
{
    if (p->rows <= way->few->most_rows) {
        tile_panel(p, way->few);
        return;
    }
    _Alignas(64) float widened[F8_BLOCK * PANEL];
    size_t input = w_input(way->few->w), whole = X_CHUNK / sizeof(float), end;
    size_t chunks = (p->k + whole - 1) / whole;
    for (size_t k = p->from; k < p->k; k = end) {
        end = k / F8_BLOCK * F8_BLOCK + F8_BLOCK; /* of a chunk, and of a block of scales */
        end = end < p->k ? end : p->k;
        struct tile t = {
            .w = p->w + k * input,
            .x = p->x + k / whole * p->chunk + k % whole * sizeof(float),
            .k = end - k,
            .scale = p->scale ? p->scale + scale_at(p, k) : NULL,
            .grouped = p->grouped,
            .passed = k % (p->grouped ? p->grouped->inputs : F8_BLOCK),
            .c = p->c,
            .first = k == p->from,
        };
        size_t left = p->k - end, next = left && left < t.k ? left : t.k;
        const uint8_t *at = left ? p->w + end * input : p->next;
        struct ahead ahead = {.piece = {at, at + next * input / 2},
                              .x = p->x + end / whole % chunks * p->chunk +
                                   end % whole * sizeof(float),
                              .bytes = next * input / 2};
        way->widen(&t, widened);
        t.w = (const uint8_t *)widened;
        all_rows(way->many, t, p->rows, &ahead);
    }
}

static void parts(const struct parts *p, const struct way *way)
{
    if (p->rows <= way->few->most_rows || p->part_k * 2 > F8_BLOCK) {
        tile_parts(p, way->few);
        return;
    }
    _Alignas(64) float widened[F8_BLOCK * PANEL];
    size_t step = 2 * p->part_k, run;
    struct ahead ahead = {.bytes = p->part_k * w_input(way->few->w)};
    for (size_t k = 0; k < p->k; k += run) {
        run = p->k - k < step ? p->k - k : step;
        for (size_t i = 0; i < run; i += p->part_k) {
            struct tile piece = {.w = p->w[(k + i) / p->part_k] + p->offset};
            piece.k = run - i < p->part_k ? run - i : p->part_k;
            way->widen(&piece, widened + i * PANEL);
        }
        struct tile t = {
            .w = (const uint8_t *)widened, .x = p->x + k * sizeof(float), .k = run, .c = p->c};
        for (size_t i = 0; i < 2; i++) {
            size_t at = k + run + i * p->part_k;
            ahead.piece[i] = at < p->k ? p->w[at / p->part_k] + p->offset : p->next;
        }
        ahead.x = k + run < p->k ? t.x + run * sizeof(float) : p->x;
        all_rows(way->many, t, p->rows, &ahead);
    }
}

/* ---- what fast.h asks for ------------------------------------------------------------------- */

void avx2_panel_f32(const struct panel *p)
{
    tile_panel(p, &tile_f32_set);
}

void avx2_panel_bf16(const struct panel *p)
{
    tile_panel(p, p->rows <= 4 ? &wide_bf16_set : &tile_bf16_set);
}

void avx2_panel_f8(const struct panel *p)
{
    panel(p, p->scale ? &tile_f8_scaled_way : &tile_f8_way);
}

void avx2_panel_i8(const struct panel *p)
{
    panel(p, &tile_i8_way);
    for (size_t i = 0; i < p->rows; i++)
        for (size_t j = 0; j < PANEL; j += 8) {
            float *c = p->c + i * PANEL + j;
            _mm256_storeu_ps(c, _mm256_mul_ps(_mm256_loadu_ps(c), _mm256_loadu_ps(p->scale + j)));
        }
}

void avx2_panel_g8(const struct panel *p)
{
    panel(p, p->grouped->mins ? &tile_g8_mins_way : &tile_g8_way);
}

void avx2_panel_g4(const struct panel *p)
{
    panel(p, p->grouped->mins ? &tile_g4_mins_way : &tile_g4_way);
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
    parts(p, &tile_f8_way);
}

TARGET_END
#endif
