#include "kernels/weights/codec.h"

/* d f16, 32 x 4 bits: w = d curve[q]. */
static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    *f = (struct weight_form){
        .kind = FORM_I4, .values = codec_curve, .factor = DTYPE_F16, .outer = 32, .inner = 32};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    const uint8_t *b = codec_block(w, row, first);
    for (size_t at = 0; at < n; at += 32, b += 18)
        codec_nibbles(b + 2, to + at);
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    const uint8_t *b = codec_block(w, row, first);
    *g = (struct form_group){.d = codec_f16_at(b), .scale = 1};
}

const struct codec codec_iq4_nl = {
    .name = "IQ4_NL", .block = 32, .block_bytes = 18, .form = form, .codes = codes, .group = group};
