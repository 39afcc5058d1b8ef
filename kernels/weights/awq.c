#include "kernels/weights/codec.h"

/* AutoAWQ's "gemm": int32 [inputs][outputs / 8], an int32 holds eight outputs in the order 0 2 4 6
 * 1 3 5 7 from its lowest bits; zero points [inputs / group][outputs / 8] likewise; scales
 * [inputs / group][outputs]. w = scale (q - zero). stride: int32 between rows of inputs. */
static int nibble(const void *packed, size_t stride, size_t row, size_t output)
{
    static const int place[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    uint32_t eight = ((const uint32_t *)packed)[row * stride + output / 8];
    return (int)(eight >> 4 * place[output % 8] & 15);
}

static void form(const struct weight_part *w, struct weight_form *f)
{
    *f = (struct weight_form){.kind = FORM_I4,
                              .values = codec_identity,
                              .factor = w->scale_dtype,
                              .outer = w->scale_columns,
                              .inner = w->scale_columns,
                              .mins = MINS_SHARED};
}

static void codes(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (int8_t)nibble(w->data, w->stride, first + i, row);
}

static void group(const struct weight_part *w, size_t row, size_t first, struct form_group *g)
{
    size_t i = w->scale_columns ? first / w->scale_columns : 0;
    g->d = g->m = codec_number(w->scale, w->scale_dtype, i * w->scale_stride + row);
    g->scale = 1;
    g->min = nibble(w->zero, w->zero_stride, i, row);
}

const struct codec codec_awq = {.name = "AWQ",
                                .block = 1,
                                .word = sizeof(uint32_t),
                                .form = form,
                                .codes = codes,
                                .group = group};
