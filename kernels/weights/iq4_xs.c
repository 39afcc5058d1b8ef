#include "kernels/weights/codec.h"

/* d f16, 8 scales of 6 bits, 256 x 4 bits: w = (d (scale - 32)) curve[q]. */
static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    *f = (struct weight_form){.kind = FORM_I4,
                              .values = codec_curve,
                              .factor = DTYPE_F16,
                              .outer = 256,
                              .inner = 32,
                              .scales = true};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    const uint8_t *b = codec_block(w, row, first);
    for (size_t at = 0; at < n; at += 256, b += 136)
        for (int i = 0; i < 8; i++)
            codec_nibbles(b + 8 + 16 * i, to + at + 32 * i);
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    const uint8_t *b = codec_block(w, row, first);
    int i = (int)(first % 256 / 32);
    int low = b[4 + i / 2] >> 4 * (i & 1) & 15, high = (b[2] | b[3] << 8) >> 2 * i & 3;
    *g = (struct form_group){.d = codec_f16_at(b), .scale = (low | high << 4) - 32};
}

const struct codec codec_iq4_xs = {.name = "IQ4_XS",
                                   .block = 256,
                                   .block_bytes = 136,
                                   .form = form,
                                   .codes = codes,
                                   .group = group};
