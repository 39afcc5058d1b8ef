/* pack.c - weights into panels, once at load. Straight from the source to their place: no copy in
 * between, so loading never needs more than the packed form and the tensor that is being read. */
#include "kernels/cpu/fast/packed.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is kept --------------------------------------------------------------------------- */

/* FP8 stays in 8 bits when blocks of scales meet half panels and vectors of inputs whole: always
 * but for odd slices of small models, which are kept in f32. */
static bool f8_fits(const struct weight_part *p)
{
    return p->row0 % 16 == 0 && p->col0 % K_ALIGN == 0;
}

static enum w_format format_of(const struct source *from, enum weight_keep keep)
{
    const struct weight_part *a = from->first, *b = from->second;
    if (keep == WEIGHT_INT8)
        return W_I8;
    if (b && (a->dtype != b->dtype || a->col0 % F8_BLOCK != b->col0 % F8_BLOCK))
        return W_F32;
    if (a->dtype == DTYPE_F8E4M3)
        return f8_fits(a) && (!b || f8_fits(b)) ? W_F8 : W_F32;
    return a->dtype == DTYPE_BF16 ? W_BF16 : W_F32;
}

void packed_plan(struct weight *w, const struct source *from, enum weight_keep keep)
{
    const struct weight_part *p = from->first;
    *w = (struct weight){.format = format_of(from, keep), .k = p->k};
    w->n = from->second ? mem_mul(2, round_up(p->n, PANEL / 2)) : p->n;
    w->k_before = w->format == W_F8 ? p->col0 % F8_BLOCK : 0;
    w->k_padded = round_up(w->k_before + w->k, K_ALIGN);
    if (w->k_padded == 0)
        w->k_padded = K_ALIGN; /* no inputs: sums of nothing but padding are 0 */
    w->panels = (w->n + PANEL - 1) / PANEL;
    w->panel_bytes = mem_mul(w->k_padded, PANEL * w_size(w->format));
    if (w->format == W_F8)
        w->panel_scales = 2 * ((w->k_padded + F8_BLOCK - 1) / F8_BLOCK);
    else if (w->format == W_I8)
        w->panel_scales = PANEL;
}

static size_t data_bytes(const struct weight *w)
{
    return round_up(mem_mul(w->panels, w->panel_bytes), MEM_ALIGN);
}

static size_t scale_bytes(const struct weight *w)
{
    return round_up(mem_mul(w->panels, w->panel_scales * sizeof(float)), MEM_ALIGN);
}

size_t packed_bytes(const struct weight *w)
{
    return data_bytes(w) + scale_bytes(w);
}

/* ---- filling -------------------------------------------------------------------------------- */

/* The checkpoint row behind output 0..31 of panel i, or NULL: padding. */
static const struct weight_part *output_row(const struct source *from, size_t panel, size_t output,
                                            size_t *row)
{
    const struct weight_part *p = from->first;
    if (from->second) {
        *row = panel * (PANEL / 2) + output % (PANEL / 2);
        p = output < PANEL / 2 ? from->first : from->second;
    } else {
        *row = panel * PANEL + output;
    }
    return *row < p->n ? p : NULL;
}

static const uint8_t *row_data(const struct weight_part *p, size_t row)
{
    return (const uint8_t *)p->data + row * p->stride * dtype_size(p->dtype);
}

static float scale_at(const struct weight_part *p, size_t row, size_t col)
{
    return p->scale[(p->row0 + row) / F8_BLOCK * p->scale_stride + (p->col0 + col) / F8_BLOCK];
}

/* Inputs first .. first + n - 1 of a row in f32, scales included. */
static void row_f32(const struct device *d, const struct weight_part *p, size_t row, size_t first,
                    size_t n, float *to)
{
    const uint8_t *data = row_data(p, row);
    if (p->dtype == DTYPE_F32)
        memcpy(to, (const float *)(const void *)data + first, n * sizeof *to);
    else if (p->dtype == DTYPE_BF16)
        for (size_t i = 0; i < n; i++)
            to[i] = f32_from_bf16(((const bf16_t *)(const void *)data)[first + i]);
    else
        for (size_t i = 0; i < n; i++)
            to[i] = d->f8_value[data[first + i]] * scale_at(p, row, first + i);
}

/* Inputs that are packed at a time: 32 rows of them stay in the first cache level. */
#define STRIP 128

static void fill_f32(const struct device *d, const struct weight *w, const struct weight_part *p,
                     size_t row, size_t output, uint8_t *panel, size_t first, size_t n)
{
    float values[STRIP];
    float *to = (float *)(void *)panel;
    row_f32(d, p, row, first, n, values);
    for (size_t i = 0; i < n; i++)
        to[panel_place(W_F32, output, w->k_before + first + i)] = values[i];
}

static void fill_bf16(const struct weight_part *p, size_t row, size_t output, uint8_t *panel,
                      size_t first, size_t n)
{
    const bf16_t *from = (const bf16_t *)(const void *)row_data(p, row) + first;
    bf16_t *to = (bf16_t *)(void *)panel + panel_place(W_BF16, output, first);
    for (size_t i = 0; i + 1 < n; i += 2)
        memcpy(to + i * PANEL, from + i, 2 * sizeof *to);
    if (n % 2)
        to[(n - 1) * PANEL] = from[n - 1];
}

static void fill_f8(const struct weight *w, const struct weight_part *p, size_t row, size_t output,
                    uint8_t *panel, size_t first, size_t n)
{
    const uint8_t *from = row_data(p, row) + first;
    for (size_t i = 0; i < n; i++)
        panel[panel_place(W_F8, output, w->k_before + first + i)] = from[i];
}

/* The scales of both halves of a panel. A half lies in one block row (f8_fits), so its first row
 * stands for all; a half that is all padding takes any. */
static void fill_f8_scales(const struct weight *w, const struct source *from, size_t panel)
{
    float *to = w->scale + panel * w->panel_scales;
    for (size_t b = 0; b < w->panel_scales / 2; b++)
        for (size_t half = 0; half < 2; half++) {
            size_t row;
            const struct weight_part *p = output_row(from, panel, half * (PANEL / 2), &row);
            size_t at = b * F8_BLOCK, col = at > w->k_before ? at - w->k_before : 0;
            to[2 * b + half] = p && col < w->k ? scale_at(p, row, col) : 1.0f;
        }
}

/* Steps of max|w| / 127 per output, to the nearest; kept as sign and magnitude. */
static void fill_i8(const struct device *d, const struct weight *w, const struct weight_part *p,
                    size_t row, size_t output, size_t panel)
{
    float values[STRIP], most = 0;
    uint8_t *to = w->data + panel * w->panel_bytes;
    for (size_t first = 0; first < w->k; first += STRIP) {
        size_t n = w->k - first < STRIP ? w->k - first : STRIP;
        row_f32(d, p, row, first, n, values);
        for (size_t i = 0; i < n; i++)
            most = fmaxf(most, fabsf(values[i]));
    }
    float scale = most / 127.0f;
    for (size_t first = 0; first < w->k && scale > 0; first += STRIP) {
        size_t n = w->k - first < STRIP ? w->k - first : STRIP;
        row_f32(d, p, row, first, n, values);
        for (size_t i = 0; i < n; i++) {
            long q = lrintf(values[i] / scale);
            to[panel_place(W_I8, output, first + i)] = (uint8_t)(q < 0 ? 0x80 | -q : q);
        }
    }
    w->scale[panel * PANEL + output] = scale;
}

static void fill_panel(const struct device *d, const struct weight *w, const struct source *from,
                       size_t panel)
{
    uint8_t *to = w->data + panel * w->panel_bytes;
    const struct weight_part *p;
    size_t row;
    memset(to, 0, w->panel_bytes);
    if (w->format == W_F8)
        fill_f8_scales(w, from, panel);
    if (w->format == W_I8) {
        memset(w->scale + panel * PANEL, 0, PANEL * sizeof(float));
        for (size_t output = 0; output < PANEL; output++)
            if ((p = output_row(from, panel, output, &row)))
                fill_i8(d, w, p, row, output, panel);
        return;
    }
    for (size_t first = 0; first < w->k; first += STRIP) {
        size_t n = w->k - first < STRIP ? w->k - first : STRIP;
        for (size_t output = 0; output < PANEL; output++) {
            if (!(p = output_row(from, panel, output, &row)))
                continue;
            if (w->format == W_F32)
                fill_f32(d, w, p, row, output, to, first, n);
            else if (w->format == W_BF16)
                fill_bf16(p, row, output, to, first, n);
            else
                fill_f8(w, p, row, output, to, first, n);
        }
    }
}

void packed_fill(const struct device *d, struct weight *w, const struct source *from,
                 uint8_t *memory)
{
    w->data = memory;
    w->scale = (float *)(void *)(memory + data_bytes(w));
#pragma omp parallel for num_threads(d->threads) schedule(dynamic)
    for (size_t panel = 0; panel < w->panels; panel++)
        fill_panel(d, w, from, panel);
}

enum x_format packed_x_format(const struct device *d, const struct weight *w)
{
    bool dot = d->isa->x_bf16 && d->config.act == DTYPE_BF16 && w->format != W_F32;
    return dot ? X_BF16 : X_F32;
}

struct panel packed_panel(const struct weight *w, size_t i, const uint8_t *next)
{
    return (struct panel){
        .w = w->data + i * w->panel_bytes,
        .next = next,
        .scale = w->panel_scales ? w->scale + i * w->panel_scales : NULL,
        .k = w->k_padded,
    };
}

/* ---- the operations ------------------------------------------------------------------------- */

static void check(const struct weight_part *p)
{
    if (p->dtype != DTYPE_F32 && p->dtype != DTYPE_BF16 && p->dtype != DTYPE_F8E4M3)
        die("weights of format %s cannot be packed", dtype_name(p->dtype));
}

size_t fast_weight_bytes(const struct device *d, const struct weight_part *p, enum weight_keep keep)
{
    (void)d;
    struct weight w;
    packed_plan(&w, &(struct source){p, NULL}, keep);
    return packed_bytes(&w);
}

struct weight *fast_weight_create(struct device *d, const struct weight_part *p,
                                  enum weight_keep keep)
{
    struct source from = {p, NULL};
    struct weight *w = mem_new(1, sizeof *w);
    check(p);
    packed_plan(w, &from, keep);
    packed_fill(d, w, &from, mem_aligned(packed_bytes(w), 1));
    return w;
}

void fast_weight_destroy(struct device *d, struct weight *w)
{
    (void)d;
    if (!w)
        return;
    if (w->table)
        free((void *)w->part.scale);
    free(w->data);
    free(w);
}

/* Rows as they stand in the checkpoint, without gaps. */
struct weight *fast_table_create(struct device *d, const struct weight_part *p)
{
    (void)d;
    check(p);
    struct weight *w = mem_zeroed(1, sizeof *w);
    size_t row_bytes = mem_mul(p->k, dtype_size(p->dtype));
    w->table = true;
    w->n = p->n;
    w->k = p->k;
    w->part = *p;
    w->part.stride = p->k;
    w->data = mem_aligned(mem_mul(p->n, row_bytes), 1);
    w->part.data = w->data;
    for (size_t row = 0; row < p->n && row_bytes; row++)
        memcpy(w->data + row * row_bytes, row_data(p, row), row_bytes);
    if (p->dtype == DTYPE_F8E4M3 && p->n && p->k) {
        size_t rows = (p->row0 + p->n - 1) / F8_BLOCK + 1;
        size_t floats = (rows - 1) * p->scale_stride + (p->col0 + p->k - 1) / F8_BLOCK + 1;
        float *scale = mem_new(floats, sizeof *scale);
        memcpy(scale, p->scale, floats * sizeof *scale);
        w->part.scale = scale;
    } else {
        w->part.scale = NULL;
    }
    return w;
}

void fast_embed(struct device *d, struct stream *s, const struct weight *table, const int32_t *ids,
                int n, float *x)
{
    (void)s;
#pragma omp parallel for num_threads(d->threads)
    for (int i = 0; i < n; i++)
        row_f32(d, &table->part, (size_t)ids[i], 0, table->k, x + (size_t)i * table->k);
}
