#include "kernels/cpu/plain/kept.h"

#include "base/mem.h"
#include "kernels/cpu/lane.h"
#include "kernels/exact.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* ---- packing --------------------------------------------------------------------------------- */

static size_t mlp_bytes(const struct device *d, const struct mlp_part *m, enum weight_keep keep)
{
    if (m->gate.n == 0)
        return 0;
    size_t biases = (m->gate_bias ? m->gate.n : 0) + (m->up_bias ? m->up.n : 0) +
                    (m->down_bias ? m->down.n : 0);
    return biases * sizeof(float) + plain_weight_bytes(d, &m->gate, keep) +
           plain_weight_bytes(d, &m->up, keep) + plain_weight_bytes(d, &m->down, keep);
}

static float *bias_copy(const float *bias, size_t n)
{
    return bias ? memcpy(mem_new(n, sizeof *bias), bias, n * sizeof *bias) : NULL;
}

static struct mlp mlp_create(struct device *d, const struct mlp_part *m, enum weight_keep keep)
{
    struct mlp packed = {.inter = m->gate.n, .limit = m->limit, .alpha = m->alpha};
    if (packed.inter == 0)
        return packed;
    packed.gate = plain_weight_create(d, &m->gate, keep);
    packed.up = plain_weight_create(d, &m->up, keep);
    bool alike = form_alike(&packed.gate->form, &packed.up->form);
    if (!alike)
        packed.gate->integers = packed.up->integers = false;
    if (!alike || packed.gate->run != packed.up->run || packed.gate->before != packed.up->before)
        packed.gate->run = packed.up->run = 0;
    packed.down = plain_weight_create(d, &m->down, keep);
    packed.gate_bias = bias_copy(m->gate_bias, m->gate.n);
    packed.up_bias = bias_copy(m->up_bias, m->up.n);
    packed.down_bias = bias_copy(m->down_bias, m->down.n);
    packed.n_cuts = m->n_cuts ? m->n_cuts : 1;
    packed.cuts = mem_new(packed.n_cuts, sizeof *packed.cuts);
    for (size_t i = 0; i < packed.n_cuts; i++)
        packed.cuts[i] = m->n_cuts ? m->cuts[i] : packed.inter;
    return packed;
}

static void mlp_destroy(struct device *d, struct mlp *m)
{
    plain_weight_destroy(d, m->gate);
    plain_weight_destroy(d, m->up);
    plain_weight_destroy(d, m->down);
    free(m->gate_bias);
    free(m->up_bias);
    free(m->down_bias);
    free(m->cuts);
}

size_t plain_ffn_bytes(const struct device *d, const struct ffn_part *f, enum weight_keep keep)
{
    size_t bytes = mlp_bytes(d, &f->shared, keep);
    for (int e = 0; e < f->n_experts; e++)
        bytes += mlp_bytes(d, &f->experts[e], keep);
    return bytes;
}

struct ffn *plain_ffn_create(struct device *d, const struct ffn_part *f, enum weight_keep keep)
{
    struct ffn *packed = mem_zeroed(1, sizeof *packed);
    packed->hidden = f->n_experts ? f->experts[0].gate.k : f->shared.gate.k; /* known if I is 0 */
    packed->first_expert = f->first_expert;
    packed->n_experts = f->n_experts;
    packed->experts = mem_zeroed((size_t)f->n_experts, sizeof *packed->experts);
    for (int e = 0; e < f->n_experts; e++)
        packed->experts[e] = mlp_create(d, &f->experts[e], keep);
    packed->shared = mlp_create(d, &f->shared, keep);
    return packed;
}

void plain_ffn_destroy(struct device *d, struct ffn *f)
{
    if (!f)
        return;
    for (int e = 0; e < f->n_experts; e++)
        mlp_destroy(d, &f->experts[e]);
    mlp_destroy(d, &f->shared);
    free(f->experts);
    free(f);
}

/* ---- the operation --------------------------------------------------------------------------- */

/* What one call works in, and the rows that the expert at hand has. */
struct work {
    size_t hidden;
    const float *xs;                      /* [n][H] the inputs in f32 */
    double *sums;                         /* [n][H] the terms so far (kernels/exact.h) */
    float *mids;                          /* [count][I] silu(gate) x up of the listed rows */
    struct integers *x_codes, *mid_codes; /* both in groups of integers, or NULL */
    size_t width;                         /* max(H, I) */
    float *rooms;                         /* [threads][2] blocks of plain_outputs() */
    int count;
    int32_t *rows;  /* [count] */
    float *factors; /* [count] weights of the expert for these rows */
};

float plain_swiglu(float gate, float up, float limit, float alpha)
{
    float open;
    if (alpha > 0) {
        gate = limit > 0 && gate > limit ? limit : gate;
        open = gate / (1.0f + lane_exp(0 - alpha * gate));
        up = limit > 0 ? up > limit ? limit : up < -limit ? -limit : up : up;
        return open * (up + 1.0f);
    }
    open = gate / (1.0f + lane_exp(0 - gate));
    if (limit > 0) {
        open = open > limit ? limit : open;
        up = up > limit ? limit : up < -limit ? -limit : up;
    }
    return open * up;
}

static float *room_of(const struct work *w)
{
    return w->rooms + (size_t)omp_get_thread_num() * 2 * PLAIN_BLOCK(w->width);
}

/* Row i of n numbers each. */
static struct plain_row row_of(const float *numbers, const struct integers *codes, size_t n, int i)
{
    const struct integers *own = codes ? codes + (size_t)i * integer_groups(n) : NULL;
    return (struct plain_row){numbers + (size_t)i * n, own};
}

static float bias_at(const float *bias, size_t i)
{
    return bias ? bias[i] : 0;
}

/* mids = what gate and up make (plain_swiglu), rounded to the activation dtype. */
static void gate_up(const struct device *d, const struct mlp *m, const struct work *w)
{
#pragma omp parallel for num_threads(d->threads)
    for (size_t first = 0; first < m->inter; first += PLAIN_OUTPUTS) {
        float *gates = room_of(w), *ups = gates + PLAIN_BLOCK(w->width);
        float gate[PLAIN_OUTPUTS], up[PLAIN_OUTPUTS];
        plain_outputs(d, m->gate, first, gates);
        plain_outputs(d, m->up, first, ups);
        for (int i = 0; i < w->count; i++) {
            const struct plain_row x = row_of(w->xs, w->x_codes, w->hidden, w->rows[i]);
            float *mids = w->mids + (size_t)i * m->inter + first;
            plain_products(m->gate, first, gates, x, 0, w->hidden, gate);
            plain_products(m->up, first, ups, x, 0, w->hidden, up);
            for (size_t o = 0; o < PLAIN_OUTPUTS && first + o < m->inter; o++) {
                float g = gate[o] + bias_at(m->gate_bias, first + o);
                float u = up[o] + bias_at(m->up_bias, first + o);
                float mid = plain_swiglu(g, u, m->limit, m->alpha);
                if (d->config.act == DTYPE_BF16)
                    mid = f32_from_bf16(bf16_from_f32(mid));
                mids[o] = mid;
            }
        }
    }
}

/* sums += factor * down mids, slice by slice, for the listed rows. */
static void down(const struct device *d, const struct mlp *m, const struct work *w)
{
#pragma omp parallel for num_threads(d->threads)
    for (size_t first = 0; first < w->hidden; first += PLAIN_OUTPUTS) {
        float *block = room_of(w), out[PLAIN_OUTPUTS];
        plain_outputs(d, m->down, first, block);
        for (int i = 0; i < w->count; i++) {
            double *sums = w->sums + (size_t)w->rows[i] * w->hidden + first;
            const struct plain_row mids = row_of(w->mids, w->mid_codes, m->inter, i);
            for (size_t c = 0, begin = 0; c < m->n_cuts; begin = m->cuts[c++]) {
                const float *bias = c == 0 ? m->down_bias : NULL;
                plain_products(m->down, first, block, mids, begin, m->cuts[c], out);
                for (size_t o = 0; o < PLAIN_OUTPUTS && first + o < w->hidden; o++)
                    sums[o] += exact_term(w->factors[i], out[o] + bias_at(bias, first + o));
            }
        }
    }
}

static void run_mlp(const struct device *d, const struct mlp *m, const struct work *w)
{
    if (m->inter == 0 || w->count == 0)
        return;
    gate_up(d, m, w);
    for (int i = 0; i < w->count && w->mid_codes; i++)
        integer_row(w->mids + (size_t)i * m->inter, m->inter,
                    w->mid_codes + (size_t)i * integer_groups(m->inter));
    down(d, m, w);
}

/* Lists the rows that chose `expert`; a router names an expert once per row. */
static void list_rows(struct work *w, int expert, const int32_t *ids, const float *weights,
                      int topk, int n)
{
    w->count = 0;
    for (int i = 0; i < n; i++)
        for (size_t k = (size_t)i * (size_t)topk; k < (size_t)(i + 1) * (size_t)topk; k++)
            if (ids[k] == expert) {
                w->rows[w->count] = i;
                w->factors[w->count++] = weights[k];
                break;
            }
}

/* A shared expert or dense MLP has every row, with weight 1. */
static void list_all(struct work *w, int n)
{
    w->count = n;
    for (int i = 0; i < n; i++) {
        w->rows[i] = i;
        w->factors[i] = 1.0f;
    }
}

static struct work work_begin(struct device *d, const struct ffn *f, const void *x, int n)
{
    size_t hidden = f->hidden, rows = (size_t)n, inter = f->shared.inter;
    for (int e = 0; e < f->n_experts; e++)
        if (f->experts[e].inter > inter)
            inter = f->experts[e].inter;
    struct work w = {.hidden = hidden, .width = hidden > inter ? hidden : inter};
    cpu_scratch_begin(d);
    float *xs = cpu_scratch(d, rows * hidden, sizeof(float));
    w.sums = cpu_scratch(d, rows * hidden, sizeof(double));
    w.mids = cpu_scratch(d, rows * inter, sizeof(float));
    w.rows = cpu_scratch(d, rows, sizeof(int32_t));
    w.factors = cpu_scratch(d, rows, sizeof(float));
    w.rooms = cpu_scratch(d, 2 * (size_t)d->threads * PLAIN_BLOCK(w.width), sizeof(float));
    plain_load(d, d->config.act, x, 0, rows * hidden, xs);
    w.xs = xs;
    if (d->config.int8_products) {
        w.x_codes = cpu_scratch(d, rows * integer_groups(hidden), sizeof *w.x_codes);
        w.mid_codes = cpu_scratch(d, rows * integer_groups(inter), sizeof *w.mid_codes);
        for (size_t i = 0; i < rows; i++)
            integer_row(xs + i * hidden, hidden, w.x_codes + i * integer_groups(hidden));
    }
    memset(w.sums, 0, rows * hidden * sizeof(double));
    return w;
}

void plain_ffn(struct device *d, struct stream *s, const struct ffn *f, const void *x,
               const int32_t *ids, const float *weights, int topk, int n, void *out,
               enum dtype out_dtype)
{
    (void)s;
    struct work w = work_begin(d, f, x, n);
    for (int e = 0; e < f->n_experts; e++) {
        list_rows(&w, f->first_expert + e, ids, weights, topk, n);
        run_mlp(d, &f->experts[e], &w);
    }
    list_all(&w, n);
    run_mlp(d, &f->shared, &w);
    for (size_t i = 0; i < (size_t)n * w.hidden; i++)
        plain_store_one(out_dtype, w.sums[i], out, i);
}
