#include "kernels/weights/codec.h"

/* FP8 e4m3 with a scale per block of 128 x 128 (weight_scale_inv), or, in compressed-tensors'
 * "float-quantized", per row, per group of columns or for all. w = number x scale. */
static void form(const struct weight_part *w, struct weight_form *f)
{
    /* Rows in turn (step) would cross blocks of scales at other places than form_scale()s do. */
    f->kind = w->step <= 1 && w->scale_rows == 128 && w->scale_columns == 128 ? FORM_F8 : FORM_F32;
}

static void numbers(const struct weight_part *w, size_t row, size_t first, size_t n, float *to)
{
    const f8e4m3_t *from = (const f8e4m3_t *)w->data + row * w->stride + first;
    for (size_t i = 0; i < n; i++)
        to[i] = f32_from_f8e4m3(from[i]) * codec_scale(w, row, first + i);
}

const struct codec codec_fp8 = {
    .name = "F8_E4M3", .block = 1, .block_bytes = 1, .form = form, .numbers = numbers};
