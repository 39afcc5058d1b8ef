#include "kernels/cpu/plain/kept.h"

#include <omp.h>

/* Outputs are shared out, not rows: a decode step has few rows, and each row of W is read once. */
void plain_linear(struct device *d, struct stream *s, const struct weight *w, const void *x, int n,
                  void *y, enum dtype y_dtype)
{
    (void)s;
    size_t rows = (size_t)n, k = w->k;
    cpu_scratch_begin(d);
    float *xs = cpu_scratch(d, rows * k, sizeof(float));
    float *weight_rows = cpu_scratch(d, (size_t)d->threads * k, sizeof(float));
    plain_load(d, d->config.act, x, 0, rows * k, xs);
#pragma omp parallel for num_threads(d->threads)
    for (size_t j = 0; j < w->n; j++) {
        float *row = weight_rows + (size_t)omp_get_thread_num() * k;
        plain_weight_row(d, w, j, row);
        for (size_t i = 0; i < rows; i++)
            plain_store_one(y_dtype, plain_dot(xs + i * k, row, k), y, i * w->n + j);
    }
}
