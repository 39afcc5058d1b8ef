/* ops.c - the operations table of the CUDA backend; what needs no host code of its own is here. */
#include "kernels/cuda/device_cuda.h"

static void embed(struct device *d, struct stream *s, const struct weight *table,
                  const int32_t *ids, int n, float *x)
{
    (void)d;
    if (n > 0)
        cuda_embed(s->cuda, &table->m, ids, n, x);
}

static void gather(struct device *d, struct stream *s, const float *x, const int32_t *index, int n,
                   int width, float *y)
{
    (void)d;
    if (n > 0)
        cuda_gather(s->cuda, x, index, n, width, y);
}

static void check_width(int width)
{
    if (width > NORM_WIDTH)
        die("a row of %d cannot be normalized (at most %d)", width, NORM_WIDTH);
}

static void residual_norm(struct device *d, struct stream *s, float *x, const void *const *parts,
                          int n_parts, enum dtype part_dtype, const float *gain, float eps, int n,
                          int hidden, void *y)
{
    struct cuda_parts first;
    check_width(hidden);
    if (n == 0)
        return;
    /* More parts than fit into one launch are added first, in the same order. */
    while (n_parts > NORM_PARTS || (y == NULL && n_parts > 0)) {
        int count = n_parts < NORM_PARTS ? n_parts : NORM_PARTS;
        for (int i = 0; i < count; i++)
            first.part[i] = parts[i];
        cuda_residual_norm(s->cuda, x, &first, count, (int)part_dtype, gain, eps, n, hidden, NULL,
                           (int)d->config.act);
        parts += count;
        n_parts -= count;
    }
    if (y == NULL)
        return;
    for (int i = 0; i < n_parts; i++)
        first.part[i] = parts[i];
    cuda_residual_norm(s->cuda, x, &first, n_parts, (int)part_dtype, gain, eps, n, hidden, y,
                       (int)d->config.act);
}

static void norm(struct device *d, struct stream *s, const void *x, const float *gain, float eps,
                 int n, int width, void *y)
{
    check_width(width);
    if (n > 0)
        cuda_norm(s->cuda, x, gain, eps, n, width, y, (int)d->config.act);
}

static void route(struct device *d, struct stream *s, const struct router_spec *spec,
                  const float *gate, const void *x, int n, int hidden, int32_t *ids, float *weights)
{
    if (spec->experts > ROUTER_MAX || spec->topk > spec->experts)
        die("a router with %d of %d experts cannot be run (at most %d)", spec->topk, spec->experts,
            ROUTER_MAX);
    if (n == 0)
        return;
    scratch_begin(s);
    float *logits = scratch_take(s, (size_t)n, (size_t)spec->experts * sizeof(float));
    cuda_route(s->cuda, gate, x, (int)d->config.act, n, hidden, spec->experts, spec->topk,
               spec->renormalize, logits, ids, weights);
}

static void wire_encode(struct device *d, struct stream *s, const void *x, int n, int hidden,
                        enum dtype wire, void *rows, float *scales)
{
    if (n > 0 && hidden > 0)
        cuda_wire_encode(s->cuda, x, (int)d->config.act, n, hidden, (int)wire, rows, scales);
}

static void wire_decode(struct device *d, struct stream *s, enum dtype wire, const void *rows,
                        const float *scales, int n, int hidden, void *x)
{
    if (n > 0 && hidden > 0)
        cuda_wire_decode(s->cuda, (int)wire, rows, scales, n, hidden, x, (int)d->config.act);
}

static void sum(struct device *d, struct stream *s, const void *const *parts, int n_parts,
                enum dtype dtype, int n, int width, void *out)
{
    struct cuda_parts all;
    (void)d;
    if (n_parts < 1 || n_parts > NORM_PARTS)
        die("%d partial sums cannot be added (at most %d)", n_parts, NORM_PARTS);
    for (int i = 0; i < n_parts; i++)
        all.part[i] = parts[i];
    if (n > 0 && width > 0)
        cuda_sum(s->cuda, &all, n_parts, (int)dtype, n, width, out);
}

static void sample(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                   const struct sample_params *params, int32_t *tokens, float *logprobs)
{
    (void)d;
    if (n > 0)
        cuda_sample(s->cuda, logits, n, vocab, params, tokens, logprobs);
}

extern const struct ops cuda_ops;
const struct ops cuda_ops = {
    .weight_bytes = cuda_weight_bytes,
    .weight_create = cuda_weight_create,
    .weight_destroy = cuda_weight_destroy,
    .ffn_bytes = cuda_ffn_bytes,
    .ffn_create = cuda_ffn_create,
    .ffn_destroy = cuda_ffn_destroy,
    .kv_bytes = cuda_kv_bytes,
    .kv_create = cuda_kv_create,
    .kv_destroy = cuda_kv_destroy,
    .table_create = cuda_table_create,
    .embed = embed,
    .residual_norm = residual_norm,
    .norm = norm,
    .linear = cuda_linear_op,
    .rope_append = cuda_rope_op,
    .attend = cuda_attend_op,
    .route = route,
    .ffn = cuda_ffn_op,
    .wire_encode = wire_encode,
    .wire_decode = wire_decode,
    .sum = sum,
    .gather = gather,
    .sample = sample,
};
