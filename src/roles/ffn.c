#include "roles/ffn.h"

#include "base/mem.h"

#include <stdlib.h>

struct ffn {
    struct side p;
    const struct ffn_weights *weights;
    void *decoded; /* the rows in act, when the wire has another format */
    struct wire in[MICRO_BATCHES_MAX];
};

/* Numbers in a micro-batch of the rows of all attention ranks. */
static size_t numbers(const struct side *p)
{
    const struct layout *l = &p->place->layout;
    size_t rows = mem_mul(p->shape->rows, l->colocated ? 1 : (size_t)l->attention);
    return mem_mul(rows, p->model->hidden);
}

size_t ffn_bytes(const struct side *p)
{
    return p->act == p->shape->dispatch ? 0 : mem_mul(numbers(p), dtype_size(p->act));
}

struct ffn *ffn_open(const struct side *side, const struct ffn_weights *weights)
{
    struct ffn *f = mem_zeroed(1, sizeof *f);
    f->p = *side;
    f->weights = weights;
    if (ffn_bytes(side) > 0)
        f->decoded = side->backend->device->alloc(side->device, ffn_bytes(side));
    return f;
}

void ffn_close(struct ffn *f)
{
    if (f && f->decoded)
        f->p.backend->device->release(f->p.device, f->decoded);
    free(f);
}

bool ffn_receive(struct ffn *f, int m, int layer)
{
    f->in[m] = f->p.exchange_ops->receive(f->p.exchange, layer, m);
    return f->in[m].n > 0;
}

const struct wire *ffn_received(const struct ffn *f, int m)
{
    return &f->in[m];
}

void ffn_layer(struct ffn *f, int m, int layer)
{
    const struct side *p = &f->p;
    const struct ops *op = p->backend->ops;
    const struct wire *in = &f->in[m];
    bool routed = p->model->moe[layer];
    const void *x = in->rows;
    if (p->act != p->shape->dispatch) {
        const struct rows wire = {p->shape->dispatch, in->rows, in->scales, p->model->hidden};
        const struct rows own = {p->act, f->decoded, NULL, p->model->hidden};
        op->copy(p->device, p->stream, &wire, &own, in->n, (int)p->model->hidden);
        x = f->decoded;
    }
    op->ffn(p->device, p->stream, f->weights->layers[model_weights_of(p->model, (size_t)layer)], x,
            routed ? in->ids : NULL, routed ? in->weights : NULL,
            p->model->layer[layer].ffn.router.topk, in->n,
            p->exchange_ops->reply_buffer(p->exchange, m), p->shape->combine);
}

void ffn_reply(struct ffn *f, int m, int layer)
{
    if (f->in[m].n > 0)
        f->p.exchange_ops->reply(f->p.exchange, layer, m);
}
