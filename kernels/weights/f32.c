#include "kernels/weights/codec.h"

#include <string.h>

/* IEEE single precision, as it is. */
static void form(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    f->kind = FORM_F32;
}

static void numbers(const struct weight_part *w, size_t row, size_t first, size_t n, float *to)
{
    const float *from = (const float *)w->data + row * w->stride + first;
    memcpy(to, from, n * sizeof *to);
}

const struct codec codec_f32 = {
    .name = "F32", .block = 1, .block_bytes = 4, .form = form, .numbers = numbers};
