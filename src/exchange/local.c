/* local.c - both roles in one process: what is written by one side is read in place by the other.
 *
 * The caller does the FFN's work between dispatch() and collect(); nothing moves, nothing waits.
 */
#include "base/mem.h"
#include "exchange/exchange.h"

#include <stdlib.h>

struct exchange {
    struct exchange_shape shape;
    struct endpoint end;
    struct wire wire[MICRO_BATCHES_MAX];
    void *partial[MICRO_BATCHES_MAX];
    int rows[MICRO_BATCHES_MAX];
};

static size_t partial_bytes(const struct exchange_shape *shape)
{
    return mem_mul(mem_mul(shape->rows, shape->hidden), dtype_size(shape->combine));
}

static struct exchange *local_open(const struct exchange_shape *shape, const struct endpoint *end)
{
    struct exchange *x = mem_zeroed(1, sizeof *x);
    x->shape = *shape;
    x->end = *end;
    for (int m = 0; m < shape->micro_batches; m++) {
        x->wire[m] = wire_alloc(shape, end, shape->rows);
        x->partial[m] = end->backend->device->alloc(end->device, partial_bytes(shape));
    }
    return x;
}

static void local_close(struct exchange *x)
{
    if (!x)
        return;
    for (int m = 0; m < x->shape.micro_batches; m++) {
        wire_free(&x->end, &x->wire[m]);
        x->end.backend->device->release(x->end.device, x->partial[m]);
    }
    free(x);
}

static size_t local_bytes(const struct exchange_shape *shape, const struct place *place)
{
    (void)place;
    struct wire_bytes b = wire_bytes(shape, shape->rows);
    return mem_mul((size_t)shape->micro_batches,
                   b.rows + b.scales + b.ids + b.weights + partial_bytes(shape));
}

static void local_begin(struct exchange *x, const int *rows)
{
    for (int m = 0; m < x->shape.micro_batches; m++)
        x->rows[m] = rows[x->end.place.index * x->shape.micro_batches + m];
}

static struct wire local_wire(struct exchange *x, int m)
{
    return wire_at(&x->shape, &x->wire[m], 0, x->rows[m]);
}

static void local_dispatch(struct exchange *x, int layer, int m)
{
    (void)x, (void)layer, (void)m;
}

static const void *const *local_collect(struct exchange *x, int layer, int m)
{
    (void)layer;
    return (const void *const *)&x->partial[m];
}

static struct wire local_receive(struct exchange *x, int layer, int m)
{
    (void)layer;
    return local_wire(x, m);
}

static void *local_reply_buffer(struct exchange *x, int m)
{
    return x->partial[m];
}

static void local_end(struct exchange *x)
{
    (void)x;
}

const struct exchange_ops exchange_local = {
    .name = "local",
    .open = local_open,
    .close = local_close,
    .bytes = local_bytes,
    .begin = local_begin,
    .out = local_wire,
    .dispatch = local_dispatch,
    .collect = local_collect,
    .receive = local_receive,
    .reply_buffer = local_reply_buffer,
    .reply = local_dispatch,
    .end = local_end,
};
