#include "kernels/weights/codec.h"
#include "kernels/weights/k_scales.h"

/* d, dmin f16, 8 x (scale, min) of 6 bits, 256 x 4 bits: w = (d scale) q - (dmin min). */
static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    *f = (struct weight_form){.kind = FORM_I4,
                              .values = codec_identity,
                              .factor = DTYPE_F16,
                              .outer = 256,
                              .inner = 32,
                              .scales = true,
                              .mins = MINS_INNER};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    const uint8_t *b = codec_block(w, row, first);
    for (size_t at = 0; at < n; at += 256, b += 144)
        for (int pair = 0; pair < 4; pair++)
            for (int l = 0; l < 32; l++) {
                uint8_t two = b[16 + 32 * pair + l];
                to[at + 64 * pair + l] = (int8_t)(two & 15);
                to[at + 64 * pair + 32 + l] = (int8_t)(two >> 4);
            }
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    const uint8_t *b = codec_block(w, row, first);
    k_scales(b, (int)(first % 256 / 32), g);
}

const struct codec codec_q4_k = {
    .name = "Q4_K", .block = 256, .block_bytes = 144, .form = form, .codes = codes, .group = group};
