#include "kernels/cpu/plain/plain.h"

#include <math.h>

static void add_part(float *x, enum dtype t, const void *part, size_t at, size_t n)
{
    if (t == DTYPE_F32)
        for (size_t j = 0; j < n; j++)
            x[j] += ((const float *)part)[at + j];
    else
        for (size_t j = 0; j < n; j++)
            x[j] += f32_from_bf16(((const bf16_t *)part)[at + j]);
}

static void add_exact(float *x, const void *const *parts, int n_parts, size_t at, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        double sum = 0;
        for (int p = 0; p < n_parts; p++)
            sum += ((const double *)parts[p])[at + j];
        x[j] += (float)sum;
    }
}

void plain_residual_norm(struct device *d, struct stream *s, float *x, const void *const *parts,
                         int n_parts, enum dtype part_dtype, const float *gain, float eps, int n,
                         int hidden, void *y)
{
    (void)s;
    size_t width = (size_t)hidden;
#pragma omp parallel for num_threads(d->threads)
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * width;
        float *row = x + at;
        if (part_dtype == DTYPE_F64 && n_parts > 0)
            add_exact(row, parts, n_parts, at, width);
        for (int p = 0; p < n_parts && part_dtype != DTYPE_F64; p++)
            add_part(row, part_dtype, parts[p], at, width);
        if (!y)
            continue;
        float mean = plain_dot(row, row, width) / (float)width;
        float factor = 1.0f / sqrtf(mean + eps);
        for (size_t j = 0; j < width; j++)
            plain_store_one(d->config.act, row[j] * factor * gain[j], y, at + j);
    }
}
