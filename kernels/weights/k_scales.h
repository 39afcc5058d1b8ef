/* k_scales.h - the twelve bytes of scales and minima that Q4_K and Q5_K share: eight of each, of 6
 * bits; of the last four the two high bits stand in the bytes of the first four. */
#ifndef TANDEM_KERNELS_WEIGHTS_K_SCALES_H
#define TANDEM_KERNELS_WEIGHTS_K_SCALES_H

#include "kernels/weights/codec.h"

/* Group i of the block, in 0..7. */
static inline void k_scales(const uint8_t *block, int i, struct form_group *g)
{
    const uint8_t *s = block + 4;
    g->d = codec_f16_at(block);
    g->m = codec_f16_at(block + 2);
    g->scale = i < 4 ? s[i] & 63 : (s[i + 4] & 15) | s[i - 4] >> 6 << 4;
    g->min = i < 4 ? s[i + 4] & 63 : s[i + 4] >> 4 | s[i] >> 6 << 4;
}

#endif
