#include "kernels/weights/codec.h"

/* IEEE half precision. It has bits that a bf16 has not, so it is kept in f32. */
static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    f->kind = FORM_F32;
}

static void numbers(const struct weight_part *w, size_t row, size_t first, size_t n, float *to)
{
    const f16_t *from = (const f16_t *)w->data + row * w->stride + first;
    for (size_t i = 0; i < n; i++)
        to[i] = f32_from_f16(from[i]);
}

const struct codec codec_f16 = {
    .name = "F16", .block = 1, .block_bytes = 2, .form = form, .numbers = numbers};
