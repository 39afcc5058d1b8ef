/* integer_tile.h - tiles of products of integers (kernels/cpu/integer.h), the same for all instruction
 * sets. Included by each integer_*.c behind what it needs of it:
 *
 *   INTEGER_ROWS          most rows of a tile: 4 or 8
 *   struct common         what all groups of a tile have in common, and
 *   common_of()           how it is made
 *   group()               one group of m rows times 32 outputs, added to c. next: the scales of its
 *                         second half, where that has its own; else NULL
 *
 * What few models have looks at t->grouped->mins as it runs; the rest is constant.
 */

/* halves: a run is half a group. */
INLINE void tile(const struct tile *t, const enum integer_kind kind, bool mins, const bool halves,
                 const int m)
{
    const size_t step = mins ? 2 * PANEL : PANEL, half = INTEGER_GROUP / 2;
    const size_t bytes = kind == BYTES ? INTEGER_GROUP * PANEL : INTEGER_GROUP * PANEL / 2;
    const uint8_t *w = t->w, *x = t->x, *fetch = t->prefetch;
    const size_t fetched = t->prefetch_step * half; /* tile_blocks() counts pairs of inputs */
    const size_t inputs = t->grouped->inputs;
    const struct common common = common_of(kind, t->grouped);
    if (t->first)
        memset(t->c, 0, (size_t)m * PANEL * sizeof *t->c);
    size_t passed = t->passed;
    const float *scale = t->scale;
    for (size_t i = 0; i < t->k; i += INTEGER_GROUP) {
        const float *next = NULL;
        if (fetched == bytes) { /* a tile that is alone: known when this is compiled */
#pragma GCC unroll 16
            for (size_t line = 0; line < bytes; line += 64)
                __builtin_prefetch(fetch + line);
        } else {
            for (size_t line = 0; line < fetched; line += 64)
                __builtin_prefetch(fetch + line);
        }
        fetch += fetched;
        if (halves)
            next = passed + half == inputs ? scale + step : scale;
        group(kind, mins, m, &common, w, x, scale, next, t->c);
        w += bytes;
        x += sizeof(struct integers);
        for (passed += INTEGER_GROUP; passed >= inputs; passed -= inputs)
            scale += step;
    }
}

#define TILE(name, kind, mins, halves, m)                                                          \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        tile(t, kind, mins, halves, m);                                                            \
    }
#define FEW(name, kind, mins, halves, format)                                                      \
    TILE(name, kind, mins, halves, 1)                                                              \
    TILE(name, kind, mins, halves, 2)                                                              \
    static tile_fn *const name##_fn[] = {NULL, name##_1, name##_2};                                \
    static const struct tiles name##_set = {name##_fn, 2, format, X_INTEGERS};
#define FOUR(name, kind, mins)                                                                     \
    TILE(name, kind, mins, false, 1)                                                               \
    TILE(name, kind, mins, false, 2)                                                               \
    TILE(name, kind, mins, false, 3)                                                               \
    TILE(name, kind, mins, false, 4)
#if INTEGER_ROWS == 8
#define FAMILY(name, kind, mins, format)                                                           \
    FOUR(name, kind, mins)                                                                         \
    TILE(name, kind, mins, false, 5)                                                               \
    TILE(name, kind, mins, false, 6)                                                               \
    TILE(name, kind, mins, false, 7)                                                               \
    TILE(name, kind, mins, false, 8)                                                               \
    static tile_fn *const name##_fn[] = {NULL,     name##_1, name##_2, name##_3, name##_4,         \
                                         name##_5, name##_6, name##_7, name##_8};                  \
    static const struct tiles name##_set = {name##_fn, 8, format, X_INTEGERS};
#else
#define FAMILY(name, kind, mins, format)                                                           \
    FOUR(name, kind, mins)                                                                         \
    static tile_fn *const name##_fn[] = {NULL, name##_1, name##_2, name##_3, name##_4};            \
    static const struct tiles name##_set = {name##_fn, 4, format, X_INTEGERS};
#endif

FAMILY(bytes, BYTES, t->grouped->mins, W_Q8)
FAMILY(codes, CODES, false, W_Q4)
FAMILY(codes_mins, CODES, true, W_Q4)
FAMILY(values, VALUES, t->grouped->mins, W_Q4)
FEW(bytes_halves, BYTES, t->grouped->mins, true, W_Q8)
FEW(codes_halves, CODES, t->grouped->mins, true, W_Q4)
FEW(values_halves, VALUES, t->grouped->mins, true, W_Q4)

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

void INTEGER_PANEL(q8)(const struct panel *p)
{
    tile_panel(p, in_halves(p) ? &bytes_halves_set : &bytes_set);
}

void INTEGER_PANEL(q4)(const struct panel *p)
{
    if (!count_up(p->grouped->values))
        tile_panel(p, in_halves(p) ? &values_halves_set : &values_set);
    else if (in_halves(p))
        tile_panel(p, &codes_halves_set);
    else
        tile_panel(p, p->grouped->mins ? &codes_mins_set : &codes_set);
}
