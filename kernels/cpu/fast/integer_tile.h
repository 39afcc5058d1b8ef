/* integer_tile.h - tiles of products of integers (kernels/cpu/integer.h), the same for all instruction
 * sets. Included by each integer_*.c behind what it needs of it:
 *
 *   INTEGER_ROWS          most rows of a tile: 4 or 8
 *   INTEGER_KEPT          defined: scales are read as panels keep them (scales.h), where that is common
 *   struct common         what all groups of a tile have in common, and
 *   common_of()           how it is made
 *   group()               one group of m rows times 32 outputs, added to c. next: the scales of its
 *                         second half, where that has its own; else NULL
 *
 * Codes and rows are constants of a tile. How scales are kept, and whether there are minima, a group asks
 * once for all its rows as it runs: functions for each of these took longer to compile than the rest of
 * the CPU kernels, and were no faster.
 */

static enum scales_kept kept_as(const struct scales *s)
{
#ifdef INTEGER_KEPT
    return tile_scales_kept(s);
#else
    (void)s;
    return WIDE;
#endif
}

/* The group after `at`; step: bytes of a group, unless SMALL. */
INLINE void pass(enum scales_kept kept, const struct tile *t, size_t step, struct scales_at *at)
{
    if (kept == SMALL)
        scales_next(&t->grouped->scales, at);
    else
        at->factors += step;
}

/* halves: a run is half a group. */
INLINE void tile(const struct tile *t, const enum integer_kind kind, const bool halves, const int m)
{
    const enum scales_kept kept = kept_as(&t->grouped->scales);
    const bool mins = t->grouped->mins;
    const size_t step = (mins ? 2 : 1) * PANEL * (kept == WIDE ? sizeof(float) : sizeof(f16_t));
    const size_t half = INTEGER_GROUP / 2, inputs = t->grouped->inputs;
    const struct common common = common_of(kind, t->grouped);
    /* tile_blocks() counts pairs of inputs */
    struct integers_at at = {t->w, t->x, t->prefetch, 2 * t->prefetch_step};
    struct scales_at scale = {.factors = (const uint8_t *)t->scale}, next;
    if (kept != WIDE)
        scale = scales_find(&t->grouped->scales, t->scale, t->group);
    if (t->first)
        memset(t->c, 0, (size_t)m * PANEL * sizeof *t->c);
    size_t passed = t->passed;
    for (size_t i = 0; i < t->k; i += INTEGER_GROUP) {
        next = scale;
        if (halves && passed + half == inputs)
            pass(kept, t, step, &next);
        group(kind, kept, mins, m, &common, &at, &scale, halves ? &next : NULL, t->c);
        at.w += kind == BYTES ? INTEGER_GROUP * PANEL : INTEGER_GROUP * PANEL / 2;
        at.x += sizeof(struct integers);
        at.fetch += INTEGER_GROUP / 4 * at.step;
        for (passed += INTEGER_GROUP; passed >= inputs; passed -= inputs)
            pass(kept, t, step, &scale);
    }
}

#define TILE(name, kind, halves, m)                                                                \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        tile(t, kind, halves, m);                                                                  \
    }
#define FEW(name, kind, format)                                                                    \
    TILE(name, kind, true, 1)                                                                      \
    TILE(name, kind, true, 2)                                                                      \
    static tile_fn *const name##_fn[] = {NULL, name##_1, name##_2};                                \
    static const struct tiles name##_set = {name##_fn, 2, format, X_INTEGERS};
#define FOUR(name, kind)                                                                           \
    TILE(name, kind, false, 1)                                                                     \
    TILE(name, kind, false, 2)                                                                     \
    TILE(name, kind, false, 3)                                                                     \
    TILE(name, kind, false, 4)
#if INTEGER_ROWS == 8
#define FAMILY(name, kind, format)                                                                 \
    FOUR(name, kind)                                                                               \
    TILE(name, kind, false, 5)                                                                     \
    TILE(name, kind, false, 6)                                                                     \
    TILE(name, kind, false, 7)                                                                     \
    TILE(name, kind, false, 8)                                                                     \
    static tile_fn *const name##_fn[] = {NULL,     name##_1, name##_2, name##_3, name##_4,         \
                                         name##_5, name##_6, name##_7, name##_8};                  \
    static const struct tiles name##_set = {name##_fn, 8, format, X_INTEGERS};
#else
#define FAMILY(name, kind, format)                                                                 \
    FOUR(name, kind)                                                                               \
    static tile_fn *const name##_fn[] = {NULL, name##_1, name##_2, name##_3, name##_4};            \
    static const struct tiles name##_set = {name##_fn, 4, format, X_INTEGERS};
#endif

FAMILY(bytes, BYTES, W_Q8)
FAMILY(codes, CODES, W_Q4)
FAMILY(values, VALUES, W_Q4)
FEW(bytes_halves, BYTES, W_Q8)
FEW(codes_halves, CODES, W_Q4)
FEW(values_halves, VALUES, W_Q4)

static bool in_halves(const struct panel *p)
{
    return p->grouped->inputs % INTEGER_GROUP != 0;
}

/* Do the codes count up by one? */
static bool count_up(const int8_t *values)
{
    for (int i = 1; i < 16; i++)
        if (values[i] != values[0] + i)
            return false;
    return true;
}

static void multiply(const struct panel *p, const struct tiles *whole, const struct tiles *halves)
{
    tile_panel_as(p, in_halves(p) ? halves : whole, kept_as(&p->grouped->scales));
}

void INTEGER_PANEL(q8)(const struct panel *p)
{
    multiply(p, &bytes_set, &bytes_halves_set);
}

void INTEGER_PANEL(q4)(const struct panel *p)
{
    if (count_up(p->grouped->values))
        multiply(p, &codes_set, &codes_halves_set);
    else
        multiply(p, &values_set, &values_halves_set);
}
