#include "roles/kv_fill.h"

#include "base/mem.h"
#include "base/philox.h"

#include <stdlib.h>

static void *on_device(const struct engine *g, const void *from, size_t bytes)
{
    const struct device_ops *dev = g->backend->device;
    void *to = dev->alloc(g->device, bytes);
    dev->upload(g->device, g->stream, to, from, bytes);
    return to;
}

/* n activations between -1 and 1. */
static void *by_chance(const struct engine *g, uint64_t seed, size_t n)
{
    enum dtype act = g->config.act;
    void *host = mem_new(n, dtype_size(act));
    for (size_t i = 0; i < n; i++) {
        float v = 2 * philox_uniform(seed, i, 0, 0) - 1;
        if (act == DTYPE_F32)
            ((float *)host)[i] = v;
        else
            ((bf16_t *)host)[i] = bf16_from_f32(v);
    }
    void *device = on_device(g, host, n * dtype_size(act));
    g->backend->device->stream_sync(g->device, g->stream);
    free(host);
    return device;
}

/* One block of one layer: its tokens as a chunk of a prompt. */
static void fill_block(const struct engine *g, int cache, int layer, int32_t block, void *k,
                       const void *v)
{
    const struct kv_shape *shape = &g->in->model.caches[cache];
    const struct device_ops *dev = g->backend->device;
    int32_t host[2 * KV_BLOCK + 4] = {0, KV_BLOCK, 0, block};
    for (int i = 0; i < KV_BLOCK; i++)
        host[4 + KV_BLOCK + i] = i; /* before them: the segment of each row, 0 */
    int32_t *ints = on_device(g, host, sizeof host);
    const struct attn_spec spec = {.kv_heads = shape->kv_heads,
                                   .key_dim = shape->key_dim,
                                   .value_dim = shape->value_dim,
                                   .value_in_key = shape->value_in_key};
    const struct attn_batch batch = {.rows = KV_BLOCK,
                                     .segments = 1,
                                     .max_rows = KV_BLOCK,
                                     .max_context = KV_BLOCK,
                                     .seg_row = ints,
                                     .seg_pos = ints + 2,
                                     .blocks = ints + 3,
                                     .row_seg = ints + 4,
                                     .row_pos = ints + 4 + KV_BLOCK,
                                     .blocks_stride = 1};
    g->backend->ops->rope_append(g->device, g->stream, &spec, g->caches.kv[cache], layer, &batch,
                                 NULL, NULL, k, shape->value_in_key ? NULL : v);
    dev->stream_sync(g->device, g->stream);
    dev->release(g->device, ints);
}

void kv_fill(const struct engine *g, size_t blocks, struct kv_filled *done)
{
    const struct model *m = &g->in->model;
    const struct device_ops *dev = g->backend->device;
    for (int c = 0; c < m->n_caches; c++) {
        const struct kv_shape *s = &m->caches[c];
        size_t all = g->limits.pool[g->caches.pool[c]].blocks, end = blocks < all ? blocks : all;
        if (done->blocks[c] >= end)
            continue;
        void *k = by_chance(g, 1, (size_t)KV_BLOCK * (size_t)(s->kv_heads * s->key_dim));
        void *v = by_chance(g, 2, (size_t)KV_BLOCK * (size_t)(s->kv_heads * s->value_dim));
        for (size_t layer = 0; layer < s->layers; layer++)
            for (size_t block = done->blocks[c]; block < end; block++)
                fill_block(g, c, (int)layer, (int32_t)block, k, v);
        done->blocks[c] = end;
        dev->release(g->device, k);
        dev->release(g->device, v);
    }
}
