/* ops.c - the operations table of the CUDA backend; what needs no host code of its own is here. */
#include "kernels/cuda/device_cuda.h"

#include "kernels/exact.h"

_Static_assert(NORM_PARTS >= EXACT_PARTS, "parts of one launch are added exactly");

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

static void check_width(const struct device *d, int width)
{
    if (cuda_norm_shared(width) > d->shared)
        die("a row of %d cannot be normalized: %s has %zu bytes of shared memory for a block",
            width, d->text, d->shared);
}

static void residual_norm(struct device *d, struct stream *s, float *x, const void *const *parts,
                          int n_parts, enum dtype part_dtype, const float *gain, float eps, int n,
                          int hidden, void *y)
{
    struct cuda_parts first;
    check_width(d, hidden);
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

struct cuda_rows cuda_rows_of(const struct rows *r)
{
    return (struct cuda_rows){r->data, r->scale, (int)r->dtype, (int64_t)r->stride};
}

static void norm(struct device *d, struct stream *s, const struct rows *x, const float *gain,
                 float eps, int n, int width, const struct rows *y)
{
    struct cuda_rows from = cuda_rows_of(x), to = cuda_rows_of(y);
    check_width(d, width);
    if (n > 0)
        cuda_norm(s->cuda, &from, gain, eps, n, width, &to);
}

static void route(struct device *d, struct stream *s, const struct router_spec *spec,
                  const float *gate, const float *bias, const void *x, int n, int hidden,
                  int32_t *ids, float *weights)
{
    const struct cuda_router r = {.sigmoid = spec->score == ROUTER_SIGMOID,
                                  .experts = spec->experts,
                                  .topk = spec->topk,
                                  .renormalize = spec->renormalize,
                                  .groups = spec->groups,
                                  .topk_groups = spec->topk_groups,
                                  .bias_counts = spec->bias_counts,
                                  .epsilon = spec->epsilon,
                                  .factor = spec->factor};
    if (spec->experts > ROUTER_MAX || spec->topk > spec->experts)
        die("a router with %d of %d experts cannot be run (at most %d)", spec->topk, spec->experts,
            ROUTER_MAX);
    if (n == 0)
        return;
    scratch_begin(s);
    float *logits = scratch_take(s, (size_t)n, (size_t)spec->experts * sizeof(float));
    cuda_route(s->cuda, &r, gate, bias, x, (int)d->config.act, n, hidden, logits, ids, weights);
}

static void copy(struct device *d, struct stream *s, const struct rows *from, const struct rows *to,
                 int n, int width)
{
    struct cuda_rows x = cuda_rows_of(from), y = cuda_rows_of(to);
    (void)d;
    if (n > 0 && width > 0)
        cuda_copy(s->cuda, &x, &y, n, width);
}

static void bias(struct device *d, struct stream *s, const float *b, int n, int width, void *x,
                 enum dtype x_dtype)
{
    (void)d;
    if (n > 0 && width > 0)
        cuda_bias(s->cuda, b, n, width, x, (int)x_dtype);
}

static void gate(struct device *d, struct stream *s, const float *g, int n, int heads, int width,
                 void *x)
{
    if (n > 0 && heads > 0 && width > 0)
        cuda_gate(s->cuda, g, n, heads, width, x, (int)d->config.act);
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

static void edit(struct device *d, struct stream *s, float *logits, int vocab,
                 const struct logit_edit *edits, int n)
{
    (void)d;
    if (n > 0)
        cuda_edit(s->cuda, logits, vocab, edits, n);
}

static void tally(struct device *d, struct stream *s, int32_t *ids, int n, int topk,
                  const int32_t *live, int experts, uint64_t *counts)
{
    (void)d;
    if (n > 0 && experts > 0)
        cuda_tally(s->cuda, ids, n, topk, live, experts, counts);
}

static void mask(struct device *d, struct stream *s, float *logits, int vocab, const int32_t *rows,
                 const uint32_t *bits, int n)
{
    (void)d;
    if (n > 0)
        cuda_mask(s->cuda, logits, vocab, rows, bits, n);
}

static void sample(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                   const struct sample_params *params, int32_t *tokens, float *logprobs)
{
    (void)d;
    if (n > 0)
        cuda_sample(s->cuda, logits, n, vocab, params, tokens, logprobs);
}

static void score(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                  const int32_t *targets, float *own, int k, int32_t *top, float *logprobs)
{
    (void)d;
    if (n > 0)
        cuda_score(s->cuda, logits, n, vocab, targets, own, k, top, logprobs);
}

extern const struct ops cuda_ops;
const struct ops cuda_ops = {
    .weight_bytes = cuda_weight_bytes,
    .weight_obstacle = cuda_weight_obstacle,
    .weight_create = cuda_weight_create,
    .weight_destroy = cuda_weight_destroy,
    .heads_bytes = cuda_heads_bytes,
    .heads_create = cuda_heads_create,
    .heads_destroy = cuda_heads_destroy,
    .ffn_bytes = cuda_ffn_bytes,
    .ffn_obstacle = cuda_ffn_obstacle,
    .ffn_create = cuda_ffn_create,
    .ffn_destroy = cuda_ffn_destroy,
    .ffn_same = pack_ffn_same,
    .kv_bytes = cuda_kv_bytes,
    .kv_create = cuda_kv_create,
    .kv_destroy = cuda_kv_destroy,
    .table_create = cuda_table_create,
    .embed = embed,
    .residual_norm = residual_norm,
    .norm = norm,
    .copy = copy,
    .bias = bias,
    .gate = gate,
    .linear = cuda_linear_op,
    .linears = cuda_linears_op,
    .linear_heads = cuda_heads_op,
    .rope_append = cuda_rope_op,
    .attend = cuda_attend_op,
    .route = route,
    .tally = tally,
    .ffn = cuda_ffn_op,
    .sum = sum,
    .gather = gather,
    .edit = edit,
    .mask = mask,
    .sample = sample,
    .score = score,
};
