#include "kernels/weights/codec.h"

/* 16 x (scale, min) of 4 bits, 256 x 2 bits, d, dmin f16: w = (d scale) q - (dmin min). */
static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    *f = (struct weight_form){.kind = FORM_I4,
                              .values = codec_identity,
                              .factor = DTYPE_F16,
                              .outer = 256,
                              .inner = 16,
                              .scales = true,
                              .mins = MINS_INNER};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    const uint8_t *b = codec_block(w, row, first);
    for (size_t at = 0; at < n; at += 256, b += 84)
        for (int i = 0; i < 256; i++)
            to[at + (size_t)i] = (int8_t)(b[16 + i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3);
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    const uint8_t *b = codec_block(w, row, first);
    int both = b[first % 256 / 16];
    *g = (struct form_group){
        .d = codec_f16_at(b + 80), .m = codec_f16_at(b + 82), .scale = both & 15, .min = both >> 4};
}

const struct codec codec_q2_k = {
    .name = "Q2_K", .block = 256, .block_bytes = 84, .form = form, .codes = codes, .group = group};
