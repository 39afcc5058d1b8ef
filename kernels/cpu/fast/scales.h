/* scales.h - how panels of grouped forms (kernels/weights/form.h) keep scales, and what is subtracted.
 * Internal to kernels/cpu/fast.
 *
 * As the format has them, as far as that is exact: d and m as f16, bf16 or f32, once for all groups that
 * share them, scale and min as bytes, for 32 outputs each:
 *
 *     block  [d of 32 outputs] [m] then for each group that shares them [scale: 32 bytes] [min: 32 bytes]
 *
 * where the form has them. Tiles want f32, [groups][32], with mins [groups][2][32]: d * scale and
 * m * min, each rounded as form_value() does it. They are made for a chunk of inputs before its tiles
 * (tile.h), once for all rows. Two matrices in one panel that keep them differently keep them as f32.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_SCALES_H
#define TANDEM_KERNELS_CPU_FAST_SCALES_H

#include "kernels/cpu/fast/panel.h"
#include "kernels/weights/form.h"

/* Floats of the scales of a chunk: groups of 16 inputs or more, two numbers each, and one group that
 * began before. */
#define SCALES_ROOM ((X_CHUNK / 2 / 16 + 1) * 2 * PANEL)

/* Of two matrices in one panel, which may be the same. */
struct scales scales_of(const struct weight_form *a, const struct weight_form *b);

/* Bytes of `groups` groups. */
size_t scales_bytes(const struct scales *s, size_t groups);

/* Keeps group `at` of output 0..31. */
void scales_put(const struct scales *s, void *panel, size_t output, size_t at,
                const struct form_group *g);

/* Groups first .. first + n - 1 as f32: in `room`, or where they are. Behind them is fetched. */
const float *scales_wide(const struct scales *s, const void *panel, size_t first, size_t n,
                         float room[SCALES_ROOM]);

#endif
