/* fast.h - the vector backends of the CPU: how they are put together. Internal to kernels/cpu/fast.
 *
 * Everything that depends on the instruction set stands behind `struct isa`: a handful of small
 * kernels that work on one panel or one row, made once for AVX-512 and once for AVX2. Everything
 * else (packing, sharing work out to threads, the order of additions) is plain C above that table.
 *
 * The unit of matrix work is a panel: 32 outputs of a weight matrix, all their inputs, stored so
 * that it is read front to back (panel.h). A thread takes a panel, multiplies all rows that need
 * it, and finishes the 32 results of each row at once. Every output element is one chain of
 * additions in the order of its inputs; how many rows are multiplied together changes neither chain
 * nor bits.
 */
#ifndef TANDEM_KERNELS_CPU_FAST_H
#define TANDEM_KERNELS_CPU_FAST_H

#include "kernels/cpu/device.h"
#include "kernels/cpu/fast/panel.h"

#include <stdint.h>
#include <string.h>

/* Rows of one pass over the weights: more are worked off in slabs, so that scratch memory is
 * bounded. At this many rows arithmetic and not memory sets the pace. */
#define SLAB_ROWS 512

/* What softmax() works on: the rows of one tile of CPU_TILE tokens. */
struct softmax {
    const float *scores; /* [tokens / 32][rows][32] */
    size_t rows, tokens; /* tokens of the tile that any row sees, rounded up to 32 */
    const size_t *from,
        *seen;           /* [rows] the tokens of the tile that this row sees: from .. seen - 1 */
    float scale;         /* of the scores, times log2(e) */
    float *most, *total; /* [rows] running maximum (of scaled scores) and sum */
    float *sum;          /* [panels][rows][32] weighted values so far; rescaled when most grows */
    size_t panels;
    enum x_format format; /* of the probabilities */
    bool coarse;          /* they are rounded to bf16, whatever their format */
    uint8_t *to;          /* rows of X_ROW bytes: the probabilities, as panel functions want them */
};

/* The state of some rows after a stretch of tokens. Shapes as above. */
struct partial {
    float *most, *total, *sum;
};

/* What the sampler counts (kernels/mass.h). */
#define SAMPLE_BINS  1024
#define SAMPLE_BLOCK 128

/* Each bin has two turns: neighbours in a row are often neighbours in value, and an addition to what has just been
 * added to waits for it. */
struct sample_bins {
    uint64_t mass[SAMPLE_BINS][2];
    uint32_t count[SAMPLE_BINS][2];
};

/* How a row's candidates are spread over the bins: bin = (most - logit) x grain, rounded down and at most the
 * last one. last_is_empty: what falls into that one has no mass, and need not be counted. */
struct spread {
    float most, factor, grain;
    bool last_is_empty;
};

/* key: rises in the order of ops.h, larger logit, then lower token. */
struct sample_candidate {
    uint64_t key, mass;
};

static inline uint64_t sample_key(float logit, int32_t token)
{
    float plus = logit + 0.0f; /* -0 equals 0 */
    uint32_t bits;
    memcpy(&bits, &plus, sizeof bits);
    uint32_t rising = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (uint64_t)~rising << 32 | (uint32_t)token;
}

struct isa {
    const char *name;
    bool x_bf16; /* bf16 activations are multiplied as they are; else they are widened to f32 */
    bool sizes;  /* panels of g8 have sign and magnitude */

    panel_fn *panel[W_FORMATS][X_FORMATS]; /* NULL: no such combination */
    parts_fn *parts[W_FORMATS][X_FORMATS];

    /* ---- rows as panel functions read them ---- */

    /* One row of k numbers (f32 or bf16) becomes the row at `to` (chunks `chunk` bytes apart), with
     * `before` zeros in front and zeros behind up to k_padded. */
    void (*pack_row)(enum dtype act, const void *from, size_t k, size_t before, size_t k_padded,
                     enum x_format format, uint8_t *to, size_t chunk);

    /* The k numbers of a packed row of X_F32 become integers, in the same place: zeros behind. */
    void (*to_integers)(uint8_t *row, size_t chunk, size_t k, size_t k_padded);

    /* The sums of its inputs, `unit` at a time, behind a row of k_padded numbers (panel.h). */
    void (*sum_row)(uint8_t *row, size_t chunk, size_t k_padded, enum x_format format, size_t unit);

    /* ---- what happens to the 32 results of each row: c is [rows][32] ---- */

    /* silu(gate) * up of 16 intermediates (c: 16 gates, then 16 ups), as limit and alpha of ops.h's
     * struct mlp_part say, rounded to act, to element `at` of packed rows. */
    void (*swiglu)(const float *c, size_t rows, float limit, float alpha, enum dtype act,
                   enum x_format format, size_t at, uint8_t *to, size_t chunk);
    /* sum[row[i]][32] += exact_term(weight[i], c[i][32]) (kernels/exact.h); row NULL: i itself, weight
     * NULL: 1. */
    void (*add)(const float *c, size_t rows, const int32_t *row, const float *weight, double *sum);
    /* to[i * stride + 0..n-1] = c[i][0..n-1], n <= 32, rounded to `dtype`. */
    void (*store)(const float *c, size_t rows, size_t n, enum dtype dtype, void *to, size_t stride);

    /* ---- attention ---- */
    /* Sixteen dimensions of the 32 tokens of a panel of keys in bf16 become inputs of a panel of values (kv.h). */
    void (*turn)(const uint8_t *keys, uint8_t *values);
    void (*softmax)(const struct softmax *s);
    /* Of [panels][rows][32], rows first..end-1 of `from` are added to `to`. */
    void (*merge)(const struct partial *to, const struct partial *from, size_t rows, size_t first,
                  size_t end, size_t panels);
    /* to[0..dim-1] = sum x 1/total of one of the rows. */
    void (*finish)(const struct partial *from, size_t row, size_t rows, size_t dim,
                   enum dtype dtype, void *to);

    /* ---- single rows ---- */
    void (*rotate)(enum dtype act, void *head, const float *angles, size_t dim);
    void (*residual)(float *x, enum dtype dtype, const void *part, size_t n);
    void (*norm)(enum dtype from, const void *x, const float *gain, float eps, size_t n,
                 enum dtype to, void *y);
    /* p[i * stride + e] = gate[e] . x[i], of n numbers each */
    void (*dots)(const float *gate, size_t experts, const float *x, size_t rows, size_t n, float *p,
                 size_t stride);
    /* One row from f32 or bf16 to FP8 with a scale per ROWS_GROUP columns, and back. */
    void (*encode)(enum dtype from, const void *x, size_t n, void *codes, float *scales);
    void (*decode)(const void *codes, const float *scales, size_t n, enum dtype to, void *x);
    /* n numbers of f32 or bf16 to f32, bf16 or f8e4m3. */
    void (*convert)(enum dtype from, const void *x, size_t n, enum dtype to, void *y);

    /* ---- sampling (sample.c) ---- */
    /* tops: of every SAMPLE_BLOCK numbers the largest, or NULL. */
    float (*most)(const float *x, size_t n, float *least, bool *has_nan, float *tops);
    double (*mass)(const float *x, size_t n, float most, float factor); /* lane_mass() */
    /* Adds the masses of all candidates to the bins, and counts them if wanted. */
    void (*spread)(const float *x, size_t n, const struct spread *s, struct sample_bins *bins,
                   bool counts);
    /* The candidates of one bin, by rising token; returns how many. */
    size_t (*collect)(const float *x, size_t n, const struct spread *s, size_t bin,
                      struct sample_candidate *list);
    /* The candidates that are at least `from`, by rising token; returns how many. */
    size_t (*above)(const float *x, size_t n, const struct spread *s, float from,
                    struct sample_candidate *list);
    uint64_t (*masses)(const float *x, size_t n, const struct spread *s); /* of all candidates */
    /* How many x - most are at least -within. */
    size_t (*near)(const float *x, size_t n, float most, float within);
    size_t (*find)(const float *x, size_t n, float value); /* the first at least as large */
};

extern const struct isa isa_avx512, isa_avx2;

/* Opens the host with these kernels; the operations of both backends. */
int fast_open(const struct isa *isa, const struct device_config *config, struct device **out,
              struct err *e);
extern const struct ops fast_ops;

/* ---- the operations (ops.h), one group a file ------------------------------------------------ */

size_t fast_weight_bytes(const struct device *d, const struct weight_part *w,
                         enum weight_keep keep);
struct weight *fast_weight_create(struct device *d, const struct weight_part *w,
                                  enum weight_keep keep);
void fast_weight_destroy(struct device *d, struct weight *w);
struct weight *fast_table_create(struct device *d, const struct weight_part *w);
void fast_embed(struct device *d, struct stream *s, const struct weight *table, const int32_t *ids,
                int n, float *x);

size_t fast_ffn_bytes(const struct device *d, const struct ffn_part *f, enum weight_keep keep);
struct ffn *fast_ffn_create(struct device *d, const struct ffn_part *f, enum weight_keep keep);
void fast_ffn_destroy(struct device *d, struct ffn *f);
void fast_ffn(struct device *d, struct stream *s, const struct ffn *f, const void *x,
              const int32_t *ids, const float *weights, int topk, int n, void *out,
              enum dtype out_dtype);

void fast_linear(struct device *d, struct stream *s, const struct weight *w, const void *x, int n,
                 void *y, enum dtype y_dtype);

size_t fast_kv_bytes(const struct device *d, const struct kv_shape *shape);
struct kv *fast_kv_create(struct device *d, const struct kv_shape *shape);
void fast_kv_destroy(struct device *d, struct kv *kv);
void fast_rope_append(struct device *d, struct stream *s, const struct attn_spec *spec,
                      struct kv *kv, int layer, const struct attn_batch *batch, const float *angles,
                      void *q, void *k, const void *v);
void fast_attend(struct device *d, struct stream *s, const struct attn_spec *spec,
                 const struct kv *kv, int layer, const struct attn_batch *batch, const void *q,
                 void *out);

void fast_residual_norm(struct device *d, struct stream *s, float *x, const void *const *parts,
                        int n_parts, enum dtype part_dtype, const float *gain, float eps, int n,
                        int hidden, void *y);
void fast_norm(struct device *d, struct stream *s, const struct rows *x, const float *gain,
               float eps, int n, int width, const struct rows *y);
void fast_copy(struct device *d, struct stream *s, const struct rows *from, const struct rows *to,
               int n, int width);
void fast_route(struct device *d, struct stream *s, const struct router_spec *spec,
                const float *gate, const float *bias, const void *x, int n, int hidden,
                int32_t *ids, float *weights);
void fast_sum(struct device *d, struct stream *s, const void *const *parts, int n_parts,
              enum dtype dtype, int n, int width, void *out);
void fast_score(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                const int32_t *targets, float *own, int k, int32_t *top, float *logprobs);
void fast_sample(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                 const struct sample_params *params, int32_t *tokens, float *logprobs);

/* Scratch memory of each group, for fast_open(). */
size_t fast_rows_scratch(const struct device_config *c);
size_t fast_linear_scratch(const struct device_config *c);
size_t fast_ffn_scratch(const struct device_config *c);
size_t fast_attend_scratch(const struct device_config *c);
size_t fast_sample_scratch(const struct device_config *c);

#endif
