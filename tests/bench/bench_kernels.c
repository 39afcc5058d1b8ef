/* bench_kernels.c - every expensive operation of a decode step against the limits of this machine,
 * with weights and caches that are cold, as they are in a model that is larger than a cache. */
#include "tests/bench/bench.h"
#include "tests/bench/peer.h"

#include "base/mem.h"
#include "base/philox.h"
#include "kernels/ops.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* What all groups use. */
struct world {
    struct bench *bench;
    const struct backend *backend;
    const struct ops *ops;
    size_t cold; /* bytes that are rotated over */
    uint64_t draws;
};

static float draw(struct world *w)
{
    return 2 * philox_uniform(1, w->draws++, 0, 0) - 1;
}

/* n numbers of some size in steps of a table: random enough, and quick to make. */
static void *numbers(struct world *w, enum dtype dtype, size_t n, float size)
{
    uint8_t *p = mem_aligned(n, dtype_size(dtype));
    float value[256];
    for (size_t i = 0; i < 256; i++)
        value[i] = size * draw(w);
    for (size_t i = 0; i < n; i++) {
        float v = value[(i * 2654435761u >> 13) & 255];
        if (dtype == DTYPE_F32)
            ((float *)(void *)p)[i] = v;
        else if (dtype == DTYPE_BF16)
            ((bf16_t *)(void *)p)[i] = bf16_from_f32(v);
        else
            p[i] = (uint8_t)((i * 2654435761u >> 13) & 0xf7); /* codes below NaN */
    }
    return p;
}

static struct weight_part new_part(struct world *w, enum dtype dtype, size_t n, size_t k)
{
    struct weight_part p = {.data = numbers(w, dtype, n * k, 0.05f),
                            .codec = codec_of(dtype),
                            .n = n,
                            .k = k,
                            .stride = k};
    if (dtype == DTYPE_F8E4M3) {
        p.scale_rows = p.scale_columns = 128;
        p.scale_stride = (k + 127) / 128;
        p.scale = numbers(w, DTYPE_F32, (n + 127) / 128 * p.scale_stride, 0.01f);
    }
    return p;
}

static void free_part(const struct weight_part *p)
{
    free((void *)p->data);
    free((void *)p->scale);
}

static struct device *open_device(struct world *w, enum dtype kv, bool int8_products,
                                  const struct device_limits *l)
{
    struct device_config config = {.threads = w->bench->threads,
                                   .act = DTYPE_BF16,
                                   .kv = kv,
                                   .int8_products = int8_products,
                                   .limits = *l};
    struct device *d;
    struct err e;
    if (w->backend->device->open(&config, &d, &e) != 0)
        die("%s", e.text);
    return d;
}

/* ---- linear --------------------------------------------------------------------------------- */

struct linear {
    const struct ops *ops;
    struct device *d;
    struct weight **weights;
    size_t count;
    int rows;
    const void *x;
    void *y;
    enum dtype y_dtype;
};

static void run_linear(void *context, size_t i)
{
    struct linear *l = context;
    l->ops->linear(l->d, NULL, l->weights[i % l->count], l->x, l->rows, l->y, l->y_dtype);
}

/* Other libraries are measured on bf16 weights alone, which they all know, and unless all shapes
 * are asked for, only at two of them. */
static struct peers *open_peers(const struct world *w, const char *group,
                                const struct bench_form *form, const struct peer_linear *l)
{
    bool chosen = (l->n == 5120 && l->k == 1024) || (l->n == 7168 && l->k == 2048);
    bool wanted =
        strcmp(w->bench->peers, "all") == 0 || (strcmp(w->bench->peers, "some") == 0 && chosen);
    bool comparable = strcmp(group, "linear") == 0 && form == &bench_forms[0];
    return wanted && comparable ? peers_open(l) : NULL;
}

static void linear_shape(struct world *w, const char *group, const struct bench_form *form,
                         size_t n, size_t k, const size_t *rows, size_t n_rows, enum dtype y_dtype)
{
    size_t most = rows[n_rows - 1];
    struct device_limits limits = {
        .rows = most, .hidden = k, .q_width = k, .inter = k, .logit_rows = most, .vocab = n};
    struct linear l = {.ops = w->ops,
                       .d = open_device(w, DTYPE_BF16, form->int8_products, &limits),
                       .y_dtype = y_dtype};
    struct weight_part part = new_part(w, form->dtype, n, k);
    double bytes = (double)w->ops->weight_bytes(l.d, &part, form->keep);
    l.count = (size_t)((double)w->cold / bytes) + 1;
    l.weights = mem_new(l.count, sizeof *l.weights);
    for (size_t i = 0; i < l.count; i++)
        l.weights[i] = w->ops->weight_create(l.d, &part, form->keep);
    l.x = numbers(w, DTYPE_BF16, most * k, 1);
    l.y = mem_aligned(most * n, sizeof(float));
    struct peer_linear same = {n, k, most, part.data, w->cold, w->bench->threads, y_dtype, NULL};
    struct peers *peers = open_peers(w, group, form, &same);
    for (size_t i = 0; i < n_rows; i++) {
        struct bench_peer others[BENCH_PEERS];
        struct bench_task t = {.group = group,
                               .dtype = form->name,
                               .rows = rows[i],
                               .task = {.bytes = bytes, .run = run_linear, .context = &l},
                               .peers = others};
        t.task.flops = 2.0 * (double)rows[i] * (double)n * (double)k;
        snprintf(t.shape, sizeof t.shape, "%zux%zu", n, k);
        l.rows = (int)rows[i];
        if (peers) {
            run_linear(&l, 0);
            t.n_peers = peers_prepare(peers, rows[i], l.x, l.y, others);
        }
        bench_measure(w->bench, &t);
    }
    if (peers)
        peers_close(peers);
    for (size_t i = 0; i < l.count; i++)
        w->ops->weight_destroy(l.d, l.weights[i]);
    w->backend->device->close(l.d);
    free_part(&part);
    free(l.weights);
    free((void *)l.x);
    free(l.y);
}

static void bench_linear(struct world *w)
{
    static const size_t rows[] = {1, 4, 8, 16, 64, 256};
    static const size_t shapes[][2] = {{5120, 1024}, {1024, 5120}, {7168, 2048}, {2048, 7168}};
    size_t n_shapes = w->bench->quick ? 2 : COUNT(shapes);
    if (strcmp(w->bench->peers, "none") != 0)
        peers_print(w->bench->threads);
    for (size_t f = 0; f < BENCH_FORMS; f++)
        for (size_t s = 0; s < n_shapes; s++)
            linear_shape(w, "linear", &bench_forms[f], shapes[s][0], shapes[s][1], rows,
                         COUNT(rows), DTYPE_BF16);
}

static void bench_lm_head(struct world *w)
{
    static const size_t rows[] = {1, 16, 64};
    linear_shape(w, "lm_head", &bench_forms[0], 128832, w->bench->quick ? 1024 : 7168, rows,
                 COUNT(rows), DTYPE_F32);
}

/* ---- moe ------------------------------------------------------------------------------------ */

#define MOE_EXPERTS 16
#define MOE_TOPK    3
#define MOE_ROWS    256
#define MOE_DRAWS   16 /* routings that are rotated over */

struct moe {
    const struct ops *ops;
    struct device *d;
    struct ffn **layers;
    size_t count;
    int rows;
    const void *x;
    int32_t *ids; /* [MOE_DRAWS][MOE_ROWS][MOE_TOPK] */
    float *weights;
    void *out;
};

static void run_moe(void *context, size_t i)
{
    struct moe *m = context;
    m->ops->ffn(m->d, NULL, m->layers[i % m->count], m->x,
                m->ids + i % MOE_DRAWS * MOE_ROWS * MOE_TOPK, m->weights, MOE_TOPK, m->rows, m->out,
                DTYPE_F32);
}

static void draw_routing(struct world *w, struct moe *m)
{
    for (size_t i = 0; i < (size_t)MOE_DRAWS * MOE_ROWS; i++)
        for (size_t k = 0; k < MOE_TOPK; k++) {
            int32_t id;
            bool taken;
            do {
                id = (int32_t)((draw(w) + 1) / 2 * MOE_EXPERTS);
                taken = id >= MOE_EXPERTS;
                for (size_t j = 0; j < k; j++)
                    taken |= m->ids[i * MOE_TOPK + j] == id;
            } while (taken);
            m->ids[i * MOE_TOPK + k] = id;
        }
    for (size_t i = 0; i < (size_t)MOE_ROWS * MOE_TOPK; i++)
        m->weights[i] = (draw(w) + 1) / 2;
}

/* Experts that are named by at least one of `rows` rows, on the average of the draws. */
static double active(const struct moe *m, size_t rows)
{
    size_t count = 0;
    for (size_t i = 0; i < MOE_DRAWS; i++) {
        bool seen[MOE_EXPERTS] = {false};
        for (size_t j = 0; j < rows * MOE_TOPK; j++) {
            int32_t id = m->ids[i * MOE_ROWS * MOE_TOPK + j];
            count += !seen[id];
            seen[id] = true;
        }
    }
    return (double)count / MOE_DRAWS;
}

static void moe_form(struct world *w, const struct bench_form *form, size_t hidden, size_t inter)
{
    static const size_t rows[] = {1, 4, 16, 64, MOE_ROWS};
    struct device_limits limits = {.rows = MOE_ROWS,
                                   .hidden = hidden,
                                   .experts = MOE_EXPERTS,
                                   .topk = MOE_TOPK,
                                   .inter = inter};
    struct moe m = {.ops = w->ops, .d = open_device(w, DTYPE_BF16, form->int8_products, &limits)};
    struct mlp_part mlp = {.gate = new_part(w, form->dtype, inter, hidden),
                           .up = new_part(w, form->dtype, inter, hidden),
                           .down = new_part(w, form->dtype, hidden, inter)};
    struct mlp_part experts[MOE_EXPERTS];
    for (size_t e = 0; e < MOE_EXPERTS; e++)
        experts[e] = mlp;
    struct ffn_part part = {0, MOE_EXPERTS, experts, mlp};
    double expert_size = 3.0 * (double)hidden * (double)inter;
    double expert_bytes = (double)w->ops->ffn_bytes(m.d, &part, form->keep) / (MOE_EXPERTS + 1);
    m.count = (size_t)((double)w->cold / (expert_bytes * (MOE_EXPERTS + 1))) + 1;
    m.layers = mem_new(m.count, sizeof *m.layers);
    for (size_t i = 0; i < m.count; i++)
        m.layers[i] = w->ops->ffn_create(m.d, &part, form->keep);
    m.x = numbers(w, DTYPE_BF16, MOE_ROWS * hidden, 1);
    m.out = mem_aligned(MOE_ROWS * hidden, sizeof(float));
    m.ids = mem_new((size_t)MOE_DRAWS * MOE_ROWS * MOE_TOPK, sizeof *m.ids);
    m.weights = mem_new((size_t)MOE_ROWS * MOE_TOPK, sizeof *m.weights);
    draw_routing(w, &m);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct bench_task t = {.group = "moe",
                               .dtype = form->name,
                               .rows = rows[i],
                               .task = {.run = run_moe, .context = &m}};
        t.task.bytes = (active(&m, rows[i]) + 1) * expert_bytes;
        t.task.flops = 2.0 * (double)rows[i] * (MOE_TOPK + 1) * expert_size;
        snprintf(t.shape, sizeof t.shape, "%zux%zu %dx%d+1", hidden, inter, MOE_EXPERTS, MOE_TOPK);
        m.rows = (int)rows[i];
        bench_measure(w->bench, &t);
    }
    for (size_t i = 0; i < m.count; i++)
        w->ops->ffn_destroy(m.d, m.layers[i]);
    w->backend->device->close(m.d);
    free_part(&mlp.gate);
    free_part(&mlp.up);
    free_part(&mlp.down);
    free(m.layers);
    free((void *)m.x);
    free(m.out);
    free(m.ids);
    free(m.weights);
}

static void bench_moe(struct world *w)
{
    for (size_t f = 0; f < BENCH_FORMS; f++)
        moe_form(w, &bench_forms[f], 2048, 1536);
}

/* ---- attention ------------------------------------------------------------------------------ */

/* MFA of Step-3; grouped queries, in a window too; latent attention. */
struct mechanism {
    const char *name;
    struct attn_spec spec;
};
#define GROUPED                                                                                    \
    .heads = 32, .kv_heads = 4, .key_dim = 128, .value_dim = 128, .rope_dim = 128, .scale = 0.09f
static const struct mechanism mfa = {"MFA 64x256",
                                     {.heads = 64,
                                      .kv_heads = 1,
                                      .key_dim = 256,
                                      .value_dim = 256,
                                      .rope_dim = 256,
                                      .scale = 1.0f / 16}};
static const struct mechanism gqa = {"GQA 32/4x128", {GROUPED}};
static const struct mechanism windowed = {"GQA, window 512", {GROUPED, .window = 512}};
static const struct mechanism mla = {"MLA 64x576/512",
                                     {.heads = 64,
                                      .kv_heads = 1,
                                      .key_dim = 576,
                                      .value_dim = 512,
                                      .rope_dim = 64,
                                      .value_in_key = true,
                                      .scale = 0.07f}};

struct attention {
    const struct ops *ops;
    struct device *d;
    const struct attn_spec *spec;
    struct kv *kv;
    size_t layers;
    struct attn_batch batch;
    int32_t *index; /* what the batch points to */
    const void *q;
    void *out;
};

static void run_attention(void *context, size_t i)
{
    struct attention *a = context;
    a->ops->attend(a->d, NULL, a->spec, a->kv, (int)(i % a->layers), &a->batch, a->q, a->out);
}

/* `sequences` rows, each the last token of its own sequence; blocks are dealt in turns. */
static void make_batch(struct attention *a, size_t sequences, size_t context)
{
    size_t per_sequence = (context + KV_BLOCK - 1) / KV_BLOCK;
    a->index = mem_new(4 * (sequences + 1) + sequences * per_sequence, sizeof *a->index);
    int32_t *seg_row = a->index, *pos = seg_row + sequences + 1, *seg = pos + sequences;
    int32_t *block = seg + sequences;
    for (size_t i = 0; i < sequences; i++) {
        seg_row[i] = seg[i] = (int32_t)i;
        pos[i] = (int32_t)context - 1;
        for (size_t j = 0; j < per_sequence; j++)
            block[i * per_sequence + j] = (int32_t)(j * sequences + i);
    }
    seg_row[sequences] = (int32_t)sequences;
    a->batch = (struct attn_batch){.rows = (int)sequences,
                                   .segments = (int)sequences,
                                   .max_rows = 1,
                                   .max_context = (int)context,
                                   .seg_row = seg_row,
                                   .seg_pos = pos,
                                   .row_seg = seg,
                                   .row_pos = pos,
                                   .blocks = block,
                                   .blocks_stride = (int)per_sequence};
}

/* Fills the cache through the front door, all sequences a token at a time. */
static void fill_cache(struct world *w, struct attention *a, size_t context)
{
    struct attn_spec keys = *a->spec;
    size_t rows = (size_t)a->batch.rows * (size_t)keys.kv_heads;
    int32_t *pos = a->index + a->batch.rows + 1;
    keys.heads = keys.rope_dim = 0;
    void *k = numbers(w, DTYPE_BF16, rows * (size_t)keys.key_dim, 1);
    void *v = numbers(w, DTYPE_BF16, rows * (size_t)keys.value_dim, 1);
    for (size_t layer = 0; layer < a->layers; layer++)
        for (int32_t t = 0; t < (int32_t)context; t++) {
            for (int i = 0; i < a->batch.rows; i++)
                pos[i] = t;
            w->ops->rope_append(a->d, NULL, &keys, a->kv, (int)layer, &a->batch, NULL, NULL, k,
                                keys.value_in_key ? NULL : v);
        }
    free(k);
    free(v);
}

static void attention_shape(struct world *w, const struct mechanism *mechanism, enum dtype dtype,
                            size_t sequences, size_t context)
{
    const struct attn_spec *s = &mechanism->spec;
    size_t heads = (size_t)s->heads, dim = (size_t)s->key_dim, values = (size_t)s->value_dim;
    struct device_limits limits = {.rows = sequences,
                                   .hidden = 1,
                                   .q_width = heads * dim,
                                   .heads = heads,
                                   .head_dim = dim,
                                   .context = context};
    struct attention a = {.ops = w->ops, .d = open_device(w, dtype, false, &limits), .spec = s};
    struct kv_shape shape = {.blocks = sequences * ((context + KV_BLOCK - 1) / KV_BLOCK),
                             .kv_heads = s->kv_heads,
                             .key_dim = s->key_dim,
                             .value_dim = s->value_dim,
                             .value_in_key = s->value_in_key};
    size_t kept = (size_t)s->kv_heads * (dim + (s->value_in_key ? 0 : values)) * dtype_size(dtype);
    size_t window = (size_t)s->window, seen = window && window < context ? window : context;
    a.layers = shape.layers = w->cold / (kept * sequences * context) + 1;
    a.kv = w->ops->kv_create(a.d, &shape);
    a.q = numbers(w, DTYPE_BF16, sequences * heads * dim, 1);
    a.out = mem_aligned(sequences * heads * values, sizeof(float));
    make_batch(&a, sequences, context);
    fill_cache(w, &a, context);
    struct bench_task t = {
        .group = "attention",
        .dtype = dtype_name(dtype),
        .rows = sequences,
        .task = {.bytes = (double)(kept * sequences * seen),
                 .flops = 2.0 * (double)(heads * (dim + values)) * (double)(sequences * seen),
                 .run = run_attention,
                 .context = &a}};
    snprintf(t.shape, sizeof t.shape, "%s, %zu", mechanism->name, context);
    bench_measure(w->bench, &t);
    w->ops->kv_destroy(a.d, a.kv);
    w->backend->device->close(a.d);
    free(a.index);
    free((void *)a.q);
    free(a.out);
}

static void bench_attention(struct world *w)
{
    static const enum dtype dtypes[] = {DTYPE_BF16, DTYPE_F8E4M3};
    static const struct mechanism *const others[] = {&gqa, &windowed, &mla};
    for (size_t i = 0; i < COUNT(dtypes); i++) {
        attention_shape(w, &mfa, dtypes[i], 16, 512);
        attention_shape(w, &mfa, dtypes[i], 16, 4096);
        if (!w->bench->quick)
            attention_shape(w, &mfa, dtypes[i], 16, 16384);
        attention_shape(w, &mfa, dtypes[i], 1, 16384);
    }
    for (size_t i = 0; i < COUNT(others); i++)
        attention_shape(w, others[i], DTYPE_BF16, 16, 4096);
}

/* ---- rows: what should not show up in a profile; share of bandwidth ---------------------------
 */

struct row_work {
    const struct ops *ops;
    struct device *d;
    int n, vocab, hidden;
    float *x, *gain, *gate, *logits, *logprobs, *weights;
    void *y;
    int32_t *ids;
    struct sample_params *params;
};

static void run_sample(void *context, size_t i)
{
    struct row_work *r = context;
    (void)i;
    r->ops->sample(r->d, NULL, r->logits, r->n, r->vocab, r->params, r->ids, r->logprobs);
}

static void run_norm(void *context, size_t i)
{
    struct row_work *r = context;
    const void *parts[] = {r->y};
    (void)i;
    r->ops->residual_norm(r->d, NULL, r->x, parts, 1, DTYPE_BF16, r->gain, 1e-5f, r->n, r->hidden,
                          r->y);
}

static void run_route(void *context, size_t i)
{
    struct row_work *r = context;
    struct router_spec spec = {.experts = 48, .topk = 3, .factor = 1};
    (void)i;
    r->ops->route(r->d, NULL, &spec, r->gate, NULL, r->y, r->n, r->hidden, r->ids, r->weights);
}

static void bench_rows(struct world *w)
{
    enum { ROWS = 64, HIDDEN = 7168, VOCAB = 128815 };
    struct device_limits limits = {
        .rows = ROWS, .hidden = HIDDEN, .logit_rows = ROWS, .vocab = VOCAB};
    struct row_work r = {.ops = w->ops,
                         .d = open_device(w, DTYPE_BF16, false, &limits),
                         .n = ROWS,
                         .vocab = VOCAB,
                         .hidden = HIDDEN};
    r.x = numbers(w, DTYPE_F32, (size_t)ROWS * HIDDEN, 1);
    r.y = numbers(w, DTYPE_BF16, (size_t)ROWS * HIDDEN, 1);
    r.gain = numbers(w, DTYPE_F32, HIDDEN, 1);
    r.gate = numbers(w, DTYPE_F32, (size_t)48 * HIDDEN, 1);
    r.logits = mem_aligned((size_t)ROWS * VOCAB, sizeof(float));
    for (size_t i = 0; i < (size_t)ROWS * VOCAB; i++)
        r.logits[i] = 3 * (draw(w) + draw(w) + draw(w) + draw(w));
    r.ids = mem_new((size_t)ROWS * 4, sizeof *r.ids);
    r.weights = mem_new((size_t)ROWS * 4, sizeof *r.weights);
    r.logprobs = mem_new(ROWS, sizeof *r.logprobs);
    r.params = mem_new(ROWS, sizeof *r.params);
    for (size_t i = 0; i < ROWS; i++)
        r.params[i] = (struct sample_params){0.8f, 0.95f, 50, (draw(w) + 1) / 2, 0};
    double logits = 4.0 * ROWS * VOCAB, norm = 14.0 * ROWS * HIDDEN,
           route = 2.0 * ROWS * HIDDEN + 4.0 * 48 * HIDDEN;
    struct bench_task tasks[] = {
        {"sample", "f32", "128815, k 50, p 0.95", ROWS, {logits, 0, run_sample, &r}, NULL, 0},
        {"norm", "bf16", "7168, one part", ROWS, {norm, 0, run_norm, &r}, NULL, 0},
        {"route", "f32", "7168, 48 experts", ROWS, {route, 0, run_route, &r}, NULL, 0},
    };
    for (size_t i = 0; i < COUNT(tasks); i++)
        bench_measure(w->bench, &tasks[i]);
    w->backend->device->close(r.d);
    free(r.x), free(r.y), free(r.gain), free(r.gate), free(r.logits);
    free(r.ids), free(r.weights), free(r.logprobs), free(r.params);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(struct world *w);
    } groups[] = {{"linear", bench_linear},
                  {"moe", bench_moe},
                  {"attention", bench_attention},
                  {"lm_head", bench_lm_head},
                  {"rows", bench_rows}};
    struct bench b;
    struct err e;
    if (bench_options(&b, argc, argv) != 0)
        return EXIT_INPUT;
    struct world w = {.bench = &b, .backend = backend_find("cpu", b.backend, &e)};
    if (!w.backend) {
        fprintf(stderr, "%s\n", e.text);
        return EXIT_INPUT;
    }
    w.ops = w.backend->ops;
    w.cold = b.quick ? (size_t)400 << 20 : (size_t)600 << 20;
    bench_begin(&b, w.backend->name);
    for (size_t i = 0; i < COUNT(groups); i++)
        if (bench_wants(&b, groups[i].name))
            groups[i].run(&w);
    bench_end(&b);
    return EXIT_DONE;
}
