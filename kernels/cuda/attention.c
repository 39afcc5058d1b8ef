/* attention.c - the KV cache, rope_append and attend (ops.h). */
#include "kernels/cuda/device_cuda.h"

#include "base/mem.h"

#include <stdlib.h>

static bool tiled(const struct device *d, size_t head_dim)
{
    return d->config.act == DTYPE_BF16 && d->config.kv != DTYPE_F32 &&
           (head_dim == 64 || head_dim == 128 || head_dim == 256);
}

static size_t layer_bytes(const struct device *d, const struct kv_shape *s)
{
    size_t token = mem_mul(mem_mul(s->kv_heads, s->head_dim), 2 * dtype_size(d->config.kv));
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
    kv->cuda.tiled = tiled(d, shape->head_dim);
    kv->cuda.kv_heads = (int)shape->kv_heads;
    kv->cuda.head_dim = (int)shape->head_dim;
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
    return (struct cuda_batch){b->rows,    b->segments, b->max_rows, b->max_context,
                               b->row_seg, b->row_pos,  b->blocks,   b->blocks_stride};
}

void cuda_rope_op(struct device *d, struct stream *s, struct kv *kv, int layer,
                  const struct attn_batch *batch, const float *angles, int heads, void *q, void *k,
                  const void *v)
{
    struct cuda_kv cuda = layer_of(kv, layer);
    struct cuda_batch rows = batch_of(batch);
    if (batch->rows > 0)
        cuda_rope_append(s->cuda, &cuda, &rows, angles, heads, (int)d->config.act, q, k, v);
}

void cuda_attend_op(struct device *d, struct stream *s, const struct kv *kv, int layer,
                    const struct attn_batch *batch, int heads, const void *q, void *out)
{
    struct cuda_kv cuda = layer_of(kv, layer);
    struct cuda_batch rows = batch_of(batch);
    if (batch->rows == 0 || heads == 0)
        return;
    if (!cuda.tiled) {
        cuda_attend_plain(s->cuda, &cuda, &rows, heads, (int)d->config.act, q, out);
        return;
    }
    int chunk = ATTEND_CHUNK(cuda.type), chunks = (batch->max_context + chunk - 1) / chunk;
    int panel = chunks > 1 ? ATTEND_PAIRS / chunks : batch->rows;
    panel = panel > 0 ? panel : 1;
    for (int row = 0; row < batch->rows; row += panel) {
        int count = batch->rows - row < panel ? batch->rows - row : panel;
        float *partial = NULL;
        scratch_begin(s);
        if (chunks > 1)
            partial = scratch_take(s, (size_t)count * (size_t)chunks,
                                   ATTEND_PARTIAL(heads, cuda.head_dim) * sizeof(float));
        cuda_attend_tiled(s->cuda, &cuda, &rows, row, count, heads, q, out, partial);
    }
}
