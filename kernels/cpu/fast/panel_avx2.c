/* panel_avx2.c - panel functions for AVX2: f32 arithmetic on weights that are widened first.
 *
 * Sixteen registers hold 6 rows x 16 outputs, so a panel is gone through twice, half by half; what
 * lies ahead in memory is asked for both times. Few rows (two; three of bf16 and FP8; four of bf16
 * as two and two) take all 32 outputs at once: then memory sets the pace, and it likes to be read
 * in one go. FP8 of more rows is widened once and kept in the first cache, bf16 only of many rows.
 * See panel_avx512.c for what both have in common. Of each pair of inputs the second is added first,
 * as panel.h says.
 *
 * What binds on Zen 3: of four units two multiply and add, two shift and shuffle, and one is in both
 * pairs. Decoding 16 outputs of two inputs takes 5 to 7 cycles, alone or beside the 16 multiply-adds
 * of four rows, which take 8; a store between them costs one more. Three rows of kept weights take 309
 * instructions for 16 inputs, 192 of them multiply-adds: at 6 a cycle they wait for nothing.
 */
#ifdef __x86_64__
#include "kernels/cpu/fast/panel_avx2.h"
#include "kernels/cpu/fast/target.h"
#include "kernels/cpu/fast/tile.h"

#include <immintrin.h>
#include <math.h>
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
/* ---- tiles: m rows, half a panel (wide: all of it) from output 16 x half --------------------- */

/* A pair of inputs of the rows times its weights in `half`: the second first. */
#define TIMES(EACH, MULTIPLY_IT, half)                                                             \
    {                                                                                              \
        struct codes codes = codes_at(kind, w, wide, half);                                        \
        TIMES_INPUT(EACH, MULTIPLY_IT, half, 1)                                                    \
        if (kind <= BF16_SCALED && keep) {                                                         \
            ANEW(w); /* loaded again: gcc would put sums aside for it */                           \
            codes = codes_at(kind, w, wide, half);                                                 \
        }                                                                                          \
        TIMES_INPUT(EACH, MULTIPLY_IT, half, 0)                                                    \
    }

/* What is there is read again: kept in registers, it would drive out sums. */
#define ANEW(pointer) __asm__("" : "+r"(pointer))
#define TIMES_INPUT(EACH, MULTIPLY_IT, half, second)                                               \
    {                                                                                              \
        const int at = 4 * (second);                                                               \
        __m256 w0 = weights_of(kind, &codes, w, half, second, 0);                                  \
        __m256 w1 = weights_of(kind, &codes, w, half, second, 1);                                  \
        if (keep) {                                                                                \
            _mm256_store_ps(kept + PANEL * (second) + 16 * (half), w0);                            \
            _mm256_store_ps(kept + PANEL * (second) + 16 * (half) + 8, w1);                        \
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

/* Inputs up to the next block of scales, or the end of the piece. */
INLINE size_t run_of(const enum kind kind, const struct tile *t, size_t passed, size_t left)
{
    size_t most = is_scaled(kind) ? F8_BLOCK - passed : t->more ? t->piece : left;
    return left < most ? left : most;
}

/* What lies ahead is asked for in both halves alike, so that memory is never idle. Two lines are as many as a
 * step has where the rows are alone with the weights; those that keep them never are. */
INLINE void fetch_lines(const uint8_t *from, const enum kind kind, const bool wide, const bool keep)
{
    if (kind == F32 && wide)
        return; /* the processor sees to it itself */
    for (int i = 0; i < (kind == F32 || (kind == BF16 && wide && !keep) ? 2 : 1); i++)
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
    EACH_ROW(DECLARE)
    EACH_WIDE(DECLARE_WIDE)
    if (!first && !is_scaled(kind)) {
        EACH_ROW(TAKE_UP)
        EACH_WIDE(TAKE_UP_WIDE)
    }
    for (size_t left = t->k, passed = t->passed, run; left; left -= run, passed = 0) {
        run = run_of(kind, t, passed, left);
        for (size_t i = 0; i < run; i += 2) {
            fetch_lines(fetch, kind, wide, keep);
            fetch += fetch_step;
            if (half || keep) {
                prefetch(x_fetch);
                x_fetch += t->x_step;
            }
            TIMES(EACH_ROW, MULTIPLY, half)
            if (wide)
                TIMES(EACH_WIDE, MULTIPLY_WIDE, 1)
            w += pair_bytes(kind);
            x += 8;
            if (keep)
                kept += 2 * PANEL;
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

/* ---- many rows ------------------------------------------------------------------------------- */

/* The first rows leave their weights as f32, KEEP inputs of a panel, in the first cache for all others. What
 * the others cost is instructions: three rows x 32 outputs take least. Their fourth vector of weights comes
 * straight from memory, for which no register is left. Five rows (four, of 7 and 10 in all) take the panel half
 * by half, so that no block has so few sums that it waits for them. */
#define KEEP 128
#define ROWS 6 /* of a block whose weights are not kept */

/* Rows from which it pays: bf16 is soon widened, FP8 is at least made to bf16 once. */
#define KEEP_BF16 96
#define KEEP_F8   48

struct way {
    const struct tiles *few;
    tile_fn *decode;          /* to pairs of bf16, which the tiles read then; or NULL */
    size_t keep;              /* rows from which f32 is kept */
    const struct tiles *each; /* with fewer */
    tile_fn *first;           /* three rows, whose weights are kept */
    tile_fn *const *rest;
};

/* As an instruction, because gcc would rather load once and put other registers aside. */
INLINE __m256 add_product(const float *w, __m256 v, __m256 sum)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(v), "m"(*(const __m256 *)w));
    return sum;
}

#define ADD_ROW(r)                                                                                 \
    if (m > r) {                                                                                   \
        __m256 v = _mm256_set1_ps(loadf(x + 4 * (at) + r * X_ROW));                                \
        a##r = _mm256_fmadd_ps(w0, v, a##r);                                                       \
        b##r = _mm256_fmadd_ps(w1, v, b##r);                                                       \
        ADD_WIDE_##r                                                                               \
    }
#define ADD_WIDE(r)                                                                                \
    if (wide) {                                                                                    \
        c##r = _mm256_fmadd_ps(w2, v, c##r);                                                       \
        d##r = add_product(of + 24, v, d##r);                                                      \
    }
#define ADD_WIDE_0 ADD_WIDE(0)
#define ADD_WIDE_1 ADD_WIDE(1)
#define ADD_WIDE_2 ADD_WIDE(2)
#define ADD_WIDE_3
#define ADD_WIDE_4
#define ADD_WIDE_5
#define ADD_INPUT(input)                                                                           \
    {                                                                                              \
        const int at = (input);                                                                    \
        const float *of = w + PANEL * at;                                                          \
        __m256 w0 = _mm256_loadu_ps(of), w1 = _mm256_loadu_ps(of + 8), w2 = w0;                    \
        if (wide)                                                                                  \
            w2 = _mm256_loadu_ps(of + 16);                                                         \
        EACH_ROW(ADD_ROW)                                                                          \
    }
#define ADD_FOUR(at)                                                                               \
    {                                                                                              \
        prefetch(fetch);                                                                           \
        fetch += t->prefetch_step;                                                                 \
        ADD_INPUT((at) + 1)                                                                        \
        ADD_INPUT(at)                                                                              \
        ADD_INPUT((at) + 3)                                                                        \
        ADD_INPUT((at) + 2)                                                                        \
    }

/* Of outputs 16 x half and on. Rows of the next block are fetched line by line. */
INLINE void kept_tile(const struct tile *t, const int m, const bool wide, const int half,
                      const bool scaled)
{
    const float *w = (const float *)(const void *)t->w + 16 * half;
    const uint8_t *x = t->x, *x_next = t->x_next;
    const uint8_t *fetch = half ? t->prefetch_upper : t->prefetch;
    float *sums = t->c + 16 * half;
    bool first = t->first;
    size_t i = 0;
    EACH_ROW(DECLARE)
    EACH_WIDE(DECLARE_WIDE)
    if (!first && !scaled) {
        EACH_ROW(TAKE_UP)
        EACH_WIDE(TAKE_UP_WIDE)
    }
    for (; i + 16 <= t->k; i += 16, w += 16 * PANEL, x += 64, x_next += 64) {
        if (wide || half)
            for (int r = 0; r < m; r++)
                prefetch(x_next + r * X_ROW);
        ADD_FOUR(0)
        ADD_FOUR(4)
        ADD_FOUR(8)
        ADD_FOUR(12)
    }
    for (; i < t->k; i += 2, w += 2 * PANEL, x += 8) {
        ADD_INPUT(1)
        ADD_INPUT(0)
    }
    if (scaled) {
        __m256 s = _mm256_set1_ps(t->scale[half]), zero = _mm256_setzero_ps();
        EACH_ROW(SCALE_ROW)
        if (wide)
            s = _mm256_set1_ps(t->scale[1]);
        EACH_WIDE(SCALE_WIDE)
    }
    EACH_ROW(PUT_BACK)
    EACH_WIDE(PUT_BACK_WIDE)
}

#define KEPT_WIDE(name, m, scaled)                                                                 \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        kept_tile(t, m, true, 0, scaled);                                                          \
    }
#define KEPT_HALVES(name, m, scaled)                                                               \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        kept_tile(t, m, false, 0, scaled);                                                         \
        kept_tile(t, m, false, 1, scaled);                                                         \
    }
KEPT_WIDE(kept, 3, false)
KEPT_HALVES(kept, 4, false)
KEPT_HALVES(kept, 5, false)
KEPT_WIDE(kept_scaled, 3, true)
KEPT_HALVES(kept_scaled, 5, true)
static tile_fn *const kept_fn[] = {[3] = kept_3, kept_4, kept_5};
static tile_fn *const kept_scaled_fn[] = {[3] = kept_scaled_3, [5] = kept_scaled_5};

#define FAMILY_F8(name, kind)                                                                      \
    TILE_WIDE(name, kind, 1)                                                                       \
    TILE_WIDE(name, kind, 2)                                                                       \
    TILE_WIDE(name, kind, 3)                                                                       \
    static tile_fn *const name##_fn[] = {NULL, name##_1, name##_2, name##_3};                      \
    static const struct tiles name##_set = {name##_fn, 3, W_F8, X_F32};

FAMILY_F8(tile_f8, F8)
FAMILY_F8(tile_f8_scaled, F8_SCALED)

/* Of the pairs that FP8 with scales becomes, always more than three rows, in even blocks. */
TILE_WIDE(tile_pairs, BF16_SCALED, 3)
TILE_HALVES(tile_pairs, BF16_SCALED, 4)
TILE_HALVES(tile_pairs, BF16_SCALED, 5)
TILE_HALVES(tile_pairs, BF16_SCALED, 6)
static tile_fn *const tile_pairs_fn[] = {
    [3] = tile_pairs_3, tile_pairs_4, tile_pairs_5, tile_pairs_6};
static const struct tiles tile_pairs_set = {tile_pairs_fn, ROWS, W_BF16, X_F32};

#define TILE_FIRST(name, kind)                                                                     \
    static void name##_keep_3(const struct tile *t)                                                \
    {                                                                                              \
        tile(t, kind, 3, true, 0, true);                                                           \
    }
#define WAY(name, decode, keep, each, first, rest)                                                 \
    static const struct way name##_way = {&name##_set, decode, keep, each, first, rest};

TILE_FIRST(tile_bf16, BF16)
TILE_FIRST(tile_pairs, BF16_SCALED)
WAY(tile_bf16, NULL, KEEP_BF16, NULL, tile_bf16_keep_3, kept_fn)
WAY(tile_f8, decode_f8, KEEP_F8, &tile_bf16_set, tile_bf16_keep_3, kept_fn)
WAY(tile_f8_scaled, decode_f8, KEEP_F8, &tile_pairs_set, tile_pairs_keep_3, kept_scaled_fn)

/* What will be read soon: weights in one or two pieces of so many bytes, and rows. */
struct ahead {
    const uint8_t *piece[2], *x;
    size_t pieces, bytes;
};

/* Where to ask for the next `run` bytes, `done` bytes of all pieces on: within one piece, as far as it has so
 * many, since the other lies elsewhere. */
static const uint8_t *place_of(const struct ahead *a, size_t done, size_t run)
{
    size_t i = done / a->bytes < a->pieces ? done / a->bytes : a->pieces - 1;
    size_t at = done - i * a->bytes, most = a->bytes > run ? a->bytes - run : 0;
    return a->piece[i] + (at < most ? at : most);
}

/* Rows of the next block, of `left`. Not kept: even blocks, because small ones have too few sums under way. */
static size_t block_of(size_t left, bool keep, bool first)
{
    size_t blocks = (left + ROWS - 1) / ROWS;
    if (!keep)
        return (left + blocks - 1) / blocks;
    if (first || left % 3 == 0 || left == 7)
        return 3;
    return left < 5 ? left : 5;
}

/* How often a tile asks for weights: every two inputs, of kept ones every four; in both halves. */
static size_t places(size_t m, size_t k, bool kept)
{
    return k / (kept ? 4 : 2) * (m > 3 ? 2 : 1);
}

/* All rows x the inputs of t. What lies ahead is fetched meanwhile. */
static void all_rows(const struct way *way, const struct tile *t, size_t rows,
                     const struct ahead *ahead)
{
    _Alignas(64) float kept[KEEP * PANEL];
    _Alignas(64) uint8_t pairs[KEEP * PANEL * sizeof(bf16_t)];
    struct tile b = *t;
    size_t all = 0, done = 0;
    bool keep = rows >= way->keep;
    for (size_t left = rows, m; left; left -= m) {
        m = block_of(left, keep, left == rows);
        all += places(m, t->k, keep && left < rows);
    }
    size_t step = (ahead->pieces * ahead->bytes + all - 1) / all;
    b.kept = kept;
    b.pairs = pairs;
    if (way->decode) {
        way->decode(&b);
        b.w = pairs;
        b.more = NULL;
    }
    for (size_t left = rows, m; left; left -= m) {
        bool first = left == rows;
        m = block_of(left, keep, first);
        size_t share = places(m, t->k, keep && !first) * step;
        size_t run = m > 3 ? share / 2 : share; /* more rows take the panel half by half */
        b.prefetch = place_of(ahead, done, run);
        b.prefetch_upper = place_of(ahead, done + run, run);
        b.x_next = left > m ? b.x + m * X_ROW : ahead->x;
        b.x_step = m * X_ROW * 2 / t->k;
        /* tile() takes steps by 128 bytes of weights */
        b.prefetch_step = keep && !first ? step : m > 3 ? 2 * step : step;
        (!keep ? way->each->fn[m] : first ? way->first : way->rest[m])(&b);
        if (keep && first) {
            b.w = (const uint8_t *)kept;
            b.more = NULL;
        }
        b.x += m * X_ROW;
        b.c += m * PANEL;
        done += share;
    }
}

static void panel(const struct panel *p, const struct way *way)
{
    if (p->rows <= way->few->most_rows) {
        tile_panel(p, way->few);
        return;
    }
    size_t input = w_input(way->few->w), whole = X_CHUNK / sizeof(float), end;
    for (size_t k = p->from; k < p->k; k = end) {
        end = k / KEEP * KEEP + KEEP; /* of a chunk, and of a block of scales */
        end = end < p->k ? end : p->k;
        struct tile t = {
            .w = p->w + k * input,
            .x = p->x + k / whole * p->chunk + k % whole * sizeof(float),
            .k = end - k,
            .scale = p->scale ? p->scale + k / F8_BLOCK * 2 : NULL,
            .passed = k % F8_BLOCK,
            .c = p->c,
            .first = k == p->from && !p->more,
        };
        size_t left = p->k - end, next = left && left < t.k ? left : t.k;
        size_t after = left ? end : p->from;
        const uint8_t *at = left ? p->w + end * input : p->next;
        struct ahead ahead = {.piece = {at},
                              .x = p->x + after / whole * p->chunk + after % whole * sizeof(float),
                              .pieces = 1,
                              .bytes = next * input};
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
    struct ahead ahead = {.pieces = 2, .bytes = p->part_k * w_input(way->few->w)};
    for (size_t k = 0; k < p->k; k += run) {
        run = p->k - k < step ? p->k - k : step;
        const uint8_t *const *w = p->w + k / p->part_k;
        struct tile t = {.w = w[0] + p->offset,
                         .more = w + 1,
                         .offset = p->offset,
                         .piece = p->part_k,
                         .x = p->x + k * sizeof(float),
                         .k = run,
                         .c = p->c,
                         .first = p->first && k == 0};
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
    if (p->rows >= KEEP_BF16)
        panel(p, &tile_bf16_way);
    else
        tile_panel(p, p->rows <= 4 ? &wide_bf16_set : &tile_bf16_set);
}

void avx2_panel_f8(const struct panel *p)
{
    panel(p, p->scale ? &tile_f8_scaled_way : &tile_f8_way);
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
