#include "kernels/weights/codec.h"

#include <string.h>

/* int8 with a scale per row or per group of columns: compressed-tensors' "int-quantized". */
static void form(const struct weight_part *w, struct weight_form *f)
{
    *f = (struct weight_form){.kind = FORM_I8,
                              .factor = w->scale_dtype,
                              .outer = w->scale_columns,
                              .inner = w->scale_columns};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    memcpy(to, (const int8_t *)w->data + row * w->stride + first, n);
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    *g = (struct form_group){.d = codec_scale(w, row, first), .scale = 1};
}

const struct codec codec_int8 = {
    .name = "I8", .block = 1, .block_bytes = 1, .form = form, .codes = codes, .group = group};
