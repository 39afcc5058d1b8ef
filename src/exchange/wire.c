/* wire.c - the memory of rows on the wire, the same for every transport. */
#include "base/mem.h"
#include "exchange/exchange.h"

struct wire_bytes wire_bytes(const struct exchange_shape *shape, size_t n)
{
    size_t groups = (shape->hidden + WIRE_SCALE_COLUMNS - 1) / WIRE_SCALE_COLUMNS;
    struct wire_bytes b = {0};
    b.rows = mem_mul(mem_mul(n, shape->hidden), dtype_size(shape->dispatch));
    b.scales = shape->dispatch == DTYPE_F8E4M3 ? mem_mul(mem_mul(n, groups), sizeof(float)) : 0;
    b.ids = mem_mul(mem_mul(n, shape->topk), sizeof(int32_t));
    b.weights = mem_mul(mem_mul(n, shape->topk), sizeof(float));
    return b;
}

struct wire wire_alloc(const struct exchange_shape *shape, const struct endpoint *end, size_t n)
{
    const struct device_ops *dev = end->backend->device;
    struct wire_bytes b = wire_bytes(shape, n);
    return (struct wire){
        .n = (int)n,
        .rows = dev->alloc(end->device, b.rows),
        .scales = b.scales ? dev->alloc(end->device, b.scales) : NULL,
        .ids = dev->alloc(end->device, b.ids),
        .weights = dev->alloc(end->device, b.weights),
    };
}

void wire_free(const struct endpoint *end, struct wire *w)
{
    const struct device_ops *dev = end->backend->device;
    dev->release(end->device, w->rows);
    if (w->scales)
        dev->release(end->device, w->scales);
    dev->release(end->device, w->ids);
    dev->release(end->device, w->weights);
    *w = (struct wire){0};
}

struct wire wire_at(const struct exchange_shape *shape, const struct wire *w, size_t first, int n)
{
    struct wire_bytes b = wire_bytes(shape, first);
    return (struct wire){
        .n = n,
        .rows = (char *)w->rows + b.rows,
        .scales = w->scales ? w->scales + b.scales / sizeof(float) : NULL,
        .ids = w->ids + b.ids / sizeof(int32_t),
        .weights = w->weights + b.weights / sizeof(float),
    };
}
