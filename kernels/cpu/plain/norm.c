#include "kernels/cpu/plain/plain.h"

#include <math.h>
#include <omp.h>

void plain_norm(struct device *d, struct stream *s, const struct rows *x, const float *gain,
                float eps, int n, int width, const struct rows *y)
{
    (void)s;
    size_t w = (size_t)width;
    cpu_scratch_begin(d);
    float *rows = cpu_scratch(d, (size_t)d->threads * w, sizeof(float));
#pragma omp parallel for num_threads(d->threads)
    for (int i = 0; i < n; i++) {
        float *row = rows + (size_t)omp_get_thread_num() * w;
        plain_load(d, x->dtype, x->data, (size_t)i * x->stride, w, row);
        float mean = plain_dot(row, row, w) / (float)w;
        float factor = 1.0f / sqrtf(mean + eps);
        for (size_t j = 0; j < w; j++)
            row[j] = row[j] * factor * gain[j];
        plain_store(y->dtype, row, w, y->data, (size_t)i * y->stride);
    }
}
