/* ops.h - the operations of a decode step: equation, shapes, dtypes, aliasing.
 *
 * Notation. n rows: tokens going through the layers together; a row's result never depends on the
 * other rows, nor on n, nor on its place among them: every implementation adds in an order that is
 * a function of the row alone. H hidden size, D head size, V vocabulary, K experts per token.
 * Matrices are row-major and dense: x[n][H] has no gaps. `act` is the activation dtype of the
 * device (f32 or bf16). Sums are always made in f32. A rounding to bf16 is to nearest even, and
 * happens only when a result is stored.
 * Exceptions: the sampler adds probabilities in double, since a running f32 sum over a vocabulary
 * loses its tail; quantized weights change no activation (x stays as it is).
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

struct weight; /* one packed matrix */

/* One gated MLP: down(silu(gate(x)) * up(x)); gate and up [I][H], down [H][I]. I may be 0; gate.k
 * is H even then. */
struct mlp_part {
    struct weight_part gate, up, down;
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

/* ---- attention ------------------------------------------------------------------------------ */

#define KV_BLOCK 64 /* tokens in one block of the KV cache */

/* The KV cache of one rank: `blocks` blocks for every layer; block b of layer l holds KV_BLOCK
 * tokens of one sequence: keys after RoPE and values, kv_heads x D each. Layout private. */
struct kv_shape {
    size_t layers, blocks, kv_heads, head_dim;
};

struct kv; /* the cache */

/* Which sequence and position each row is. A segment is a run of consecutive rows that are
 * consecutive tokens of one sequence: one row when decoding, many for a chunk of a prompt. Rows
 * attend to everything of their sequence up to and including themselves. Scalars are for the host;
 * arrays are device memory. */
struct attn_batch {
    int rows, segments;
    int max_rows;           /* rows of the longest segment */
    int max_context;        /* tokens of the longest sequence, the batch's rows included */
    const int32_t *seg_row; /* [segments + 1] first row of each segment; the last is `rows` */
    const int32_t *seg_pos; /* [segments] position (0-based) of its first row */
    const int32_t *row_seg; /* [rows] */
    const int32_t *row_pos; /* [rows] */
    const int32_t *blocks;  /* [segments][blocks_stride] KV blocks of the sequence, in order */
    int blocks_stride;
};

/* ---- routing and sampling ------------------------------------------------------------------- */

enum router_score { ROUTER_SOFTMAX };

struct router_spec {
    enum router_score score; /* over all experts, in f32 */
    int experts, topk;
    bool renormalize; /* divide the chosen weights by their sum (norm_expert_weight) */
};

/* Sampling of one row; a device array of these. temperature 0: greedy (the rest is not looked at).
 */
struct sample_params {
    float temperature;
    float top_p;   /* keep the smallest set of most probable tokens with sum >= top_p; 1: all */
    int32_t top_k; /* keep the k most probable; 0: all */
    float uniform; /* in [0, 1): philox_uniform() of (seed, prompt, sample, position) */
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

    size_t (*ffn_bytes)(const struct device *d, const struct ffn_part *f, enum weight_keep keep);
    struct ffn *(*ffn_create)(struct device *d, const struct ffn_part *f, enum weight_keep keep);
    void (*ffn_destroy)(struct device *d, struct ffn *f);

    size_t (*kv_bytes)(const struct device *d, const struct kv_shape *shape);
    struct kv *(*kv_create)(struct device *d, const struct kv_shape *shape);
    void (*kv_destroy)(struct device *d, struct kv *kv);

    /* x[i][:] = f32(table[ids[i]][:]). table: a weight [V][H] that is only ever gathered from; ids
     * int32 [n] in 0..V-1; x f32 [n][H]. Checkpoint: model.embed_tokens. */
    struct weight *(*table_create)(struct device *d, const struct weight_part *w);
    void (*embed)(struct device *d, struct stream *s, const struct weight *table,
                  const int32_t *ids, int n, float *x);

    /* The residual stream and the norm behind it.
     *   x[i] += parts[0][i] + parts[1][i] + ...   added one after the other, in this order
     *   y[i] = x[i] / sqrt(mean(x[i]^2) + eps) * gain
     * x f32 [n][H]; parts: host array of n_parts device matrices [n][H] of part_dtype (f32 or
     * bf16), n_parts may be 0; gain f32 [H]; y act [n][H], or NULL: only add. (RMSNorm of the
     * public model.) */
    void (*residual_norm)(struct device *d, struct stream *s, float *x, const void *const *parts,
                          int n_parts, enum dtype part_dtype, const float *gain, float eps, int n,
                          int hidden, void *y);

    /* y[i] = x[i] / sqrt(mean(x[i]^2) + eps) * gain; x, y act [n][width], may be the same memory.
     * Checkpoint: self_attn.inter_norm. */
    void (*norm)(struct device *d, struct stream *s, const void *x, const float *gain, float eps,
                 int n, int width, void *y);

    /* y = x W^T: x act [n][w->k], y [n][w->n] of y_dtype (act or f32). */
    void (*linear)(struct device *d, struct stream *s, const struct weight *w, const void *x, int n,
                   void *y, enum dtype y_dtype);

    /* Rotary embedding (NEOX halves: element j pairs with j + D/2, angle pos x theta^(-2j/D)), then
     * k and v enter the cache. q act [n][heads][D] is rotated in place; k act [n][kv_heads][D] is
     * rotated in place; v act [n][kv_heads][D]. angles: f32 [context][D/2][2], cos and sin, made on
     * the host in double (model/rope.h). */
    void (*rope_append)(struct device *d, struct stream *s, struct kv *kv, int layer,
                        const struct attn_batch *batch, const float *angles, int heads, void *q,
                        void *k, const void *v);

    /* out[i][h] = sum_t softmax_t(q[i][h] . K[t] x scale) V[t] over the tokens t <= pos(i) of the
     * row's sequence, all of them in the cache already (rope_append first). scale = D^-0.5.
     * q, out act [n][heads][D]; heads is a multiple of kv_heads. (MFA, paper section 4: every query
     * head on one K and one V head.) */
    void (*attend)(struct device *d, struct stream *s, const struct kv *kv, int layer,
                   const struct attn_batch *batch, int heads, const void *q, void *out);

    /* Router: p = softmax(gate x); the K largest, larger p first, equal p by lower expert first;
     * ids int32 [n][K], weights f32 [n][K]. gate f32 [experts][H] plain device memory, x act
     * [n][H]; logits in f32. Checkpoint: moe.gate. */
    void (*route)(struct device *d, struct stream *s, const struct router_spec *spec,
                  const float *gate, const void *x, int n, int hidden, int32_t *ids,
                  float *weights);

    /* The rank's partial sum of one layer's FFN, one f32 addition after the other:
     *   out[i] = sum over the chosen experts this rank holds, in order of expert number, of
     *            weights[i][k] x expert(x[i]),  then + shared(x[i])
     * x act [n][H]; ids, weights [n][K] of route(), over all experts (NULL for a dense layer);
     * out [n][H] of out_dtype (f32 or bf16); the intermediate silu(gate) x up is kept in act. */
    void (*ffn)(struct device *d, struct stream *s, const struct ffn *f, const void *x,
                const int32_t *ids, const float *weights, int topk, int n, void *out,
                enum dtype out_dtype);

    /* The exchange's number formats. wire f32 or bf16: elementwise conversion, scales unused. wire
     * f8e4m3: per row and 128 columns, scale = max|x| / 448 (1 when all are 0), rows = x / scale;
     * scales f32 [n][ceil(H/128)]. x act [n][H], rows wire [n][H]. (Paper section 7.1: FP8 tokens.)
     */
    void (*wire_encode)(struct device *d, struct stream *s, const void *x, int n, int hidden,
                        enum dtype wire, void *rows, float *scales);
    void (*wire_decode)(struct device *d, struct stream *s, enum dtype wire, const void *rows,
                        const float *scales, int n, int hidden, void *x);

    /* out[i] = parts[0][i] + parts[1][i] + ..., added in f32 one after the other in this order;
     * parts: host array of n_parts >= 1 device matrices [n][width] of dtype (f32 or bf16), out
     * likewise. For partial sums that are reduced before they travel (exchange/nccl.c). */
    void (*sum)(struct device *d, struct stream *s, const void *const *parts, int n_parts,
                enum dtype dtype, int n, int width, void *out);

    /* y[i] = x[index[i]]: rows f32 [.][width] -> f32 [n][width]. Picks the rows that are sampled.
     */
    void (*gather)(struct device *d, struct stream *s, const float *x, const int32_t *index, int n,
                   int width, float *y);

    /* One token per row from logits f32 [n][V]. Order of candidates: larger logit first, equal
     * logits by lower token first. Greedy takes the first. Otherwise p = softmax(logits / T),
     * top_k, then top_p on what is left renormalized; the first candidate whose running sum exceeds
     * uniform x total. logprob: log softmax(logits)[token] at temperature 1, of the whole
     * vocabulary. A NaN among the logits, or an infinite largest one, gives token -1 and a NaN
     * logprob. params [n], tokens [n], logprobs [n]. */
    void (*sample)(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                   const struct sample_params *params, int32_t *tokens, float *logprobs);
};

#endif
