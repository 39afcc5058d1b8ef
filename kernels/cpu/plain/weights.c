/* weights.c - matrices as the reference keeps them (kernels/weights/form.h); and one row of them as
 * f32. */
#include "kernels/cpu/plain/kept.h"

#include "base/mem.h"
#include "kernels/cpu/integer.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 128 /* rows and columns under one FP8 scale */

/* Rows or columns of block scales that a part of n x k touches. */
static size_t blocks(size_t first, size_t count)
{
    return count ? (first % BLOCK + count - 1) / BLOCK + 1 : 0;
}

/* Numbers of form.factor, and small integers, that one row has. */
static size_t factors_of(const struct weight_form *f, size_t k)
{
    return form_groups(k, f->outer) * (f->mins == MINS_OUTER || f->mins == MINS_INNER ? 2 : 1);
}

static bool has_min(const struct weight_form *f)
{
    return f->mins == MINS_INNER || f->mins == MINS_SHARED;
}

static size_t smalls_of(const struct weight_form *f, size_t k)
{
    return form_groups(k, f->inner) * ((f->scales ? 1 : 0) + (has_min(f) ? 1 : 0));
}

static size_t data_row_bytes(const struct weight *w)
{
    static const size_t bits[] = {32, 16, 8, 8, 4};
    return (mem_mul(w->k, bits[w->form.kind]) + 7) / 8;
}

size_t plain_weight_bytes(const struct device *d, const struct weight_part *w,
                          enum weight_keep keep)
{
    (void)d;
    struct weight_form f = weight_form(w, keep);
    size_t scales = f.kind == FORM_F8 ? mem_mul(blocks(w->row0, w->n), blocks(w->col0, w->k)) : 0;
    return mem_mul(w->n, form_row_bytes(&f, w->k)) + mem_mul(scales, sizeof(float));
}

/* ---- reading -------------------------------------------------------------------------------- */

struct form_group plain_group(const struct weight *w, size_t row, size_t input)
{
    const struct weight_form *f = &w->form;
    size_t outer = row * form_groups(w->k, f->outer) + input / f->outer;
    size_t inner = row * form_groups(w->k, f->inner) + input / f->inner;
    struct form_group g = {.scale = 1, .min = 1};
    if (f->mins == MINS_OUTER || f->mins == MINS_INNER) {
        g.d = codec_number(w->factors, f->factor, 2 * outer);
        g.m = codec_number(w->factors, f->factor, 2 * outer + 1);
    } else {
        g.d = codec_number(w->factors, f->factor, outer);
        g.m = f->mins == MINS_SHARED ? g.d : 0;
    }
    const int8_t *small = w->smalls;
    if (f->scales)
        g.scale = small[has_min(f) ? 2 * inner : inner];
    if (has_min(f))
        g.min = small[f->scales ? 2 * inner + 1 : inner];
    return g;
}

int plain_integer(const struct weight *w, size_t row, size_t input)
{
    const uint8_t *data = (const uint8_t *)w->data + row * data_row_bytes(w);
    if (w->form.kind == FORM_I8)
        return (int8_t)data[input];
    return w->form.values[data[input / 2] >> input % 2 * 4 & 15];
}

static void grouped_row(const struct weight *w, size_t j, float *to)
{
    for (size_t first = 0; first < w->k; first += w->form.inner) {
        struct form_group g = plain_group(w, j, first);
        for (size_t i = first; i < w->k && i < first + w->form.inner; i++)
            to[i] = form_value(&g, plain_integer(w, j, i));
    }
}

void plain_weight_row(const struct device *d, const struct weight *w, size_t j, float *to)
{
    static const enum dtype numbers[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F8E4M3};
    if (form_is_grouped(w->form.kind)) {
        grouped_row(w, j, to);
        return;
    }
    plain_load(d, numbers[w->form.kind], w->data, j * w->k, w->k, to);
    if (w->form.kind == FORM_F8) {
        const float *scale = w->scale + (w->row0 + j) / BLOCK * w->scale_stride;
        for (size_t i = 0; i < w->k; i++)
            to[i] *= scale[(w->col0 + i) / BLOCK];
    }
}

/* ---- keeping -------------------------------------------------------------------------------- */

static void put_number(enum dtype t, float value, void *to, size_t at)
{
    if (t == DTYPE_F16)
        ((f16_t *)to)[at] = f16_from_f32(value);
    else
        plain_store_one(t, value, to, at);
}

static void put_group(struct weight *w, size_t row, size_t first, const struct form_group *g)
{
    const struct weight_form *f = &w->form;
    if (first % f->outer == 0) {
        size_t outer = row * form_groups(w->k, f->outer) + first / f->outer;
        bool own = f->mins == MINS_OUTER || f->mins == MINS_INNER;
        put_number(f->factor, g->d, w->factors, own ? 2 * outer : outer);
        if (own)
            put_number(f->factor, g->m, w->factors, 2 * outer + 1);
    }
    size_t inner = row * form_groups(w->k, f->inner) + first / f->inner;
    if (f->scales)
        w->smalls[has_min(f) ? 2 * inner : inner] = (int8_t)g->scale;
    if (has_min(f))
        w->smalls[f->scales ? 2 * inner + 1 : inner] = (int8_t)g->min;
}

/* What a row is made with. */
struct row_work {
    float *values;
    int8_t *codes;
    struct form_group *groups;
};

static void keep_grouped(struct weight *w, const struct weight_part *part, enum weight_keep keep,
                         size_t row, const struct row_work *work)
{
    uint8_t *data = (uint8_t *)w->data + row * data_row_bytes(w);
    weight_row_grouped(part, keep, &w->form, row, work->codes, work->groups, work->values);
    if (w->form.kind == FORM_I8) {
        memcpy(data, work->codes, w->k);
    } else {
        memset(data, 0, data_row_bytes(w));
        for (size_t i = 0; i < w->k; i++)
            data[i / 2] |= (uint8_t)(work->codes[i] << i % 2 * 4);
    }
    for (size_t i = 0; i < form_groups(w->k, w->form.inner); i++)
        put_group(w, row, i * w->form.inner, &work->groups[i]);
}

static void keep_row(struct weight *w, const struct weight_part *part, enum weight_keep keep,
                     size_t row, const struct row_work *work)
{
    if (form_is_grouped(w->form.kind)) {
        keep_grouped(w, part, keep, row, work);
    } else if (w->form.kind == FORM_F8) {
        weight_row_f8(part, row, (uint8_t *)w->data + row * w->k);
    } else {
        weight_row(part, row, work->values);
        plain_store(w->form.kind == FORM_F32 ? DTYPE_F32 : DTYPE_BF16, work->values, w->k, w->data,
                    row * w->k);
    }
}

/* The scales of the blocks that the part touches. */
static void keep_scales(struct weight *w, const struct weight_part *part)
{
    size_t rows = blocks(part->row0, part->n), columns = blocks(part->col0, part->k);
    w->row0 = part->row0 % BLOCK;
    w->col0 = part->col0 % BLOCK;
    w->scale_stride = columns;
    w->scale = mem_aligned(mem_mul(rows, columns), sizeof(float));
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) {
            size_t row = i ? i * BLOCK - w->row0 : 0, column = j ? j * BLOCK - w->col0 : 0;
            w->scale[i * columns + j] = weight_scale(part, row, column);
        }
}

struct weight *plain_weight_create(struct device *d, const struct weight_part *w,
                                   enum weight_keep keep)
{
    struct weight *kept = mem_zeroed(1, sizeof *kept);
    kept->form = weight_form(w, keep);
    bool blocks_fit =
        kept->form.kind == FORM_F8 && w->row0 % PLAIN_OUTPUTS == 0 && w->col0 % 16 == 0;
    kept->run = form_is_grouped(kept->form.kind) || blocks_fit ? form_run(&kept->form) : 0;
    kept->before = form_before(&kept->form, w->col0);
    kept->integers = d->config.int8_products && form_is_grouped(kept->form.kind);
    kept->n = w->n;
    kept->k = w->k;
    kept->data = mem_aligned(mem_mul(w->n, data_row_bytes(kept)), 1);
    if (form_is_grouped(kept->form.kind)) {
        kept->factors = mem_aligned(mem_mul(w->n, factors_of(&kept->form, w->k)),
                                    dtype_size(kept->form.factor));
        kept->smalls = mem_aligned(mem_mul(w->n, smalls_of(&kept->form, w->k)), 1);
    } else if (kept->form.kind == FORM_F8) {
        keep_scales(kept, w);
    }
    struct row_work work = {mem_new(w->k, sizeof(float)), mem_new(w->k, 1),
                            mem_new(w->k, sizeof(struct form_group))};
    for (size_t j = 0; j < w->n && w->k; j++)
        keep_row(kept, w, keep, j, &work);
    free(work.values);
    free(work.codes);
    free(work.groups);
    return kept;
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
    free(w->factors);
    free(w->smalls);
    free(w);
}
