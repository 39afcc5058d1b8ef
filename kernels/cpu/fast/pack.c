/* pack.c - weights into panels, once at load. Straight from the source to their place: no copy in
 * between, so loading never needs more than the packed form and the tensor that is being read. */
#include "kernels/cpu/fast/packed.h"

#include "base/mem.h"
#include "kernels/cpu/fast/scales.h"
#include "kernels/cpu/integer.h"

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

static enum w_format format_of_part(const struct device *d, const struct weight_part *p,
                                    enum weight_keep keep)
{
    struct weight_form f = weight_form(p, keep);
    if (d->config.int8_products && form_is_grouped(f.kind))
        return f.kind == FORM_I8 ? W_Q8 : W_Q4;
    if (f.kind == FORM_F8)
        return f8_fits(p) ? W_F8 : W_F32;
    if (form_is_grouped(f.kind))
        return f.kind == FORM_I8 ? W_G8 : W_G4;
    return f.kind == FORM_BF16 ? W_BF16 : W_F32;
}

static bool is_integer(enum w_format f)
{
    return f == W_Q8 || f == W_Q4;
}

static bool is_grouped(enum w_format f)
{
    return f == W_G8 || f == W_G4 || is_integer(f);
}

static size_t zeros_before(const struct weight_part *p, enum w_format format, enum weight_keep keep)
{
    struct weight_form f = weight_form(p, keep);
    bool runs = format == W_F8 || format == W_G8 || format == W_G4;
    return runs ? form_before(&f, p->col0) : 0;
}

/* Gate and up lie in one panel: their groups must be alike. */
static enum w_format format_of(const struct device *d, const struct source *from,
                               enum weight_keep keep)
{
    const struct weight_part *a = from->first, *b = from->second;
    enum w_format format = format_of_part(d, a, keep);
    if (!b)
        return format;
    struct weight_form f = weight_form(a, keep), g = weight_form(b, keep);
    if (format_of_part(d, b, keep) != format ||
        zeros_before(a, format, keep) != zeros_before(b, format, keep))
        return W_F32;
    return is_grouped(format) && !form_alike(&f, &g) ? W_F32 : format;
}

static struct grouped grouped_of(const struct weight *w, const struct source *from)
{
    struct weight_form f = weight_form(from->first, w->keep), g = f;
    if (from->second)
        g = weight_form(from->second, w->keep);
    return (struct grouped){.inputs = form_run(&f),
                            .mins = f.mins != MINS_NONE,
                            .values = f.values,
                            .scales = scales_of(&f, &g)};
}

void packed_plan(const struct device *d, struct weight *w, const struct source *from,
                 enum weight_keep keep)
{
    const struct weight_part *p = from->first;
    *w = (struct weight){.format = format_of(d, from, keep), .keep = keep, .k = p->k};
    w->n = from->second ? mem_mul(2, round_up(p->n, PANEL / 2)) : p->n;
    w->k_before = zeros_before(p, w->format, keep);
    size_t align = is_integer(w->format) ? INTEGER_GROUP : K_ALIGN;
    w->k_padded = round_up(w->k_before + w->k, align);
    if (w->k_padded == 0)
        w->k_padded = align; /* no inputs: sums of nothing but padding are 0 */
    w->panels = (w->n + PANEL - 1) / PANEL;
    w->panel_bytes = mem_mul(w->k_padded, w_input(w->format));
    if (w->format == W_F8)
        w->panel_scales = 2 * ((w->k_padded + F8_BLOCK - 1) / F8_BLOCK);
    if (!is_grouped(w->format))
        return;
    w->grouped = grouped_of(w, from);
    size_t groups = (w->k_padded + w->grouped.inputs - 1) / w->grouped.inputs;
    w->panel_scales = scales_bytes(&w->grouped.scales, groups) / sizeof *w->scale;
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

/* Inputs that are packed at a time: 32 rows of them stay in the first cache level. As long as the
 * longest blocks of checkpoint formats. */
#define STRIP 256

/* n inputs of one row from `first` on. */
static struct weight_part strip(const struct weight_part *p, size_t row, size_t first, size_t n)
{
    struct weight_part s = *p;
    s.row0 += row;
    s.col0 += first;
    s.n = 1;
    s.k = n;
    return s;
}

/* Numbers are decoded in their own format and stored in that of the panel, which holds them exactly. */
static void fill_numbers(const struct weight *w, const struct weight_part *s, size_t output,
                         uint8_t *panel, size_t first)
{
    float values[STRIP];
    weight_row_kept(s, w->keep, 0, values);
    if (w->format == W_F32) {
        float *to = (float *)(void *)panel;
        for (size_t i = 0; i < s->k; i++)
            to[panel_place(W_F32, output, w->k_before + first + i)] = values[i];
    } else {
        bf16_t *to = (bf16_t *)(void *)panel;
        for (size_t i = 0; i < s->k; i++)
            to[panel_place(W_BF16, output, first + i)] = bf16_from_f32(values[i]);
    }
}

static void fill_f8(const struct weight *w, const struct weight_part *s, size_t output,
                    uint8_t *panel, size_t first)
{
    uint8_t codes[STRIP];
    weight_row_f8(s, 0, codes);
    for (size_t i = 0; i < s->k; i++)
        panel[panel_place(W_F8, output, w->k_before + first + i)] = codes[i];
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
            to[2 * b + half] = p && col < w->k ? weight_scale(p, row, col) : 1.0f;
        }
}

/* What a thread reads rows with. */
struct row_work {
    int8_t *codes;
    float *values;
    struct form_group *groups;
    bool sizes; /* struct isa */
    bool least; /* is any -128? */
};

/* Code `code` of input i, counted with those before the part. */
static void put_code(const struct weight *w, bool sizes, uint8_t *panel, size_t output, size_t i,
                     int code)
{
    if (w->format == W_Q4)
        panel[panel_place(W_Q8, output, i / 8 * 4 + i % 4)] |= (uint8_t)(code << (i & 4));
    else if (w->format == W_G4)
        panel[i / 4 * 64 + four_place(output, i % 4)] |= (uint8_t)(code << output / 16 * 4);
    else if (w->format == W_G8)
        panel[panel_place(W_G8, output, i)] = (uint8_t)(code < 0 && sizes ? 0x80 | -code : code);
    else
        panel[panel_place(W_Q8, output, i)] = (uint8_t)code;
}

/* One output of a grouped form: codes, scale and what is subtracted of every run. */
static void fill_grouped(const struct weight *w, const struct weight_part *p, size_t row,
                         size_t output, size_t panel, struct row_work *work)
{
    uint8_t *to = w->data + panel * w->panel_bytes;
    float *scale = w->scale + panel * w->panel_scales;
    struct weight_form f = weight_form(p, w->keep);
    weight_row_grouped(p, w->keep, &f, row, work->codes, work->groups, work->values);
    for (size_t i = 0; i < w->k; i++) {
        put_code(w, work->sizes, to, output, w->k_before + i, work->codes[i]);
        work->least |= work->codes[i] == -128;
    }
    size_t run = w->grouped.inputs;
    for (size_t at = 0; at < w->k_before + w->k; at += run) {
        size_t input = at > w->k_before ? at - w->k_before : 0;
        scales_put(&w->grouped.scales, scale, output, at / run, &work->groups[input / f.inner]);
    }
}

static void fill_panel_integers(const struct weight *w, const struct source *from, size_t panel,
                                struct row_work *work)
{
    const struct weight_part *p;
    size_t row;
    memset(w->scale + panel * w->panel_scales, 0, w->panel_scales * sizeof(float));
    for (size_t output = 0; output < PANEL; output++)
        if ((p = output_row(from, panel, output, &row)))
            fill_grouped(w, p, row, output, panel, work);
}

static void fill_panel(const struct weight *w, const struct source *from, size_t panel)
{
    uint8_t *to = w->data + panel * w->panel_bytes;
    const struct weight_part *p;
    size_t row;
    if (w->format == W_F8)
        fill_f8_scales(w, from, panel);
    for (size_t first = 0; first < w->k; first += STRIP) {
        size_t n = w->k - first < STRIP ? w->k - first : STRIP;
        for (size_t output = 0; output < PANEL; output++) {
            if (!(p = output_row(from, panel, output, &row)))
                continue;
            struct weight_part s = strip(p, row, first, n);
            if (w->format == W_F8)
                fill_f8(w, &s, output, to, first);
            else
                fill_numbers(w, &s, output, to, first);
        }
    }
}

void packed_fill(const struct device *d, struct weight *w, const struct source *from,
                 uint8_t *memory)
{
    w->data = memory;
    w->scale = (float *)(void *)(memory + data_bytes(w));
    bool least = false;
#pragma omp parallel num_threads(d->threads) reduction(|| : least)
    {
        struct row_work work = {mem_new(w->k, 1), mem_new(w->k, sizeof(float)),
                                mem_new(w->k, sizeof(struct form_group)), d->isa->sizes, false};
#pragma omp for schedule(dynamic)
        for (size_t panel = 0; panel < w->panels; panel++) {
            memset(w->data + panel * w->panel_bytes, 0, w->panel_bytes);
            if (is_grouped(w->format))
                fill_panel_integers(w, from, panel, &work);
            else
                fill_panel(w, from, panel);
        }
        least = work.least;
        free(work.codes);
        free(work.values);
        free(work.groups);
    }
    w->grouped.least = least;
}

/* ---- rows ----------------------------------------------------------------------------------- */

enum x_format packed_x_format(const struct device *d, const struct weight *w)
{
    if (is_integer(w->format))
        return X_INTEGERS;
    bool dot = d->isa->x_bf16 && d->config.act == DTYPE_BF16 && w->format != W_F32;
    return dot ? X_BF16 : X_F32;
}

static bool has_sums(const struct weight *w)
{
    return (w->format == W_G8 || w->format == W_G4) && w->grouped.mins;
}

size_t packed_row_chunks(const struct device *d, const struct weight *w)
{
    size_t sums = has_sums(w) ? x_sum_chunks(w->k_padded) : 0;
    return x_chunks(packed_x_format(d, w), w->k_padded) + sums;
}

static void add_sums(const struct device *d, const struct weight *w, uint8_t *row, size_t chunk)
{
    if (has_sums(w))
        d->isa->sum_row(row, chunk, w->k_padded, packed_x_format(d, w), x_unit(&w->grouped));
}

void packed_row(const struct device *d, const struct weight *w, const void *from, uint8_t *to,
                size_t chunk)
{
    d->isa->pack_row(d->config.act, from, w->k, w->k_before, w->k_padded, packed_x_format(d, w), to,
                     chunk);
    add_sums(d, w, to, chunk);
}

enum x_format packed_mid_format(const struct device *d, const struct weight *w)
{
    enum x_format f = packed_x_format(d, w);
    return f == X_INTEGERS ? X_F32 : f;
}

bool packed_mid_lacks(const struct weight *w)
{
    return is_integer(w->format) || has_sums(w);
}

void packed_mid(const struct device *d, const struct weight *w, uint8_t *row, size_t chunk)
{
    if (is_integer(w->format))
        d->isa->to_integers(row, chunk, w->k, w->k_padded);
    add_sums(d, w, row, chunk);
}

struct panel packed_panel(const struct weight *w, size_t i, const uint8_t *next)
{
    return (struct panel){
        .w = w->data + i * w->panel_bytes,
        .next = next,
        .scale = w->panel_scales ? w->scale + i * w->panel_scales : NULL,
        .grouped = is_grouped(w->format) ? &w->grouped : NULL,
        .inputs = w->k_padded,
        .k = w->k_padded,
    };
}

/* ---- the operations ------------------------------------------------------------------------- */

size_t fast_weight_bytes(const struct device *d, const struct weight_part *p, enum weight_keep keep)
{
    struct weight w;
    packed_plan(d, &w, &(struct source){p, NULL}, keep);
    return packed_bytes(&w);
}

struct weight *fast_weight_create(struct device *d, const struct weight_part *p,
                                  enum weight_keep keep)
{
    struct source from = {p, NULL};
    struct weight *w = mem_new(1, sizeof *w);
    packed_plan(d, w, &from, keep);
    packed_fill(d, w, &from, pool_take(&d->weights, packed_bytes(w)));
    return w;
}

void fast_weight_destroy(struct device *d, struct weight *w)
{
    if (!w)
        return;
    pool_give(&d->weights, w->data);
    free(w);
}

/* Whole rows stay as they stand in the checkpoint; anything else is kept as numbers. */
struct weight *fast_table_create(struct device *d, const struct weight_part *p)
{
    struct weight *w = mem_zeroed(1, sizeof *w);
    w->table = true;
    w->n = p->n;
    w->k = p->k;
    if (p->codec->block_bytes && !p->scale && p->k == p->stride) {
        size_t bytes = weight_data_bytes(p, p->n);
        w->data = pool_take(&d->weights, bytes);
        if (bytes)
            memcpy(w->data, codec_block(p, p->row0, 0), bytes);
        w->part = *p;
        w->part.row0 = 0;
    } else {
        float *rows = pool_take(&d->weights, mem_mul(mem_mul(p->n, p->k), sizeof *rows));
        for (size_t row = 0; row < p->n; row++)
            weight_row(p, row, rows + row * p->k);
        w->data = (uint8_t *)rows;
        w->part = (struct weight_part){.codec = &codec_f32, .stride = p->k, .n = p->n, .k = p->k};
    }
    w->part.data = w->data;
    return w;
}

void fast_embed(struct device *d, struct stream *s, const struct weight *table, const int32_t *ids,
                int n, float *x)
{
    (void)s;
    struct team team = team_begin(d, TEAM_ROWS, (size_t)n * table->k);
#pragma omp parallel for num_threads(team.threads)
    for (int i = 0; i < n; i++)
        weight_row(&table->part, (size_t)(ids[i] > 0 ? ids[i] : 0), x + (size_t)i * table->k);
    team_end(&team);
}
