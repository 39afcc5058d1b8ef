#include "kernels/cpu/plain/kept.h"

#include "base/mem.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* What one thread works in. */
struct space {
    float *scores;           /* [max_context] */
    float *query, *kv, *sum; /* [D] each */
};

/* The score of a token that is not there belongs to no value: it only makes the others smaller. */
static float start(const struct attn_spec *spec, size_t head, float *total)
{
    *total = spec->sinks ? 1.0f : 0.0f;
    return spec->sinks ? spec->sinks[head] : -INFINITY;
}

/* One query head of one row over the tokens it sees: all scores, their softmax, the weighted
 * values. */
static void attend_head(const struct device *d, const struct attn_spec *spec, const struct kv *kv,
                        int layer, const struct attn_batch *batch, int row, size_t head,
                        struct space *w)
{
    size_t kv_head = head / (size_t)(spec->heads / spec->kv_heads);
    size_t keys = (size_t)spec->key_dim, values = (size_t)spec->value_dim;
    int seg = batch->row_seg[row], pos = batch->row_pos[row];
    int first = spec->window && pos >= spec->window ? pos - spec->window + 1 : 0;
    float total, sink = start(spec, head, &total), most = sink;
    for (int t = first; t <= pos; t++) {
        size_t at = plain_kv_token(kv, layer, batch, seg, t) * kv->key_width + kv_head * keys;
        plain_load(d, kv->dtype, kv->keys, at, keys, w->kv);
        w->scores[t] = plain_dot(w->query, w->kv, keys) * spec->scale;
        most = fmaxf(most, w->scores[t]);
    }
    total *= expf(sink - most);
    memset(w->sum, 0, values * sizeof(float));
    for (int t = first; t <= pos; t++) {
        size_t token = plain_kv_token(kv, layer, batch, seg, t);
        if (spec->value_in_key)
            plain_load(d, kv->dtype, kv->keys, token * kv->key_width + kv_head * keys, values,
                       w->kv);
        else
            plain_load(d, kv->dtype, kv->values, token * kv->value_width + kv_head * values, values,
                       w->kv);
        float p = expf(w->scores[t] - most);
        total += p;
        for (size_t j = 0; j < values; j++)
            w->sum[j] += p * w->kv[j];
    }
    for (size_t j = 0; j < values; j++)
        w->sum[j] /= total;
}

size_t plain_attend_scratch(const struct device_config *config)
{
    const struct device_limits *l = &config->limits;
    size_t threads = (size_t)config->threads;
    return cpu_scratch_size(mem_mul(threads, l->context), sizeof(float)) +
           3 * cpu_scratch_size(mem_mul(threads, l->head_dim), sizeof(float));
}

void plain_attend(struct device *d, struct stream *s, const struct attn_spec *spec,
                  const struct kv *kv, int layer, const struct attn_batch *batch, const void *q,
                  void *out)
{
    (void)s;
    enum dtype act = d->config.act;
    size_t heads = (size_t)spec->heads, keys = (size_t)spec->key_dim;
    size_t values = (size_t)spec->value_dim, dim = keys > values ? keys : values;
    size_t threads = (size_t)d->threads, context = (size_t)batch->max_context;
    cpu_scratch_begin(d);
    float *scores = cpu_scratch(d, threads * context, sizeof(float));
    float *queries = cpu_scratch(d, threads * dim, sizeof(float));
    float *rows = cpu_scratch(d, threads * dim, sizeof(float));
    float *sums = cpu_scratch(d, threads * dim, sizeof(float));
    size_t tasks = (size_t)batch->rows * heads;
#pragma omp parallel for num_threads(d->threads)
    for (size_t task = 0; task < tasks; task++) {
        size_t t = (size_t)omp_get_thread_num();
        struct space w = {scores + t * context, queries + t * dim, rows + t * dim, sums + t * dim};
        plain_load(d, act, q, task * keys, keys, w.query);
        attend_head(d, spec, kv, layer, batch, (int)(task / heads), task % heads, &w);
        plain_store(act, w.sum, values, out, task * values);
    }
}
