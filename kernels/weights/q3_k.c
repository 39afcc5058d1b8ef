#include "kernels/weights/codec.h"

/* 256 high bits, 256 x 2 low bits, 16 scales of 6 bits, d f16: w = (d (scale - 32)) (q - 4). */
static const int8_t around[16] = {-4, -3, -2, -1, 0, 1, 2, 3};

static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    *f = (struct weight_form){.kind = FORM_I4,
                              .values = around,
                              .factor = DTYPE_F16,
                              .outer = 256,
                              .inner = 16,
                              .scales = true};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    const uint8_t *b = codec_block(w, row, first);
    for (size_t at = 0; at < n; at += 256, b += 110)
        for (int i = 0; i < 256; i++) {
            int low = b[32 + i / 128 * 32 + i % 32] >> 2 * (i % 128 / 32) & 3;
            to[at + (size_t)i] = (int8_t)(low | (b[i % 32] >> i / 32 & 1) << 2);
        }
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    const uint8_t *b = codec_block(w, row, first);
    const uint8_t *s = b + 96;
    size_t i = first % 256 / 16;
    int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4, high = s[8 + i % 4] >> 2 * (i / 4) & 3;
    *g = (struct form_group){.d = codec_f16_at(b + 108), .scale = (low | high << 4) - 32};
}

const struct codec codec_q3_k = {
    .name = "Q3_K", .block = 256, .block_bytes = 110, .form = form, .codes = codes, .group = group};
