#include "kernels/weights/codec.h"

/* compressed-tensors' "pack-quantized" with 8 bits: int32 [outputs][inputs / 4], lowest bits first;
 * scales [outputs][groups]; zero points [outputs / 4][groups], packed down the rows, or 128 for all.
 * w = scale (q - zero). The last int32 of a row may be part full. */
static int packed(uint32_t word, size_t i)
{
    return (int)(word >> 8 * (i % 4) & 255);
}

static void form(const struct weight_part *w, struct weight_form *f)
{
    *f = (struct weight_form){.kind = FORM_I8,
                              .factor = w->scale_dtype,
                              .outer = w->scale_columns,
                              .inner = w->scale_columns,
                              .mins = w->zero ? MINS_SHARED : MINS_NONE};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    const uint32_t *words = (const uint32_t *)w->data + row * ((w->stride + 3) / 4);
    for (size_t i = 0; i < n; i++)
        to[i] = (int8_t)(packed(words[(first + i) / 4], first + i) - 128);
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    size_t i = w->scale_columns ? first / w->scale_columns : 0;
    *g = (struct form_group){.d = codec_scale(w, row, first), .scale = 1};
    if (!w->zero)
        return;
    g->m = g->d;
    g->min = packed(((const uint32_t *)w->zero)[row / 4 * w->zero_stride + i], row) - 128;
}

const struct codec codec_packed8 = {
    .name = "8-bit packed", .block = 1, .form = form, .codes = codes, .group = group};
