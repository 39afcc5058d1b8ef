#include "roles/attention.h"

#include "base/hash.h"
#include "base/mem.h"
#include "roles/mtp.h"
#include "schedule/bucket.h"

#include <stdlib.h>
#include <string.h>

/* Contexts are rounded up to this on devices with graphs, so that a graph serves many steps: a
 * device looks at its own count of tokens, but splits a longer context into more parts. */
#define CONTEXT_STEP 1024

/* Changes of logits (roles/request.h): arrays that grow when a step needs more. */
struct changes {
    struct logit_edit *edits;
    int32_t *rows;
    uint32_t *bits;
    int n_edits, room_edits, n_masks, room_masks;
};

/* What is scored (attention.h), pinned or on the device: room for room_k likeliest tokens a row. */
struct scoring {
    int32_t *targets;
    float *own;
    int32_t *top;
    float *top_logprobs;
    int room_k;
};

/* What a micro-batch keeps between its layers. Integer arrays of the batch stand in one block, so
 * that a step uploads it in one copy. */
struct lane {
    float *x;                              /* device [rows][H]: the residual stream */
    int32_t *host, *device;                /* the block of integers, pinned and on the device */
    struct attn_batch batch[KV_POOLS_MAX]; /* one for every pool; pointers into `device` */
    const int32_t *token, *sampled_row;
    const int32_t *live; /* on the device: rows that are not dead (schedule/bucket.h); NULL: all */
    int rows, n_sampled; /* dead ones included */
    size_t ints;         /* used of the block */
    struct sample_params *params; /* pinned, [n_sampled], like the next two */
    int32_t *tokens;
    float *logprobs;
    const void *const *partials; /* of the layer before, NULL: none yet */
    struct changes changes;      /* pinned, */
    struct scoring scoring;      /* likewise */
    int score_k;                 /* -1: nothing is scored */
};

struct attention {
    struct side p;
    struct attention_parts own;
    struct lane lane[MICRO_BATCHES_MAX];
    /* Scratch, used by one micro-batch after the other on one stream. */
    void *h;                     /* act */
    void *buffer[BLOCK_BUFFERS]; /* of the mechanism of attention, whichever a layer has */
    float *o, *picked, *logits;
    struct sample_params *params;
    int32_t *token;
    float *logprob;
    uint64_t *chosen;       /* [layers, drafts][experts] rows, since open() */
    struct changes changes; /* on the device, of one micro-batch after the other */
    struct mtp *mtp;        /* NULL: no drafts are made */
    struct scoring scoring;
};

/* Sizes in elements of everything that is allocated; one place for plan and allocation. */
struct sizes {
    size_t rows, segments, sampled, lane_ints;
    size_t x, h, logits, chosen;
    size_t buffer[BLOCK_BUFFERS]; /* bytes: the most that any layer asks for */
};

static struct sizes sizes_of(const struct side *p, const struct schedule_limits *limits)
{
    const struct model *m = p->model;
    struct sizes s = {0};
    const struct bucket most = bucket_most(limits);
    s.rows = (size_t)most.rows;
    s.segments = (size_t)most.segments;
    s.sampled = (size_t)most.sampled;
    s.lane_ints = 3 * s.rows + 2 * s.segments + 2 + s.sampled;
    for (int i = 0; i < limits->pools; i++)
        s.lane_ints += mem_mul(s.segments, (size_t)schedule_table_width(limits, i));
    s.x = mem_mul(s.rows, m->hidden);
    s.h = s.x;
    s.logits = mem_mul(s.sampled, m->vocab);
    s.chosen = mem_mul(m->layers + m->drafts, m->most.experts);
    for (size_t l = 0; l < m->layers + m->drafts; l++) {
        size_t bytes[BLOCK_BUFFERS] = {0};
        m->layer[l].attention.block->bytes(m, &m->layer[l], s.rows, dtype_size(p->act), bytes);
        for (int i = 0; i < BLOCK_BUFFERS; i++)
            s.buffer[i] = bytes[i] > s.buffer[i] ? bytes[i] : s.buffer[i];
    }
    return s;
}

size_t attention_bytes(const struct side *p, const struct schedule_limits *limits)
{
    struct sizes s = sizes_of(p, limits);
    size_t total = (size_t)p->shape->micro_batches * (s.x * 4 + s.lane_ints * 4);
    total += s.h * dtype_size(p->act);
    for (int i = 0; i < BLOCK_BUFFERS; i++)
        total += s.buffer[i];
    total += (s.x + s.sampled * p->model->hidden + s.logits) * 4;
    total += p->model->drafts ? mtp_bytes(p, limits) : 0;
    return total + s.sampled * (sizeof(struct sample_params) + 8) + s.chosen * sizeof(uint64_t);
}

static void *device_new(const struct side *p, size_t count, size_t size)
{
    return p->backend->device->alloc(p->device, mem_mul(count, size));
}

struct attention *attention_open(const struct side *p, const struct attention_parts *own)
{
    struct attention *a = mem_zeroed(1, sizeof *a);
    const struct device_ops *dev = p->backend->device;
    struct sizes s = sizes_of(p, own->limits);
    a->p = *p;
    a->own = *own;
    size_t act = dtype_size(p->act);
    for (int m = 0; m < p->shape->micro_batches; m++) {
        struct lane *lane = &a->lane[m];
        lane->x = device_new(p, s.x, sizeof(float));
        lane->device = device_new(p, s.lane_ints, sizeof(int32_t));
        lane->host = dev->alloc_host(p->device, s.lane_ints * sizeof(int32_t));
        lane->params = dev->alloc_host(p->device, s.sampled * sizeof *lane->params);
        lane->tokens = dev->alloc_host(p->device, s.sampled * sizeof *lane->tokens);
        lane->logprobs = dev->alloc_host(p->device, s.sampled * sizeof *lane->logprobs);
    }
    a->h = device_new(p, s.h, act);
    for (int i = 0; i < BLOCK_BUFFERS; i++)
        a->buffer[i] = device_new(p, s.buffer[i], 1);
    a->o = device_new(p, s.x, sizeof(float));
    a->picked = device_new(p, s.sampled * p->model->hidden, sizeof(float));
    a->logits = device_new(p, s.logits, sizeof(float));
    a->params = device_new(p, s.sampled, sizeof *a->params);
    a->token = device_new(p, s.sampled, sizeof *a->token);
    a->logprob = device_new(p, s.sampled, sizeof *a->logprob);
    a->mtp = p->model->drafts ? mtp_open(p, own->weights, own->limits) : NULL;
    a->chosen = device_new(p, s.chosen, sizeof *a->chosen);
    uint64_t *none = mem_zeroed(s.chosen, sizeof *none);
    dev->upload(p->device, p->stream, a->chosen, none, s.chosen * sizeof *none);
    dev->stream_sync(p->device, p->stream);
    free(none);
    return a;
}

static void drop_changes(const struct side *p, const struct changes *c, const struct scoring *s,
                         bool host)
{
    const struct device_ops *dev = p->backend->device;
    void *all[] = {c->edits, c->rows, c->bits, s->targets, s->own, s->top, s->top_logprobs};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] && host)
            dev->release_host(p->device, all[i]);
        else if (all[i])
            dev->release(p->device, all[i]);
}

void attention_close(struct attention *a)
{
    if (!a)
        return;
    const struct device_ops *dev = a->p.backend->device;
    void *all[] = {a->h, a->o, a->picked, a->logits, a->params, a->token, a->logprob, a->chosen};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            dev->release(a->p.device, all[i]);
    for (int i = 0; i < BLOCK_BUFFERS; i++)
        if (a->buffer[i])
            dev->release(a->p.device, a->buffer[i]);
    mtp_close(a->mtp);
    drop_changes(&a->p, &a->changes, &a->scoring, false);
    for (int m = 0; m < a->p.shape->micro_batches; m++) {
        drop_changes(&a->p, &a->lane[m].changes, &a->lane[m].scoring, true);
        dev->release(a->p.device, a->lane[m].x);
        dev->release(a->p.device, a->lane[m].device);
        void *pinned[] = {a->lane[m].host, a->lane[m].params, a->lane[m].tokens,
                          a->lane[m].logprobs};
        for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++)
            dev->release_host(a->p.device, pinned[i]);
    }
    free(a);
}

/* Copies one array of the plan behind the others, up to `room` entries with `dead`; returns where it will
 * be on the device. */
static const int32_t *put(struct lane *lane, size_t *used, const int32_t *from, size_t n,
                          size_t room, int32_t dead)
{
    size_t at = *used;
    memcpy(lane->host + at, from, n * sizeof *from);
    for (size_t i = n; i < room; i++)
        lane->host[at + i] = dead;
    *used += room;
    return lane->device + at;
}

static int context_of(const struct attention *a, const struct micro_batch *b)
{
    size_t step = a->p.backend->device->capture_begin ? CONTEXT_STEP : 1;
    size_t context = ((size_t)b->max_context + step - 1) / step * step;
    size_t most = a->own.limits->max_context;
    return (int)(context < most ? context : most);
}

/* Of segments; filled up, it matters only whether there are prompts or guesses. */
static int most_rows_of(const struct attention *a, const struct micro_batch *b)
{
    return b->filled && b->max_rows > 1 ? bucket_most(a->own.limits).rows : b->max_rows;
}

uint64_t attention_shape(const struct attention *a, const struct micro_batch *b)
{
    const struct bucket size = bucket_of(b);
    const int shape[] = {size.rows, size.segments, size.sampled, most_rows_of(a, b),
                         context_of(a, b)};
    return b->rows == 0 ? 0 : hash_bytes(HASH_START, shape, sizeof shape);
}

/* Room for so many; what was there is not kept. Of the step the layers may be enqueued, which do not use
 * it; a device that runs them waits for their end when memory is given back. */
static void make_room(const struct side *p, struct changes *c, int edits, int masks, bool host)
{
    const struct device_ops *dev = p->backend->device;
    void *(*get)(struct device *, size_t) = host ? dev->alloc_host : dev->alloc;
    void (*drop)(struct device *, void *) = host ? dev->release_host : dev->release;
    size_t words = (p->model->vocab + 31) / 32;
    if (edits > c->room_edits) {
        if (c->edits)
            drop(p->device, c->edits);
        c->room_edits = 2 * edits;
        c->edits = get(p->device, (size_t)c->room_edits * sizeof *c->edits);
    }
    if (masks > c->room_masks) {
        if (c->rows) {
            drop(p->device, c->rows);
            drop(p->device, c->bits);
        }
        c->room_masks = 2 * masks;
        c->rows = get(p->device, (size_t)c->room_masks * sizeof *c->rows);
        c->bits = get(p->device, (size_t)c->room_masks * words * sizeof *c->bits);
    }
}

void attention_change(struct attention *a, int m, const struct logit_changes *changes)
{
    struct changes *c = &a->lane[m].changes;
    int edits = changes->n_edits, masks = changes->n_masks;
    make_room(&a->p, c, edits, masks, true);
    make_room(&a->p, &a->changes, edits, masks, false);
    if (edits)
        memcpy(c->edits, changes->edits, (size_t)edits * sizeof *c->edits);
    if (masks) {
        memcpy(c->rows, changes->rows, (size_t)masks * sizeof *c->rows);
        memcpy(c->bits, changes->bits, (size_t)masks * changes->words * sizeof *c->bits);
    }
    c->n_edits = edits;
    c->n_masks = masks;
}

/* Room for k likeliest tokens of every row. */
static void make_score_room(const struct side *p, struct scoring *s, int most, int k, bool host)
{
    const struct device_ops *dev = p->backend->device;
    void *(*get)(struct device *, size_t) = host ? dev->alloc_host : dev->alloc;
    void (*drop)(struct device *, void *) = host ? dev->release_host : dev->release;
    size_t rows = (size_t)most;
    if (!s->targets) {
        s->targets = get(p->device, rows * sizeof *s->targets);
        s->own = get(p->device, rows * sizeof *s->own);
    }
    if (k <= s->room_k)
        return;
    if (s->top) {
        drop(p->device, s->top);
        drop(p->device, s->top_logprobs);
    }
    s->room_k = k;
    s->top = get(p->device, mem_mul(rows, (size_t)k) * sizeof *s->top);
    s->top_logprobs = get(p->device, mem_mul(rows, (size_t)k) * sizeof *s->top_logprobs);
}

void attention_score(struct attention *a, int m, const struct micro_batch *b,
                     const struct score_wanted *wanted)
{
    struct lane *lane = &a->lane[m];
    size_t n = (size_t)b->n_sampled, all = (size_t)lane->n_sampled;
    if (!wanted->any || n == 0)
        return;
    int most = bucket_most(a->own.limits).sampled;
    make_score_room(&a->p, &lane->scoring, most, wanted->k, true);
    make_score_room(&a->p, &a->scoring, most, wanted->k, false);
    lane->score_k = wanted->k;
    memcpy(lane->scoring.targets, wanted->targets, n * sizeof *wanted->targets);
    memset(lane->scoring.targets + n, -1, (all - n) * sizeof *wanted->targets);
}

void attention_plan(struct attention *a, int m, const struct micro_batch *b,
                    const struct sample_params *params)
{
    struct lane *lane = &a->lane[m];
    const struct bucket size = bucket_of(b);
    size_t rows = (size_t)b->rows, segments = (size_t)b->segments, sampled = (size_t)b->n_sampled;
    size_t all_rows = (size_t)size.rows, all_segments = (size_t)size.segments;
    size_t all_sampled = (size_t)size.sampled, used = 0;
    lane->rows = size.rows;
    lane->n_sampled = size.sampled;
    lane->changes.n_edits = lane->changes.n_masks = 0;
    lane->score_k = -1;
    if (b->rows == 0)
        return;
    memcpy(lane->params, params, sampled * sizeof *params);
    memset(lane->params + sampled, 0, (all_sampled - sampled) * sizeof *params);
    lane->live = b->filled ? put(lane, &used, &b->rows, 1, 1, 0) : NULL;
    lane->token = put(lane, &used, b->token, rows, all_rows, 0);
    lane->sampled_row = put(lane, &used, b->sampled_row, sampled, all_sampled, 0);
    struct attn_batch batch = {
        .rows = size.rows,
        .segments = size.segments,
        .max_rows = most_rows_of(a, b),
        .max_context = context_of(a, b),
        .seg_row = put(lane, &used, b->seg_row, segments + 1, all_segments + 1, size.rows),
        .seg_pos = put(lane, &used, b->seg_pos, segments, all_segments, 0),
        .row_seg = put(lane, &used, b->row_seg, rows, all_rows, b->segments),
        .row_pos = put(lane, &used, b->row_pos, rows, all_rows, 0),
    };
    for (int i = 0; i < b->tables; i++) {
        const struct block_table *t = &b->table[i];
        size_t width = (size_t)t->width;
        batch.blocks = put(lane, &used, t->blocks, segments * width, all_segments * width,
                           (int32_t)t->pool.blocks);
        batch.blocks_stride = t->width;
        batch.ring = t->pool.window ? t->width : 0;
        lane->batch[i] = batch;
    }
    lane->ints = used;
}

void attention_begin(struct attention *a, int m)
{
    struct lane *lane = &a->lane[m];
    const struct side *p = &a->p;
    lane->partials = NULL;
    if (lane->rows == 0)
        return;
    p->backend->device->upload(p->device, p->stream, lane->device, lane->host,
                               lane->ints * sizeof(int32_t));
    p->backend->ops->embed(p->device, p->stream, a->own.weights->once.embed, lane->token,
                           lane->rows, lane->x);
}

void attention_collect(struct attention *a, int m, int layer)
{
    struct lane *lane = &a->lane[m];
    if (layer > 0 && lane->rows > 0)
        lane->partials = a->p.exchange_ops->collect(a->p.exchange, layer - 1, m);
}

/* x += partial sums of the layer before; y = norm(x), or only the sum when y is NULL. */
static void add_partials(struct attention *a, struct lane *lane, const float *gain, void *y)
{
    const struct side *p = &a->p;
    int n = lane->partials ? layout_instances(&p->place->layout) : 0;
    p->backend->ops->residual_norm(p->device, p->stream, lane->x, lane->partials, n,
                                   p->shape->combine, gain, p->model->norm_eps, lane->rows,
                                   (int)p->model->hidden, y);
}

static const struct layer_weights *weights_of(const struct attention *a, int layer)
{
    return &a->own.weights->layers[model_weights_of(a->p.model, (size_t)layer)];
}

/* The layer's own mechanism: o = attention(h). */
static void attend(struct attention *a, struct lane *lane, int layer)
{
    const struct side *p = &a->p;
    const struct layer_spec *spec = &p->model->layer[layer];
    struct pass pass = {.backend = p->backend,
                        .device = p->device,
                        .stream = p->stream,
                        .act = p->act,
                        .model = p->model,
                        .layer = spec,
                        .weights = weights_of(a, layer)->block,
                        .angles = a->own.weights->angles[spec->attention.rope],
                        .kv = a->own.caches->kv[spec->attention.cache],
                        .batch = &lane->batch[a->own.caches->pool[spec->attention.cache]],
                        .h = a->h,
                        .out = a->o};
    memcpy(pass.buffer, a->buffer, sizeof pass.buffer);
    spec->attention.block->run(&pass);
}

void attention_layer(struct attention *a, int m, int layer)
{
    struct lane *lane = &a->lane[m];
    const struct side *p = &a->p;
    const struct ops *op = p->backend->ops;
    const struct layer_weights *w = weights_of(a, layer);
    const struct layer_spec *spec = &p->model->layer[layer];
    int n = lane->rows, hidden = (int)p->model->hidden;
    if (n == 0)
        return;
    add_partials(a, lane, w->input_norm, a->h);
    attend(a, lane, layer);
    struct wire out = p->exchange_ops->out(p->exchange, m);
    bool same_format = p->act == p->shape->dispatch;
    void *h = same_format ? out.rows : a->h;
    const void *o = a->o;
    op->residual_norm(p->device, p->stream, lane->x, &o, 1, DTYPE_F32, w->post_norm,
                      p->model->norm_eps, n, hidden, h);
    if (p->model->moe[layer])
        op->route(p->device, p->stream, &spec->ffn.router, w->router, w->router_bias, h, n, hidden,
                  out.ids, out.weights);
    if (p->model->moe[layer])
        op->tally(p->device, p->stream, out.ids, n, spec->ffn.router.topk, lane->live,
                  (int)p->model->most.experts, a->chosen + (size_t)layer * p->model->most.experts);
    const struct rows own = {p->act, h, NULL, p->model->hidden};
    const struct rows wire = {p->shape->dispatch, out.rows, out.scales, p->model->hidden};
    if (!same_format)
        op->copy(p->device, p->stream, &own, &wire, n, hidden);
}

void attention_chosen(struct attention *a, uint64_t *chosen)
{
    const struct side *p = &a->p;
    size_t n = p->model->layers * p->model->most.experts;
    p->backend->device->download(p->device, p->stream, chosen, a->chosen, n * sizeof *chosen);
    p->backend->device->stream_sync(p->device, p->stream);
}

void attention_dispatch(struct attention *a, int m, int layer)
{
    if (a->lane[m].rows > 0)
        a->p.exchange_ops->dispatch(a->p.exchange, layer, m);
}

static void change_logits(struct attention *a, const struct lane *lane)
{
    const struct side *p = &a->p;
    const struct device_ops *dev = p->backend->device;
    const struct changes *host = &lane->changes, *c = &a->changes;
    int vocab = (int)p->model->vocab, edits = host->n_edits, masks = host->n_masks;
    size_t words = (p->model->vocab + 31) / 32;
    if (edits > 0) {
        dev->upload(p->device, p->stream, c->edits, host->edits, (size_t)edits * sizeof *c->edits);
        p->backend->ops->edit(p->device, p->stream, a->logits, vocab, c->edits, edits);
    }
    if (masks > 0) {
        dev->upload(p->device, p->stream, c->rows, host->rows, (size_t)masks * sizeof *c->rows);
        dev->upload(p->device, p->stream, c->bits, host->bits, (size_t)masks * words * 4);
        p->backend->ops->mask(p->device, p->stream, a->logits, vocab, c->rows, c->bits, masks);
    }
}

static void score(struct attention *a, const struct lane *lane)
{
    const struct side *p = &a->p;
    const struct device_ops *dev = p->backend->device;
    const struct scoring *host = &lane->scoring, *s = &a->scoring;
    int n = lane->n_sampled, k = lane->score_k;
    size_t rows = (size_t)n * 4, top = rows * (size_t)(k > 0 ? k : 0);
    if (k < 0)
        return;
    dev->upload(p->device, p->stream, s->targets, host->targets, rows);
    p->backend->ops->score(p->device, p->stream, a->logits, n, (int)p->model->vocab, s->targets,
                           s->own, k, s->top, s->top_logprobs);
    dev->download(p->device, p->stream, host->own, s->own, rows);
    if (top > 0) {
        dev->download(p->device, p->stream, host->top, s->top, top);
        dev->download(p->device, p->stream, host->top_logprobs, s->top_logprobs, top);
    }
}

void attention_finish(struct attention *a, int m)
{
    struct lane *lane = &a->lane[m];
    if (lane->partials && (lane->n_sampled > 0 || a->mtp))
        add_partials(a, lane, NULL, NULL);
    lane->partials = NULL; /* they are in x */
}

void attention_sample(struct attention *a, int m, float *logits)
{
    struct lane *lane = &a->lane[m];
    const struct side *p = &a->p;
    const struct device_ops *dev = p->backend->device;
    const struct ops *op = p->backend->ops;
    int n = lane->n_sampled, hidden = (int)p->model->hidden, vocab = (int)p->model->vocab;
    size_t count = (size_t)n;
    int32_t *token = a->mtp ? mtp_drawn(a->mtp, m) : a->token;
    attention_finish(a, m);
    if (n == 0)
        return;
    op->gather(p->device, p->stream, lane->x, lane->sampled_row, n, hidden, a->picked);
    op->residual_norm(p->device, p->stream, a->picked, NULL, 0, DTYPE_F32,
                      a->own.weights->once.final_norm, p->model->norm_eps, n, hidden, a->h);
    op->linear(p->device, p->stream, a->own.weights->once.lm_head, a->h, n, a->logits, DTYPE_F32);
    change_logits(a, lane);
    dev->upload(p->device, p->stream, a->params, lane->params, count * sizeof *lane->params);
    op->sample(p->device, p->stream, a->logits, n, vocab, a->params, token, a->logprob);
    score(a, lane);
    dev->download(p->device, p->stream, lane->tokens, token, count * sizeof *lane->tokens);
    dev->download(p->device, p->stream, lane->logprobs, a->logprob, count * sizeof *lane->logprobs);
    if (logits)
        dev->download(p->device, p->stream, logits, a->logits,
                      mem_mul(count, p->model->vocab) * sizeof *logits);
}

void attention_plan_drafts(struct attention *a, int m, const struct micro_batch *batch,
                           const struct sample_params *guesses)
{
    mtp_plan(a->mtp, m, batch, guesses);
}

void attention_draft(struct attention *a, int m, int i, float *logits)
{
    struct lane *lane = &a->lane[m];
    const struct mtp_scratch lent = {.x = lane->x,
                                     .sampled_row = lane->sampled_row,
                                     .h = a->h,
                                     .wide = a->o,
                                     .picked = a->picked,
                                     .logits = a->logits,
                                     .params = a->params,
                                     .logprob = a->logprob};
    if (lane->rows == 0)
        return;
    attention_finish(a, m);
    if (i > 0)
        mtp_draw(a->mtp, m, i - 1, &lent);
    if (logits)
        a->p.backend->device->download(a->p.device, a->p.stream, logits, a->logits,
                                       mem_mul((size_t)lane->n_sampled, a->p.model->vocab) *
                                           sizeof *logits);
    if ((size_t)i < a->p.model->drafts)
        mtp_input(a->mtp, m, i, &lent);
}

const int32_t *attention_guesses(const struct attention *a, int m)
{
    return a->mtp ? mtp_guesses(a->mtp, m) : NULL;
}

const int32_t *attention_tokens(const struct attention *a, int m)
{
    return a->lane[m].tokens;
}

struct scores attention_scores(const struct attention *a, int m)
{
    const struct scoring *s = &a->lane[m].scoring;
    return (struct scores){
        .k = a->lane[m].score_k, .own = s->own, .top = s->top, .top_logprobs = s->top_logprobs};
}

const float *attention_logprobs(const struct attention *a, int m)
{
    return a->lane[m].logprobs;
}
