#include "kernels/cpu/plain/kept.h"

#include <omp.h>

/* Outputs are shared out, not rows: a decode step has few rows, and each row of W is read once. */
void plain_linear(struct device *d, struct stream *s, const struct weight *w, const void *x, int n,
                  void *y, enum dtype y_dtype)
{
    (void)s;
    size_t rows = (size_t)n, k = w->k, groups = integer_groups(k);
    cpu_scratch_begin(d);
    float *xs = cpu_scratch(d, rows * k, sizeof(float));
    float *blocks = cpu_scratch(d, (size_t)d->threads * PLAIN_BLOCK(k), sizeof(float));
    struct integers *codes = NULL;
    plain_load(d, d->config.act, x, 0, rows * k, xs);
    if (w->integers) {
        codes = cpu_scratch(d, rows * groups, sizeof *codes);
        for (size_t i = 0; i < rows; i++)
            integer_row(xs + i * k, k, codes + i * groups);
    }
#pragma omp parallel for num_threads(d->threads)
    for (size_t first = 0; first < w->n; first += PLAIN_OUTPUTS) {
        float *block = blocks + (size_t)omp_get_thread_num() * PLAIN_BLOCK(k), out[PLAIN_OUTPUTS];
        plain_outputs(d, w, first, block);
        for (size_t i = 0; i < rows; i++) {
            const struct plain_row row = {xs + i * k, codes ? codes + i * groups : NULL};
            plain_products(w, first, block, row, 0, k, out);
            for (size_t o = 0; o < PLAIN_OUTPUTS && first + o < w->n; o++)
                plain_store_one(y_dtype, out[o], y, i * w->n + first + o);
        }
    }
}
