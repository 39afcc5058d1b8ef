/* panel_avx2.c - panel functions for AVX2: f32 arithmetic on weights that are widened first.
 *
 * Sixteen registers hold 6 rows x 16 outputs, so a panel is gone through twice, half by half; what
 * lies ahead in memory is asked for both times. Few rows (two; three of bf16, FP8 and int8; four of
 * bf16 as two and two) take all 32 outputs at once: then memory sets the pace, and it likes to be read
 * in one go. Codes of more rows are decoded once and kept in the first cache (codes_avx2.h); bf16
 * costs too little for it. See panel_avx512.c for what both have in common. Of each pair of inputs the
 * second is added first, as panel.h says.
 *
 * What binds on Zen 3: of four units two multiply and add, two shift and shuffle, and one is in both
 * pairs. Decoding 16 outputs of two inputs takes 5 to 7 cycles, alone or beside the 16 multiply-adds
 * of four rows, which take 8; a store between them costs one more.
 */
#ifdef __x86_64__
#include "kernels/cpu/fast/panel_avx2.h"
#include "kernels/cpu/fast/target.h"

#define SHARED 8192 /* for a first cache of 32 KB (tile.h) */
#include "kernels/cpu/fast/tile.h"

#include <immintrin.h>
#include <string.h>

TARGET_BEGIN(TARGET_AVX2)

#include "kernels/cpu/fast/codes_avx2.h"

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

/* ---- tiles: m rows, half a panel (wide: all of it) from output 16 x half --------------------- */

/* A pair of inputs of the rows times its weights in `half`: the second first. */
#define TIMES(EACH, MULTIPLY_IT, half)                                                             \
    {                                                                                              \
        const struct codes codes = codes_at(kind, w, wide, half, values);                          \
        TIMES_INPUT(EACH, MULTIPLY_IT, half, 1)                                                    \
        TIMES_INPUT(EACH, MULTIPLY_IT, half, 0)                                                    \
    }
#define TIMES_INPUT(EACH, MULTIPLY_IT, half, second)                                               \
    {                                                                                              \
        const int at = 4 * (second);                                                               \
        __m256 w0 = weights_of(kind, &codes, w, wide, half, second, 0, scale);                     \
        __m256 w1 = weights_of(kind, &codes, w, wide, half, second, 1, scale);                     \
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

/* What lies ahead is asked for in both halves alike, so that memory is never idle. */
INLINE void fetch_lines(const uint8_t *from, const enum kind kind, const bool wide)
{
    if (kind == F32 && wide)
        return; /* the processor sees to it itself */
    for (int i = 0; i < (kind == F32 || (kind == BF16 && wide) ? 2 : 1); i++)
        prefetch(from + 64 * i);
}

/* keep: the weights as f32 are left behind for other rows. Rows ahead are fetched from the second
 * cache, once for both halves where one tile goes over both. */
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
        values = _mm256_xor_si256(load_twice((const uint8_t *)t->grouped->values),
                                  _mm256_set1_epi8(wide ? -128 : 0));
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
            if (half || keep || kind <= PAIRS_SCALED) {
                prefetch(x_fetch);
                x_fetch += t->x_step;
            }
            TIMES(EACH_ROW, MULTIPLY, half)
            if (wide)
                TIMES(EACH_WIDE, MULTIPLY_WIDE, 1)
            w += pair_bytes(kind);
            x += 8;
            if (keep)
                kept += 32;
        }
        if (is_scaled(kind)) {
            __m256 s = _mm256_set1_ps(scale[half]), zero = _mm256_setzero_ps();
            EACH_ROW(SCALE_ROW)
            if (wide)
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

/* ---- one function per number of rows --------------------------------------------------------- */

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

/* Codes of many rows are decoded once for all of them, KEEP inputs at a time: FP8 to pairs of
 * bf16, before the rows are multiplied; the others to f32, half by half, by the first rows on
 * their way. */
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

/* ---- codes x many rows ----------------------------------------------------------------------- */

/* What will be read soon: weights in two pieces of so many bytes, and rows. */
struct ahead {
    const uint8_t *piece[2], *x;
    size_t bytes;
};

/* All rows x the inputs of t. What lies ahead is brought to the first cache meanwhile. */
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
            b.x_next = i + 1 < blocks ? b.x + m * X_ROW : half ? ahead->x : t->x;
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

/* ---- what fast.h asks for -------------------------------------------------------------------- */

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
