#include "kernels/cpu/plain/plain.h"

#include <math.h>

/* One group of columns to FP8; returns its scale. A scale that would be 0 (all zero, or so small
 * that max / 448 vanishes) is 1. */
static float encode_group(const float *x, size_t n, f8e4m3_t *to)
{
    float most = 0;
    for (size_t j = 0; j < n; j++)
        most = fabsf(x[j]) > most ? fabsf(x[j]) : most; /* fmaxf() may stop at a NaN */
    float scale = most / 448.0f;
    if (scale == 0)
        scale = 1.0f;
    for (size_t j = 0; j < n; j++)
        to[j] = f8e4m3_from_f32(x[j] / scale);
    return scale;
}

void plain_copy(struct device *d, struct stream *s, const struct rows *from, const struct rows *to,
                int n, int width)
{
    (void)s;
    size_t columns = (size_t)width, groups = (columns + ROWS_GROUP - 1) / ROWS_GROUP;
#pragma omp parallel for num_threads(d->threads)
    for (size_t task = 0; task < (size_t)n * groups; task++) {
        float values[ROWS_GROUP];
        size_t row = task / groups, first = task % groups * ROWS_GROUP,
               at = row * to->stride + first;
        size_t count = columns - first < ROWS_GROUP ? columns - first : ROWS_GROUP;
        plain_load(d, from->dtype, from->data, row * from->stride + first, count, values);
        for (size_t j = 0; from->dtype == DTYPE_F8E4M3 && j < count; j++)
            values[j] *= from->scale[task];
        if (to->dtype == DTYPE_F8E4M3)
            to->scale[task] = encode_group(values, count, (f8e4m3_t *)to->data + at);
        else
            plain_store(to->dtype, values, count, to->data, at);
    }
}
