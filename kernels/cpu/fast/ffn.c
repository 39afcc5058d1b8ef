/* ffn.c - a layer's experts: rows grouped by expert, then two passes over all their weights.
 *
 * Pass 1 makes silu(gate x) * up x of every (row, expert) pair. A panel holds 16 gates and the 16
 * ups that belong to them, so the nonlinearity is applied while the sums are at hand. Its units of
 * work go round the experts: panel 0 of each, panel 1 of each, ... with the shared expert spread
 * evenly among them, so that at any time some threads do its arithmetic while others wait for
 * memory.
 *
 * Pass 2 takes some columns of the output at a time and goes through the experts, and the slices of
 * their inputs, adding weight x result to the columns' sums (kernels/exact.h). One thread makes all
 * additions of an element; there are no partial results to combine afterwards.
 *
 * With many rows a unit takes several panels of an expert one after the other, because then its
 * rows, and no longer its weights, are what the caches have to keep.
 */
#include "kernels/cpu/fast/packed.h"
#include "kernels/cpu/fast/shares.h"

#include "base/err.h"
#include "base/mem.h"
#include "kernels/cpu/integer.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

struct mlp {
    size_t inter; /* 0: nothing here */
    float limit, alpha;
    struct weight gate_up, down;
    size_t *cuts; /* [n_cuts] ends of the slices of down, among its packed inputs */
    size_t n_cuts;
    float *up_bias;   /* [panels of gate_up][PANEL], as a panel's results stand, or NULL */
    float *down_bias; /* [panels of down][PANEL] or NULL */
};

struct ffn {
    size_t hidden;
    uint8_t *memory; /* of all matrices */
    int first_expert, n_experts;
    struct mlp *experts; /* [n_experts] */
    struct mlp shared;
};

/* ---- packing -------------------------------------------------------------------------------- */

static void plan(const struct device *d, struct mlp *m, const struct mlp_part *p,
                 enum weight_keep keep)
{
    memset(m, 0, sizeof *m);
    m->inter = p->gate.n;
    m->limit = p->limit;
    m->alpha = p->alpha;
    if (m->inter == 0)
        return;
    packed_plan(d, &m->gate_up, &(struct source){&p->gate, &p->up}, keep);
    packed_plan(d, &m->down, &(struct source){&p->down, NULL}, keep);
}

static size_t matrix_bytes(const struct mlp *m)
{
    return m->inter ? packed_bytes(&m->gate_up) + packed_bytes(&m->down) : 0;
}

static size_t mlp_bytes(const struct device *d, const struct mlp_part *p, enum weight_keep keep)
{
    struct mlp m;
    plan(d, &m, p, keep);
    size_t biases = (p->gate_bias ? m.gate_up.panels : 0) + (p->down_bias ? m.down.panels : 0);
    return m.inter ? matrix_bytes(&m) + biases * PANEL * sizeof(float) : 0;
}

size_t fast_ffn_bytes(const struct device *d, const struct ffn_part *f, enum weight_keep keep)
{
    size_t bytes = mlp_bytes(d, &f->shared, keep);
    for (int e = 0; e < f->n_experts; e++)
        bytes += mlp_bytes(d, &f->experts[e], keep);
    return bytes;
}

static void biases_create(struct mlp *m, const struct mlp_part *p)
{
    const size_t half = PANEL / 2;
    if (p->gate_bias) {
        m->up_bias = mem_zeroed(m->gate_up.panels * PANEL, sizeof *m->up_bias);
        for (size_t i = 0; i < m->inter; i++) {
            float *to = m->up_bias + i / half * PANEL + i % half;
            to[0] = p->gate_bias[i];
            to[half] = p->up_bias[i];
        }
    }
    if (p->down_bias) {
        m->down_bias = mem_zeroed(m->down.panels * PANEL, sizeof *m->down_bias);
        memcpy(m->down_bias, p->down_bias, p->down.n * sizeof *m->down_bias);
    }
}

/* Ends in the middle of what kernels take at a time would give other inputs' weights. */
static void cuts_create(const struct device *d, struct mlp *m, const struct mlp_part *p)
{
    const struct weight *w = &m->down;
    size_t unit = w->grouped.mins ? x_unit(&w->grouped) : w->format == W_G4 ? K_ALIGN : 2;
    if (packed_x_format(d, w) == X_INTEGERS)
        unit = INTEGER_GROUP;
    m->n_cuts = p->n_cuts ? p->n_cuts : 1;
    m->cuts = mem_new(m->n_cuts, sizeof *m->cuts);
    for (size_t i = 0; i + 1 < m->n_cuts; i++) {
        m->cuts[i] = w->k_before + p->cuts[i];
        if (m->cuts[i] % unit)
            die("ffn: a slice ends before input %zu, no multiple of %zu", p->cuts[i], unit);
    }
    m->cuts[m->n_cuts - 1] = w->k_padded;
}

/* m is planned. */
static void mlp_create(const struct device *d, struct mlp *m, const struct mlp_part *p,
                       uint8_t *memory)
{
    if (m->inter == 0)
        return;
    cuts_create(d, m, p);
    packed_fill(d, &m->gate_up, &(struct source){&p->gate, &p->up}, memory);
    packed_fill(d, &m->down, &(struct source){&p->down, NULL}, memory + packed_bytes(&m->gate_up));
    biases_create(m, p);
}

struct ffn *fast_ffn_create(struct device *d, const struct ffn_part *f, enum weight_keep keep)
{
    struct ffn *packed = mem_zeroed(1, sizeof *packed);
    packed->hidden = f->n_experts ? f->experts[0].gate.k : f->shared.gate.k;
    packed->first_expert = f->first_expert;
    packed->n_experts = f->n_experts;
    packed->experts = mem_zeroed((size_t)f->n_experts, sizeof *packed->experts);
    plan(d, &packed->shared, &f->shared, keep);
    size_t bytes = matrix_bytes(&packed->shared);
    for (int e = 0; e < f->n_experts; e++) {
        plan(d, &packed->experts[e], &f->experts[e], keep);
        bytes += matrix_bytes(&packed->experts[e]);
    }
    uint8_t *at = packed->memory = pool_take(&d->weights, bytes);
    for (int e = 0; e < f->n_experts; e++) {
        mlp_create(d, &packed->experts[e], &f->experts[e], at);
        at += matrix_bytes(&packed->experts[e]);
    }
    mlp_create(d, &packed->shared, &f->shared, at);
    return packed;
}

void fast_ffn_destroy(struct device *d, struct ffn *f)
{
    if (!f)
        return;
    for (int e = -1; e < f->n_experts; e++) {
        struct mlp *m = e < 0 ? &f->shared : &f->experts[e];
        free(m->up_bias);
        free(m->down_bias);
        free(m->cuts);
    }
    free(f->experts);
    pool_give(&d->weights, f->memory);
    free(f);
}

/* Rows of an expert, on average, from which a unit takes one panel more; and how many at most. */
#define FEW_ROWS     16
#define MOST_COLUMNS 4

/* ---- one call ------------------------------------------------------------------------------- */

/* An expert that has rows: pairs first .. first + rows - 1. */
struct group {
    const struct mlp *m;
    size_t first, rows;
    const float *weights; /* [rows], NULL: 1 (the shared expert) */
    const int32_t *row;   /* [rows], NULL: row i is pair first + i */
};

struct work {
    const struct ffn *f;
    size_t hidden, rows, pairs, groups;
    struct group *group; /* [groups] */
    int32_t *row;        /* [pairs] */
    float *weight;       /* [pairs] */
    size_t *group_of;    /* [pairs] */
    const uint8_t *from; /* [rows][hidden] in act */
    size_t chunk;        /* bytes between chunks of packed rows */
    uint8_t *x, *mid;    /* packed: inputs and intermediates of each pair */
    uint8_t *c;          /* [threads][sums_bytes()], each [rows][32] of f32 */
    uint8_t *sum; /* [threads][2 x columns x sums_bytes()], each [columns][rows][32] of double */
    uint8_t *to;
    enum dtype to_dtype;
    bool lacks;              /* do intermediates lack something (packed_mid)? */
    size_t turns;            /* pass 1 goes round the groups this often */
    size_t columns;          /* panels of a unit of pass 2 */
    struct share *up, *down; /* [threads] of each pass */
};

static size_t most_pairs(const struct device_config *c, size_t rows)
{
    size_t k = c->limits.topk < c->limits.experts ? c->limits.topk : c->limits.experts;
    return mem_mul(rows, k + 1);
}

/* The most that a row of k inputs takes. */
static size_t row_chunks(size_t k)
{
    return x_chunks(X_F32, k) + x_sum_chunks(k);
}

/* Of one thread, [rows][32] of f32; a panel's sums take twice as many. */
static size_t sums_bytes(size_t rows)
{
    return shares_apart(mem_mul(rows, PANEL * sizeof(float)));
}

size_t fast_ffn_scratch(const struct device_config *c)
{
    const struct device_limits *l = &c->limits;
    size_t rows = l->rows < SLAB_ROWS ? l->rows : SLAB_ROWS, pairs = most_pairs(c, rows);
    size_t pad = F8_BLOCK + K_ALIGN;
    size_t counts = cpu_scratch_size(l->experts + 1, sizeof(struct group)) +
                    cpu_scratch_size(l->experts + 1, sizeof(size_t)) +
                    cpu_scratch_size(pairs, sizeof(size_t)) +
                    2 * cpu_scratch_size(pairs, sizeof(float));
    size_t shares = 2 * cpu_scratch_size((size_t)c->threads, sizeof(struct share));
    return counts + shares + cpu_scratch_size(mem_mul(row_chunks(l->hidden + pad), pairs), X_ROW) +
           cpu_scratch_size(mem_mul(row_chunks(l->inter + pad), pairs), X_ROW) +
           (1 + 2 * MOST_COLUMNS) * cpu_scratch_size((size_t)c->threads, sums_bytes(rows));
}

/* The expert's place in f, or n_experts: not here. */
static size_t local_expert(const struct ffn *f, int32_t id)
{
    int e = id - f->first_expert;
    return e >= 0 && e < f->n_experts && f->experts[e].inter ? (size_t)e : (size_t)f->n_experts;
}

/* Sorts the (row, expert) pairs by expert, rows in order, and lists the experts that have any. */
static void group_rows(struct device *d, struct work *w, const int32_t *ids, const float *weights,
                       size_t topk)
{
    const struct ffn *f = w->f;
    size_t experts = (size_t)f->n_experts, named = ids ? w->rows * topk : 0, shared = 0;
    size_t *place = cpu_scratch(d, experts + 1, sizeof *place);
    w->group = cpu_scratch(d, experts + 1, sizeof *w->group);
    memset(place, 0, (experts + 1) * sizeof *place);
    for (size_t i = 0; i < named; i++)
        place[local_expert(f, ids[i])]++;
    place[experts] = 0;
    w->pairs = w->groups = 0;
    for (size_t e = 0; e < experts; e++) {
        size_t rows = place[e];
        place[e] = w->pairs;
        if (rows)
            w->group[w->groups++] = (struct group){.m = &f->experts[e], w->pairs, rows};
        w->pairs += rows;
    }
    if (f->shared.inter) {
        shared = w->rows;
        w->group[w->groups++] = (struct group){.m = &f->shared, w->pairs, shared};
        w->pairs += shared;
    }
    w->row = cpu_scratch(d, w->pairs, sizeof *w->row);
    w->weight = cpu_scratch(d, w->pairs, sizeof *w->weight);
    w->group_of = cpu_scratch(d, w->pairs, sizeof *w->group_of);
    for (size_t i = 0; i < named; i++) {
        size_t e = local_expert(f, ids[i]);
        if (e == experts)
            continue;
        w->row[place[e]] = (int32_t)(i / topk);
        w->weight[place[e]++] = weights[i];
    }
    for (size_t i = 0; i < shared; i++)
        w->row[w->pairs - shared + i] = (int32_t)i;
    for (size_t g = 0; g < w->groups; g++) {
        struct group *group = &w->group[g];
        for (size_t i = 0; i < group->rows; i++)
            w->group_of[group->first + i] = g;
        if (group->m != &f->shared) {
            group->row = w->row + group->first;
            group->weights = w->weight + group->first;
        }
    }
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Panels of a unit: one while there are few rows; more later, but so that every thread still gets
 * several units of both passes. */
static void plan_units(const struct device *d, struct work *w, size_t panels)
{
    size_t few = w->groups ? w->pairs / w->groups / FEW_ROWS + 1 : 1;
    size_t columns = (w->hidden + PANEL - 1) / PANEL, share = columns / (8 * (size_t)d->threads);
    size_t together = few < MOST_COLUMNS ? few : MOST_COLUMNS;
    w->turns = (panels + together - 1) / together;
    w->columns = together < share ? together : share ? share : 1;
}

static void take_memory(struct device *d, struct work *w)
{
    size_t x_most = 0, mid_most = 0, panels = 0;
    for (size_t g = 0; g < w->groups; g++) {
        const struct mlp *m = w->group[g].m;
        size_t chunks = packed_row_chunks(d, &m->down);
        x_most = larger(x_most, packed_row_chunks(d, &m->gate_up));
        mid_most = larger(mid_most, larger(chunks, x_chunks(X_F32, m->down.k_padded)));
        panels = larger(panels, m->gate_up.panels);
        w->lacks |= packed_mid_lacks(&m->down);
    }
    w->chunk = w->pairs * X_ROW;
    w->x = cpu_scratch(d, mem_mul(x_most, w->pairs), X_ROW);
    w->mid = cpu_scratch(d, mem_mul(mid_most, w->pairs), X_ROW);
    w->c = cpu_scratch(d, (size_t)d->threads, sums_bytes(w->rows));
    plan_units(d, w, panels);
    w->sum = cpu_scratch(d, 2 * w->columns * (size_t)d->threads, sums_bytes(w->rows));
    w->up = cpu_scratch(d, (size_t)d->threads, sizeof *w->up);
    w->down = cpu_scratch(d, (size_t)d->threads, sizeof *w->down);
}

/* Brings one pair's input into the form its expert wants. */
static void pack_input(const struct device *d, const struct work *w, size_t pair)
{
    const struct mlp *m = w->group[w->group_of[pair]].m;
    const struct weight *in = &m->gate_up, *out = &m->down;
    size_t row_bytes = w->hidden * dtype_size(d->config.act);
    packed_row(d, in, w->from + (size_t)w->row[pair] * row_bytes, w->x + pair * X_ROW, w->chunk);
    memset(w->mid + pair * X_ROW, 0, out->k_before * x_size(packed_mid_format(d, out)));
}

/* ---- the two passes ------------------------------------------------------------------------- */

static struct panel group_panel(const struct work *w, const struct group *g,
                                const struct weight *weight, size_t i, const uint8_t *next,
                                const uint8_t *x, float *c)
{
    struct panel p = packed_panel(weight, i, next);
    p.x = x + g->first * X_ROW;
    p.chunk = w->chunk;
    p.rows = g->rows;
    p.c = c;
    return p;
}

/* The first panel of a group's gates and ups that turn t takes. */
static size_t turn_panel(const struct work *w, const struct group *g, size_t t)
{
    return t * g->m->gate_up.panels / w->turns;
}

static const uint8_t *unit_address(const struct work *w, size_t unit)
{
    const struct group *g = &w->group[unit % w->groups];
    const struct weight *in = &g->m->gate_up;
    return in->data + turn_panel(w, g, unit / w->groups) * in->panel_bytes;
}

/* c [rows][PANEL] += bias [PANEL]. */
static void add_bias(float *c, size_t rows, const float *bias)
{
    for (size_t i = 0; i < rows; i++, c += PANEL)
        for (size_t j = 0; j < PANEL; j++)
            c[j] += bias[j];
}

/* Pass 1, unit (turn, group). */
static void up_unit(const struct device *d, const struct work *w, size_t unit, float *c)
{
    const struct group *g = &w->group[unit % w->groups];
    const struct weight *in = &g->m->gate_up, *out = &g->m->down;
    enum x_format x = packed_x_format(d, in), mid = packed_mid_format(d, out);
    size_t first = turn_panel(w, g, unit / w->groups);
    size_t end = turn_panel(w, g, unit / w->groups + 1);
    for (size_t i = first; i < end; i++) {
        const uint8_t *next =
            i + 1 < end ? in->data + (i + 1) * in->panel_bytes : unit_address(w, unit + 1);
        struct panel p = group_panel(w, g, in, i, next, w->x, c);
        d->isa->panel[in->format][x](&p);
        if (g->m->up_bias)
            add_bias(c, g->rows, g->m->up_bias + i * PANEL);
        size_t at = out->k_before + i * (PANEL / 2);
        d->isa->swiglu(c, g->rows, g->m->limit, g->m->alpha, d->config.act, mid, at,
                       w->mid + g->first * X_ROW, w->chunk);
    }
}

/* Slice by slice, panel i of a group's down to its rows' sums. `next` comes after the panel. */
static void down_panel(const struct device *d, const struct work *w, const struct group *g,
                       size_t i, const uint8_t *next, float *c, double *sum)
{
    const struct weight *out = &g->m->down;
    struct panel p = group_panel(w, g, out, i, next, w->mid, c);
    for (size_t s = 0; s < g->m->n_cuts; s++, p.from = p.k) {
        p.k = g->m->cuts[s];
        p.next = p.k < out->k_padded ? p.w + p.k * w_input(out->format) : next;
        d->isa->panel[out->format][packed_x_format(d, out)](&p);
        if (s == 0 && g->m->down_bias)
            add_bias(c, g->rows, g->m->down_bias + i * PANEL);
        d->isa->add(c, g->rows, g->row, g->weights, sum);
    }
}

/* Rows of 32 columns from `column` on, as many as there are. Of f32, c is used. */
static void store_sums(const struct device *d, const struct work *w, size_t column,
                       const double *sum, float *c)
{
    size_t left = w->hidden - column, n = left < PANEL ? left : PANEL;
    if (w->to_dtype == DTYPE_F64) {
        for (size_t i = 0; i < w->rows; i++)
            memcpy((double *)(void *)w->to + i * w->hidden + column, sum + i * PANEL,
                   n * sizeof *sum);
        return;
    }
    for (size_t i = 0; i < w->rows * PANEL; i++)
        c[i] = (float)sum[i];
    d->isa->store(c, w->rows, n, w->to_dtype, w->to + column * dtype_size(w->to_dtype), w->hidden);
}

/* Pass 2, panels first .. end - 1 of the output's columns. */
static void down_unit(const struct device *d, const struct work *w, size_t first, size_t end,
                      float *c, double *sum)
{
    size_t tile = w->rows * PANEL;
    memset(sum, 0, (end - first) * tile * sizeof *sum);
    for (size_t a = 0; a < w->groups; a++) {
        const struct group *g = &w->group[a];
        const struct weight *out = &g->m->down;
        bool last = a + 1 == w->groups;
        const struct weight *after = &w->group[last ? 0 : a + 1].m->down;
        for (size_t i = first; i < end; i++) {
            const uint8_t *next = out->data + (i + 1) * out->panel_bytes;
            if (i + 1 == end)
                next = after->data + (last ? end : first) * after->panel_bytes;
            down_panel(d, w, g, i, next, c, sum + (i - first) * tile);
        }
    }
    for (size_t i = first; i < end; i++)
        store_sums(d, w, i * PANEL, sum + (i - first) * tile, c);
}

/* For team_begin(). */
static size_t work_of(const struct work *w)
{
    size_t work = 0;
    for (size_t g = 0; g < w->groups; g++)
        work += 3 * w->hidden * w->group[g].m->inter * (4 + w->group[g].rows) / 4;
    return work;
}

static void run(const struct device *d, const struct work *w)
{
    size_t panels = (w->hidden + PANEL - 1) / PANEL;
    struct team team = team_begin(d, TEAM_FFN, work_of(w));
    size_t threads = (size_t)team.threads;
    struct shares up = shares_of(w->up, w->turns * w->groups, threads);
    struct shares down = shares_of(w->down, (panels + w->columns - 1) / w->columns, threads);
#pragma omp parallel num_threads(team.threads)
    {
        size_t thread = (size_t)omp_get_thread_num(), mine = thread * sums_bytes(w->rows), unit;
        float *c = (float *)(void *)(w->c + mine);
        double *sum = (double *)(void *)(w->sum + 2 * w->columns * mine);
#pragma omp for schedule(static)
        for (size_t pair = 0; pair < w->pairs; pair++)
            pack_input(d, w, pair);
        while (shares_take(&up, thread, &unit))
            up_unit(d, w, unit, c);
#pragma omp barrier
        if (w->lacks) { /* once for all panels of `down` */
#pragma omp for schedule(static)
            for (size_t pair = 0; pair < w->pairs; pair++)
                packed_mid(d, &w->group[w->group_of[pair]].m->down, w->mid + pair * X_ROW,
                           w->chunk);
        }
        while (shares_take(&down, thread, &unit)) {
            size_t i = unit * w->columns, most = panels - i;
            down_unit(d, w, i, i + (most < w->columns ? most : w->columns), c, sum);
        }
    }
    team_end(&team);
}

void fast_ffn(struct device *d, struct stream *s, const struct ffn *f, const void *x,
              const int32_t *ids, const float *weights, int topk, int n, void *out,
              enum dtype out_dtype)
{
    (void)s;
    size_t rows = (size_t)n, k = (size_t)topk;
    struct work w = {.f = f, .hidden = f->hidden, .to_dtype = out_dtype};
    for (size_t row = 0; row < rows; row += w.rows) {
        w.rows = rows - row < SLAB_ROWS ? rows - row : SLAB_ROWS;
        w.from = (const uint8_t *)x + row * w.hidden * dtype_size(d->config.act);
        w.to = (uint8_t *)out + row * w.hidden * dtype_size(out_dtype);
        cpu_scratch_begin(d);
        group_rows(d, &w, ids ? ids + row * k : NULL, ids ? weights + row * k : NULL, k);
        take_memory(d, &w);
        run(d, &w);
    }
}
