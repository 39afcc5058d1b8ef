/* integer_neon.c - panel functions for 64-bit ARM where both factors are integers
 * (kernels/cpu/integer.h): loops that the compiler makes vectors of. SDOT, which not every such
 * processor has, is not used.
 */
#ifdef __aarch64__
#include "kernels/cpu/fast/integer_neon.h"
#include "kernels/cpu/fast/target.h"
#include "kernels/cpu/fast/tile.h"
#include "kernels/cpu/integer.h"

#include <math.h>
#include <string.h>

#define INTEGER_ROWS 4

struct common {
    const int8_t *values; /* of 16 codes */
};

static struct common common_of(enum integer_kind kind, const struct grouped *g)
{
    (void)kind;
    return (struct common){g->values};
}

/* The integers of a group of inputs, 32 outputs: [input][output]. */
static void integers_of(enum integer_kind kind, const uint8_t *w, const int8_t *values,
                        int8_t to[INTEGER_GROUP][PANEL])
{
    for (size_t i = 0; i < INTEGER_GROUP; i++)
        for (size_t o = 0; o < PANEL; o++) {
            if (kind == BYTES)
                to[i][o] = (int8_t)w[panel_place(W_Q8, o, i)];
            else
                to[i][o] = values[w[panel_place(W_Q8, o, i / 8 * 4 + i % 4)] >> (i & 4) & 15];
        }
}

/* Inputs first .. end - 1 of a group, one row; term: the sum of the codes there times the row's scale. */
static void add_run(int8_t w[INTEGER_GROUP][PANEL], const struct integers *x, size_t first,
                    size_t end, bool mins, float term, const float *scale, float *c)
{
    int32_t sum[PANEL] = {0};
    for (size_t i = first; i < end; i++)
        for (size_t o = 0; o < PANEL; o++)
            sum[o] += w[i][o] * x->code[i];
    for (size_t o = 0; o < PANEL; o++) {
        c[o] = fmaf(scale[o], x->scale * (float)sum[o], c[o]);
        if (mins)
            c[o] = fmaf(-scale[PANEL + o], term, c[o]);
    }
}

static void group(enum integer_kind kind, enum scales_kept kept, bool mins, int m,
                  const struct common *common, const struct integers_at *at,
                  const struct scales_at *scale, const struct scales_at *next, float *c)
{
    int8_t integers[INTEGER_GROUP][PANEL];
    const uint8_t *x = at->x;
    const size_t half = INTEGER_GROUP / 2;
    const float *first = (const void *)scale->factors;
    (void)kept;
    for (size_t line = 0; line < INTEGER_GROUP / 4 * at->step; line += 64)
        __builtin_prefetch(at->fetch + line);
    integers_of(kind, at->w, common->values, integers);
    for (int r = 0; r < m; r++, x += X_ROW, c += PANEL) {
        const struct integers *row = (const void *)x;
        if (next) {
            const float *second = (const void *)next->factors;
            add_run(integers, row, 0, half, mins, row->term[0], first, c);
            add_run(integers, row, half, INTEGER_GROUP, mins, row->term[1], second, c);
        } else {
            add_run(integers, row, 0, INTEGER_GROUP, mins, row->term_all, first, c);
        }
    }
}

#define INTEGER_PANEL(form) neon_panel_##form
#include "kernels/cpu/fast/integer_tile.h"
#endif
