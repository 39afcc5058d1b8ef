/* kv.c - the KV cache as the reference keeps it: token after token within a block. */
#include "kernels/cpu/plain/plain.h"

#include "base/mem.h"

#include <stdlib.h>

/* Elements of one token of one layer, and of all of the keys. */
static size_t token_width(const struct kv_shape *s)
{
    return mem_mul(s->kv_heads, s->head_dim);
}

static size_t elements(const struct kv_shape *s)
{
    return mem_mul(mem_mul(s->layers, s->blocks), mem_mul(KV_BLOCK, token_width(s)));
}

size_t plain_kv_bytes(const struct device *d, const struct kv_shape *shape)
{
    return mem_mul(mem_mul(elements(shape), dtype_size(d->config.kv)), 2);
}

struct kv *plain_kv_create(struct device *d, const struct kv_shape *shape)
{
    struct kv *kv = mem_zeroed(1, sizeof *kv);
    kv->shape = *shape;
    kv->dtype = d->config.kv;
    kv->keys = mem_aligned(elements(shape), dtype_size(kv->dtype));
    kv->values = mem_aligned(elements(shape), dtype_size(kv->dtype));
    return kv;
}

void plain_kv_destroy(struct device *d, struct kv *kv)
{
    (void)d;
    if (!kv)
        return;
    free(kv->keys);
    free(kv->values);
    free(kv);
}

size_t plain_kv_at(const struct kv *kv, int layer, const struct attn_batch *batch, int seg, int pos)
{
    const int32_t *blocks = batch->blocks + (size_t)seg * (size_t)batch->blocks_stride;
    size_t block = (size_t)layer * kv->shape.blocks + (size_t)blocks[pos / KV_BLOCK];
    return (block * KV_BLOCK + (size_t)(pos % KV_BLOCK)) * token_width(&kv->shape);
}
