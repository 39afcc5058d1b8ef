#include "kernels/cpu/plain/kept.h"

void plain_embed(struct device *d, struct stream *s, const struct weight *table, const int32_t *ids,
                 int n, float *x)
{
    (void)s;
#pragma omp parallel for num_threads(d->threads)
    for (int i = 0; i < n; i++)
        plain_weight_row(d, table, (size_t)(ids[i] > 0 ? ids[i] : 0), x + (size_t)i * table->k);
}
