#include "kernels/selftest.h"

#include "base/mem.h"
#include "kernels/selftest_pair.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROWS    67 /* more than a tile of any kernel, and no multiple of one */
#define FEW     5
#define OUTPUTS 140 /* more than one block of outputs */
#define EXPERTS 5
#define CHOSEN  3
#define EPSILON 1e-5f

static const enum dtype f32 = DTYPE_F32;

/* The forms in which weights are kept (kernels/weights/form.h), and what is made of what. */
static const struct form {
    const char *name;
    enum dtype stored;
    enum weight_keep keep;
} forms[] = {
    {"f32", DTYPE_F32, WEIGHT_KEEP},     {"bf16", DTYPE_BF16, WEIGHT_KEEP},
    {"fp8", DTYPE_F8E4M3, WEIGHT_KEEP},  {"int8", DTYPE_BF16, WEIGHT_INT8},
    {"4 bits", DTYPE_BF16, WEIGHT_INT4}, {"int8 in groups", DTYPE_I8, WEIGHT_KEEP},
};
#define FORMS (sizeof forms / sizeof *forms)

/* A width that the plain backend can be given in every matrix of experts: with the same remainders. */
static int shortened(int n)
{
    return n < 1536 ? n : 1024 + n % 512;
}

static struct rows dense(enum dtype t, void *data, int width)
{
    return (struct rows){t, data, NULL, (size_t)width};
}

static size_t scales_of(int width)
{
    return ((size_t)width + ROWS_GROUP - 1) / ROWS_GROUP;
}

/* ---- rows ----------------------------------------------------------------------------------- */

static void check_embed(struct pair *p, int hidden)
{
    int32_t ids[FEW] = {6, 0, 3, 3, 1}, picked[FEW] = {4, 4, 0, 2, 1};
    struct weight_part table = pair_matrix(p, DTYPE_BF16, 7, hidden);
    size_t n = FEW * (size_t)hidden;
    for (int i = 0; i < 2; i++) {
        struct pair_side *s = &p->side[i];
        struct weight *t = s->ops->table_create(s->device, &table);
        float *x = pair_room(s, n * 4), *y = pair_room(s, n * 4);
        s->ops->embed(s->device, s->stream, t, pair_put(s, ids, sizeof ids), FEW, x);
        s->ops->gather(s->device, s->stream, x, pair_put(s, picked, sizeof picked), FEW, hidden, y);
        pair_fetch(s, 0, x, f32, n);
        pair_fetch(s, 1, y, f32, n);
        s->ops->weight_destroy(s->device, t);
    }
    pair_at(p, "rows of %d", hidden);
    pair_compare_part(p, 1, "gather", FEW, (size_t)hidden, 0);
    pair_compare(p, "embed", FEW, (size_t)hidden, 0);
}

static void check_residual(struct pair *p, int hidden, enum dtype part)
{
    size_t n = FEW * (size_t)hidden;
    float *x = pair_numbers(p, f32, n, 1), *gain = pair_numbers(p, f32, (size_t)hidden, 1);
    void *parts[] = {pair_numbers(p, part, n, 1), pair_numbers(p, part, n, 1)};
    for (int i = 0; i < 2; i++) {
        struct pair_side *s = &p->side[i];
        const void *on[] = {pair_put(s, parts[0], n * dtype_size(part)),
                            pair_put(s, parts[1], n * dtype_size(part))};
        float *stream = pair_put(s, x, n * 4);
        void *y = pair_room(s, n * dtype_size(p->act)), *sum = pair_room(s, n * dtype_size(part));
        s->ops->residual_norm(s->device, s->stream, stream, on, 2, part,
                              pair_put(s, gain, (size_t)hidden * 4), EPSILON, FEW, hidden, y);
        s->ops->sum(s->device, s->stream, on, 2, part, FEW, hidden, sum);
        pair_fetch(s, 0, y, p->act, n);
        pair_fetch(s, 1, stream, f32, n);
        pair_fetch(s, 2, sum, part, n);
    }
    pair_at(p, "rows of %d, parts in %s", hidden, dtype_name(part));
    pair_compare_part(p, 2, "sum", FEW, (size_t)hidden, 0);
    pair_compare_part(p, 1, "residual_norm, what is added", FEW, (size_t)hidden, 0);
    pair_compare(p, "residual_norm", FEW, (size_t)hidden, pair_tolerance(p->act));
}

static void check_norm(struct pair *p, int width)
{
    size_t n = ROWS * (size_t)width, size = dtype_size(p->act);
    void *x = pair_numbers(p, p->act, n, 1);
    float *gain = pair_numbers(p, f32, (size_t)width, 1),
          *bias = pair_numbers(p, f32, (size_t)width, 1);
    float *gates = pair_numbers(p, f32, ROWS, 3);
    for (int i = 0; i < 2; i++) {
        struct pair_side *s = &p->side[i];
        struct rows from = dense(p->act, pair_put(s, x, n * size), width);
        struct rows to = dense(p->act, pair_room(s, n * size), width);
        void *biased = pair_put(s, x, n * size), *gated = pair_put(s, x, n * size);
        s->ops->norm(s->device, s->stream, &from, pair_put(s, gain, (size_t)width * 4), EPSILON,
                     ROWS, width, &to);
        s->ops->bias(s->device, s->stream, pair_put(s, bias, (size_t)width * 4), ROWS, width,
                     biased, p->act);
        s->ops->gate(s->device, s->stream, pair_put(s, gates, ROWS * 4), ROWS, 1, width, gated);
        pair_fetch(s, 0, to.data, p->act, n);
        pair_fetch(s, 1, biased, p->act, n);
        pair_fetch(s, 2, gated, p->act, n);
    }
    pair_at(p, "rows of %d", width);
    pair_compare_part(p, 1, "bias", ROWS, (size_t)width, pair_tolerance(p->act));
    pair_compare_part(p, 2, "gate", ROWS, (size_t)width, pair_tolerance(p->act));
    pair_compare(p, "norm", ROWS, (size_t)width, pair_tolerance(p->act));
}

/* To the wire's format, and back. */
static void check_copy(struct pair *p, int width, enum dtype wire)
{
    size_t n = FEW * (size_t)width, size = dtype_size(p->act);
    void *x = pair_numbers(p, p->act, n, 1);
    for (int i = 0; i < 2; i++) {
        struct pair_side *s = &p->side[i];
        struct rows from = dense(p->act, pair_put(s, x, n * size), width);
        struct rows there = dense(wire, pair_room(s, n * dtype_size(wire)), width);
        struct rows back = dense(p->act, pair_room(s, n * size), width);
        if (wire == DTYPE_F8E4M3)
            there.scale = pair_room(s, FEW * scales_of(width) * 4);
        s->ops->copy(s->device, s->stream, &from, &there, FEW, width);
        s->ops->copy(s->device, s->stream, &there, &back, FEW, width);
        pair_fetch(s, 0, back.data, p->act, n);
        pair_fetch(s, 1, there.data, wire, n);
    }
    pair_at(p, "rows of %d to %s and back", width, dtype_name(wire));
    pair_compare_part(p, 1, "copy, on the wire", FEW, (size_t)width, 0);
    pair_compare(p, "copy", FEW, (size_t)width, 0);
}

/* ---- matrices ------------------------------------------------------------------------------- */

static void check_linear(struct pair *p, const struct form *form, int inputs, int outputs, int rows)
{
    struct weight_part w = pair_matrix(p, form->stored, outputs, inputs);
    size_t in = (size_t)rows * (size_t)inputs, out = (size_t)rows * (size_t)outputs;
    void *x = pair_numbers(p, p->act, in, 1);
    for (int i = 0; i < 2; i++) {
        struct pair_side *s = &p->side[i];
        struct weight *packed = s->ops->weight_create(s->device, &w, form->keep);
        void *from = pair_put(s, x, in * dtype_size(p->act));
        void *y = pair_room(s, out * 4), *z = pair_room(s, out * dtype_size(p->act));
        s->ops->linear(s->device, s->stream, packed, from, rows, y, f32);
        s->ops->linear(s->device, s->stream, packed, from, rows, z, p->act);
        pair_fetch(s, 0, y, f32, out);
        pair_fetch(s, 1, z, p->act, out);
        s->ops->weight_destroy(s->device, packed);
    }
    pair_at(p, "a matrix of %d x %d in %s, %d rows", outputs, inputs, form->name, rows);
    pair_compare_part(p, 1, "linear, rounded", (size_t)rows, (size_t)outputs,
                      pair_tolerance(p->act));
    pair_compare(p, "linear", (size_t)rows, (size_t)outputs, 1e-4);
}

static void check_heads(struct pair *p, const struct form *form, const struct selftest_shapes *m)
{
    struct weight_part w[4];
    int heads = m->heads < 4 ? m->heads : 4, in = m->head_in, out = m->head_out;
    size_t from = FEW * (size_t)(heads * in), to = FEW * (size_t)(heads * out),
           size = dtype_size(p->act);
    for (int h = 0; h < heads; h++)
        w[h] = pair_matrix(p, form->stored, out, in);
    void *x = pair_numbers(p, p->act, from, 1);
    for (int i = 0; i < 2; i++) {
        struct pair_side *s = &p->side[i];
        struct weight_heads *packed = s->ops->heads_create(s->device, w, heads, form->keep);
        struct rows a = dense(p->act, pair_put(s, x, from * size), heads * in);
        struct rows b = dense(p->act, pair_room(s, to * size), heads * out);
        s->ops->linear_heads(s->device, s->stream, packed, &a, in, FEW, &b, out);
        pair_fetch(s, 0, b.data, p->act, to);
        s->ops->heads_destroy(s->device, packed);
    }
    pair_at(p, "a matrix of %d x %d for every head in %s", out, in, form->name);
    pair_compare(p, "linear_heads", FEW, (size_t)(heads * out), pair_tolerance(p->act));
}

/* ---- experts -------------------------------------------------------------------------------- */

/* In two slices. biased: with all that gpt-oss has. */
static struct mlp_part pair_mlp(struct pair *p, const struct form *form, int hidden, int inter,
                                bool biased)
{
    size_t *cuts = pair_host(p, 2, sizeof *cuts);
    cuts[0] = (size_t)inter / 64 * 32;
    cuts[1] = (size_t)inter;
    struct mlp_part m = {.gate = pair_matrix(p, form->stored, inter, hidden),
                         .up = pair_matrix(p, form->stored, inter, hidden),
                         .down = pair_matrix(p, form->stored, hidden, inter),
                         .cuts = cuts[0] > 0 ? cuts : cuts + 1,
                         .n_cuts = cuts[0] > 0 ? 2 : 1};
    if (biased) {
        m.gate_bias = pair_numbers(p, f32, (size_t)inter, 1);
        m.up_bias = pair_numbers(p, f32, (size_t)inter, 1);
        m.down_bias = pair_numbers(p, f32, (size_t)hidden, 1);
        m.limit = 1;
        m.alpha = 1.702f;
    }
    return m;
}

/* Experts 2..6 of 9: some rows have none of these, one has many. */
static void check_ffn(struct pair *p, const struct form *form, int hidden, int inter, int rows,
                      enum dtype out_dtype)
{
    struct mlp_part experts[EXPERTS];
    struct ffn_part part = {.first_expert = 2, .n_experts = EXPERTS, .experts = experts};
    size_t n = (size_t)rows, numbers = n * (size_t)hidden;
    bool biased = out_dtype == DTYPE_BF16; /* both kinds come with one of the two */
    for (int e = 0; e < EXPERTS; e++)
        experts[e] = pair_mlp(p, form, hidden, inter, biased);
    part.shared = pair_mlp(p, form, hidden, (inter + 1) / 2, biased);
    void *x = pair_numbers(p, p->act, numbers, 1);
    float *weights = pair_numbers(p, f32, n * CHOSEN, 1);
    int32_t *ids = pair_host(p, n * CHOSEN, sizeof *ids);
    for (int i = 0; i < rows * CHOSEN; i += CHOSEN) {
        ids[i] = i % 4 == 3 ? 0 : 4;
        ids[i + 1] = (i / CHOSEN) % 2 ? 8 : 5;
        ids[i + 2] = (i / CHOSEN) % 7 ? 1 : 2;
    }
    for (int i = 0; i < 2; i++) {
        struct pair_side *s = &p->side[i];
        struct ffn *f = s->ops->ffn_create(s->device, &part, form->keep);
        void *out = pair_room(s, numbers * dtype_size(out_dtype));
        s->ops->ffn(s->device, s->stream, f, pair_put(s, x, numbers * dtype_size(p->act)),
                    pair_put(s, ids, n * CHOSEN * 4), pair_put(s, weights, n * CHOSEN * 4), CHOSEN,
                    rows, out, out_dtype);
        pair_fetch(s, 0, out, out_dtype, numbers);
        s->ops->ffn_destroy(s->device, f);
    }
    pair_at(p, "experts of %d x %d in %s, %d rows", inter, hidden, form->name, rows);
    pair_compare(p, "ffn", n, (size_t)hidden,
                 fmax(pair_tolerance(p->act), pair_tolerance(out_dtype)));
}

/* ids [n][K] as numbers. */
static void fetch_ids(struct pair_side *s, int k, const int32_t *ids, size_t n)
{
    int32_t *host = mem_new(n ? n : 1, sizeof *host);
    s->backend->device->download(s->device, s->stream, host, ids, n * sizeof *host);
    s->backend->device->stream_sync(s->device, s->stream);
    free(s->result[k]);
    s->result[k] = mem_new(n ? n : 1, sizeof(float));
    for (size_t i = 0; i < n; i++)
        s->result[k][i] = (float)host[i];
    free(host);
}

static void check_route(struct pair *p, const struct router_spec *r, int hidden)
{
    size_t experts = (size_t)r->experts, k = (size_t)r->topk, n = FEW * (size_t)hidden;
    float *gate = pair_numbers(p, f32, experts * (size_t)hidden, 3 / sqrt((double)hidden));
    float *bias = pair_numbers(p, f32, experts, 0.1);
    void *x = pair_numbers(p, p->act, n, 1);
    for (int i = 0; i < 2; i++) {
        struct pair_side *s = &p->side[i];
        int32_t *ids = pair_room(s, FEW * k * 4);
        float *weights = pair_room(s, FEW * k * 4);
        s->ops->route(s->device, s->stream, r, pair_put(s, gate, experts * (size_t)hidden * 4),
                      pair_put(s, bias, experts * 4), pair_put(s, x, n * dtype_size(p->act)), FEW,
                      hidden, ids, weights);
        fetch_ids(s, 1, ids, FEW * k);
        pair_fetch(s, 0, weights, f32, FEW * k);
    }
    pair_at(p, "%d of %d experts, rows of %d", r->topk, r->experts, hidden);
    pair_compare_part(p, 1, "route, choices", FEW, k, 0);
    pair_compare(p, "route", FEW, k, 1e-4);
}

/* Added to counts that are there, over ids of which some mean no expert. */
static void check_tally(struct pair *p, const struct router_spec *r)
{
    size_t experts = (size_t)r->experts, n = ROWS * (size_t)r->topk;
    int32_t *ids = pair_host(p, n, sizeof *ids);
    uint64_t *counts = pair_host(p, experts, sizeof *counts);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)(pair_uniform(p) * (double)(experts + 1)) - 1;
    for (size_t e = 0; e < experts; e++)
        counts[e] = e % 3;
    for (int i = 0; i < 2; i++) {
        struct pair_side *s = &p->side[i];
        uint64_t *on = pair_put(s, counts, experts * sizeof *counts);
        int32_t live = ROWS - 1, *given = pair_put(s, ids, n * sizeof *ids);
        s->ops->tally(s->device, s->stream, given, ROWS, r->topk, pair_put(s, &live, sizeof live),
                      r->experts, on);
        fetch_ids(s, 0, (const int32_t *)on, 2 * experts); /* halves of the counts */
    }
    pair_at(p, "%d experts", r->experts);
    pair_compare(p, "tally", experts, 2, 0);
}

/* ---- logits --------------------------------------------------------------------------------- */

static void check_sample(struct pair *p, int vocab)
{
    static const struct sample_params params[FEW] = {
        {.temperature = 0},
        {.temperature = 1, .top_p = 1, .uniform = 0.7f, .within = 0},
        {.temperature = 0.7f, .top_p = 0.9f, .uniform = 0.5f},
        {.temperature = 1.3f, .top_p = 0.95f, .top_k = 20, .uniform = 0.95f},
        {.temperature = 1, .top_p = 1, .uniform = 0.2f, .within = 2}};
    const struct logit_edit edits[] = {{1, 0, -INFINITY, 1, 0}, {2, vocab - 1, 3, 1.5f, 0.5f}};
    size_t n = FEW * (size_t)vocab, words = ((size_t)vocab + 31) / 32;
    float *logits = pair_numbers(p, f32, n, 8);
    uint32_t *bits = pair_host(p, words, sizeof *bits);
    int32_t masked = 3;
    for (size_t i = 0; i < words; i++)
        bits[i] = (uint32_t)(pair_uniform(p) * 0x1p32) | 1;
    for (int i = 0; i < 2; i++) {
        struct pair_side *s = &p->side[i];
        float *on = pair_put(s, logits, n * 4), *logprobs = pair_room(s, FEW * 4);
        int32_t *tokens = pair_room(s, FEW * 4);
        s->ops->edit(s->device, s->stream, on, vocab, pair_put(s, edits, sizeof edits), 2);
        s->ops->mask(s->device, s->stream, on, vocab, pair_put(s, &masked, sizeof masked),
                     pair_put(s, bits, words * 4), 1);
        s->ops->sample(s->device, s->stream, on, FEW, vocab, pair_put(s, params, sizeof params),
                       tokens, logprobs);
        pair_fetch(s, 0, logprobs, f32, FEW);
        fetch_ids(s, 1, tokens, FEW);
        pair_fetch(s, 2, on, f32, n);
    }
    pair_at(p, "%d logits", vocab);
    pair_compare_part(p, 2, "edit and mask", FEW, (size_t)vocab, 1e-6);
    pair_compare_part(p, 1, "sample, tokens", FEW, 1, 0);
    pair_compare(p, "sample", FEW, 1, 1e-5);
}

static void check_score(struct pair *p, int vocab)
{
    size_t n = FEW * (size_t)vocab;
    int32_t targets[FEW] = {0, 1, -1, vocab - 1, 2};
    int k = vocab < 5 ? vocab : 5;
    float *logits = pair_numbers(p, f32, n, 8);
    for (int i = 0; i < 2; i++) {
        struct pair_side *s = &p->side[i];
        float *on = pair_put(s, logits, n * 4), *own = pair_room(s, FEW * 4);
        float *best = pair_room(s, FEW * (size_t)k * 4);
        int32_t *top = pair_room(s, FEW * (size_t)k * 4);
        s->ops->score(s->device, s->stream, on, FEW, vocab, pair_put(s, targets, sizeof targets),
                      own, k, top, best);
        pair_fetch(s, 0, best, f32, FEW * (size_t)k);
        fetch_ids(s, 1, top, FEW * (size_t)k);
        pair_fetch(s, 2, own, f32, FEW);
    }
    pair_at(p, "%d logits", vocab);
    pair_compare_part(p, 2, "score, of a token", FEW, 1, 1e-5);
    pair_compare_part(p, 1, "score, likeliest tokens", FEW, (size_t)k, 0);
    pair_compare(p, "score", FEW, (size_t)k, 1e-5);
}

/* ---- all of it ------------------------------------------------------------------------------ */

static int most(int a, int b)
{
    return a > b ? a : b;
}

static struct device_limits limits_of(const struct selftest_shapes *m)
{
    struct device_limits l = {.rows = ROWS,
                              .hidden = (size_t)m->hidden,
                              .q_width = (size_t)m->hidden,
                              .context = SELFTEST_CONTEXT,
                              .vocab = (size_t)most(m->vocab, OUTPUTS),
                              .logit_rows = FEW,
                              .experts = EXPERTS,
                              .topk = CHOSEN};
    for (int i = 0; i < m->n_widths; i++)
        l.q_width = (size_t)most((int)l.q_width, m->widths[i]);
    for (int i = 0; i < m->n_inters; i++)
        l.inter = (size_t)most((int)l.inter, m->inters[i]);
    for (int i = 0; i < m->n_attention; i++) {
        const struct attn_spec *a = &m->attention[i];
        l.heads = (size_t)most((int)l.heads, a->heads);
        l.head_dim = (size_t)most((int)l.head_dim, most(a->key_dim, a->value_dim));
    }
    return l;
}

static void check_matrices(struct pair *p, const struct selftest_shapes *m)
{
    for (size_t f = 0; f < FORMS; f++) {
        for (int i = 0; i < m->n_widths && pair_wants(p, "linear"); i++)
            check_linear(p, &forms[f], m->widths[i], OUTPUTS, ROWS);
        if (m->heads > 0 && pair_wants(p, "linear_heads"))
            check_heads(p, &forms[f], m);
        for (int i = 0; i < m->n_inters && pair_wants(p, "ffn"); i++) {
            check_ffn(p, &forms[f], shortened(m->hidden), shortened(m->inters[i]), ROWS, f32);
            check_ffn(p, &forms[f], m->hidden, shortened(m->inters[i]), FEW, DTYPE_BF16);
        }
    }
}

static void check_rows(struct pair *p, const struct selftest_shapes *m)
{
    if (pair_wants(p, "embed"))
        check_embed(p, m->hidden);
    static const enum dtype parts[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F64};
    for (int i = 0; i < 3 && pair_wants(p, "residual_norm"); i++)
        check_residual(p, m->hidden, parts[i]);
    if (pair_wants(p, "norm"))
        check_norm(p, m->hidden);
    for (int i = 0; i < m->n_attention && pair_wants(p, "norm"); i++)
        check_norm(p, m->attention[i].key_dim);
    if (pair_wants(p, "copy"))
        check_copy(p, m->hidden, m->wire);
    for (int i = 0; i < m->n_routers && pair_wants(p, "route"); i++)
        check_route(p, &m->routers[i], m->hidden);
    for (int i = 0; i < m->n_routers && pair_wants(p, "tally"); i++)
        check_tally(p, &m->routers[i]);
    if (pair_wants(p, "sample"))
        check_sample(p, m->vocab);
    if (pair_wants(p, "score"))
        check_score(p, m->vocab);
}

int selftest_run(struct selftest *t, const struct selftest_shapes *m, struct err *e)
{
    struct pair p;
    const struct device_config config = {.index = t->index,
                                         .threads = t->threads,
                                         .act = t->act,
                                         .kv = t->kv,
                                         .blas = t->blas,
                                         .limits = limits_of(m)};
    if (pair_open(&p, t, &config, e) != 0)
        return -1;
    check_rows(&p, m);
    for (int i = 0; i < m->n_attention && pair_wants(&p, "attend"); i++)
        selftest_attention(&p, &m->attention[i]);
    check_matrices(&p, m);
    t->checks += p.checks;
    t->wrong += p.wrong;
    pair_close(&p);
    return 0;
}

/* Small shapes by which every kernel of every backend is reached. */
static const float sinks[1];
static const struct {
    enum dtype act, kv;
    struct selftest_shapes shapes;
} all[] = {
    {DTYPE_F32,
     DTYPE_F32,
     {.hidden = 131,
      .vocab = 517,
      .widths = {131, 48},
      .n_widths = 2,
      .inters = {40},
      .n_inters = 1,
      .attention = {{.heads = 6,
                     .kv_heads = 2,
                     .key_dim = 20,
                     .value_dim = 20,
                     .rope_dim = 20,
                     .window = 70,
                     .scale = 0.3f,
                     .sinks = sinks},
                    {.heads = 3,
                     .kv_heads = 1,
                     .key_dim = 40,
                     .value_dim = 32,
                     .value_in_key = true,
                     .rope_at = 32,
                     .rope_dim = 8,
                     .pairs = ROPE_NEIGHBORS,
                     .scale = 0.2f}},
      .n_attention = 2,
      .routers = {{.score = ROUTER_SIGMOID,
                   .experts = 24,
                   .topk = 4,
                   .renormalize = true,
                   .factor = 2.5f,
                   .groups = 4,
                   .topk_groups = 2}},
      .n_routers = 1,
      .heads = 3,
      .head_in = 24,
      .head_out = 40,
      .wire = DTYPE_BF16}},
    {DTYPE_BF16,
     DTYPE_BF16,
     {.hidden = 1032,
      .vocab = 3001,
      .widths = {1032, 200},
      .n_widths = 2,
      .inters = {104},
      .n_inters = 1,
      .attention = {{.heads = 8,
                     .kv_heads = 1,
                     .key_dim = 64,
                     .value_dim = 64,
                     .rope_dim = 64,
                     .scale = 0.125f},
                    {.heads = 4,
                     .kv_heads = 2,
                     .key_dim = 128,
                     .value_dim = 128,
                     .rope_dim = 64,
                     .scale = 0.1f,
                     .sinks = sinks},
                    {.heads = 20,
                     .kv_heads = 1,
                     .key_dim = 576,
                     .value_dim = 512,
                     .value_in_key = true,
                     .rope_at = 512,
                     .rope_dim = 64,
                     .pairs = ROPE_NEIGHBORS,
                     .scale = 0.07f}},
      .n_attention = 3,
      .routers = {{.score = ROUTER_SOFTMAX, .experts = 48, .topk = 3, .factor = 1}},
      .n_routers = 1,
      .heads = 3,
      .head_in = 72,
      .head_out = 40,
      .wire = DTYPE_F8E4M3}},
    {DTYPE_BF16,
     DTYPE_F8E4M3,
     {.hidden = 77,
      .vocab = 300,
      .widths = {77},
      .n_widths = 1,
      .inters = {33},
      .n_inters = 1,
      .attention = {{.heads = 20,
                     .kv_heads = 1,
                     .key_dim = 256,
                     .value_dim = 256,
                     .rope_dim = 256,
                     .scale = 0.0625f}},
      .n_attention = 1,
      .wire = DTYPE_F32}},
};

int selftest_all(struct selftest *t, struct err *e)
{
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        t->act = all[i].act;
        t->kv = all[i].kv;
        t->blas = false;
        if (selftest_run(t, &all[i].shapes, e) != 0)
            return -1;
    }
    return 0;
}
