/* ops.h - the operations of a decode step: equation, shapes, dtypes, aliasing.
 *
 * Notation. n rows: tokens going through the layers together; a row's result never depends on the
 * other rows, nor on n, nor on its place among them: every implementation adds in an order that is
 * a function of the row alone. H hidden size, D head size, V vocabulary, K experts per token.
 * Matrices are row-major and dense: x[n][H] has no gaps. `act` is the activation dtype of the
 * device (f32 or bf16). Sums are always made in f32. A rounding to bf16 is to nearest even, and
 * happens only when a result is stored.
 * Exceptions: the sampler adds probabilities as whole numbers (kernels/mass.h); quantized weights change
 * no activation (x stays as it is), unless device_config.int8_products says so (CPUs).
 *
 * Where pointers live: everything an operation reads or writes is device memory (device.h), the
 * fields of structures passed by value or pointer are read on the host at the call. Outputs never
 * alias inputs unless it says so. n = 0 is allowed everywhere and does nothing.
 *
 * Weights are handed over once at load (`*_create`), in the checkpoint's own layout, and the
 * backend keeps its own packed copy: the source may be unmapped afterwards. No operation fails:
 * shapes are checked when the model is loaded, everything else is die().
 */
#ifndef TANDEM_KERNELS_OPS_H
#define TANDEM_KERNELS_OPS_H

#include "kernels/device.h"
#include "kernels/weights/codec.h"

/* ---- weights -------------------------------------------------------------------------------- */

/* A part of a checkpoint's matrix (struct weight_part), its formats and how it is kept (enum
 * weight_keep): kernels/weights/codec.h; the forms it is kept in: kernels/weights/form.h. */

struct weight;       /* one packed matrix */
struct weight_heads; /* one packed matrix for every head */

/* One gated MLP: down(silu(gate(x)) * up(x)); gate and up [I][H], down [H][I]. I may be 0; gate.k
 * is H even then. limit L > 0 clamps: min(silu(gate(x)), L) * max(-L, min(up(x), L)); 0: no limit.
 * alpha > 0: a / (1 + exp(-alpha a)) * (max(-L, min(up(x), L)) + 1) with a = min(gate(x), L) instead
 * (gpt-oss). Biases are host f32 that live as long as the call, NULL: none; of gate and up the part's
 * rows. That of down belongs to the first slice's product: of the ranks that share the columns one has it.
 * The inputs of down are cut into slices that are summed up apart (kernels/exact.h): slice s ends before
 * input cuts[s], all but the last at even places, of grouped forms (kernels/weights/form.h) where a group
 * begins, or at a multiple of 16 of whole rows; none: one slice. cuts lives as long as the call. */
struct mlp_part {
    struct weight_part gate, up, down;
    const float *gate_bias, *up_bias, *down_bias; /* [I], [I], [H] */
    float limit, alpha;
    const size_t *cuts; /* [n_cuts], ascending, the last is I */
    size_t n_cuts;
};

/* What one FFN rank holds of one layer: experts [first_expert, first_expert + n_experts) of the
 * routed ones, each perhaps only a slice of I, and a slice of the shared expert. A dense layer is a
 * layer with n_experts 0 whose `shared` is the dense MLP. */
struct ffn_part {
    int first_expert, n_experts;
    const struct mlp_part *experts; /* [n_experts] */
    struct mlp_part shared;         /* I = 0: none */
};

struct ffn; /* packed */

/* Which bits the operations of a device give: the plain, AVX2, AVX-512 and NEON kernels the same. Whoever moves the
 * last bit of anything raises the number; a job goes on only with what it began with (roles/identity.h). */
#define OPS_BITS_CPU  "edition 2 of CPUs"
#define OPS_BITS_CUDA "edition 2 of CUDA"

/* ---- rows ----------------------------------------------------------------------------------- */

/* Rows of numbers that know their format. f8e4m3: a row of `width` has ceil(width / ROWS_GROUP)
 * scales, value = code x scale of its group of columns; scales of a row follow those of the row
 * before. Everything else has no scales (NULL). */
struct rows {
    enum dtype dtype; /* f32, bf16, f8e4m3 */
    void *data;
    float *scale;
    size_t stride; /* elements from one row to the next, at least the width */
};

#define ROWS_GROUP 128 /* columns that share one scale */

/* ---- attention ------------------------------------------------------------------------------ */

#define KV_BLOCK 64 /* tokens in one block of a KV cache */

/* Which numbers of a head form a pair that the rotary embedding turns, among the R that turn:
 * j and j + R/2 ("NEOX", rotate_half), or 2j and 2j + 1 (interleaved). */
enum rope_pairs { ROPE_HALVES, ROPE_NEIGHBORS };

/* One kind of attention. Query head h uses KV head h / (heads / kv_heads). */
struct attn_spec {
    int heads, kv_heads; /* heads is a multiple of kv_heads */
    int key_dim;         /* numbers of a query and of a key */
    int value_dim;       /* of a value, and of a head's result */
    bool value_in_key;   /* a value is the first value_dim numbers of its key (MLA) */
    int rope_at;         /* the first number of query and key that turns */
    int rope_dim;        /* R, how many turn; even; 0: none */
    enum rope_pairs pairs;
    int window;         /* a token sees itself and window - 1 before it; 0: all before it */
    float scale;        /* of the scores */
    const float *sinks; /* device f32 [heads] or NULL: a score without a value, in every softmax */
};

/* A KV cache: layers of one shape and window share one. Block b of layer l holds KV_BLOCK tokens of
 * one sequence: keys after RoPE and, unless a value is part of its key, values. Layout private. */
struct kv_shape {
    size_t layers, blocks;
    int kv_heads, key_dim, value_dim;
    bool value_in_key;
    int window;
};

struct kv; /* the cache */

/* Which sequence and position each row is. A segment is a run of consecutive rows that are
 * consecutive tokens of one sequence: one row when decoding, many for a chunk of a prompt. Rows
 * attend to everything of their sequence up to and including themselves. Scalars are for the host;
 * arrays are device memory. */
struct attn_batch {
    int rows, segments;
    /* Rows of the longest segment; a last one of dead rows (schedule/bucket.h), all at position 0, does not count. */
    int max_rows;
    int max_context;        /* tokens of the longest sequence, the batch's rows included */
    const int32_t *seg_row; /* [segments + 1] first row of each segment; the last is `rows` */
    const int32_t *seg_pos; /* [segments] position (0-based) of its first row */
    const int32_t *row_seg; /* [rows] */
    const int32_t *row_pos; /* [rows] */
    const int32_t *blocks;  /* [segments][blocks_stride] KV blocks of the sequence, in order */
    int blocks_stride;
    /* Of a windowed cache: entries are used in turn, token t is in that of t / KV_BLOCK % ring;
     * blocks that no row looks at have none. 0: every block has an entry of its own. */
    int ring;
};

/* ---- routing and sampling ------------------------------------------------------------------- */

enum router_score { ROUTER_SOFTMAX, ROUTER_SIGMOID };

struct router_spec {
    enum router_score score; /* of every expert, in f32 */
    int experts, topk;
    bool renormalize; /* divide the chosen weights by their sum + epsilon (norm_expert_weight) */
    float epsilon;
    float factor;     /* the weights are multiplied by it at the end */
    bool bias_counts; /* the bias is added to gate x and so counts in the weights (gpt-oss) */
    /* groups > 1: experts are cut in as many runs; a run's mark is the sum of its two best scores
     * (bias included), and only experts of the topk_groups best runs can be chosen. */
    int groups, topk_groups;
};

/* Sampling of one row; a device array of these. temperature: 0 is greedy (the rest is not looked at), else at
 * least FLT_MIN. */
struct sample_params {
    float temperature;
    float top_p;   /* keep the smallest set of most probable tokens with sum >= top_p; 1: all */
    int32_t top_k; /* keep the k most probable; 0: all */
    float uniform; /* in [0, 1): philox_uniform() of (seed, prompt, sample, position) */
    float within;  /* keep the tokens whose logit is at least the largest one less this; 0: all. For
                      min_p: -temperature x ln(min_p) */
};

/* A change of one logit; no two of a call are for the same row and token.
 *   l += bias;  l = l > 0 ? l / repeat : l x repeat;  l -= less
 * bias may be -INFINITY: the token cannot be drawn. */
struct logit_edit {
    int32_t row, token;
    float bias, repeat, less;
};

#define SCORE_MOST 64 /* likeliest tokens that score() finds */

/* One of several products with the same rows (linears). */
struct linear_part {
    const struct weight *w;
    void *y; /* [n][w->n] of the call's y_dtype, on the device */
};

/* ---- the table ------------------------------------------------------------------------------ */

struct ops {
    /* Weights. *_bytes: what *_create will take on the device, from shapes and dtypes alone (data
     * may be NULL); used for the memory plan. create dies when memory runs out. */
    size_t (*weight_bytes)(const struct device *d, const struct weight_part *w,
                           enum weight_keep keep);
    struct weight *(*weight_create)(struct device *d, const struct weight_part *w,
                                    enum weight_keep keep);
    void (*weight_destroy)(struct device *d, struct weight *w);

    /* A matrix for every head, all of one shape: w [heads]. */
    size_t (*heads_bytes)(const struct device *d, const struct weight_part *w, int heads,
                          enum weight_keep keep);
    struct weight_heads *(*heads_create)(struct device *d, const struct weight_part *w, int heads,
                                         enum weight_keep keep);
    void (*heads_destroy)(struct device *d, struct weight_heads *w);

    size_t (*ffn_bytes)(const struct device *d, const struct ffn_part *f, enum weight_keep keep);
    struct ffn *(*ffn_create)(struct device *d, const struct ffn_part *f, enum weight_keep keep);
    void (*ffn_destroy)(struct device *d, struct ffn *f);
    /* Whether a part of `whole`, which has some of its experts and in each MLP a run of its slices or nothing, comes to
     * the same terms (exact.h) with activations of `act`. From the descriptions alone; numbers and scales are
     * not read. NULL: they are always the same. */
    bool (*ffn_same)(enum dtype act, const struct ffn_part *whole, const struct ffn_part *part,
                     enum weight_keep keep);

    /* What keeps a matrix, or a layer's FFN, from the kernels that the device's activations otherwise have; others that are
     * many times slower multiply it then. NULL: nothing does. As *_bytes. Optional, both or none (CPU). */
    const char *(*weight_obstacle)(const struct device *d, const struct weight_part *w,
                                   enum weight_keep keep);
    const char *(*ffn_obstacle)(const struct device *d, const struct ffn_part *f,
                                enum weight_keep keep);

    size_t (*kv_bytes)(const struct device *d, const struct kv_shape *shape);
    struct kv *(*kv_create)(struct device *d, const struct kv_shape *shape);
    void (*kv_destroy)(struct device *d, struct kv *kv);

    /* x[i][:] = f32(table[ids[i]][:]). table: a weight [V][H] that is only ever gathered from; ids
     * int32 [n] below V, negative ones (no token, see sample) count as 0; x f32 [n][H]. Checkpoint: model.embed_tokens. */
    struct weight *(*table_create)(struct device *d, const struct weight_part *w);
    void (*embed)(struct device *d, struct stream *s, const struct weight *table,
                  const int32_t *ids, int n, float *x);

    /* The residual stream and the norm behind it.
     *   x[i] += parts[0][i] + parts[1][i] + ...   f32, bf16: added one after the other, in this order;
     *                                             f64: the parts first, their sum is rounded to f32
     *   y[i] = x[i] / sqrt(mean(x[i]^2) + eps) * gain
     * x f32 [n][H]; parts: host array of n_parts device matrices [n][H] of part_dtype (f32, bf16
     * or f64), n_parts may be 0; gain f32 [H]; y act [n][H], or NULL: only add. (RMSNorm of the
     * public model.) */
    void (*residual_norm)(struct device *d, struct stream *s, float *x, const void *const *parts,
                          int n_parts, enum dtype part_dtype, const float *gain, float eps, int n,
                          int hidden, void *y);

    /* y[i] = x[i] / sqrt(mean(x[i]^2) + eps) * gain; x, y act rows of `width`, may be the same
     * memory with the same stride. With n x heads rows of one head each: a norm per head.
     * Checkpoint: self_attn.inter_norm, q_norm, k_norm, kv_a_layernorm. */
    void (*norm)(struct device *d, struct stream *s, const struct rows *x, const float *gain,
                 float eps, int n, int width, const struct rows *y);

    /* to[i] = from[i], each number rounded once to `to`'s format. To f8e4m3: per row and group of
     * ROWS_GROUP columns scale = max|x| / 448 (1 when all are 0), code = x / scale. From and to:
     * f32, bf16 or f8e4m3, not f8e4m3 both. (The exchange's formats; paper section 7.1: FP8
     * tokens.) */
    void (*copy)(struct device *d, struct stream *s, const struct rows *from, const struct rows *to,
                 int n, int width);

    /* x[i][j] += bias[j], rounded once; x [n][width] of x_dtype (act or f32), bias f32. */
    void (*bias)(struct device *d, struct stream *s, const float *bias, int n, int width, void *x,
                 enum dtype x_dtype);

    /* x[i][h][:] *= 1 / (1 + exp(-g[i][h])): a gate for every head. g f32 [n][heads], x act
     * [n][heads][width]. */
    void (*gate)(struct device *d, struct stream *s, const float *g, int n, int heads, int width,
                 void *x);

    /* y = x W^T: x act [n][w->k], y [n][w->n] of y_dtype (act or f32). */
    void (*linear)(struct device *d, struct stream *s, const struct weight *w, const void *x, int n,
                   void *y, enum dtype y_dtype);

    /* linear() of each part with the same x, n and y_dtype: the same bits, in fewer launches. parts: host
     * array of any count (0: nothing happens), not looked at after the return; the weights may differ in
     * format and in their number of outputs, not in k. The products are made in any order, some at a
     * time: no y may overlap another, or x. NULL: nothing is gained; call ops_linears(). */
    void (*linears)(struct device *d, struct stream *s, const struct linear_part *parts, int count,
                    const void *x, int n, enum dtype y_dtype);

    /* y[i][h] = x[i][h] W[h]^T for every head: row i of x has head h at column h x x_step, row i of
     * y at h x y_step. x, y act. */
    void (*linear_heads)(struct device *d, struct stream *s, const struct weight_heads *w,
                         const struct rows *x, int x_step, int n, const struct rows *y, int y_step);

    /* Rotary embedding of q and k by spec, then k and v enter the cache. q act [n][heads][key_dim]
     * and k act [n][kv_heads][key_dim] are rotated in place; v act [n][kv_heads][value_dim], NULL
     * when it is part of the key. angles: f32 [context][R/2][2], cos and sin, made on the host in
     * double (model/rope.h); NULL when R is 0. heads 0: there is no q. */
    void (*rope_append)(struct device *d, struct stream *s, const struct attn_spec *spec,
                        struct kv *kv, int layer, const struct attn_batch *batch,
                        const float *angles, void *q, void *k, const void *v);

    /* out[i][h] = sum_t softmax_t(q[i][h] . K[t] x scale) V[t] over the tokens t <= pos(i) of the
     * row's sequence that its window shows, all of them in the cache already (rope_append first).
     * A sink is one more score in the softmax, whose value is 0. q act [n][heads][key_dim], out act
     * [n][heads][value_dim]. (MFA, paper section 4: every query head on one K and one V head.) */
    void (*attend)(struct device *d, struct stream *s, const struct attn_spec *spec,
                   const struct kv *kv, int layer, const struct attn_batch *batch, const void *q,
                   void *out);

    /* Router: score = softmax(gate x) or sigmoid(gate x); the K experts with the largest score +
     * bias, larger first, equal ones by lower expert first; their weights are the scores without
     * the bias, then as spec says. With bias_counts score is of gate x + bias, and nothing is added.
     * ids int32 [n][K], weights f32 [n][K]. gate f32 [experts][H] and bias f32 [experts] (NULL: none) plain device
     * memory, x act [n][H]; logits in f32. A row with a NaN chooses any experts and has a weight of NaN. Checkpoint:
     * moe.gate, router_bias. */
    void (*route)(struct device *d, struct stream *s, const struct router_spec *spec,
                  const float *gate, const float *bias, const void *x, int n, int hidden,
                  int32_t *ids, float *weights);

    /* counts[e] += how often expert e is in ids, for e in [0, experts). ids [n][K], counts [experts].
     * live (device memory; NULL: all rows): the rows from *live on only fill a step up
     * (schedule/bucket.h); they do not count, and their ids become -1, which is no expert. */
    void (*tally)(struct device *d, struct stream *s, int32_t *ids, int n, int topk,
                  const int32_t *live, int experts, uint64_t *counts);

    /* The rank's partial sum of one layer's FFN:
     *   out[i] = sum over the chosen experts this rank holds of weights[i][k] x expert(x[i]),
     *            + shared(x[i]),  added as kernels/exact.h says
     * x act [n][H]; ids, weights [n][K] of route(), over all experts (NULL for a dense layer);
     * out [n][H] of out_dtype: f32, bf16 (by way of f32), or f64: the sum as it is; the
     * intermediate silu(gate) x up is kept in act. */
    void (*ffn)(struct device *d, struct stream *s, const struct ffn *f, const void *x,
                const int32_t *ids, const float *weights, int topk, int n, void *out,
                enum dtype out_dtype);

    /* out[i] = parts[0][i] + parts[1][i] + ..., added one after the other in this order: f32 and bf16
     * in f32, f64 in double; parts: host array of n_parts >= 1 device matrices [n][width] of dtype (one of
     * these), out likewise. For partial sums that are reduced before they travel (exchange/nccl.c). */
    void (*sum)(struct device *d, struct stream *s, const void *const *parts, int n_parts,
                enum dtype dtype, int n, int width, void *out);

    /* y[i] = x[index[i]]: rows f32 [.][width] -> f32 [n][width]. Picks the rows that are sampled.
     */
    void (*gather)(struct device *d, struct stream *s, const float *x, const int32_t *index, int n,
                   int width, float *y);

    /* Changes n logits of f32 [.][vocab] as struct logit_edit says; edits [n]. */
    void (*edit)(struct device *d, struct stream *s, float *logits, int vocab,
                 const struct logit_edit *edits, int n);

    /* logits[rows[i]][t] = -INFINITY where bit t % 32 of bits[i][t / 32] is 0. rows [n], each at most
     * once; bits u32 [n][ceil(vocab / 32)]. */
    void (*mask)(struct device *d, struct stream *s, float *logits, int vocab, const int32_t *rows,
                 const uint32_t *bits, int n);

    /* One token per row from logits f32 [n][V]. Order of candidates: larger logit first, equal
     * logits by lower token first. Greedy takes the first. Otherwise p = softmax(logits / T),
     * within, top_k, then top_p on what is left renormalized; the first candidate whose running sum exceeds
     * uniform x total. The p are whole numbers (kernels/mass.h), so from equal logits every backend draws
     * the same token. logprob: log softmax(logits)[token] at temperature 1, of the whole
     * vocabulary. A NaN among the logits, or an infinite largest one, gives token -1 and a NaN
     * logprob. params [n], tokens [n], logprobs [n]. */
    void (*sample)(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                   const struct sample_params *params, int32_t *tokens, float *logprobs);

    /* What log softmax(logits) at temperature 1, over the whole vocabulary, is for some tokens of every
     * row: own[i] of targets[i] (-1: NaN), and in the order of sample() of the k first candidates,
     * top[i][k] with logprobs[i][k]; where the vocabulary has fewer, -1 and NaN. own of the token that
     * sample() drew has the bits of its logprob. A row with a NaN, or an infinite largest logit, has -1
     * and NaN only. logits f32 [n][V], targets, own [n]; k 0..SCORE_MOST. */
    void (*score)(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                  const int32_t *targets, float *own, int k, int32_t *top, float *logprobs);
};

/* linears() on every backend. */
static inline void ops_linears(const struct ops *op, struct device *d, struct stream *s,
                               const struct linear_part *parts, int count, const void *x, int n,
                               enum dtype y_dtype)
{
    if (op->linears)
        op->linears(d, s, parts, count, x, n, y_dtype);
    for (int i = 0; i < count && !op->linears; i++)
        op->linear(d, s, parts[i].w, x, n, parts[i].y, y_dtype);
}

#endif
