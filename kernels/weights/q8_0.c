#include "kernels/weights/codec.h"

#include <string.h>

/* d f16, 32 int8: w = d q. */
static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    *f = (struct weight_form){.kind = FORM_I8, .factor = DTYPE_F16, .outer = 32, .inner = 32};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    const uint8_t *b = codec_block(w, row, first);
    for (size_t at = 0; at < n; at += 32, b += 34)
        memcpy(to + at, b + 2, 32);
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    const uint8_t *b = codec_block(w, row, first);
    *g = (struct form_group){.d = codec_f16_at(b), .scale = 1};
}

const struct codec codec_q8_0 = {
    .name = "Q8_0", .block = 32, .block_bytes = 34, .form = form, .codes = codes, .group = group};
