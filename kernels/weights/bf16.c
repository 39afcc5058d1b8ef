#include "kernels/weights/codec.h"

/* The upper half of an f32, as it is. */
static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    f->kind = FORM_BF16;
}

static void numbers(const struct weight_part *w, size_t row, size_t first, size_t n, float *to)
{
    const bf16_t *from = (const bf16_t *)w->data + row * w->stride + first;
    for (size_t i = 0; i < n; i++)
        to[i] = f32_from_bf16(from[i]);
}

const struct codec codec_bf16 = {
    .name = "BF16", .block = 1, .block_bytes = 2, .form = form, .numbers = numbers};
