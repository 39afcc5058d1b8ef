#include "kernels/weights/codec.h"

/* d f16, 32 fifth bits, 32 x 4 bits: w = d (q - 16). */
static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    *f = (struct weight_form){.kind = FORM_I8, .factor = DTYPE_F16, .outer = 32, .inner = 32};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    const uint8_t *b = codec_block(w, row, first);
    for (size_t at = 0; at < n; at += 32, b += 22) {
        uint32_t high = codec_u32_at(b + 2);
        codec_nibbles(b + 6, to + at);
        for (int i = 0; i < 32; i++)
            to[at + i] = (int8_t)((to[at + i] | (high >> i & 1) << 4) - 16);
    }
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    const uint8_t *b = codec_block(w, row, first);
    *g = (struct form_group){.d = codec_f16_at(b), .scale = 1};
}

const struct codec codec_q5_0 = {
    .name = "Q5_0", .block = 32, .block_bytes = 22, .form = form, .codes = codes, .group = group};
