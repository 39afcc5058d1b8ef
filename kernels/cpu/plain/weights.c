/* weights.c - matrices as the reference keeps them: the checkpoint's numbers without gaps, or int8
 * with one scale per row; and one row of them as f32. */
#include "kernels/cpu/plain/plain.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 128 /* rows and columns that share one FP8 scale in the checkpoint */

/* Rows and columns of block scales that a part of n x k touches. */
static size_t blocks(size_t first, size_t count)
{
    return count ? (first % BLOCK + count - 1) / BLOCK + 1 : 0;
}

static size_t scale_count(const struct weight_part *w, enum dtype kept)
{
    if (kept == DTYPE_I8)
        return w->n;
    if (kept == DTYPE_F8E4M3)
        return mem_mul(blocks(w->row0, w->n), blocks(w->col0, w->k));
    return 0;
}

static enum dtype kept_dtype(const struct weight_part *w, enum weight_keep keep)
{
    return keep == WEIGHT_INT8 ? DTYPE_I8 : w->dtype;
}

size_t plain_weight_bytes(const struct device *d, const struct weight_part *w,
                          enum weight_keep keep)
{
    (void)d;
    enum dtype kept = kept_dtype(w, keep);
    return mem_mul(mem_mul(w->n, w->k), dtype_size(kept)) +
           mem_mul(scale_count(w, kept), sizeof(float));
}

void plain_weight_row(const struct device *d, const struct weight *w, size_t j, float *to)
{
    if (w->dtype == DTYPE_I8) {
        const int8_t *row = (const int8_t *)w->data + j * w->k;
        for (size_t i = 0; i < w->k; i++)
            to[i] = (float)row[i] * w->scale[j];
        return;
    }
    plain_load(d, w->dtype, w->data, j * w->k, w->k, to);
    if (w->dtype == DTYPE_F8E4M3) {
        const float *scale = w->scale + (w->row0 + j) / BLOCK * w->scale_stride;
        for (size_t i = 0; i < w->k; i++)
            to[i] *= scale[(w->col0 + i) / BLOCK];
    }
}

/* The part as it stands in the checkpoint, without the gaps between its rows. */
static struct weight *keep_part(const struct weight_part *w)
{
    struct weight *kept = mem_zeroed(1, sizeof *kept);
    size_t size = dtype_size(w->dtype);
    kept->dtype = w->dtype;
    kept->n = w->n;
    kept->k = w->k;
    kept->data = mem_aligned(mem_mul(w->n, w->k), size);
    if (w->k)
        for (size_t j = 0; j < w->n; j++)
            memcpy((char *)kept->data + j * w->k * size,
                   (const char *)w->data + j * w->stride * size, w->k * size);
    if (w->dtype != DTYPE_F8E4M3)
        return kept;

    size_t block_rows = blocks(w->row0, w->n), block_cols = blocks(w->col0, w->k);
    kept->row0 = w->row0 % BLOCK;
    kept->col0 = w->col0 % BLOCK;
    kept->scale_stride = block_cols;
    kept->scale = mem_aligned(mem_mul(block_rows, block_cols), sizeof(float));
    for (size_t b = 0; b < block_rows && block_cols; b++)
        memcpy(kept->scale + b * block_cols,
               w->scale + (w->row0 / BLOCK + b) * w->scale_stride + w->col0 / BLOCK,
               block_cols * sizeof(float));
    return kept;
}

/* Each row in steps of max|w| / 127, rounded to the nearest. */
static struct weight *quantize(struct device *d, const struct weight *from)
{
    struct weight *kept = mem_zeroed(1, sizeof *kept);
    kept->dtype = DTYPE_I8;
    kept->n = from->n;
    kept->k = from->k;
    int8_t *data = mem_aligned(mem_mul(from->n, from->k), 1);
    float *row = mem_new(from->k, sizeof(float));
    kept->data = data;
    kept->scale = mem_aligned(from->n, sizeof(float));
    for (size_t j = 0; j < from->n; j++) {
        plain_weight_row(d, from, j, row);
        float most = 0;
        for (size_t i = 0; i < from->k; i++)
            most = fmaxf(most, fabsf(row[i]));
        float scale = most / 127.0f;
        kept->scale[j] = scale;
        for (size_t i = 0; i < from->k; i++)
            data[j * from->k + i] = scale > 0 ? (int8_t)lrintf(row[i] / scale) : 0;
    }
    free(row);
    return kept;
}

struct weight *plain_weight_create(struct device *d, const struct weight_part *w,
                                   enum weight_keep keep)
{
    if (w->dtype != DTYPE_F32 && w->dtype != DTYPE_BF16 && w->dtype != DTYPE_F8E4M3)
        die("weights of format %s cannot be packed", dtype_name(w->dtype));
    struct weight *kept = keep_part(w);
    if (keep == WEIGHT_KEEP)
        return kept;
    struct weight *quantized = quantize(d, kept);
    plain_weight_destroy(d, kept);
    return quantized;
}

struct weight *plain_table_create(struct device *d, const struct weight_part *w)
{
    return plain_weight_create(d, w, WEIGHT_KEEP);
}

void plain_weight_destroy(struct device *d, struct weight *w)
{
    (void)d;
    if (!w)
        return;
    free(w->data);
    free(w->scale);
    free(w);
}
