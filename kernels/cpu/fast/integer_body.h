/* integer_body.h - panel functions where both factors are integers (kernels/cpu/integer.h), in plain C:
 * for instruction sets that have none of their own. Included by the file that has their table.
 */

/* Groups of inputs are decoded for up to this many rows together. */
#define INTEGER_ROWS 8

/* The integers of a group of inputs, 32 outputs: [input][output]. */
static void integers_of(enum w_format f, const uint8_t *w, const int8_t *values,
                        int8_t to[INTEGER_GROUP][PANEL])
{
    for (size_t i = 0; i < INTEGER_GROUP; i++)
        for (size_t o = 0; o < PANEL; o++) {
            if (f == W_Q8)
                to[i][o] = (int8_t)w[panel_place(W_Q8, o, i)];
            else
                to[i][o] = values[w[panel_place(W_Q8, o, i / 8 * 4 + i % 4)] >> (i & 4) & 15];
        }
}

/* Inputs first .. end - 1 of a group, one row; all: the run's sum times the row's scale. */
static void integer_products(int8_t w[INTEGER_GROUP][PANEL], const struct integers *x, size_t first,
                             size_t end, bool mins, float all, const float *scale, float *c)
{
    int32_t sum[PANEL] = {0};
    for (size_t i = first; i < end; i++)
        for (size_t o = 0; o < PANEL; o++)
            sum[o] += w[i][o] * x->code[i];
    for (size_t o = 0; o < PANEL; o++) {
        c[o] = fmaf(scale[o], x->scale * (float)sum[o], c[o]);
        if (mins)
            c[o] = fmaf(-scale[PANEL + o], all, c[o]);
    }
}

static void integer_tile(const struct tile *t, enum w_format f, size_t rows)
{
    const struct grouped *g = t->grouped;
    const size_t step = g->mins ? 2 * PANEL : PANEL, half = INTEGER_GROUP / 2;
    const bool halves = g->inputs % INTEGER_GROUP != 0;
    const float *scale = t->scale;
    size_t passed = t->passed;
    if (t->first)
        memset(t->c, 0, rows * PANEL * sizeof *t->c);
    for (size_t i = 0; i < t->k; i += INTEGER_GROUP) {
        int8_t w[INTEGER_GROUP][PANEL];
        integers_of(f, t->w + i * w_input(f), g->values, w);
        const float *next = passed + half == g->inputs ? scale + step : scale;
        for (size_t r = 0; r < rows; r++) {
            const struct integers *x = (const void *)(t->x + r * X_ROW + i * x_size(X_INTEGERS));
            float *c = t->c + r * PANEL;
            if (halves) {
                integer_products(w, x, 0, half, g->mins, x->term[0], scale, c);
                integer_products(w, x, half, INTEGER_GROUP, g->mins, x->term[1], next, c);
            } else {
                integer_products(w, x, 0, INTEGER_GROUP, g->mins, x->term_all, scale, c);
            }
        }
        for (passed += INTEGER_GROUP; passed >= g->inputs; passed -= g->inputs)
            scale += step;
    }
}

#define INTEGER_TILE(name, format, m)                                                              \
    static void name##_##m(const struct tile *t)                                                   \
    {                                                                                              \
        integer_tile(t, format, m);                                                                \
    }
#define INTEGER_PANEL(name, format)                                                                \
    INTEGER_TILE(name, format, 1)                                                                  \
    INTEGER_TILE(name, format, 2)                                                                  \
    INTEGER_TILE(name, format, 3)                                                                  \
    INTEGER_TILE(name, format, 4)                                                                  \
    INTEGER_TILE(name, format, 5)                                                                  \
    INTEGER_TILE(name, format, 6)                                                                  \
    INTEGER_TILE(name, format, 7)                                                                  \
    INTEGER_TILE(name, format, 8)                                                                  \
    static void name(const struct panel *p)                                                        \
    {                                                                                              \
        static tile_fn *const fn[] = {NULL,     name##_1, name##_2, name##_3, name##_4,            \
                                      name##_5, name##_6, name##_7, name##_8};                     \
        static const struct tiles set = {fn, INTEGER_ROWS, format, X_INTEGERS};                    \
        tile_panel(p, &set);                                                                       \
    }

INTEGER_PANEL(integer_q8, W_Q8)
INTEGER_PANEL(integer_q4, W_Q4)
