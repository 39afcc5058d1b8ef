#include "kernels/cpu/plain/plain.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* What one thread works in. */
struct space {
    float *scores;           /* [max_context] */
    float *query, *kv, *sum; /* [D] each */
};

/* One query head of one row over tokens 0..pos: all scores, their softmax, the weighted values. */
static void attend_head(const struct device *d, const struct kv *kv, int layer,
                        const struct attn_batch *batch, int row, size_t kv_head, struct space *w)
{
    size_t dim = kv->shape.head_dim;
    int seg = batch->row_seg[row], pos = batch->row_pos[row];
    float scale = 1.0f / sqrtf((float)dim), most = -INFINITY, total = 0;
    for (int t = 0; t <= pos; t++) {
        size_t at = plain_kv_at(kv, layer, batch, seg, t) + kv_head * dim;
        plain_load(d, kv->dtype, kv->keys, at, dim, w->kv);
        w->scores[t] = plain_dot(w->query, w->kv, dim) * scale;
        most = fmaxf(most, w->scores[t]);
    }
    memset(w->sum, 0, dim * sizeof(float));
    for (int t = 0; t <= pos; t++) {
        size_t at = plain_kv_at(kv, layer, batch, seg, t) + kv_head * dim;
        plain_load(d, kv->dtype, kv->values, at, dim, w->kv);
        float p = expf(w->scores[t] - most);
        total += p;
        for (size_t j = 0; j < dim; j++)
            w->sum[j] += p * w->kv[j];
    }
    for (size_t j = 0; j < dim; j++)
        w->sum[j] /= total;
}

void plain_attend(struct device *d, struct stream *s, const struct kv *kv, int layer,
                  const struct attn_batch *batch, int heads, const void *q, void *out)
{
    (void)s;
    enum dtype act = d->config.act;
    size_t dim = kv->shape.head_dim, context = (size_t)batch->max_context;
    size_t threads = (size_t)d->threads, group = (size_t)heads / kv->shape.kv_heads;
    cpu_scratch_begin(d);
    float *scores = cpu_scratch(d, threads * context, sizeof(float));
    float *queries = cpu_scratch(d, threads * dim, sizeof(float));
    float *rows = cpu_scratch(d, threads * dim, sizeof(float));
    float *sums = cpu_scratch(d, threads * dim, sizeof(float));
    size_t tasks = (size_t)batch->rows * (size_t)heads;
#pragma omp parallel for num_threads(d->threads)
    for (size_t task = 0; task < tasks; task++) {
        size_t t = (size_t)omp_get_thread_num();
        struct space w = {scores + t * context, queries + t * dim, rows + t * dim, sums + t * dim};
        size_t head = task % (size_t)heads;
        plain_load(d, act, q, task * dim, dim, w.query);
        attend_head(d, kv, layer, batch, (int)(task / (size_t)heads), head / group, &w);
        plain_store(act, w.sum, dim, out, task * dim);
    }
}
