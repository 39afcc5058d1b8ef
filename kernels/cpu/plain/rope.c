#include "kernels/cpu/plain/kept.h"

#include <omp.h>

/* Turns each pair of the numbers of a head that turn, by the angles of its position. */
static void rotate(const struct attn_spec *spec, float *head, const float *angles)
{
    size_t half = (size_t)spec->rope_dim / 2;
    size_t step = spec->pairs == ROPE_HALVES ? 1 : 2, apart = spec->pairs == ROPE_HALVES ? half : 1;
    float *turned = head + spec->rope_at;
    for (size_t j = 0; j < half; j++) {
        float c = angles[2 * j], s = angles[2 * j + 1];
        float a = turned[j * step], b = turned[j * step + apart];
        turned[j * step] = a * c - b * s;
        turned[j * step + apart] = b * c + a * s;
    }
}

/* k and v of one row into the cache, which gets what the activation dtype made of them. */
static void append(const struct device *d, struct kv *kv, size_t token, int row, const void *k,
                   const void *v, float *head)
{
    size_t keys = (size_t)kv->shape.key_dim, values = (size_t)kv->shape.value_dim;
    for (size_t h = 0; h < (size_t)kv->shape.kv_heads; h++) {
        size_t at = (size_t)row * (size_t)kv->shape.kv_heads + h;
        plain_load(d, d->config.act, k, at * keys, keys, head);
        plain_store(kv->dtype, head, keys, kv->keys, token * kv->key_width + h * keys);
        if (!v)
            continue;
        plain_load(d, d->config.act, v, at * values, values, head);
        plain_store(kv->dtype, head, values, kv->values, token * kv->value_width + h * values);
    }
}

void plain_rope_append(struct device *d, struct stream *s, const struct attn_spec *spec,
                       struct kv *kv, int layer, const struct attn_batch *batch,
                       const float *angles, void *q, void *k, const void *v)
{
    (void)s;
    enum dtype act = d->config.act;
    size_t keys = (size_t)spec->key_dim, values = (size_t)spec->value_dim;
    size_t heads = (size_t)spec->heads, kv_heads = (size_t)spec->kv_heads;
    size_t dim = keys > values ? keys : values;
    cpu_scratch_begin(d);
    float *buffers = cpu_scratch(d, (size_t)d->threads * dim, sizeof(float));
#pragma omp parallel for num_threads(d->threads)
    for (int i = 0; i < batch->rows; i++) {
        float *head = buffers + (size_t)omp_get_thread_num() * dim;
        int pos = batch->row_pos[i];
        const float *turn = angles + (size_t)pos * (size_t)spec->rope_dim;
        for (size_t h = 0; spec->rope_dim && h < heads + kv_heads; h++) {
            void *x = h < heads ? q : k;
            size_t at = h < heads ? (size_t)i * heads + h : (size_t)i * kv_heads + (h - heads);
            plain_load(d, act, x, at * keys, keys, head);
            rotate(spec, head, turn);
            plain_store(act, head, keys, x, at * keys);
        }
        append(d, kv, plain_kv_token(kv, layer, batch, batch->row_seg[i], pos), i, k, v, head);
    }
}
