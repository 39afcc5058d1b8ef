#include "kernels/weights/codec.h"

/* d, m f16, 32 fifth bits, 32 x 4 bits: w = d q + m. */
static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    *f = (struct weight_form){
        .kind = FORM_I8, .factor = DTYPE_F16, .outer = 32, .inner = 32, .mins = MINS_OUTER};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    const uint8_t *b = codec_block(w, row, first);
    for (size_t at = 0; at < n; at += 32, b += 24) {
        uint32_t high = codec_u32_at(b + 4);
        codec_nibbles(b + 8, to + at);
        for (int i = 0; i < 32; i++)
            to[at + i] = (int8_t)((to[at + i] | (high >> i & 1) << 4));
    }
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    const uint8_t *b = codec_block(w, row, first);
    *g = (struct form_group){.d = codec_f16_at(b), .m = -codec_f16_at(b + 2), .scale = 1, .min = 1};
}

const struct codec codec_q5_1 = {
    .name = "Q5_1", .block = 32, .block_bytes = 24, .form = form, .codes = codes, .group = group};
