/* rig_codes.c - matrices of codes in groups, with any bytes. */
#include "tests/kernels/rig.h"

void rig_set_values(struct rig *r, struct rig_weight *w, enum weight_keep keep)
{
    size_t n = w->part.n, k = w->part.k;
    float *row = rig_host(r, k, sizeof *row);
    w->value = rig_host(r, n * k, sizeof *w->value);
    for (size_t i = 0; i < n; i++) {
        weight_row_kept(&w->part, keep, i, row);
        for (size_t j = 0; j < k; j++)
            w->value[i * k + j] = (double)row[j];
    }
}

struct rig_weight rig_coded(struct rig *r, const struct codec *c, size_t n, size_t k, size_t col0)
{
    size_t columns = (col0 + k + c->block - 1) / c->block * c->block;
    size_t bytes = n * (columns / c->block) * c->block_bytes;
    uint8_t *data = rig_host(r, bytes, 1);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)(rig_uniform(r) * 256) & 0xbf;
    struct rig_weight w = {
        .part = {.codec = c, .data = data, .stride = columns, .n = n, .k = k, .col0 = col0}};
    rig_set_values(r, &w, WEIGHT_KEEP);
    return w;
}

static uint32_t *words(struct rig *r, size_t n)
{
    uint32_t *to = rig_host(r, n, sizeof *to);
    for (size_t i = 0; i < n; i++)
        to[i] = (uint32_t)(rig_uniform(r) * 4294967296.0);
    return to;
}

struct rig_weight rig_packed(struct rig *r, int bits, size_t group, enum dtype type, bool zeros,
                             size_t n, size_t k)
{
    size_t groups = group ? (k + group - 1) / group : 1, each = 32 / (size_t)bits;
    struct rig_weight w = {
        .part = {.codec = bits == 4 ? &codec_packed4 : &codec_packed8,
                 .data = words(r, n * ((k + each - 1) / each)),
                 .stride = k,
                 .scale = rig_encode(r, type, rig_values(r, type, n * groups, 1), n * groups),
                 .scale_dtype = type,
                 .scale_rows = 1,
                 .scale_columns = group,
                 .scale_stride = groups,
                 .zero = zeros ? words(r, (n + each - 1) / each * groups) : NULL,
                 .zero_stride = groups,
                 .n = n,
                 .k = k}};
    rig_set_values(r, &w, WEIGHT_KEEP);
    return w;
}
