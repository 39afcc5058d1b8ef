#include "kernels/cpu/plain/plain.h"

#include <math.h>

#define GROUP 128 /* columns that share one FP8 scale */

/* One group of at most 128 columns to FP8; returns its scale. A scale that would be 0 (all zero, or
 * so small that max / 448 vanishes) is 1. */
static float encode_group(const float *x, size_t n, f8e4m3_t *to)
{
    float most = 0;
    for (size_t j = 0; j < n; j++)
        most = fmaxf(most, fabsf(x[j]));
    float scale = most / 448.0f;
    if (scale == 0)
        scale = 1.0f;
    for (size_t j = 0; j < n; j++)
        to[j] = f8e4m3_from_f32(x[j] / scale);
    return scale;
}

void plain_wire_encode(struct device *d, struct stream *s, const void *x, int n, int hidden,
                       enum dtype wire, void *rows, float *scales)
{
    (void)s;
    size_t width = (size_t)hidden, groups = (width + GROUP - 1) / GROUP;
#pragma omp parallel for num_threads(d->threads)
    for (size_t task = 0; task < (size_t)n * groups; task++) {
        float values[GROUP];
        size_t row = task / groups, first = task % groups * GROUP, at = row * width + first;
        size_t count = width - first < GROUP ? width - first : GROUP;
        plain_load(d, d->config.act, x, at, count, values);
        if (wire == DTYPE_F8E4M3)
            scales[task] = encode_group(values, count, (f8e4m3_t *)rows + at);
        else
            plain_store(wire, values, count, rows, at);
    }
}

void plain_wire_decode(struct device *d, struct stream *s, enum dtype wire, const void *rows,
                       const float *scales, int n, int hidden, void *x)
{
    (void)s;
    size_t width = (size_t)hidden, groups = (width + GROUP - 1) / GROUP;
#pragma omp parallel for num_threads(d->threads)
    for (size_t task = 0; task < (size_t)n * groups; task++) {
        float values[GROUP];
        size_t row = task / groups, first = task % groups * GROUP, at = row * width + first;
        size_t count = width - first < GROUP ? width - first : GROUP;
        plain_load(d, wire, rows, at, count, values);
        for (size_t j = 0; wire == DTYPE_F8E4M3 && j < count; j++)
            values[j] *= scales[task];
        plain_store(d->config.act, values, count, x, at);
    }
}
