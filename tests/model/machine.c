#include "tests/model/machine.h"

#include <stdlib.h>
#include <string.h>

int machine_length[SEQUENCES] = {SHORTER, 9, 1, 33};

int machine_drafts = 0;

int machine_tokens(void)
{
    return machine_row(SEQUENCES);
}

int machine_row(int sequence)
{
    int row = 0;
    for (int s = 0; s < sequence; s++)
        row += machine_length[s];
    return row;
}

int32_t machine_token(int sequence, int position, size_t vocab)
{
    return (int32_t)((size_t)(sequence * 31 + position * position * 7 + position) % vocab);
}

struct answers answers_new(const struct model *m)
{
    size_t tokens = (size_t)machine_tokens();
    struct answers a = {.n_logits = (size_t)(1 + machine_drafts) * tokens * m->vocab,
                        .n_choices = m->layers * tokens * m->most.topk};
    a.logits = calloc(a.n_logits, sizeof *a.logits);
    a.choices = malloc(a.n_choices * sizeof *a.choices + 1);
    for (size_t i = 0; i < a.n_choices; i++)
        a.choices[i] = -1;
    return a;
}

void answers_free(struct answers *a)
{
    free(a->logits);
    free(a->choices);
}

/* ---- opening -------------------------------------------------------------------------------- */

static void open_device(struct machine *r, const struct precision *p, int threads)
{
    struct err e;
    const struct model *m = &r->model;
    const struct model_most *most = &m->most;
    size_t inter = most->dense_inter;
    inter = most->inter > inter ? most->inter : inter;
    inter = most->shared_inter > inter ? most->shared_inter : inter;
    struct device_config config = {
        .threads = threads,
        .act = p->act,
        .kv = p->kv,
        .limits = {.rows = r->shape.rows,
                   .hidden = m->hidden,
                   .q_width = most->q_width,
                   .heads = most->heads,
                   .head_dim = most->head_dim,
                   .context = CONTEXT,
                   .vocab = m->vocab,
                   .logit_rows = r->shape.rows,
                   .experts = most->experts,
                   .topk = most->topk,
                   .inter = inter},
    };
    if (r->backend->device->open(&config, &r->device, &e) != 0)
        die("%s", e.text);
}

void machine_open(struct machine *r, const struct backend *b, const char *directory,
                  const struct precision *p, int threads)
{
    static const struct layout layout = {1, 1, 1, true, 0};
    struct err e;
    *r = (struct machine){.backend = b};
    if (model_read(&r->model, directory, NULL, &e) != 0 ||
        model_use_mtp(&r->model, (size_t)machine_drafts, &e) != 0 ||
        checkpoint_open(&r->checkpoint, directory, &e) != 0 ||
        model_check(&r->model, r->checkpoint, &e) != 0)
        die("%s", e.text);
    r->limits = (struct schedule_limits){.slots = TOKENS,
                                         .micro_batches = 1,
                                         .prefill_chunk = TOKENS,
                                         .max_context = CONTEXT,
                                         .pools = 1,
                                         .pool[0].blocks = SEQUENCES * STRIDE,
                                         .ahead = machine_drafts};
    r->place = place_of(&layout, 0);
    r->shape = (struct exchange_shape){.micro_batches = 1,
                                       .layers = r->model.layers + r->model.drafts,
                                       .routed = r->model.moe,
                                       .hidden = r->model.hidden,
                                       .topk = r->model.most.topk,
                                       .rows = (size_t)schedule_most_rows(&r->limits),
                                       .dispatch = p->wire,
                                       .combine = p->combine};
    open_device(r, p, threads);
    r->stream = b->device->stream_create(r->device);
    r->plan = (struct weights_plan){.backend = b,
                                    .device = r->device,
                                    .model = &r->model,
                                    .checkpoint = r->checkpoint,
                                    .keep = p->keep,
                                    .context = CONTEXT,
                                    .layout = &layout};
    attention_weights_load(&r->attention_weights, &r->plan, NULL, NULL);
    ffn_weights_load(&r->ffn_weights, &r->plan, NULL, NULL);
    struct kv_pool one[KV_POOLS_MAX]; /* no window: the tests' tables have all blocks */
    caches_plan(&r->caches, &r->model, 1, one);
    caches_create(&r->caches, b, r->device, &r->model, r->limits.pool, 0);
    struct endpoint end = {
        .place = r->place, .backend = b, .device = r->device, .compute = r->stream};
    r->exchange_ops = exchange_find("local");
    r->exchange = r->exchange_ops->open(&r->shape, &end);
    const struct side side = {.model = &r->model,
                              .backend = b,
                              .device = r->device,
                              .stream = r->stream,
                              .exchange_ops = r->exchange_ops,
                              .exchange = r->exchange,
                              .shape = &r->shape,
                              .place = &r->place,
                              .act = p->act};
    const struct attention_parts own = {&r->attention_weights, &r->caches, &r->limits};
    r->attention = attention_open(&side, &own);
    r->ffn = ffn_open(&side, &r->ffn_weights);
}

void machine_close(struct machine *r)
{
    const struct backend *b = r->backend;
    attention_close(r->attention);
    ffn_close(r->ffn);
    r->exchange_ops->close(r->exchange);
    caches_destroy(&r->caches, b, r->device);
    attention_weights_free(&r->attention_weights, &r->plan);
    ffn_weights_free(&r->ffn_weights, &r->plan);
    b->device->stream_destroy(r->device, r->stream);
    b->device->close(r->device);
    checkpoint_close(r->checkpoint);
}

/* ---- steps ---------------------------------------------------------------------------------- */

/* `count` tokens of a sequence from position `from` on. */
struct segment {
    int sequence, from, count;
};

/* A micro-batch in which the logits of every row are wanted. */
struct batch {
    int32_t token[TOKENS], seg_row[TOKENS + 1], seg_pos[TOKENS], row_seg[TOKENS], row_pos[TOKENS];
    int32_t blocks[TOKENS * STRIDE], sampled_row[TOKENS];
    struct batch_ahead ahead[DRAFTS * TOKENS];
    struct micro_batch b;
};

static void batch_make(struct batch *x, const struct segment *segments, int n, size_t vocab)
{
    x->b = (struct micro_batch){.segments = n,
                                .token = x->token,
                                .seg_row = x->seg_row,
                                .seg_pos = x->seg_pos,
                                .row_seg = x->row_seg,
                                .row_pos = x->row_pos,
                                .table[0] = {.blocks = x->blocks, .width = STRIDE},
                                .tables = 1,
                                .sampled_row = x->sampled_row,
                                .depth = machine_drafts,
                                .rows_room = TOKENS,
                                .ahead = x->ahead};
    struct micro_batch *b = &x->b;
    for (int i = 0; i < n; i++) {
        const struct segment *s = &segments[i];
        x->seg_row[i] = b->rows;
        x->seg_pos[i] = s->from;
        for (int j = 0; j < STRIDE; j++) /* the blocks of a sequence are not neighbors */
            x->blocks[i * STRIDE + j] =
                j * SEQUENCES + (j % 2 ? SEQUENCES - 1 - s->sequence : s->sequence);
        for (int j = 0; j < s->count; j++, b->rows++) {
            x->token[b->rows] = machine_token(s->sequence, s->from + j, vocab);
            x->row_seg[b->rows] = i;
            x->row_pos[b->rows] = s->from + j;
            x->sampled_row[b->rows] = b->rows;
            for (int d = 0; d < machine_drafts; d++)
                x->ahead[d * TOKENS + b->rows] = (struct batch_ahead){
                    machine_token(s->sequence, s->from + j + 1 + d, vocab), -1, 0};
        }
        b->max_rows = s->count > b->max_rows ? s->count : b->max_rows;
        b->max_context = s->from + s->count > b->max_context ? s->from + s->count : b->max_context;
    }
    x->seg_row[n] = b->rows;
    b->n_sampled = b->rows;
}

/* Who was chosen for every row of the layer. */
static void keep_choices(const struct machine *r, const struct segment *segments, int n, int layer,
                         struct answers *a)
{
    size_t k = (size_t)r->model.layer[layer].ffn.router.topk, most = r->model.most.topk;
    const int32_t *ids = ffn_received(r->ffn, 0)->ids;
    for (int i = 0; i < n && r->model.moe[layer] && layer < (int)r->model.layers; i++) {
        size_t row = (size_t)(machine_row(segments[i].sequence) + segments[i].from);
        for (int j = 0; j < segments[i].count; j++, row++, ids += k)
            memcpy(a->choices + ((size_t)layer * (size_t)machine_tokens() + row) * most, ids,
                   k * sizeof *ids);
    }
}

static void run_layer(struct machine *r, const struct segment *segments, int n, int l,
                      struct answers *a)
{
    attention_layer(r->attention, 0, l);
    attention_dispatch(r->attention, 0, l);
    if (!ffn_receive(r->ffn, 0, l))
        return;
    keep_choices(r, segments, n, l, a);
    ffn_layer(r->ffn, 0, l);
    ffn_reply(r->ffn, 0, l);
}

static void run_layers(struct machine *r, const struct segment *segments, int n, struct answers *a)
{
    for (int l = 0; l < (int)r->model.layers; l++) {
        attention_collect(r->attention, 0, l);
        run_layer(r, segments, n, l, a);
    }
}

/* logits [machine_drafts][rows][V] */
static void run_drafts(struct machine *r, const struct segment *segments, int n, int rows,
                       struct answers *a, float *logits)
{
    int layers = (int)r->model.layers;
    size_t each = (size_t)rows * r->model.vocab;
    for (int i = 0; i <= machine_drafts && machine_drafts > 0; i++) {
        if (i > 0)
            attention_collect(r->attention, 0, layers + i);
        attention_draft(r->attention, 0, i, i > 0 ? logits + (size_t)(i - 1) * each : NULL);
        if (i < machine_drafts)
            run_layer(r, segments, n, layers + i, a);
    }
}

static void step(struct machine *r, const struct segment *segments, int n, struct answers *a)
{
    static struct batch x;
    static const struct sample_params greedy[(1 + DRAFTS) * TOKENS];
    size_t vocab = r->model.vocab;
    batch_make(&x, segments, n, vocab);
    size_t rows = (size_t)x.b.rows, all = (size_t)machine_tokens();
    float *here = malloc((size_t)(1 + machine_drafts) * rows * vocab * sizeof *here);
    r->exchange_ops->begin(r->exchange, &x.b.rows);
    attention_plan(r->attention, 0, &x.b, greedy);
    if (machine_drafts > 0)
        attention_plan_drafts(r->attention, 0, &x.b, greedy);
    attention_begin(r->attention, 0);
    run_layers(r, segments, n, a);
    attention_collect(r->attention, 0, (int)r->model.layers);
    attention_sample(r->attention, 0, here);
    run_drafts(r, segments, n, x.b.rows, a, here + rows * vocab);
    r->backend->device->stream_sync(r->device, r->stream);
    r->exchange_ops->end(r->exchange);
    for (int i = 0, row = 0; i < n; row += segments[i++].count) {
        size_t to = (size_t)(machine_row(segments[i].sequence) + segments[i].from);
        for (size_t d = 0; d < (size_t)(1 + machine_drafts); d++)
            memcpy(a->logits + (d * all + to) * vocab, here + (d * rows + (size_t)row) * vocab,
                   (size_t)segments[i].count * vocab * sizeof *here);
    }
    free(here);
}

void machine_together(struct machine *r, struct answers *a)
{
    static const struct segment steps[][3] = {
        {{0, 0, 40}, {1, 0, 9}, {2, 0, 1}},
        {{3, 0, 32}, {0, 40, 27}},
        {{0, 67, 1}, {3, 32, 1}},
        {{0, 68, 2}},
        {{0, 70, 217}},
        {{0, 287, 1}},
        {{0, 288, 12}},
    };
    static const int count[] = {3, 2, 2, 1, 1, 1, 1};
    int last = machine_length[0] == LONGEST ? 7 : 4;
    for (int i = 0; i < last; i++)
        step(r, steps[i], count[i], a);
}

void machine_alone(struct machine *r, struct answers *a)
{
    for (int s = 0; s < SEQUENCES; s++)
        for (int p = 0, n; p < machine_length[s]; p += n) {
            n = p >= 70 && p < 270 ? 50 : 1;
            step(r, &(struct segment){s, p, n}, 1, a);
        }
}
