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
 * What few models have looks at t->grouped->mins as it runs; the rest is constant.
 */

/* The group after `at`; step: numbers of a group. */
INLINE void pass(const enum integer_scales kept, const struct tile *t, size_t step,
                 struct scales_at *at)
{
    if (kept == SMALL)
        scales_next(&t->grouped->scales, at);
    else
        at->factors += step * (kept == HALF ? sizeof(f16_t) : sizeof(float));
}

/* halves: a run is half a group. */
INLINE void tile(const struct tile *t, const enum integer_kind kind, const enum integer_scales kept,
                 bool mins, const bool halves, const int m)
{
    const size_t step = mins ? 2 * PANEL : PANEL, half = INTEGER_GROUP / 2;
    const size_t bytes = kind == BYTES ? INTEGER_GROUP * PANEL : INTEGER_GROUP * PANEL / 2;
    const uint8_t *w = t->w, *x = t->x, *fetch = t->prefetch;
    const size_t fetched = t->prefetch_step * half; /* tile_blocks() counts pairs of inputs */
    const size_t inputs = t->grouped->inputs;
    const struct common common = common_of(kind, t->grouped);
    struct scales_at scale = {.factors = (const uint8_t *)t->scale}, next;
    if (kept != WIDE)
        scale = scales_find(&t->grouped->scales, t->scale, t->group);
    if (t->first)
        memset(t->c, 0, (size_t)m * PANEL * sizeof *t->c);
    size_t passed = t->passed;
    for (size_t i = 0; i < t->k; i += INTEGER_GROUP) {
        if (fetched == bytes) { /* a tile that is alone: known when this is compiled */
#pragma GCC unroll 16
            for (size_t line = 0; line < bytes; line += 64)
                __builtin_prefetch(fetch + line);
        } else {
            for (size_t line = 0; line < fetched; line += 64)
                __builtin_prefetch(fetch + line);
        }
        fetch += fetched;
        next = scale;
        if (halves && passed + half == inputs)
            pass(kept, t, step, &next);
        group(kind, kept, mins, m, &common, w, x, &scale, halves ? &next : NULL, t->c);
        w += bytes;
        x += sizeof(struct integers);
        for (passed += INTEGER_GROUP; passed >= inputs; passed -= inputs)
            pass(kept, t, step, &scale);
    }
}

#define TILE(name, kind, kept, mins, halves, m)                                                    \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        tile(t, kind, kept, mins, halves, m);                                                      \
    }
#define FEW(name, kind, kept, mins, halves, format)                                                \
    TILE(name, kind, kept, mins, halves, 1)                                                        \
    TILE(name, kind, kept, mins, halves, 2)                                                        \
    static tile_fn *const name##_fn[] = {NULL, name##_1, name##_2};                                \
    static const struct tiles name##_set = {name##_fn, 2, format, X_INTEGERS};
#define FOUR(name, kind, kept, mins, halves)                                                       \
    TILE(name, kind, kept, mins, halves, 1)                                                        \
    TILE(name, kind, kept, mins, halves, 2)                                                        \
    TILE(name, kind, kept, mins, halves, 3)                                                        \
    TILE(name, kind, kept, mins, halves, 4)
#if INTEGER_ROWS == 8
#define FAMILY(name, kind, kept, mins, halves, format)                                             \
    FOUR(name, kind, kept, mins, halves)                                                           \
    TILE(name, kind, kept, mins, halves, 5)                                                        \
    TILE(name, kind, kept, mins, halves, 6)                                                        \
    TILE(name, kind, kept, mins, halves, 7)                                                        \
    TILE(name, kind, kept, mins, halves, 8)                                                        \
    static tile_fn *const name##_fn[] = {NULL,     name##_1, name##_2, name##_3, name##_4,         \
                                         name##_5, name##_6, name##_7, name##_8};                  \
    static const struct tiles name##_set = {name##_fn, 8, format, X_INTEGERS};
#else
#define FAMILY(name, kind, kept, mins, halves, format)                                             \
    FOUR(name, kind, kept, mins, halves)                                                           \
    static tile_fn *const name##_fn[] = {NULL, name##_1, name##_2, name##_3, name##_4};            \
    static const struct tiles name##_set = {name##_fn, 4, format, X_INTEGERS};
#endif

FAMILY(bytes, BYTES, WIDE, t->grouped->mins, false, W_Q8)
FAMILY(codes, CODES, WIDE, false, false, W_Q4)
FAMILY(codes_mins, CODES, WIDE, true, false, W_Q4)
FAMILY(values, VALUES, WIDE, t->grouped->mins, false, W_Q4)
FEW(bytes_halves, BYTES, WIDE, t->grouped->mins, true, W_Q8)
FEW(codes_halves, CODES, WIDE, t->grouped->mins, true, W_Q4)
FEW(values_halves, VALUES, WIDE, t->grouped->mins, true, W_Q4)

/* Tiles by enum integer_scales; NULL: as WIDE. */
typedef const struct tiles *const family[3];

#ifdef INTEGER_KEPT
FAMILY(bytes_half, BYTES, HALF, t->grouped->mins, false, W_Q8)
FAMILY(bytes_small, BYTES, SMALL, t->grouped->mins, false, W_Q8)
FAMILY(codes_half, CODES, HALF, false, false, W_Q4)
FAMILY(codes_mins_half, CODES, HALF, true, false, W_Q4)
FAMILY(codes_mins_small, CODES, SMALL, true, false, W_Q4)
FAMILY(values_half, VALUES, HALF, t->grouped->mins, false, W_Q4)
FAMILY(values_small, VALUES, SMALL, t->grouped->mins, false, W_Q4)
FAMILY(bytes_halves_small, BYTES, SMALL, t->grouped->mins, true, W_Q8)
FAMILY(codes_halves_small, CODES, SMALL, t->grouped->mins, true, W_Q4)
static family bytes_family = {&bytes_set, &bytes_half_set, &bytes_small_set};
static family codes_family = {&codes_set, &codes_half_set};
static family codes_mins_family = {&codes_mins_set, &codes_mins_half_set, &codes_mins_small_set};
static family values_family = {&values_set, &values_half_set, &values_small_set};
static family bytes_halves_family = {&bytes_halves_set, NULL, &bytes_halves_small_set};
static family codes_halves_family = {&codes_halves_set, NULL, &codes_halves_small_set};
#else
static family bytes_family = {&bytes_set}, codes_family = {&codes_set};
static family codes_mins_family = {&codes_mins_set}, values_family = {&values_set};
static family bytes_halves_family = {&bytes_halves_set};
static family codes_halves_family = {&codes_halves_set};
#endif
static family values_halves_family = {&values_halves_set};

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

static enum integer_scales kept_as(const struct scales *s)
{
    if (s->factor != DTYPE_F16 || s->own_min != s->mins)
        return WIDE;
    if (s->scale && s->min == s->mins)
        return SMALL;
    return !s->scale && !s->min && s->groups == 1 ? HALF : WIDE;
}

static void multiply(const struct panel *p, const struct tiles *const sets[3])
{
    enum integer_scales kept = kept_as(&p->grouped->scales);
    kept = sets[kept] ? kept : WIDE;
    tile_panel_as(p, sets[kept], kept != WIDE);
}

void INTEGER_PANEL(q8)(const struct panel *p)
{
    multiply(p, in_halves(p) ? bytes_halves_family : bytes_family);
}

void INTEGER_PANEL(q4)(const struct panel *p)
{
    if (!count_up(p->grouped->values))
        multiply(p, in_halves(p) ? values_halves_family : values_family);
    else if (in_halves(p))
        multiply(p, codes_halves_family);
    else
        multiply(p, p->grouped->mins ? codes_mins_family : codes_family);
}
