/* attention.c - the KV cache, rope_append and attend (ops.h). */
#include "kernels/cuda/device_cuda.h"

#include "base/mem.h"

#include <stdlib.h>

#define GRID_ROWS 65535 /* blocks that a grid can have in its second dimension */

static bool tiled(const struct device *d, const struct kv_shape *s)
{
    int dim = s->key_dim;
    return d->config.act == DTYPE_BF16 && d->config.kv != DTYPE_F32 && !s->value_in_key &&
           s->value_dim == dim && (dim == 64 || dim == 128 || dim == 256);
}

static bool latent(const struct device *d, const struct attn_spec *spec, const struct kv_shape *s)
{
    return d->config.act == DTYPE_BF16 && d->config.kv != DTYPE_F32 && s->value_in_key &&
           cuda_attend_latent_can(spec->heads, s->kv_heads, s->key_dim, s->value_dim, s->window);
}

static size_t layer_bytes(const struct device *d, const struct kv_shape *s)
{
    size_t head = (size_t)s->key_dim + (s->value_in_key ? 0 : (size_t)s->value_dim);
    size_t token = mem_mul((size_t)s->kv_heads, head * dtype_size(d->config.kv));
    return mem_mul(mem_mul(s->blocks, KV_BLOCK), token);
}

size_t cuda_kv_bytes(const struct device *d, const struct kv_shape *shape)
{
    return mem_mul(shape->layers, layer_bytes(d, shape));
}

struct kv *cuda_kv_create(struct device *d, const struct kv_shape *shape)
{
    struct kv *kv = mem_zeroed(1, sizeof *kv);
    size_t bytes = cuda_kv_bytes(d, shape);
    kv->shape = *shape;
    kv->layer_bytes = layer_bytes(d, shape);
    kv->cuda.type = (int)d->config.kv;
    kv->cuda.tiled = tiled(d, shape);
    kv->cuda.kv_heads = shape->kv_heads;
    kv->cuda.key_dim = shape->key_dim;
    kv->cuda.value_dim = shape->value_dim;
    kv->cuda.value_in_key = shape->value_in_key;
    cuda_check(cudaMalloc(&kv->cuda.data, bytes ? bytes : 1), "taking memory for the KV cache");
    return kv;
}

void cuda_kv_destroy(struct device *d, struct kv *kv)
{
    (void)d;
    if (!kv)
        return;
    cuda_check(cudaFree(kv->cuda.data), "giving back the KV cache");
    free(kv);
}

static struct cuda_kv layer_of(const struct kv *kv, int layer)
{
    struct cuda_kv cuda = kv->cuda;
    cuda.data = (unsigned char *)cuda.data + (size_t)layer * kv->layer_bytes;
    return cuda;
}

static struct cuda_batch batch_of(const struct attn_batch *b)
{
    return (struct cuda_batch){b->rows,        b->segments,      b->max_rows,
                               b->max_context, b->row_seg,       b->row_pos,
                               b->blocks,      b->blocks_stride, b->ring};
}

static struct cuda_attn spec_of(const struct attn_spec *s)
{
    return (struct cuda_attn){.heads = s->heads,
                              .rope_at = s->rope_at,
                              .rope_dim = s->rope_dim,
                              .neighbors = s->pairs == ROPE_NEIGHBORS,
                              .window = s->window,
                              .scale = s->scale,
                              .sinks = s->sinks};
}

void cuda_rope_op(struct device *d, struct stream *s, const struct attn_spec *spec, struct kv *kv,
                  int layer, const struct attn_batch *batch, const float *angles, void *q, void *k,
                  const void *v)
{
    struct cuda_attn attn = spec_of(spec);
    struct cuda_kv cuda = layer_of(kv, layer);
    struct cuda_batch rows = batch_of(batch);
    if (batch->rows > 0)
        cuda_rope_append(s->cuda, &attn, &cuda, &rows, angles, (int)d->config.act, q, k, v);
}

void cuda_attend_op(struct device *d, struct stream *s, const struct attn_spec *spec,
                    const struct kv *kv, int layer, const struct attn_batch *batch, const void *q,
                    void *out)
{
    struct cuda_attn attn = spec_of(spec);
    struct cuda_kv cuda = layer_of(kv, layer);
    struct cuda_batch rows = batch_of(batch);
    if (batch->rows == 0 || spec->heads == 0)
        return;
    bool in_keys = latent(d, spec, &kv->shape);
    if (!cuda.tiled && !in_keys) {
        cuda_attend_plain(s->cuda, &attn, &cuda, &rows, (int)d->config.act, q, out);
        return;
    }
    int chunks = cuda_attend_chunks(cuda.type, spec->window, batch->max_context);
    int panel = chunks > 1 ? ATTEND_PAIRS / chunks : GRID_ROWS;
    panel = panel > 0 ? panel : 1;
    for (int row = 0; row < batch->rows; row += panel) {
        int count = batch->rows - row < panel ? batch->rows - row : panel;
        float *partial = NULL;
        scratch_begin(s);
        if (chunks > 1)
            partial = scratch_take(s, (size_t)count * (size_t)chunks,
                                   ATTEND_PARTIAL(spec->heads, cuda.key_dim) * sizeof(float));
        if (in_keys)
            cuda_attend_latent(s->cuda, &attn, &cuda, &rows, row, count, d->shared, q, out,
                               partial);
        else
            cuda_attend_tiled(s->cuda, &attn, &cuda, &rows, row, count, d->shared, q, out, partial);
    }
}
