#include "kernels/weights/codec.h"

#include <math.h>

/* An exponent, 32 x e2m1 (OCP microscaling): w = 2^(e - 128) 2 number. Twice the number is an
 * integer, and the power of two is exact in bf16, down to the subnormal ones. */
static const int8_t doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    *f = (struct weight_form){
        .kind = FORM_I4, .values = doubled, .factor = DTYPE_BF16, .outer = 32, .inner = 32};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    const uint8_t *b = codec_block(w, row, first);
    for (size_t at = 0; at < n; at += 32, b += 17)
        codec_nibbles(b + 1, to + at);
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    const uint8_t *b = codec_block(w, row, first);
    *g = (struct form_group){.d = ldexpf(1.0f, b[0] - 128), .scale = 1};
}

const struct codec codec_mxfp4 = {
    .name = "MXFP4", .block = 32, .block_bytes = 17, .form = form, .codes = codes, .group = group};

/* As gpt-oss's own files have it: neighbours share a byte, the exponents are a tensor of their own. */
static void apart_codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    const uint8_t *b = codec_block(w, row, first);
    for (size_t i = 0; i < n; i += 2) {
        to[i] = (int8_t)(b[i / 2] & 15);
        to[i + 1] = (int8_t)(b[i / 2] >> 4);
    }
}

static void apart_group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    const uint8_t *scale = w->scale;
    *g = (struct form_group){.d = ldexpf(1.0f, scale[row * w->scale_stride + first / 32] - 128),
                             .scale = 1};
}

const struct codec codec_mxfp4_apart = {.name = "MXFP4 with scales apart",
                                        .block = 32,
                                        .block_bytes = 16,
                                        .form = form,
                                        .codes = apart_codes,
                                        .group = apart_group};
