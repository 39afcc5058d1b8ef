#include "roles/mtp.h"

#include "base/mem.h"
#include "schedule/bucket.h"

#include <stdlib.h>
#include <string.h>

/* Of one micro-batch. Integers stand in one block, so that a step uploads them in one copy. */
struct lane {
    int rows, n_sampled;
    int32_t *host, *device; /* [drafts][2][rows]: tokens, and which embedding each row takes */
    struct sample_params *params; /* pinned [drafts][n_sampled] */
    int32_t *drawn;   /* device [1 + drafts][n_sampled]: the model's draws, the guesses */
    int32_t *guesses; /* pinned [drafts][n_sampled] */
};

struct mtp {
    struct side p;
    const struct attention_weights *weights;
    int drafts;
    size_t most_rows, most_sampled;
    struct lane lane[MICRO_BATCHES_MAX];
    float *
        embeddings; /* device [rows + drafts x n_sampled][H]: of known tokens, then of drawn ones */
    void *both;     /* device act [rows][2H]: what is projected */
};

struct sizes {
    size_t embeddings, both, ints, drawn; /* elements */
};

static struct sizes sizes_of(const struct side *p, const struct schedule_limits *limits)
{
    const struct bucket most = bucket_most(limits);
    size_t rows = (size_t)most.rows, drafts = p->model->drafts;
    size_t sampled = (size_t)most.sampled, hidden = p->model->hidden;
    return (struct sizes){
        .embeddings = mem_mul(rows + mem_mul(drafts, sampled), hidden),
        .both = mem_mul(rows, 2 * hidden),
        .ints = mem_mul(2 * drafts, rows),
        .drawn = mem_mul(1 + drafts, sampled),
    };
}

size_t mtp_bytes(const struct side *p, const struct schedule_limits *limits)
{
    struct sizes s = sizes_of(p, limits);
    return s.embeddings * sizeof(float) + s.both * dtype_size(p->act) +
           (size_t)p->shape->micro_batches * (s.ints + s.drawn) * sizeof(int32_t);
}

struct mtp *mtp_open(const struct side *p, const struct attention_weights *weights,
                     const struct schedule_limits *limits)
{
    struct mtp *d = mem_zeroed(1, sizeof *d);
    const struct device_ops *dev = p->backend->device;
    struct sizes s = sizes_of(p, limits);
    d->p = *p;
    d->weights = weights;
    d->drafts = (int)p->model->drafts;
    for (int m = 0; m < p->shape->micro_batches; m++) {
        struct lane *lane = &d->lane[m];
        lane->host = dev->alloc_host(p->device, s.ints * sizeof *lane->host);
        lane->device = dev->alloc(p->device, s.ints * sizeof *lane->device);
        lane->drawn = dev->alloc(p->device, s.drawn * sizeof *lane->drawn);
        lane->guesses = dev->alloc_host(p->device, s.drawn * sizeof *lane->guesses);
        lane->params = dev->alloc_host(p->device, s.drawn * sizeof *lane->params);
    }
    d->embeddings = dev->alloc(p->device, mem_mul(s.embeddings, sizeof(float)));
    d->both = dev->alloc(p->device, mem_mul(s.both, dtype_size(p->act)));
    return d;
}

void mtp_close(struct mtp *d)
{
    if (!d)
        return;
    const struct device_ops *dev = d->p.backend->device;
    for (int m = 0; m < d->p.shape->micro_batches; m++) {
        struct lane *lane = &d->lane[m];
        dev->release_host(d->p.device, lane->host);
        dev->release(d->p.device, lane->device);
        dev->release(d->p.device, lane->drawn);
        dev->release_host(d->p.device, lane->guesses);
        dev->release_host(d->p.device, lane->params);
    }
    dev->release(d->p.device, d->embeddings);
    dev->release(d->p.device, d->both);
    free(d);
}

void mtp_plan(struct mtp *d, int m, const struct micro_batch *b, const struct sample_params *params)
{
    struct lane *lane = &d->lane[m];
    const struct bucket size = bucket_of(b);
    lane->rows = size.rows;
    lane->n_sampled = size.sampled;
    memset(lane->params, 0, (size_t)(d->drafts * size.sampled) * sizeof *params);
    for (int i = 0; i < d->drafts; i++) {
        memcpy(lane->params + i * size.sampled, params + i * b->n_sampled,
               (size_t)b->n_sampled * sizeof *params);
        int32_t *token = lane->host + (size_t)(2 * i) * (size_t)size.rows;
        int32_t *index = token + size.rows;
        for (int r = 0; r < size.rows; r++) {
            struct batch_ahead a = {.drawn = -1}; /* of a dead row */
            if (r < b->rows)
                a = batch_ahead(b, i, r);
            token[r] = a.token;
            index[r] = a.drawn < 0 ? r : size.rows + a.drawn * size.sampled + a.sampled;
        }
    }
}

int32_t *mtp_drawn(struct mtp *d, int m)
{
    return d->lane[m].drawn;
}

static const struct mtp_weights *weights_of(const struct mtp *d, int i)
{
    const struct model *m = d->p.model;
    return &d->weights->mtp[model_weights_of(m, m->layers + (size_t)i) - m->layers];
}

/* Side `at` (0 or 1) of what is projected = norm(h). */
static void put(struct mtp *d, int at, void *h, int rows, const float *gain)
{
    const struct side *p = &d->p;
    size_t hidden = p->model->hidden;
    const struct rows from = {p->act, h, NULL, hidden};
    const struct rows to = {p->act, (char *)d->both + (size_t)at * hidden * dtype_size(p->act),
                            NULL, 2 * hidden};
    if (gain)
        p->backend->ops->norm(p->device, p->stream, &from, gain, p->model->norm_eps, rows,
                              (int)hidden, &to);
    else
        p->backend->ops->copy(p->device, p->stream, &from, &to, rows, (int)hidden);
}

/* The embeddings that the rows take, known or drawn, to s->wide. */
static void embed(struct mtp *d, int m, int i, const struct mtp_scratch *s)
{
    const struct side *p = &d->p;
    const struct ops *op = p->backend->ops;
    const struct lane *lane = &d->lane[m];
    const struct weight *table = d->weights->once.embed;
    size_t hidden = p->model->hidden, rows = (size_t)lane->rows;
    const int32_t *token = lane->device + (size_t)(2 * i) * rows;
    op->embed(p->device, p->stream, table, token, lane->rows, d->embeddings);
    if (lane->n_sampled > 0)
        op->embed(p->device, p->stream, table, lane->drawn, (i + 1) * lane->n_sampled,
                  d->embeddings + rows * hidden);
    op->gather(p->device, p->stream, d->embeddings, token + rows, lane->rows, (int)hidden, s->wide);
}

void mtp_input(struct mtp *d, int m, int i, const struct mtp_scratch *s)
{
    const struct side *p = &d->p;
    const struct ops *op = p->backend->ops;
    const struct lane *lane = &d->lane[m];
    const struct mtp_weights *w = weights_of(d, i);
    int n = lane->rows, hidden = (int)p->model->hidden;
    bool normed = p->model->mtp.normed;
    const float *last = i == 0 ? d->weights->once.final_norm : weights_of(d, i - 1)->norm;
    if (i == 0)
        p->backend->device->upload(p->device, p->stream, lane->device, lane->host,
                                   (size_t)(2 * d->drafts * n) * sizeof *lane->host);
    op->residual_norm(p->device, p->stream, s->x, NULL, 0, DTYPE_F32,
                      normed ? last : w->hidden_norm, p->model->norm_eps, n, hidden, s->h);
    put(d, 1, s->h, n, normed ? w->hidden_norm : NULL);
    embed(d, m, i, s);
    op->residual_norm(p->device, p->stream, s->wide, NULL, 0, DTYPE_F32, w->embed_norm,
                      p->model->norm_eps, n, hidden, s->h);
    put(d, 0, s->h, n, NULL);
    op->linear(p->device, p->stream, w->proj, d->both, n, s->x, DTYPE_F32);
}

void mtp_draw(struct mtp *d, int m, int i, const struct mtp_scratch *s)
{
    const struct side *p = &d->p;
    const struct device_ops *dev = p->backend->device;
    const struct ops *op = p->backend->ops;
    const struct lane *lane = &d->lane[m];
    const struct mtp_weights *w = weights_of(d, i);
    int n = lane->n_sampled, hidden = (int)p->model->hidden;
    size_t count = (size_t)n, before = (size_t)i * count;
    if (n == 0)
        return;
    op->gather(p->device, p->stream, s->x, s->sampled_row, n, hidden, s->picked);
    op->residual_norm(p->device, p->stream, s->picked, NULL, 0, DTYPE_F32, w->norm,
                      p->model->norm_eps, n, hidden, s->h);
    op->linear(p->device, p->stream, w->head ? w->head : d->weights->once.lm_head, s->h, n,
               s->logits, DTYPE_F32);
    dev->upload(p->device, p->stream, s->params, lane->params + before, count * sizeof *s->params);
    op->sample(p->device, p->stream, s->logits, n, (int)p->model->vocab, s->params,
               lane->drawn + before + count, s->logprob);
    dev->download(p->device, p->stream, lane->guesses + before, lane->drawn + before + count,
                  count * sizeof *lane->guesses);
}

const int32_t *mtp_guesses(const struct mtp *d, int m)
{
    return d->lane[m].guesses;
}
