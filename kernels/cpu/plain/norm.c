#include "kernels/cpu/plain/plain.h"

#include <math.h>
#include <omp.h>

void plain_norm(struct device *d, struct stream *s, const void *x, const float *gain, float eps,
                int n, int width, void *y)
{
    (void)s;
    size_t w = (size_t)width;
    cpu_scratch_begin(d);
    float *rows = cpu_scratch(d, (size_t)d->threads * w, sizeof(float));
#pragma omp parallel for num_threads(d->threads)
    for (int i = 0; i < n; i++) {
        float *row = rows + (size_t)omp_get_thread_num() * w;
        plain_load(d, d->config.act, x, (size_t)i * w, w, row);
        float mean = plain_dot(row, row, w) / (float)w;
        float factor = 1.0f / sqrtf(mean + eps);
        for (size_t j = 0; j < w; j++)
            row[j] = row[j] * factor * gain[j];
        plain_store(d->config.act, row, w, y, (size_t)i * w);
    }
}
