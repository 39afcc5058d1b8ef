/* odd.h - panels of grouped forms whose scales are odd (struct grouped), in plain C. Included once, by
 * panel_avx2.c, where the instruction set is chosen.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_ODD_H
#define TANDEM_KERNELS_CPU_FAST_ODD_H

#include "kernels/cpu/fast/tile.h"

#include <math.h>
#include <string.h>

/* Grouped forms whose scales are odd: as form.h says, one input after the other. So seldom that
 * nothing else should carry its code. */
__attribute__((noinline)) static void panel_odd(const struct panel *p)
{
    const int8_t *values = p->grouped->values; /* of g4 */
    const size_t whole = X_CHUNK / sizeof(float);
    float room[SCALES_ROOM];
    if (!p->more)
        memset(p->c, 0, p->rows * PANEL * sizeof *p->c);
    for (size_t i = p->from; i < p->k; i++) {
        const size_t input = i ^ 1;
        const float *scale = tile_scales(p, input, 1, room);
        float w[PANEL];
        for (size_t o = 0; o < PANEL; o++) {
            int code = values ? values[p->w[input / 2 * PANEL + o] >> input % 2 * 4 & 15]
                              : (int8_t)p->w[panel_place(W_G8, o, input)];
            w[o] = scale[o] * (float)code;
        }
        for (size_t o = 0; p->grouped->mins && o < PANEL; o++)
            w[o] -= scale[PANEL + o];
        const float *x = (const void *)(p->x + input / whole * p->chunk);
        for (size_t r = 0; r < p->rows; r++)
            for (size_t o = 0; o < PANEL; o++)
                p->c[r * PANEL + o] =
                    fmaf(w[o], x[input % whole + r * X_ROW / sizeof *x], p->c[r * PANEL + o]);
    }
}

#endif
