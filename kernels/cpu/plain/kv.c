/* kv.c - the KV cache as the reference keeps it: token after token within a block. */
#include "kernels/cpu/plain/kept.h"

#include "base/mem.h"

#include <stdlib.h>

static struct kv plan(const struct device *d, const struct kv_shape *s)
{
    struct kv kv = {.shape = *s, .dtype = d->config.kv};
    kv.key_width = mem_mul((size_t)s->kv_heads, (size_t)s->key_dim);
    kv.value_width = s->value_in_key ? 0 : mem_mul((size_t)s->kv_heads, (size_t)s->value_dim);
    return kv;
}

static size_t tokens(const struct kv_shape *s)
{
    return mem_mul(mem_mul(s->layers, s->blocks), KV_BLOCK);
}

size_t plain_kv_bytes(const struct device *d, const struct kv_shape *shape)
{
    struct kv kv = plan(d, shape);
    return mem_mul(mem_mul(tokens(shape), kv.key_width + kv.value_width), dtype_size(kv.dtype));
}

struct kv *plain_kv_create(struct device *d, const struct kv_shape *shape)
{
    struct kv *kv = mem_new(1, sizeof *kv);
    *kv = plan(d, shape);
    kv->keys = mem_aligned(mem_mul(tokens(shape), kv->key_width), dtype_size(kv->dtype));
    kv->values = mem_aligned(mem_mul(tokens(shape), kv->value_width), dtype_size(kv->dtype));
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

size_t plain_kv_token(const struct kv *kv, int layer, const struct attn_batch *batch, int seg,
                      int pos)
{
    const int32_t *blocks = batch->blocks + (size_t)seg * (size_t)batch->blocks_stride;
    int entry = batch->ring ? pos / KV_BLOCK % batch->ring : pos / KV_BLOCK;
    size_t block = (size_t)layer * kv->shape.blocks + (size_t)blocks[entry];
    return block * KV_BLOCK + (size_t)(pos % KV_BLOCK);
}
