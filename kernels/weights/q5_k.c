#include "kernels/weights/codec.h"
#include "kernels/weights/k_scales.h"

/* As Q4_K with 256 fifth bits before the four. */
static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    *f = (struct weight_form){.kind = FORM_I8,
                              .factor = DTYPE_F16,
                              .outer = 256,
                              .inner = 32,
                              .scales = true,
                              .mins = MINS_INNER};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    const uint8_t *b = codec_block(w, row, first);
    for (size_t at = 0; at < n; at += 256, b += 176)
        for (int l = 0; l < 32; l++)
            for (int i = 0; i < 8; i++) {
                uint8_t two = b[48 + i / 2 * 32 + l];
                int low = i % 2 ? two >> 4 : two & 15;
                to[at + 32 * (size_t)i + (size_t)l] = (int8_t)(low | (b[16 + l] >> i & 1) << 4);
            }
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    const uint8_t *b = codec_block(w, row, first);
    k_scales(b, (int)(first % 256 / 32), g);
}

const struct codec codec_q5_k = {
    .name = "Q5_K", .block = 256, .block_bytes = 176, .form = form, .codes = codes, .group = group};
