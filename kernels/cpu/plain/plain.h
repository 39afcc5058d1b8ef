/* plain.h - the reference: every operation of kernels/ops.h in plain C. Internal to kernels/cpu.
 *
 * These files are meant to be read beside ops.h, and are frozen: what they compute is what the fast
 * backends are tested against, so they are changed when the contract changes and not to be faster.
 * A fast backend may use any of these functions for what it does not speed up, as long as it takes
 * the whole group that shares a packed form (weight, heads, ffn, kv) and opens its device with the
 * scratch memory that they need. What those forms are is in kept.h, which only these files read.
 *
 * Threads: loops over rows or over outputs are shared out by OpenMP. Each output is made by one
 * thread, in an order that does not depend on how many there are.
 */
#ifndef TANDEM_KERNELS_CPU_PLAIN_H
#define TANDEM_KERNELS_CPU_PLAIN_H

#include "kernels/cpu/device.h"
#include "kernels/cpu/integer.h"

/* Experts of a router; the public models have at most a few hundred. */
#define PLAIN_MAX_EXPERTS 1024

/* ---- helpers (plain.c) ----------------------------------------------------------------------- */

/* The scratch memory that the largest operation here takes under the limits of `config`. */
size_t plain_scratch_bytes(const struct device_config *config);

/* n numbers of dtype f32, bf16 or f8e4m3 to f32, and back (rounding to nearest even; f8e4m3
 * saturates). `at` counts elements from the start of `from` or `to`. */
void plain_load(const struct device *d, enum dtype t, const void *from, size_t at, size_t n,
                float *to);
void plain_store(enum dtype t, const float *from, size_t n, void *to, size_t at);

/* One number, stored likewise, to bf16 by way of f32; f64 too. */
static inline void plain_store_one(enum dtype t, double value, void *to, size_t at)
{
    if (t == DTYPE_F64)
        ((double *)to)[at] = value;
    else if (t == DTYPE_F32)
        ((float *)to)[at] = (float)value;
    else
        ((bf16_t *)to)[at] = bf16_from_f32((float)value);
}

/* sum_j a[j] b[j], in f32: sixteen running sums (element j goes to sum j mod 16) that are then
 * added up in pairs. A function of n and the values alone; rounding errors grow with n / 16. */
float plain_dot(const float *a, const float *b, size_t n);

/* One row of inputs: as numbers, and as integers where the weight wants them. */
struct plain_row {
    const float *numbers;
    const struct integers *codes; /* [integer_groups(k)] */
};

/* x W^T, sixteen outputs at a time (product.c). plain_outputs() decodes outputs first .. first + 15
 * (fewer at the end) into a block of PLAIN_BLOCK(k) floats; plain_products() multiplies their inputs
 * begin .. end - 1 with those of one row x of k inputs; begin even, of integers a multiple of a group. */
#define PLAIN_OUTPUTS  16
#define PLAIN_BLOCK(k) ((k) * (PLAIN_OUTPUTS + 1))
void plain_outputs(const struct device *d, const struct weight *w, size_t first, float *block);
void plain_products(const struct weight *w, size_t first, const float *block, struct plain_row x,
                    size_t begin, size_t end, float y[PLAIN_OUTPUTS]);

/* The same where both factors are integers (integer.c); a block is then their values
 * [PLAIN_OUTPUTS][k]. */
void plain_integer_outputs(const struct weight *w, size_t first, int8_t *block);
void plain_integer_products(const struct weight *w, size_t first, const int8_t *block,
                            const struct integers *x, size_t begin, size_t end,
                            float y[PLAIN_OUTPUTS]);

/* The integer at (row, input) of a grouped form, and the numbers of its group. */
int plain_integer(const struct weight *w, size_t row, size_t input);
struct form_group plain_group(const struct weight *w, size_t row, size_t input);

/* The chain alone: sums[o] += w[i][o] x[i] over inputs first .. end - 1, first even; w
 * [.][PLAIN_OUTPUTS]. */
void plain_chain(const float *w, const float *x, size_t first, size_t end, float *sums);

/* Row j of the weight as f32 [k]. */
void plain_weight_row(const struct device *d, const struct weight *w, size_t j, float *to);

/* The place of token `pos` of segment `seg` in the cache, in tokens. */
size_t plain_kv_token(const struct kv *kv, int layer, const struct attn_batch *batch, int seg,
                      int pos);

/* The two halves of the router, for one row: logits become scores in place; scores become the
 * choice. A fast backend that makes the logits its own way takes both. bias as in route(). */
void plain_scores(const struct router_spec *spec, const float *bias, float *p);
void plain_choose(const struct router_spec *spec, const float *score, const float *bias,
                  int32_t *ids, float *weights);

/* What gate and up make together (ops.h: struct mlp_part). */
float plain_swiglu(float gate, float up, float limit, float alpha);

/* Scratch memory of single operations. */
size_t plain_attend_scratch(const struct device_config *config);
size_t plain_heads_scratch(const struct device_config *config);

/* ---- the operations (see ops.h), one a file -------------------------------------------------- */

size_t plain_weight_bytes(const struct device *d, const struct weight_part *w,
                          enum weight_keep keep);
struct weight *plain_weight_create(struct device *d, const struct weight_part *w,
                                   enum weight_keep keep);
struct weight *plain_table_create(struct device *d, const struct weight_part *w);
void plain_weight_destroy(struct device *d, struct weight *w);

size_t plain_heads_bytes(const struct device *d, const struct weight_part *w, int heads,
                         enum weight_keep keep);
struct weight_heads *plain_heads_create(struct device *d, const struct weight_part *w, int heads,
                                        enum weight_keep keep);
void plain_heads_destroy(struct device *d, struct weight_heads *w);

size_t plain_ffn_bytes(const struct device *d, const struct ffn_part *f, enum weight_keep keep);
struct ffn *plain_ffn_create(struct device *d, const struct ffn_part *f, enum weight_keep keep);
void plain_ffn_destroy(struct device *d, struct ffn *f);

size_t plain_kv_bytes(const struct device *d, const struct kv_shape *shape);
struct kv *plain_kv_create(struct device *d, const struct kv_shape *shape);
void plain_kv_destroy(struct device *d, struct kv *kv);

void plain_embed(struct device *d, struct stream *s, const struct weight *table, const int32_t *ids,
                 int n, float *x);
void plain_residual_norm(struct device *d, struct stream *s, float *x, const void *const *parts,
                         int n_parts, enum dtype part_dtype, const float *gain, float eps, int n,
                         int hidden, void *y);
void plain_norm(struct device *d, struct stream *s, const struct rows *x, const float *gain,
                float eps, int n, int width, const struct rows *y);
void plain_copy(struct device *d, struct stream *s, const struct rows *from, const struct rows *to,
                int n, int width);
void plain_bias(struct device *d, struct stream *s, const float *bias, int n, int width, void *x,
                enum dtype x_dtype);
void plain_gate(struct device *d, struct stream *s, const float *g, int n, int heads, int width,
                void *x);
void plain_linear(struct device *d, struct stream *s, const struct weight *w, const void *x, int n,
                  void *y, enum dtype y_dtype);
void plain_linear_heads(struct device *d, struct stream *s, const struct weight_heads *w,
                        const struct rows *x, int x_step, int n, const struct rows *y, int y_step);
void plain_rope_append(struct device *d, struct stream *s, const struct attn_spec *spec,
                       struct kv *kv, int layer, const struct attn_batch *batch,
                       const float *angles, void *q, void *k, const void *v);
void plain_attend(struct device *d, struct stream *s, const struct attn_spec *spec,
                  const struct kv *kv, int layer, const struct attn_batch *batch, const void *q,
                  void *out);
void plain_route(struct device *d, struct stream *s, const struct router_spec *spec,
                 const float *gate, const float *bias, const void *x, int n, int hidden,
                 int32_t *ids, float *weights);
void plain_ffn(struct device *d, struct stream *s, const struct ffn *f, const void *x,
               const int32_t *ids, const float *weights, int topk, int n, void *out,
               enum dtype out_dtype);
void plain_sum(struct device *d, struct stream *s, const void *const *parts, int n_parts,
               enum dtype dtype, int n, int width, void *out);
void plain_gather(struct device *d, struct stream *s, const float *x, const int32_t *index, int n,
                  int width, float *y);
/* The first of the largest logits; -1 when there is a NaN or no finite largest one. */
int32_t plain_first(const float *logits, int vocab);
/* One row of score(): most is its largest logit, total the sum of exp(logit - most). */
void plain_score_row(const float *logits, int vocab, float most, double total, int32_t target,
                     float *own, int k, int32_t *top, float *logprobs);
void plain_score(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                 const int32_t *targets, float *own, int k, int32_t *top, float *logprobs);
/* How many logits of a row `within` keeps (ops.h: struct sample_params). */
int plain_within(const float *logits, int vocab, float most, float within);
void plain_edit(struct device *d, struct stream *s, float *logits, int vocab,
                const struct logit_edit *edits, int n);
void plain_tally(struct device *d, struct stream *s, int32_t *ids, int n, int topk,
                 const int32_t *live, int experts, uint64_t *counts);
void plain_mask(struct device *d, struct stream *s, float *logits, int vocab, const int32_t *rows,
                const uint32_t *bits, int n);
void plain_sample(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                  const struct sample_params *params, int32_t *tokens, float *logprobs);

#endif
