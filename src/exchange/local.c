/* local.c - both roles in one process: what is written by one side is read in place by the other.
 *
 * The caller does the FFN's work between dispatch() and collect(); nothing moves, nothing waits.
 */
#include "base/mem.h"
#include "exchange/exchange.h"

#include <stdlib.h>

struct exchange {
    struct exchange_shape shape;
    struct exchange_place place;
    struct wire wire[MICRO_BATCHES_MAX];
    void *partial[MICRO_BATCHES_MAX];
    int rows[MICRO_BATCHES_MAX];
};

static size_t partial_bytes(const struct exchange_shape *shape)
{
    return mem_mul(mem_mul(shape->rows, shape->hidden), dtype_size(shape->combine));
}

static struct exchange *local_open(const struct exchange_shape *shape,
                                   const struct exchange_place *place)
{
    struct exchange *x = mem_zeroed(1, sizeof *x);
    x->shape = *shape;
    x->place = *place;
    for (int m = 0; m < shape->micro_batches; m++) {
        x->wire[m] = wire_alloc(shape, place, shape->rows);
        x->partial[m] = place->backend->device->alloc(place->device, partial_bytes(shape));
    }
    return x;
}

static void local_close(struct exchange *x)
{
    if (!x)
        return;
    for (int m = 0; m < x->shape.micro_batches; m++) {
        wire_free(&x->place, &x->wire[m]);
        x->place.backend->device->release(x->place.device, x->partial[m]);
    }
    free(x);
}

static size_t local_bytes(const struct exchange_shape *shape, const struct exchange_place *place)
{
    (void)place;
    struct wire_bytes b = wire_bytes(shape, shape->rows);
    return mem_mul((size_t)shape->micro_batches,
                   b.rows + b.scales + b.ids + b.weights + partial_bytes(shape));
}

static void local_begin(struct exchange *x, const int *rows)
{
    for (int m = 0; m < x->shape.micro_batches; m++)
        x->rows[m] = rows[x->place.index * x->shape.micro_batches + m];
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

static double local_waited(const struct exchange *x)
{
    (void)x;
    return 0;
}

const struct exchange_ops exchange_local = {
    .name = "local",
    .open = local_open,
    .close = local_close,
    .bytes = local_bytes,
    .parts = layout_ffn_ranks,
    .begin = local_begin,
    .out = local_wire,
    .dispatch = local_dispatch,
    .collect = local_collect,
    .receive = local_receive,
    .reply_buffer = local_reply_buffer,
    .reply = local_dispatch,
    .end = local_end,
    .waited = local_waited,
};
