/* tile.h - what the panel functions of all instruction sets share: how rows are cut into blocks,
 * inputs into chunks, and where to prefetch. Included once by each file of panel functions.
 *
 * A tile is some rows (few enough to keep their sums in registers) times one panel over one chunk
 * of inputs; the sums are put back into c and taken up again by the next chunk, which changes
 * nothing: they are f32 in both places. Where runs have scales, c takes the sums of each run.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_TILE_H
#define TANDEM_KERNELS_CPU_FAST_TILE_H

#include "kernels/cpu/fast/panel.h"
#include "kernels/cpu/fast/scales.h"

/* A single block of rows reads each weight once: this far ahead the memory has to be asked. */
#define AHEAD 8192

_Static_assert(F8_BLOCK % FORM_RUN == 0, "a chunk cuts no run");
_Static_assert(X_CHUNK / sizeof(float) % F8_BLOCK == 0, "a chunk of rows cuts no block");

/* q8; q4 whose codes count up by one; q4 with codes that stand for any values. */
enum integer_kind { BYTES, CODES, VALUES };

/* How tiles find scales: f32; f16 d, and m where there are mins; f16 with bytes for each group. */
enum scales_kept { WIDE, HALF, SMALL };

/* Where a tile of integers is: at a group of 32 inputs. While a group's eight quads of inputs are multiplied, each is
 * to fetch `step` bytes of the weights to come. */
struct integers_at {
    const uint8_t *w, *x, *fetch;
    size_t step;
};

struct tile {
    const uint8_t *w;
    const uint8_t *const *more; /* parts(): the next pieces, each `piece` inputs; else NULL */
    size_t offset, piece;       /* of the pieces */
    const uint8_t *x;
    size_t k; /* inputs */
    /* fp8: of the first block; grouped: WIDE of the first run, [runs][32], with mins [runs][2][32], else all that
     * the panel has (scales.h) */
    const float *scale;
    const struct grouped *grouped;
    const uint8_t *sums; /* g8, g4 with mins: of the first run, of row 0 (x_unit) */
    size_t group;        /* grouped: of the first input */
    size_t passed;       /* inputs of that run, or block of FP8 scales, before the tile */
    float *c;
    const uint8_t *prefetch;
    const uint8_t *prefetch_upper; /* what the upper half of the panel asks for (AVX2) */
    size_t prefetch_step;  /* bytes per 128 bytes of weights (8 bits: 64), f32 kept: four inputs */
    float *kept;           /* where weights are left for other rows (AVX2) */
    uint8_t *pairs;        /* and FP8 as bf16 */
    const uint8_t *x_next; /* rows of the next tile, to be fetched too */
    size_t x_step;         /* bytes per step */
    bool first;            /* c holds nothing yet */
};
typedef void tile_fn(const struct tile *t);

/* One instruction set's tiles for one pair of formats: tiles[m] for m rows. */
struct tiles {
    tile_fn *const *fn;
    size_t most_rows;
    enum w_format w;
    enum x_format x;
};

/* The pieces of parts(): runs the loop body over t->k inputs, STEP at a time, in one piece or many.
 */
#define EACH_STEP(step, ...)                                                                       \
    do {                                                                                           \
        size_t run = t->more && left > t->piece ? t->piece : left;                                 \
        left -= run;                                                                               \
        for (size_t i = 0; i < run; i += (step)) {                                                 \
            __VA_ARGS__                                                                            \
        }                                                                                          \
        if (left)                                                                                  \
            w = *more++ + t->offset;                                                               \
    } while (left)

/* Even blocks of rows: 16 rows are 8 + 8 and not 12 + 4, because a small block has too few sums
 * under way to hide the latency of an addition. */
static inline void tile_blocks(const struct tiles *set, struct tile *t, size_t rows,
                               size_t next_bytes, const uint8_t *x_after)
{
    size_t blocks = (rows + set->most_rows - 1) / set->most_rows;
    size_t small = rows / blocks, larger = rows % blocks;
    size_t step = w_size(set->w) == 1 ? 2 * w_input(set->w) : 2 * 64;
    size_t share = round_up((next_bytes + blocks - 1) / blocks, 64);
    if (blocks > 1)
        t->prefetch_step = (step + blocks - 1) / blocks;
    else
        t->prefetch_step = step;
    size_t steps = t->k * w_input(set->w) / step;
    for (size_t b = 0; b < blocks; b++) {
        size_t m = small + (b < larger);
        t->x_next = b + 1 < blocks ? t->x + m * X_ROW : x_after;
        t->x_step = blocks > 1 ? m * X_ROW / steps + 1 : 0; /* a lone block's rows stay near */
        t->prefetch_upper = t->prefetch + share / 2;
        set->fn[m](t);
        t->x += m * X_ROW;
        t->sums += m * X_ROW;
        t->c += m * PANEL;
        t->prefetch += share;
    }
}

/* Does what is read next lie right behind the panel? */
static inline bool tile_goes_on(const struct panel *p, const struct tiles *set)
{
    return p->next == p->w + p->k * w_input(set->w);
}

/* Inputs of the next chunk. A lone block of rows prefetches AHEAD; its last chunk begins that far
 * before the end where what follows the panel lies elsewhere. Several blocks share a whole chunk of the
 * rows. Of bf16 that is 32 KB of weights, which later blocks read from the second cache; half of it, which
 * the first cache keeps, begins twice as many tiles: measured on Zen 4 (cold, in turns), time over that with
 * 14, 16, 30 and 128 rows .94, .94, .96, .95, experts with 16, 64 and 256 rows .99, .99, .98; AVX2 1.00. */
static inline size_t tile_chunk(const struct panel *p, const struct tiles *set, size_t k, bool lone,
                                bool goes_on)
{
    size_t whole = X_CHUNK / x_size(set->x), left = p->k - k;
    size_t last = round_up(AHEAD / (w_input(set->w)), F8_BLOCK);
    size_t len = whole - k % whole;
    if (len > left)
        len = left;
    if (lone && !goes_on && left > last && len > left - last)
        len = round_up(left - last, F8_BLOCK);
    if (len >= left)
        return left;
    size_t end = (k + len) / F8_BLOCK * F8_BLOCK; /* blocks of scales and runs stay whole */
    return end > k ? end - k : len;
}

/* The scales of inputs k .. k + n - 1, as a tile wants them. room: they may be made there. */
static inline const float *tile_scales(const struct panel *p, size_t k, size_t n,
                                       float room[SCALES_ROOM])
{
    if (!p->grouped)
        return p->scale ? p->scale + k / F8_BLOCK * 2 : NULL;
    size_t first = k / p->grouped->inputs, last = (k + n - 1) / p->grouped->inputs;
    return scales_wide(&p->grouped->scales, p->scale, first, last + 1 - first, room);
}

/* How a tile could take scales as the panel has them; WIDE: it cannot. */
static inline enum scales_kept tile_scales_kept(const struct scales *s)
{
    if (s->factor != DTYPE_F16 || s->own_min != s->mins)
        return WIDE;
    if (s->scale && s->min == s->mins)
        return SMALL;
    return !s->scale && !s->min && s->groups == 1 ? HALF : WIDE;
}

/* The sums of inputs k and on, of row 0; where there are none, any address. */
static inline const uint8_t *tile_sums(const struct panel *p, enum x_format x, size_t k)
{
    bool any = p->grouped && p->grouped->mins && x != X_INTEGERS;
    return any ? p->x + x_sum(x, p->chunk, p->inputs, k / x_unit(p->grouped)) : p->x;
}

/* kept: how the set's tiles take scales. */
static inline void tile_panel_as(const struct panel *p, const struct tiles *set,
                                 enum scales_kept kept)
{
    bool lone = p->rows <= set->most_rows, goes_on = tile_goes_on(p, set);
    size_t whole = X_CHUNK / x_size(set->x), len;
    float scales[SCALES_ROOM];
    for (size_t k = p->from; k < p->k; k += len) {
        len = tile_chunk(p, set, k, lone, goes_on);
        size_t bytes = len * w_input(set->w), left = p->k - k - len;
        size_t ahead = left < len ? left : len; /* inputs of the chunk after this one */
        size_t after = left ? k + len : p->from;
        struct tile t = {
            .w = p->w + k * w_input(set->w),
            .x = p->x + k / whole * p->chunk + k % whole * x_size(set->x),
            .k = len,
            .scale = kept == WIDE ? tile_scales(p, k, len, scales) : p->scale,
            .group = p->grouped ? k / p->grouped->inputs : 0,
            .grouped = p->grouped,
            .sums = tile_sums(p, set->x, k),
            .passed = k % (p->grouped ? p->grouped->inputs : F8_BLOCK),
            .c = p->c,
            .first = k == p->from && !p->more,
        };
        if (lone)
            t.prefetch = left || goes_on ? t.w + AHEAD : p->next;
        else
            t.prefetch = left ? t.w + bytes : p->next;
        tile_blocks(set, &t, p->rows, (left ? ahead : len) * w_input(set->w),
                    p->x + after / whole * p->chunk + after % whole * x_size(set->x));
    }
}

static inline void tile_panel(const struct panel *p, const struct tiles *set)
{
    tile_panel_as(p, set, WIDE);
}

static inline void tile_parts(const struct parts *p, const struct tiles *set)
{
    struct tile t = {
        .w = p->w[0] + p->offset,
        .more = p->w + 1,
        .offset = p->offset,
        .piece = p->part_k,
        .x = p->x,
        .sums = p->x,
        .k = p->k,
        .c = p->c,
        .first = p->first,
        .prefetch = p->next,
    };
    tile_blocks(set, &t, p->rows, p->k * w_input(set->w), p->x);
}

#endif
