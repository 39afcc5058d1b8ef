/* kv.h - the KV cache of the vector backends. Internal to kernels/cpu/fast.
 *
 * Per layer, block and KV head, two sets of panels (panel.h):
 *   keys    [2][D padded to 16][32 tokens]   outputs are tokens, inputs the dimensions of a key:
 *                                            scores = q K^T is a panel product
 *   values  [D/32][64 tokens][32]            outputs are dimensions, inputs the block's tokens:
 *                                            sums = p V is one too
 * Values of tokens that are not there yet are zeros, because a probability of 0 times anything but
 * a number would not be 0: a block is cleared when its first token enters.
 *
 * A cache with a window, or whose values are part of its keys or of another width, is the
 * reference's (plain.h), and so are the operations on it.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_KV_H
#define TANDEM_KERNELS_CPU_FAST_KV_H

#include "kernels/cpu/fast/fast.h"

struct kv {
    struct kv *plain; /* of the reference, when the shape is not one of these panels; else NULL */
    struct kv_shape shape;
    size_t kv_heads, dim; /* D of keys and of values */
    enum dtype dtype;
    enum w_format format;
    size_t key_bytes, value_bytes; /* of one block and KV head */
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

/* The rows that are multiplied with the cache. */
static inline enum x_format kv_x_format(const struct device *d, const struct kv *kv)
{
    bool dot = d->isa->x_bf16 && d->config.act == DTYPE_BF16 && kv->format != W_F32;
    return dot ? X_BF16 : X_F32;
}

#endif
