#include "kernels/weights/codec.h"

/* 256 x 4 low bits, 256 x 2 high bits, 16 int8 scales, d f16: w = (d scale) (q - 32). */
static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    *f = (struct weight_form){
        .kind = FORM_I8, .factor = DTYPE_F16, .outer = 256, .inner = 16, .scales = true};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    const uint8_t *b = codec_block(w, row, first);
    for (size_t at = 0; at < n; at += 256, b += 210)
        for (int i = 0; i < 256; i++) {
            int half = i / 128, quarter = i % 128 / 32, l = i % 32;
            uint8_t two = b[half * 64 + (quarter & 1) * 32 + l];
            int low = quarter < 2 ? two & 15 : two >> 4;
            int high = b[128 + half * 32 + l] >> 2 * quarter & 3;
            to[at + (size_t)i] = (int8_t)((low | high << 4) - 32);
        }
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    const uint8_t *b = codec_block(w, row, first);
    *g =
        (struct form_group){.d = codec_f16_at(b + 208), .scale = (int8_t)b[192 + first % 256 / 16]};
}

const struct codec codec_q6_k = {
    .name = "Q6_K", .block = 256, .block_bytes = 210, .form = form, .codes = codes, .group = group};
