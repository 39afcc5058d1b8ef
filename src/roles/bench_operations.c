/* bench_operations.c - the operations of a decode step, one by one, with the model's own weights: layer
 * after layer, so that a model larger than the caches is read from memory. */
#include "roles/bench.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/philox.h"
#include "model/tensors.h"

#include <stdlib.h>
#include <string.h>

#define LEAST_ROUNDS 3
#define MOST_ROUNDS  31
#define DRAWS        16  /* routings that are rotated over */
#define CACHED       1.3 /* times the read loop: what reads faster reads caches */

const int bench_rows[BENCH_ROWS] = {1, 4, 16, 64, 256};
const int bench_contexts[BENCH_CONTEXTS] = {512, 4096, 16384};

struct work {
    struct stepper *s;
    struct limits *limits;
    struct bench_result *r;
    struct roofs roofs;
    double point, end; /* seconds for a number of rows; clock_now() when all is over */
    void *x;           /* act [most rows][widest] */
    void *y;           /* [most rows][widest] of the widest dtype */
};

static int most_rows(const struct stepper *s)
{
    int most = schedule_most_rows(&s->engine.limits), last = bench_rows[BENCH_ROWS - 1];
    return most < last ? most : last;
}

static struct bench_operation *next_operation(struct work *w, const char *name)
{
    if (w->r->operations == BENCH_OPERATIONS)
        return NULL;
    struct bench_operation *o = &w->r->operation[w->r->operations++];
    snprintf(o->name, sizeof o->name, "%s", name);
    return o;
}

/* The first number of rows is measured in any case. */
static struct metered measure(const struct work *w, int i, const struct meter_task *t)
{
    struct metering g;
    double start = clock_now();
    size_t n = 0;
    if (i > 0 && start > w->end)
        return (struct metered){0};
    meter_begin(&g, w->limits, t);
    while (n < LEAST_ROUNDS || (n < MOST_ROUNDS && clock_now() - start < w->point)) {
        meter_round(&g);
        n++;
    }
    return meter_end(&g);
}

/* ---- products ------------------------------------------------------------------------------- */

/* A matrix that every layer of a kind has. */
struct matrix {
    const struct work *w;
    struct weight **of; /* [n] */
    size_t n, k, outputs;
    int rows;
    enum dtype y;
};

static void run_matrix(void *context, size_t i)
{
    const struct matrix *m = context;
    const struct engine *g = &m->w->s->engine;
    g->backend->ops->linear(g->device, g->stream, m->of[i % m->n], m->w->x, m->rows, m->w->y, m->y);
}

static const char *name_of(enum model_tensor kind)
{
    switch (kind) {
    case TENSOR_Q_DOWN:
        return "query, down";
    case TENSOR_Q_UP:
        return "query";
    case TENSOR_K:
        return "key";
    case TENSOR_V:
        return "value";
    case TENSOR_KV_DOWN:
        return "key and value, down";
    case TENSOR_O:
        return "attention output";
    case TENSOR_LM_HEAD:
        return "lm_head";
    default:
        return "gate of heads";
    }
}

/* bytes: of one. */
static void measure_matrix(struct work *w, const struct matrix *m, const char *name, double bytes)
{
    struct bench_operation *o = next_operation(w, name);
    if (!o)
        return;
    snprintf(o->shape, sizeof o->shape, "%zux%zu", m->outputs, m->k);
    o->bytes = bytes * (double)m->n;
    for (int i = 0; i < BENCH_ROWS && bench_rows[i] <= most_rows(w->s); i++) {
        struct matrix rows = *m;
        rows.rows = bench_rows[i];
        double flops = 2.0 * rows.rows * (double)m->outputs * (double)m->k;
        o->share[i] = measure(w, i, &(struct meter_task){bytes, flops, run_matrix, &rows});
    }
}

static bool same_shape(const size_t *a, const size_t *b)
{
    return a[0] == b[0] && a[1] == b[1];
}

/* One member of the mechanism of layer `first`, of all layers whose matrix has the same shape; none, when an
 * earlier layer has it. */
static void measure_member(struct work *w, const struct member *member, size_t first)
{
    const struct model *m = &w->s->in.model;
    const struct engine *g = &w->s->engine;
    const struct block *block = m->layer[first].attention.block;
    size_t shape[3], other[3];
    struct matrix all = {.w = w, .of = mem_new(m->layers, sizeof *all.of), .y = g->config.act};
    member_shape(m, member, first, shape);
    for (size_t l = 0; l < m->layers; l++) {
        if (m->layer[l].attention.block != block)
            continue;
        if (member->wanted && !member->wanted(m, &m->layer[l]))
            continue;
        member_shape(m, member, l, other);
        if (same_shape(shape, other) && all.n == 0 && l < first)
            break;
        if (same_shape(shape, other))
            memcpy(&all.of[all.n++], (char *)g->attention_weights.layers[l].block + member->at,
                   sizeof *all.of);
    }
    if (all.n > 0) {
        struct weight_part part = tensors_part(m, w->s->in.checkpoint, member->tensor, first, 0);
        all.outputs = shape[0];
        all.k = shape[1];
        measure_matrix(
            w, &all, name_of(member->tensor),
            (double)g->backend->ops->weight_bytes(g->device, &part, inputs_keep(&w->s->in.job)));
    }
    free(all.of);
}

static void measure_matrices(struct work *w)
{
    const struct model *m = &w->s->in.model;
    for (size_t l = 0; l < m->layers; l++) {
        const struct block *b = m->layer[l].attention.block;
        for (size_t i = 0; i < b->n_members; i++)
            if (b->members[i].as == AS_MATRIX &&
                (!b->members[i].wanted || b->members[i].wanted(m, &m->layer[l])))
                measure_member(w, &b->members[i], l);
    }
    struct weight *head = w->s->engine.attention_weights.once.lm_head;
    struct matrix lm = {
        .w = w, .of = &head, .n = 1, .k = m->hidden, .outputs = m->vocab, .y = DTYPE_F32};
    measure_matrix(w, &lm, "lm_head", w->roofs.head_bytes);
}

/* ---- FFN ------------------------------------------------------------------------------------ */

struct layers {
    const struct work *w;
    struct ffn **of; /* [n] */
    size_t n;
    int rows, topk;
    int32_t *ids; /* [DRAWS][rows][topk] */
    float *weights;
};

static void run_layers(void *context, size_t i)
{
    const struct layers *f = context;
    const struct engine *g = &f->w->s->engine;
    size_t draw = i % DRAWS * (size_t)(f->rows * f->topk);
    g->backend->ops->ffn(g->device, g->stream, f->of[i % f->n], f->w->x,
                         f->topk ? f->ids + draw : NULL, f->topk ? f->weights : NULL, f->topk,
                         f->rows, f->w->y, g->shape.combine);
}

/* Experts that are evenly likely; returns how many of them some row chose, on the average of the draws. */
static double draw_experts(struct layers *f, int experts)
{
    size_t rows = (size_t)f->rows, k = (size_t)f->topk, active = 0;
    char *seen = mem_new((size_t)experts, 1);
    for (size_t i = 0; i < DRAWS * rows; i++) {
        if (i % rows == 0)
            memset(seen, 0, (size_t)experts);
        for (size_t j = 0, at = 0; j < k; j++) {
            /* Of each k-th part of the experts one: no expert twice. */
            size_t from = (size_t)experts * j / k, end = (size_t)experts * (j + 1) / k;
            at = from + (size_t)(philox_uniform(3, i, (uint32_t)j, 0) * (float)(end - from));
            at = at < end ? at : end - 1;
            f->ids[i * k + j] = (int32_t)at;
            active += !seen[at];
            seen[at] = 1;
        }
    }
    free(seen);
    return (double)active / DRAWS;
}

/* Layers like `first`, if it is the first of them. */
static void measure_ffn(struct work *w, size_t first)
{
    const struct model *m = &w->s->in.model;
    const struct layer_roof *like = &w->roofs.layers[first], *l;
    struct layers f = {.w = w, .of = mem_new(m->layers, sizeof *f.of), .topk = like->topk};
    for (size_t i = 0; i < m->layers; i++) {
        l = &w->roofs.layers[i];
        if (l->experts != like->experts || l->dense != like->dense || l->expert != like->expert)
            continue;
        if (i < first)
            break;
        f.of[f.n++] = w->s->engine.ffn_weights.layers[i];
    }
    struct bench_operation *o =
        f.n ? next_operation(w, like->experts ? "experts" : "dense FFN") : NULL;
    if (o) {
        const struct ffn_spec *spec = &m->layer[first].ffn;
        snprintf(o->shape, sizeof o->shape, "%dx%zu, %d of them", like->experts, spec->inter,
                 like->topk);
        if (!like->experts)
            snprintf(o->shape, sizeof o->shape, "%zux%zu", spec->inter, m->hidden);
        o->bytes = (double)f.n * (like->dense_bytes + like->experts * like->expert_bytes);
    }
    for (int i = 0; o && i < BENCH_ROWS && bench_rows[i] <= most_rows(w->s); i++) {
        size_t names = (size_t)(bench_rows[i] * like->topk);
        f.rows = bench_rows[i];
        f.ids = mem_new(DRAWS * names + 1, sizeof *f.ids);
        f.weights = mem_new(names + 1, sizeof *f.weights);
        for (size_t j = 0; j < names; j++)
            f.weights[j] = 1.0f / (float)like->topk;
        double active = like->topk ? draw_experts(&f, like->experts) : 0;
        double flops = 2.0 * f.rows * (like->dense + like->topk * like->expert);
        o->share[i] = measure(w, i,
                              &(struct meter_task){like->dense_bytes + active * like->expert_bytes,
                                                   flops, run_layers, &f});
        free(f.ids);
        free(f.weights);
    }
    free(f.of);
}

/* ---- attention ------------------------------------------------------------------------------ */

struct attending {
    const struct work *w;
    const struct attn_spec *spec;
    struct kv *kv;
    size_t layers;
    struct attn_batch batch;
};

static void run_attend(void *context, size_t i)
{
    const struct attending *a = context;
    const struct engine *g = &a->w->s->engine;
    g->backend->ops->attend(g->device, g->stream, a->spec, a->kv, (int)(i % a->layers), &a->batch,
                            a->w->x, a->w->y);
}

/* The caches' layers in turn, as those of the first cache attend; where there is none without a window, in
 * its window. */
static void measure_attend(struct work *w, int context)
{
    struct stepper *s = w->s;
    const struct model *m = &s->in.model;
    size_t layer = 0;
    while (layer + 1 < m->layers && m->layer[layer].attention.attn.window)
        layer++;
    layer = m->layer[layer].attention.attn.window ? 0 : layer;
    const struct attention_spec *spec = &m->layer[layer].attention;
    const struct layer_roof *roof = &w->roofs.layers[layer];
    const struct block_table *t = &s->batch.table[s->engine.caches.pool[spec->cache]];
    struct bench_operation *o = NULL;
    for (int i = 0; i < BENCH_ROWS && stepper_fits(s, bench_rows[i], context); i++) {
        const struct micro_batch *b = &s->batch;
        double seen =
            bench_rows[i] * (roof->window && roof->window < context ? roof->window : context);
        if (!o && !(o = next_operation(w, "attention")))
            return;
        snprintf(o->shape, sizeof o->shape, "%d tokens", context);
        if (i > 0 && clock_now() > w->end)
            break;
        stepper_fill(s, bench_rows[i], context);
        struct attending a = {w,
                              &spec->attn,
                              s->engine.caches.kv[spec->cache],
                              m->caches[spec->cache].layers,
                              {.rows = b->rows,
                               .segments = b->segments,
                               .max_rows = b->max_rows,
                               .max_context = b->max_context,
                               .seg_row = b->seg_row,
                               .seg_pos = b->seg_pos,
                               .row_seg = b->row_seg,
                               .row_pos = b->row_pos,
                               .blocks = t->blocks,
                               .blocks_stride = t->width,
                               .ring = t->pool.window ? t->width : 0}};
        o->bytes = seen * roof->kv_bytes * (double)a.layers;
        o->share[i] = measure(w, i,
                              &(struct meter_task){seen * roof->kv_bytes,
                                                   seen * roof->context_flops, run_attend, &a});
    }
}

/* ---- all ------------------------------------------------------------------------------------ */

/* How many times as fast as memory an operation read, 1 where that did not bind it. */
static double faster(const struct bench_operation *o)
{
    double most = 1;
    for (int i = 0; i < BENCH_ROWS; i++)
        if (o->share[i].memory && o->share[i].faster > most)
            most = o->share[i].faster;
    return most;
}

void bench_caches(struct bench_result *r, size_t matrices)
{
    double best = 1, cached = 0, largest = 0;
    for (size_t o = 0; o < r->operations; o++) {
        const struct bench_operation *op = &r->operation[o];
        double by = faster(op);
        best = by > best ? by : best;
        cached = by > CACHED && op->bytes > cached ? op->bytes : cached;
        largest = o < matrices && op->bytes > largest ? op->bytes : largest;
    }
    for (size_t o = 0; o < r->operations; o++) {
        struct bench_operation *op = &r->operation[o];
        op->cached = op->bytes <= cached;
        for (int i = 0; i < BENCH_ROWS && op->cached; i++) {
            struct metered *m = &op->share[i];
            double slower = m->memory ? m->faster / best : 1;
            m->low *= slower;
            m->share *= slower;
            m->high *= slower;
        }
    }
    r->faster_memory = largest <= cached ? best : 1;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Rows that everything above can read from, and write to. */
static void take_rows(struct work *w)
{
    const struct model *m = &w->s->in.model;
    const struct device_limits *l = &w->s->engine.config.limits;
    size_t rows = (size_t)most_rows(w->s), width = larger(m->hidden, l->q_width);
    width = larger(width, l->heads * l->head_dim);
    size_t n = rows * width;
    enum dtype act = w->s->engine.config.act;
    float *x = mem_new(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = 2 * philox_uniform(5, i, 0, 0) - 1;
    if (act == DTYPE_BF16)
        for (size_t i = 0; i < n; i++)
            ((bf16_t *)(void *)x)[i] = bf16_from_f32(x[i]);
    w->x = x;
    w->y = mem_aligned(mem_mul(rows, larger(width, m->vocab)), sizeof(double));
}

void bench_operations(struct stepper *s, struct limits *limits, double seconds,
                      struct bench_result *r)
{
    struct work w = {.s = s, .limits = limits, .r = r, .end = clock_now() + seconds};
    w.point = seconds / (12 * BENCH_ROWS);
    roofs_open(&w.roofs, &s->engine);
    take_rows(&w);
    for (size_t l = 0; l < s->in.model.layers; l++)
        measure_ffn(&w, l);
    measure_matrices(&w);
    size_t matrices = r->operations;
    for (int i = 0; i < BENCH_CONTEXTS; i++)
        if ((size_t)bench_contexts[i] <= s->engine.limits.max_context)
            measure_attend(&w, bench_contexts[i]);
    if ((size_t)bench_contexts[0] > s->engine.limits.max_context)
        measure_attend(&w, (int)s->engine.limits.max_context);
    bench_caches(r, matrices);
    roofs_close(&w.roofs);
    free(w.x);
    free(w.y);
}
