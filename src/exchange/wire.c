/* wire.c - the memory of rows on the wire, the same for every transport. */
#include "base/mem.h"
#include "exchange/exchange.h"
#include "kernels/exact.h"

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

/* Values that are added in f32 before they are stored: a piece that the first-level cache holds. */
#define PIECE 2048

static void add_piece(enum dtype dtype, const void *part, size_t at, size_t n, float *sum)
{
    const float *wide = (const float *)part + at;
    const bf16_t *narrow = (const bf16_t *)part + at;
    if (dtype == DTYPE_F32) {
#pragma omp simd
        for (size_t i = 0; i < n; i++)
            sum[i] += wide[i];
        return;
    }
    for (size_t i = 0; i < n; i++)
        sum[i] += f32_from_bf16(narrow[i]);
}

void wire_sum(enum dtype dtype, const void *const *parts, int n_parts, size_t count, void *out)
{
    float sum[PIECE];
    if (dtype == DTYPE_F64) {
        exact_sum(parts, n_parts, 0, count, out);
        return;
    }
    for (size_t at = 0; at < count; at += PIECE) {
        size_t n = count - at < PIECE ? count - at : PIECE;
        /* -0 + x is x for every x, also for -0. */
        for (size_t i = 0; i < n; i++)
            sum[i] = -0.0f;
        for (int p = 0; p < n_parts; p++)
            add_piece(dtype, parts[p], at, n, sum);
        for (size_t i = 0; i < n; i++)
            if (dtype == DTYPE_F32)
                ((float *)out)[at + i] = sum[i];
            else
                ((bf16_t *)out)[at + i] = bf16_from_f32(sum[i]);
    }
}
