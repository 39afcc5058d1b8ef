/* kv.h - the KV cache of the vector backends. Internal to kernels/cpu/fast.
 *
 * Per layer, block and KV head, two sets of panels (panel.h):
 *   keys    [2][D padded to 16][32 tokens]   outputs are tokens, inputs the dimensions of a key:
 *                                            scores = q K^T is a panel product
 *   values  [D/32][64 tokens][32]            outputs are dimensions, inputs the block's tokens:
 *                                            sums = p V is one too
 * Values of tokens that are not there yet are zeros, because a probability of 0 times anything but
 * a number would not be 0: a block is cleared when its first token enters. Values that are part of
 * their keys (MLA) are not kept: kv_turn() makes them of the keys, a tile at a time.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_KV_H
#define TANDEM_KERNELS_CPU_FAST_KV_H

#include "kernels/cpu/fast/fast.h"

struct kv {
    struct kv_shape shape;
    size_t kv_heads, key_dim, value_dim;
    enum dtype dtype;
    enum w_format format;
    size_t key_bytes, value_bytes; /* of one block and KV head, in the cache */
    size_t turned_bytes;           /* of a block's values, wherever they are */
    size_t key_width;              /* D padded: inputs of a panel of keys */
    size_t value_panels;           /* panels of values */
    uint8_t *data;
    void *memory; /* data, before it was aligned */
};

/* Keys, then values, of (layer, block, KV head). */
static inline uint8_t *kv_at(const struct kv *kv, size_t layer, size_t block, size_t kv_head)
{
    size_t index = (layer * kv->shape.blocks + block) * kv->kv_heads + kv_head;
    return kv->data + index * (kv->key_bytes + kv->value_bytes);
}

/* The block that holds a token of a segment. */
static inline size_t kv_block(const struct attn_batch *batch, size_t segment, size_t token)
{
    size_t entry = token / KV_BLOCK;
    if (batch->ring)
        entry %= (size_t)batch->ring;
    return (size_t)batch->blocks[segment * (size_t)batch->blocks_stride + entry];
}

/* The values within the keys of one block, as a cache keeps values (turned_bytes). */
void kv_turn(const struct isa *isa, const struct kv *kv, const uint8_t *keys, uint8_t *values);

/* The rows that are multiplied with the cache. */
static inline enum x_format kv_x_format(const struct device *d, const struct kv *kv)
{
    bool dot = d->isa->x_bf16 && d->config.act == DTYPE_BF16 && kv->format != W_F32;
    return dot ? X_BF16 : X_F32;
}

#endif
