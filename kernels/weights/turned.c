#include "kernels/weights/codec.h"

/* Numbers whose matrices are stored transposed, [inputs][outputs]: the experts of gpt-oss in copies without
 * MXFP4. Kept as the numbers themselves are. */
static void numbers(const struct weight_part *w, enum dtype t, size_t row, size_t first, size_t n,
                    float *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = codec_number(w->data, t, (first + i) * w->stride + row);
}

static void form_f32(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    f->kind = FORM_F32;
}

static void form_bf16(const struct weight_part *w, struct weight_form *f)
{
    (void)w;
    f->kind = FORM_BF16;
}

static void f32(const struct weight_part *w, size_t row, size_t first, size_t n, float *to)
{
    numbers(w, DTYPE_F32, row, first, n, to);
}

static void bf16(const struct weight_part *w, size_t row, size_t first, size_t n, float *to)
{
    numbers(w, DTYPE_BF16, row, first, n, to);
}

static void f16(const struct weight_part *w, size_t row, size_t first, size_t n, float *to)
{
    numbers(w, DTYPE_F16, row, first, n, to);
}

const struct codec codec_turned_f32 = {
    .name = "F32, inputs first", .block = 1, .word = 4, .form = form_f32, .numbers = f32};
const struct codec codec_turned_bf16 = {
    .name = "BF16, inputs first", .block = 1, .word = 2, .form = form_bf16, .numbers = bf16};
const struct codec codec_turned_f16 = {
    .name = "F16, inputs first", .block = 1, .word = 2, .form = form_f32, .numbers = f16};
