/* panel_avx2.c - panel functions for AVX2: f32 arithmetic on weights that are
 * widened first.
 *
 * Sixteen registers hold 6 rows x 16 outputs, so a panel is gone through twice, half by half; memory
 * is asked for what lies ahead both times. One or two rows (of bf16 up to four, of FP8 three) take all
 * 32 outputs at once: then memory sets the pace, and it likes to be read in one go. Codes are decoded
 * once for all rows and kept in the first cache; bf16 costs too little for it. What counts on Zen 3:
 * beside multiply-adds, which two of four units make, shifts and shuffles find one unit free, and so
 * cost about as much as they would alone; logic and conversions are all but free. See panel_avx512.c
 * for what both have in common. Of each pair of inputs the second is added first, as panel.h says.
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

/* Sums of row r: a, b for eight outputs each; c, d for the other half of the
 * panel where a tile takes all of it. */
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

/* ---- weights of eight outputs to f32
 * -------------------------------------------------------- */

INLINE __m256 first_of(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

INLINE __m256 second_of(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000)));
}

/* The 32 codes of outputs 16 half .. 16 half + 15 of a pair of inputs: of each
 * 16 bytes the lower or upper eight. */
INLINE __m256i half_codes(const uint8_t *w, const int half)
{
    __m256i a = load8(w), b = load8(w + 32);
    return half ? _mm256_unpackhi_epi64(a, b) : _mm256_unpacklo_epi64(a, b);
}

/* Low and high bytes of the pairs that codes stand for. */
struct bytes {
    __m256i low, high;
};

INLINE __m256i pairs_of(struct bytes b, const int upper)
{
    return upper ? _mm256_unpackhi_epi8(b.low, b.high) : _mm256_unpacklo_epi8(b.low, b.high);
}

/* Sign and magnitude to integers, in the upper half of 16 bits; the lower half
 * is anything. */
INLINE struct bytes i8_bytes(__m256i code)
{
    code = _mm256_sign_epi8(_mm256_and_si256(code, _mm256_set1_epi8(0x7f)), code);
    return (struct bytes){code, code};
}

/* FP8 to bf16, exactly. The exponent is 120 too small, and bf16 has it half a
 * byte to the left; codes below 8 have none, so those below 16 are looked up
 * (saturation makes the places of all others negative, which gives 0). */
INLINE struct bytes f8_bytes(__m256i code)
{
    __m256i size = _mm256_and_si256(code, _mm256_set1_epi8(0x7f));
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
    return (struct bytes){low, _mm256_or_si256(_mm256_or_si256(high, few_high), nan)};
}

INLINE __m256i load_twice(const uint8_t *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
}

/* Outputs 8 v .. 8 v + 7 of sixteen codes of a grouped form, which `codes`
 * holds twice: (scale * code)
 * - min, each rounded, as form_value() does. */
INLINE __m256 group_wide(__m256i codes, const int v, const float *scale, const bool mins)
{
    const char o = (char)(8 * v), z = -1;
    const __m256i upper =
        _mm256_setr_epi8(z, z, z, o, z, z, z, o + 1, z, z, z, o + 2, z, z, z, o + 3, z, z, z, o + 4,
                         z, z, z, o + 5, z, z, z, o + 6, z, z, z, o + 7);
    __m256 w = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_shuffle_epi8(codes, upper), 24));
    w = _mm256_mul_ps(_mm256_loadu_ps(scale + 8 * v), w);
    return mins ? _mm256_sub_ps(w, _mm256_loadu_ps(scale + PANEL + 8 * v)) : w;
}

/* How weights lie, and what becomes of their sums: scaled ones are made afresh
 * for each block of 128 inputs, then c += scale x sum. */
enum kind { KEPT, PAIRS, PAIRS_SCALED, F32, BF16, F8, F8_SCALED, I8, G8, G8_MINS, G4, G4_MINS };

INLINE bool is_scaled(const enum kind kind)
{
    return kind == PAIRS_SCALED || kind == F8_SCALED;
}

INLINE bool has_mins(const enum kind kind)
{
    return kind == G8_MINS || kind == G4_MINS;
}

/* Bytes of one pair of inputs of a panel. */
INLINE size_t pair_bytes(const enum kind kind)
{
    return kind == F32 ? 256 : kind == KEPT || kind == BF16 ? 128 : kind >= G4 ? 32 : 64;
}

/* A pair of inputs of outputs 16 half .. 16 half + 15, not yet widened.
 * Grouped: the first input, the second; else outputs 0..7, 8..15 of both. */
struct codes {
    __m256i v[2];
};

INLINE struct codes codes_at(const enum kind kind, const uint8_t *w, const bool wide,
                             const int half, __m256i values)
{
    __m256i a = _mm256_setzero_si256(), b = a;
    if (kind == BF16 || kind == PAIRS || kind == PAIRS_SCALED) {
        a = load8(w + 64 * half);
        b = load8(w + 64 * half + 32);
    } else if (kind >= G4) {
        __m256i pair = load_twice(w + 16 * half), low = _mm256_set1_epi8(15);
        a = _mm256_shuffle_epi8(values, _mm256_and_si256(pair, low));
        b = _mm256_shuffle_epi8(values, _mm256_and_si256(_mm256_srli_epi16(pair, 4), low));
    } else if (kind >= G8) {
        a = load_twice(w + 16 * half);
        b = load_twice(w + PANEL + 16 * half);
    } else if (kind >= F8 && wide) {
        struct bytes c = kind == I8 ? i8_bytes(load8(w)) : f8_bytes(load8(w));
        struct bytes d = kind == I8 ? i8_bytes(load8(w + 32)) : f8_bytes(load8(w + 32));
        a = pairs_of(c, half);
        b = pairs_of(d, half);
    } else if (kind >= F8) {
        __m256i code = half_codes(w, half);
        struct bytes c = kind == I8 ? i8_bytes(code) : f8_bytes(code);
        a = pairs_of(c, 0);
        b = pairs_of(c, 1);
    }
    return (struct codes){{a, b}};
}

/* Input 0 or 1 (second) of the pair, its outputs 8 v .. 8 v + 7, as f32. scale:
 * of a grouped form. */
INLINE __m256 weights_of(const enum kind kind, const struct codes *c, const uint8_t *w,
                         const int half, const bool second, const int v, const float *scale)
{
    if (kind == KEPT)
        return _mm256_loadu_ps((const float *)(const void *)w + 16 * second + 8 * v);
    if (kind == F32)
        return _mm256_loadu_ps((const float *)(const void *)w + PANEL * second + 16 * half + 8 * v);
    if (kind == I8) {
        __m256i code = second ? c->v[v] : _mm256_slli_epi32(c->v[v], 16);
        return _mm256_cvtepi32_ps(_mm256_srai_epi32(code, 24));
    }
    if (kind >= G8)
        return group_wide(c->v[second], v, scale + 16 * half, has_mins(kind));
    return second ? second_of(c->v[v]) : first_of(c->v[v]);
}

/* ---- tiles: m rows, half a panel (wide: all of it) from output 16 x half
 * --------------------- */

/* A pair of inputs of the rows times its weights in `half`: the second first.
 */
#define TIMES(EACH, MULTIPLY_IT, half)                                                             \
    {                                                                                              \
        const struct codes codes = codes_at(kind, w, wide, half, values);                          \
        TIMES_INPUT(EACH, MULTIPLY_IT, half, 1)                                                    \
        TIMES_INPUT(EACH, MULTIPLY_IT, half, 0)                                                    \
    }
#define TIMES_INPUT(EACH, MULTIPLY_IT, half, second)                                               \
    {                                                                                              \
        const int at = 4 * (second);                                                               \
        __m256 w0 = weights_of(kind, &codes, w, half, second, 0, scale);                           \
        __m256 w1 = weights_of(kind, &codes, w, half, second, 1, scale);                           \
        if (keep) {                                                                                \
            _mm256_store_ps(kept + 16 * (second), w0);                                             \
            _mm256_store_ps(kept + 16 * (second) + 8, w1);                                         \
        }                                                                                          \
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

/* What lies ahead is asked for in both halves alike, so that memory is never
 * idle. */
INLINE void fetch_lines(const uint8_t *from, const enum kind kind, const bool wide)
{
    int lines = kind == F32 ? 4 : kind == BF16 ? 2 : 1;
    if (kind == F32 && wide)
        return; /* the processor sees to it itself */
    for (int i = 0; i < (wide || lines == 1 ? lines : lines / 2); i++)
        prefetch(from + 64 * i);
}

/* More rows than three take their inputs from the second cache. */
INLINE void tile(const struct tile *t, const enum kind kind, const int m, const bool wide,
                 const int half, const bool keep)
{
    float *kept = t->kept;
    const uint8_t *w = t->w, *x = t->x, *const *more = t->more, *x_fetch = t->x_next;
    size_t fetch_step = t->prefetch_step * (kind == F32 ? 2 : 1) / (wide ? 1 : 2);
    const uint8_t *fetch = half ? t->prefetch_upper : t->prefetch;
    const float *scale = t->scale;
    float *sums = t->c + 16 * half;
    bool first = t->first;
    __m256i values = _mm256_setzero_si256();
    if (kind >= G4)
        values = load_twice((const uint8_t *)t->grouped->values);
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
            kept += 32;
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

/* ---- one function per number of rows
 * -------------------------------------------------------- */

#define TILE_WIDE(name, kind, m)                                                                   \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        tile(t, kind, m, true, 0, false);                                                          \
    }
#define TILE_HALVES(name, kind, m)                                                                 \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        tile(t, kind, m, false, 0, false);                                                         \
        tile(t, kind, m, false, 1, false);                                                         \
    }

#define FAMILY(name, kind, w_format, THREE)                                                        \
    TILE_WIDE(name, kind, 1)                                                                       \
    TILE_WIDE(name, kind, 2)                                                                       \
    THREE(name, kind, 3)                                                                           \
    TILE_HALVES(name, kind, 4)                                                                     \
    TILE_HALVES(name, kind, 5)                                                                     \
    TILE_HALVES(name, kind, 6)                                                                     \
    static tile_fn *const name##_fn[] = {NULL,     name##_1, name##_2, name##_3,                   \
                                         name##_4, name##_5, name##_6};                            \
    static const struct tiles name##_set = {name##_fn, 6, w_format, X_F32};

FAMILY(tile_f32, F32, W_F32, TILE_HALVES)
FAMILY(tile_bf16, BF16, W_BF16, TILE_WIDE)
static const struct tiles wide_bf16_set = {tile_bf16_fn, 3, W_BF16, X_F32};

/* Codes of many rows are decoded once for all of them, KEEP inputs at a time: FP8 to pairs of bf16,
 * before the rows are multiplied; the others to f32, half by half, by the first rows on their way. */
#define KEEP 128
#define ROWS 6

struct way {
    const struct tiles *few;
    tile_fn *decode;
    tile_fn *const *first[2]; /* without decode: by half, rows */
    tile_fn *const *rest;     /* by rows: kept weights */
};

#define TILE_KEPT(name, kind, m)                                                                   \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        tile(t, kind, m, false, 0, false);                                                         \
    }
#define REST(name, kind)                                                                           \
    TILE_KEPT(name, kind, 3)                                                                       \
    TILE_KEPT(name, kind, 4)                                                                       \
    TILE_KEPT(name, kind, 5)                                                                       \
    TILE_KEPT(name, kind, 6)                                                                       \
    static tile_fn *const name##_fn[] = {NULL, NULL, NULL, name##_3, name##_4, name##_5, name##_6};

#define TILE_FIRST(name, kind, m)                                                                  \
    static void name##_lower_##m(const struct tile *t)                                             \
    {                                                                                              \
        tile(t, kind, m, false, 0, true);                                                          \
    }                                                                                              \
    static void name##_upper_##m(const struct tile *t)                                             \
    {                                                                                              \
        tile(t, kind, m, false, 1, true);                                                          \
    }
#define FIRST(name, half)                                                                          \
    static tile_fn *const name##_##half[] = {                                                      \
        NULL, NULL, NULL, NULL, name##_##half##_4, name##_##half##_5, name##_##half##_6};
#define WAY(name, kind, w_format, THREE)                                                           \
    FAMILY(name, kind, w_format, THREE)                                                            \
    TILE_FIRST(name, kind, 4)                                                                      \
    TILE_FIRST(name, kind, 5)                                                                      \
    TILE_FIRST(name, kind, 6)                                                                      \
    FIRST(name, lower)                                                                             \
    FIRST(name, upper)                                                                             \
    static const struct way name##_way = {                                                         \
        &name##_set, NULL, {name##_lower, name##_upper}, tile_kept_fn};
#define WAY_F8(name, kind, rest)                                                                   \
    TILE_WIDE(name, kind, 1)                                                                       \
    TILE_WIDE(name, kind, 2)                                                                       \
    TILE_WIDE(name, kind, 3)                                                                       \
    static tile_fn *const name##_fn[] = {NULL, name##_1, name##_2, name##_3};                      \
    static const struct tiles name##_set = {name##_fn, 3, W_F8, X_F32};                            \
    static const struct way name##_way = {&name##_set, decode_f8, {NULL, NULL}, rest};

INLINE void store_pairs(const uint8_t *w, float *lower, float *upper)
{
    struct bytes b = f8_bytes(load8(w));
    _mm256_store_si256((__m256i *)(void *)lower, pairs_of(b, 0));
    _mm256_store_si256((__m256i *)(void *)upper, pairs_of(b, 1));
}

/* To pairs of bf16: [half][inputs / 2][64 bytes], a half every KEEP * PANEL bytes. */
static void decode_f8(const struct tile *t)
{
    const uint8_t *w = t->w, *const *more = t->more;
    float *lower = t->kept, *upper = lower + KEEP * PANEL / 4;
    for (size_t left = t->k, run; left; left -= run) {
        run = t->more && t->piece < left ? t->piece : left;
        for (size_t i = 0; i < run; i += 2, w += 64, lower += 16, upper += 16) {
            store_pairs(w, lower, upper);
            store_pairs(w + 32, lower + 8, upper + 8);
        }
        if (left > run)
            w = *more++ + t->offset;
    }
}

REST(tile_kept, KEPT)
REST(tile_pairs, PAIRS)
REST(tile_pairs_scaled, PAIRS_SCALED)
WAY_F8(tile_f8, F8, tile_pairs_fn)
WAY_F8(tile_f8_scaled, F8_SCALED, tile_pairs_scaled_fn)
WAY(tile_i8, I8, W_I8, TILE_WIDE)
WAY(tile_g8, G8, W_G8, TILE_HALVES)
WAY(tile_g8_mins, G8_MINS, W_G8, TILE_HALVES)
WAY(tile_g4, G4, W_G4, TILE_HALVES)
WAY(tile_g4_mins, G4_MINS, W_G4, TILE_HALVES)

/* ---- codes x many rows
 * ---------------------------------------------------------------------- */

/* What will be read soon: weights in two pieces of so many bytes, and rows. */
struct ahead {
    const uint8_t *piece[2], *x;
    size_t bytes;
};

/* All rows x the inputs of t. What lies ahead is brought to the first cache
 * meanwhile. */
static void all_rows(const struct way *way, const struct tile *t, size_t rows,
                     const struct ahead *ahead)
{
    _Alignas(64) float kept[KEEP * PANEL / 2];
    struct tile all = *t;
    all.kept = kept;
    if (way->decode)
        way->decode(&all);
    size_t blocks = (rows + ROWS - 1) / ROWS, share = (ahead->bytes + blocks - 1) / blocks;
    all.prefetch_step = (4 * share + t->k - 1) / t->k;
    for (int half = 0; half < 2; half++) {
        struct tile b = all;
        size_t left = rows;
        b.prefetch = b.prefetch_upper = ahead->piece[half];
        for (size_t i = 0, m; i < blocks; i++, left -= m) {
            m = (left + blocks - i - 1) / (blocks - i); /* even blocks: tile.h says why */
            b.x_next = i + 1 < blocks ? b.x + m * X_ROW : ahead->x;
            b.x_step = 2 * m * X_ROW / t->k;
            if (i == 0 && !way->decode)
                way->first[half][m](&b);
            if (i == 0) {
                b.w = (const uint8_t *)(way->decode ? kept + half * (KEEP * PANEL / 4) : kept);
                b.more = NULL;
                b.c += 16 * half;
                if (b.scale)
                    b.scale += half;
            }
            if (i || way->decode)
                way->rest[m](&b);
            b.x += m * X_ROW;
            b.c += m * PANEL;
            b.prefetch += share;
        }
    }
}

static void panel(const struct panel *p, const struct way *way)
{
    if (p->rows <= way->few->most_rows) {
        tile_panel(p, way->few);
        return;
    }
    float scales[SCALES_ROOM];
    size_t input = w_input(way->few->w), whole = X_CHUNK / sizeof(float), end;
    for (size_t k = p->from; k < p->k; k = end) {
        end = k / KEEP * KEEP + KEEP; /* of a chunk, and of a block of scales */
        end = end < p->k ? end : p->k;
        struct tile t = {
            .w = p->w + k * input,
            .x = p->x + k / whole * p->chunk + k % whole * sizeof(float),
            .k = end - k,
            .scale = tile_scales(p, k, end - k, scales),
            .grouped = p->grouped,
            .passed = k % (p->grouped ? p->grouped->inputs : F8_BLOCK),
            .c = p->c,
            .first = k == p->from && !p->more,
        };
        size_t left = p->k - end, next = left && left < t.k ? left : t.k;
        size_t after = left ? end : p->from;
        const uint8_t *at = left ? p->w + end * input : p->next;
        struct ahead ahead = {.piece = {at, at + next * input / 2},
                              .x = p->x + after / whole * p->chunk + after % whole * sizeof(float),
                              .bytes = next * input / 2};
        all_rows(way, &t, p->rows, &ahead);
    }
}

static void parts(const struct parts *p, const struct way *way)
{
    if (p->rows <= way->few->most_rows || p->part_k * 2 > KEEP) {
        tile_parts(p, way->few);
        return;
    }
    size_t step = 2 * p->part_k, run;
    struct ahead ahead = {.bytes = p->part_k * w_input(way->few->w)};
    for (size_t k = 0; k < p->k; k += run) {
        run = p->k - k < step ? p->k - k : step;
        const uint8_t *const *w = p->w + k / p->part_k;
        struct tile t = {.w = w[0] + p->offset,
                         .more = w + 1,
                         .offset = p->offset,
                         .piece = p->part_k,
                         .x = p->x + k * sizeof(float),
                         .k = run,
                         .c = p->c};
        for (size_t i = 0; i < 2; i++) {
            size_t at = k + run + i * p->part_k;
            ahead.piece[i] = at < p->k ? p->w[at / p->part_k] + p->offset : p->next;
        }
        ahead.x = k + run < p->k ? t.x + run * sizeof(float) : p->x;
        all_rows(way, &t, p->rows, &ahead);
    }
}

/* ---- what fast.h asks for
 * ------------------------------------------------------------------- */

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
    for (size_t i = 0; p->scale && i < p->rows; i++)
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
