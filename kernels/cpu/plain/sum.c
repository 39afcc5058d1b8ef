#include "kernels/cpu/plain/plain.h"

static double part_at(enum dtype t, const void *part, size_t i)
{
    if (t == DTYPE_F64)
        return ((const double *)part)[i];
    return t == DTYPE_F32 ? ((const float *)part)[i] : f32_from_bf16(((const bf16_t *)part)[i]);
}

void plain_sum(struct device *d, struct stream *s, const void *const *parts, int n_parts,
               enum dtype dtype, int n, int width, void *out)
{
    (void)s;
    size_t total = (size_t)n * (size_t)width;
#pragma omp parallel for num_threads(d->threads)
    for (size_t i = 0; i < total; i++) {
        double sum = part_at(dtype, parts[0], i);
        for (int p = 1; p < n_parts; p++) {
            sum += part_at(dtype, parts[p], i);
            sum = dtype == DTYPE_F64 ? sum : (float)sum;
        }
        plain_store_one(dtype, sum, out, i);
    }
}
