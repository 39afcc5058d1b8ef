#include "kernels/cpu/plain/plain.h"

#include <omp.h>

/* Turns each pair (j, j + D/2) of one head by the angle of its position. */
static void rotate(float *head, const float *angles, size_t dim)
{
    size_t half = dim / 2;
    for (size_t j = 0; j < half; j++) {
        float c = angles[2 * j], s = angles[2 * j + 1];
        float a = head[j], b = head[j + half];
        head[j] = a * c - b * s;
        head[j + half] = b * c + a * s;
    }
}

void plain_rope_append(struct device *d, struct stream *s, struct kv *kv, int layer,
                       const struct attn_batch *batch, const float *angles, int heads, void *q,
                       void *k, const void *v)
{
    (void)s;
    enum dtype act = d->config.act;
    size_t dim = kv->shape.head_dim, kv_heads = kv->shape.kv_heads;
    cpu_scratch_begin(d);
    float *buffers = cpu_scratch(d, (size_t)d->threads * dim, sizeof(float));
#pragma omp parallel for num_threads(d->threads)
    for (int i = 0; i < batch->rows; i++) {
        float *head = buffers + (size_t)omp_get_thread_num() * dim;
        int pos = batch->row_pos[i];
        const float *turn = angles + (size_t)pos * dim;
        for (size_t h = (size_t)i * (size_t)heads; h < (size_t)(i + 1) * (size_t)heads; h++) {
            plain_load(d, act, q, h * dim, dim, head);
            rotate(head, turn, dim);
            plain_store(act, head, dim, q, h * dim);
        }
        size_t to = plain_kv_at(kv, layer, batch, batch->row_seg[i], pos);
        for (size_t h = 0; h < kv_heads; h++) {
            size_t from = ((size_t)i * kv_heads + h) * dim;
            plain_load(d, act, k, from, dim, head);
            rotate(head, turn, dim);
            plain_store(act, head, dim, k, from);
            plain_load(d, act, k, from, dim, head); /* the cache gets what k holds now */
            plain_store(kv->dtype, head, dim, kv->keys, to + h * dim);
            plain_load(d, act, v, from, dim, head);
            plain_store(kv->dtype, head, dim, kv->values, to + h * dim);
        }
    }
}
