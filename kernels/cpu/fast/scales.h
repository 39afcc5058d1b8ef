/* scales.h - how panels of grouped forms (kernels/weights/form.h) keep scales, and what is subtracted.
 * Internal to kernels/cpu/fast.
 *
 * As the format has them, as far as that is exact: d and m as f16, bf16 or f32, once for all groups that
 * share them, scale and min as bytes, for 32 outputs each. Groups are runs here (form_run):
 *
 *     block  [d of 32 outputs] [m] then for each group that shares them [scale: 32 bytes] [min: 32 bytes]
 *
 * where the form has them. Some tiles read the commonest as they are (tile_scales_kept() in tile.h). Others want f32,
 * [groups][32], with mins [groups][2][32]: d * scale and m * min, each rounded as form_value() does it. They are made
 * for a chunk of inputs before its tiles (tile.h), once for all rows. Two matrices in one panel that keep them
 * differently keep them as f32.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_SCALES_H
#define TANDEM_KERNELS_CPU_FAST_SCALES_H

#include "kernels/cpu/fast/panel.h"
#include "kernels/weights/form.h"

/* Floats of the scales of a chunk: runs of 16 inputs or more, two numbers each. */
#define SCALES_ROOM (X_CHUNK / 2 / 16 * 2 * PANEL)

/* Of two matrices in one panel, which may be the same. */
struct scales scales_of(const struct weight_form *a, const struct weight_form *b);

/* Bytes of d and m in a block; of scale and min of a group; of a block. */
static inline size_t scales_factors(const struct scales *s)
{
    return PANEL * (s->factor == DTYPE_F32 ? 4 : 2) * (s->own_min ? 2 : 1);
}

static inline size_t scales_small(const struct scales *s)
{
    return PANEL * ((size_t)s->scale + (size_t)s->min);
}

static inline size_t scales_block(const struct scales *s)
{
    return scales_factors(s) + s->groups * scales_small(s);
}

/* Where a group's scales are. */
struct scales_at {
    const uint8_t *factors, *small;
    size_t place; /* among those that share the factors */
};

static inline struct scales_at scales_find(const struct scales *s, const void *panel, size_t group)
{
    const uint8_t *block = (const uint8_t *)panel + group / s->groups * scales_block(s);
    size_t place = group % s->groups;
    return (struct scales_at){block, block + scales_factors(s) + place * scales_small(s), place};
}

static inline void scales_next(const struct scales *s, struct scales_at *at)
{
    at->small += scales_small(s);
    if (++at->place == s->groups) {
        at->place = 0;
        at->factors = at->small;
        at->small += scales_factors(s);
    }
}

/* Bytes of `groups` groups. */
size_t scales_bytes(const struct scales *s, size_t groups);

/* Keeps group `at` of output 0..31. */
void scales_put(const struct scales *s, void *panel, size_t output, size_t at,
                const struct form_group *g);

/* Groups first .. first + n - 1 as f32: in `room`, or where they are. Behind them is fetched. */
const float *scales_wide(const struct scales *s, const void *panel, size_t first, size_t n,
                         float room[SCALES_ROOM]);

#endif
