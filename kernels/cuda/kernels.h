/* kernels.h - what the C code of the CUDA backend calls: one launcher a kernel.
 *
 * Every launcher enqueues on `stream` and returns; it dies when the launch is refused. Pointers are
 * device memory. Types are the ints of enum dtype. Equations, shapes and orders of additions are
 * those of kernels/ops.h; here stands only what the kernels add to them. Private to kernels/cuda.
 */
#ifndef TANDEM_CUDA_KERNELS_H
#define TANDEM_CUDA_KERNELS_H

#include "kernels/card/matrix.h"

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* struct rows. */
struct cuda_rows {
    void *data;
    float *scale;
    int type;
    int64_t stride;
};

/* ---- small kernels ----------------------------------------------------------------------------
 */

void cuda_embed(cudaStream_t stream, const struct cuda_matrix *table, const int32_t *ids, int n,
                float *x);

#define NORM_PARTS 64 /* partial sums of one call */
struct cuda_parts {
    const void *part[NORM_PARTS];
};
/* A row waits in shared memory: cuda_norm_shared(width) bytes of it. */
size_t cuda_norm_shared(int width);
void cuda_residual_norm(cudaStream_t stream, float *x, const struct cuda_parts *parts, int n_parts,
                        int part_type, const float *gain, float eps, int n, int width, void *y,
                        int act);
void cuda_norm(cudaStream_t stream, const struct cuda_rows *x, const float *gain, float eps, int n,
               int width, const struct cuda_rows *y);

/* n_parts: 1 to NORM_PARTS; out of the parts' type. */
void cuda_sum(cudaStream_t stream, const struct cuda_parts *parts, int n_parts, int type, int n,
              int width, void *out);

void cuda_gather(cudaStream_t stream, const float *x, const int32_t *index, int n, int width,
                 float *y);
void cuda_copy(cudaStream_t stream, const struct cuda_rows *from, const struct cuda_rows *to, int n,
               int width);
/* Whether that kernel, and so every other, is set up while another runs where that is asked for. */
int cuda_copy_overlaps(void);
void cuda_bias(cudaStream_t stream, const float *bias, int n, int width, void *x, int type);
void cuda_gate(cudaStream_t stream, const float *g, int n, int heads, int width, void *x, int act);

/* struct router_spec. */
struct cuda_router {
    int sigmoid, experts, topk, renormalize, groups, topk_groups, bias_counts;
    float epsilon, factor;
};

/* bias may be NULL. logits: scratch f32 [n][experts]. */
void cuda_route(cudaStream_t stream, const struct cuda_router *r, const float *gate,
                const float *bias, const void *x, int act, int n, int hidden, float *logits,
                int32_t *ids, float *weights);
void cuda_tally(cudaStream_t stream, int32_t *ids, int n, int topk, const int32_t *live,
                int experts, uint64_t *counts);

/* edits: device array of struct logit_edit. */
void cuda_edit(cudaStream_t stream, float *logits, int vocab, const void *edits, int n);
void cuda_mask(cudaStream_t stream, float *logits, int vocab, const int32_t *rows,
               const uint32_t *bits, int n);
/* params: device array of struct sample_params. vocab: at most SAMPLE_VOCAB. */
#define SAMPLE_VOCAB 262144
void cuda_sample(cudaStream_t stream, const float *logits, int n, int vocab, const void *params,
                 int32_t *tokens, float *logprobs);

void cuda_score(cudaStream_t stream, const float *logits, int n, int vocab, const int32_t *targets,
                float *own, int k, int32_t *top, float *logprobs);

/* ---- matrices ---------------------------------------------------------------------------------
 */

/* Parts that the columns of a TILED matrix are split into: a function of its shape alone, so that the
 * order of a row's additions is one too. */
int cuda_linear_splits(int n, int k);
#define LINEAR_TARGET 264 /* blocks a launch aims at: two on each processor of an H100, */
#define LINEAR_MOST   396 /* or three */

/* Products of TILED matrices with the same rows; w[0 .. count - 1] differ in data, scale, n and row_lead alone,
 * and all or none are split; the rest is zero. */
#define LINEAR_BESIDE 3
struct cuda_linear {
    int count, n;
    const void *x;
    struct cuda_matrix w[LINEAR_BESIDE];
    void *y[LINEAR_BESIDE];
    float *partial[LINEAR_BESIDE]; /* scratch f32 [splits][n][w.n], unused when splits is 1 */
};

void cuda_linear_tiled(cudaStream_t stream, const struct cuda_linear *l, int y_type);
void cuda_linear_plain(cudaStream_t stream, const struct cuda_matrix *w, const void *x, int act,
                       int n, void *y, int y_type);

/* PLAIN matrices of one shape, one for every head: w is a device array. */
void cuda_linear_heads(cudaStream_t stream, const struct cuda_matrix *w, int heads, int outputs,
                       const struct cuda_rows *x, int x_step, int n, const struct cuda_rows *y,
                       int y_step);

/* TILED bf16 matrices, and bf16 rows; cuda_linear_heads_can(): whether rows of k fit a block's memory. */
int cuda_linear_heads_can(int k, size_t memory);
void cuda_linear_heads_tiled(cudaStream_t stream, const struct cuda_matrix *w, int heads,
                             int outputs, int k, const struct cuda_rows *x, int x_step, int n,
                             const struct cuda_rows *y, int y_step);

/* ---- experts ----------------------------------------------------------------------------------
 */

/* One row of an expert. */
struct cuda_entry {
    int32_t row;
    float weight;
};

/* Who goes where, made by cuda_group from ids on the device; the host never sees it. List e is of
 * expert e, in row order; the lists one after the other number the rows of all experts, of h and of
 * the shares. Every row is on the list of the shared expert, which is not stored. */
struct cuda_groups {
    int experts;              /* held here */
    int capacity;             /* entries of one list: rows of the largest call */
    int32_t *count;           /* [experts] rows of each list */
    int32_t *start;           /* [experts] rows of the lists before it */
    struct cuda_entry *entry; /* [experts][capacity] */
    int32_t *place; /* [topk][capacity] a row's numbers, in the order of the experts; then -1, */
    float *weight;  /* and [row][topk] their weights */
    /* [n_turns], which cuda_group makes 0: what blocks of cuda_ffn_down_tiled() tell each other. */
    uint32_t *turns;
    int n_turns;
};

void cuda_group(cudaStream_t stream, const struct cuda_groups *g, const int32_t *ids,
                const float *weights, int topk, int n, int first_expert);

/* h = silu(gate x) * up x, bf16. Rows of the experts stand at h, in the order of the lists, h_stride
 * apart; rows of the shared expert at h_shared. mlp: device array, experts and then the shared one.
 * Every matrix TILED and of weight type `type`, gate and up of one form. processors: of the device. */
size_t cuda_ffn_shared(int experts); /* bytes of shared memory either needs at most */
void cuda_ffn_up_tiled(cudaStream_t stream, const struct cuda_mlp *mlp, const struct cuda_groups *g,
                       int type, const void *x, int hidden, int n, int topk, void *h, int h_stride,
                       void *h_shared, int h_shared_stride, int processors);

/* Numbers from one row of shares to the next: whole runs of 32 columns, in each of which column c
 * stands at c % 8 x 4 + c / 8. */
#define FFN_STRIDE(hidden) (((hidden) + 31) / 32 * 32)

/* Where the sums are made at once a row of shares has no more columns than these: FFN_SLABS slabs of them. */
#define FFN_SLABS               3
#define FFN_RING                1536
#define FFN_RING_STRIDE(hidden) (FFN_STRIDE(hidden) < FFN_RING ? FFN_STRIDE(hidden) : FFN_RING)
#define FFN_TURNS(hidden)       (1 + ((hidden) + 127) / 128 * 2)

/* shares, f32 [rows of the experts][stride]: weight x down h; shared_shares [n][stride]: down
 * h_shared, not written when the shared expert has no columns. slice: the columns of that slice alone, and
 * without the weights; -1: all columns. out: NULL, or, with slice -1 and where cuda_ffn_joins(), bf16 at a multiple
 * of 4 bytes: what cuda_ffn_add() would make of all shares; those of the shared expert are not written then, the
 * others are scratch, FFN_RING_STRIDE apart, and g has FFN_TURNS.
 *
 * cuda_ffn_joins(): there is a shared expert, hidden is even (two columns are stored at once), and rows are not
 * few for the experts, or there are none but the shared one: a dense layer, of any n. */
int cuda_ffn_joins(int experts, int n, int topk, int hidden, int inter_shared);
void cuda_ffn_down_tiled(cudaStream_t stream, const struct cuda_mlp *mlp,
                         const struct cuda_groups *g, int type, const void *h, int h_stride,
                         const void *h_shared, int h_shared_stride, int hidden, int n, int topk,
                         int slice, float *shares, float *shared_shares, void *out, int processors);

/* out, bf16 = the share of the shared expert, NULL: there is none, and those of a row's experts, in their order. */
void cuda_ffn_add(cudaStream_t stream, const struct cuda_groups *g, int topk, const float *shares,
                  const float *shared_shares, int hidden, int n, void *out);

/* A slice's terms, as kernels/exact.h has them, join sums [n][hidden], which begin with the `first`; out: the
 * sums, or NULL: there are more slices. Without shares or shared_shares there are none of them. */
void cuda_ffn_add_exact(cudaStream_t stream, const struct cuda_groups *g, int topk,
                        const float *shares, const float *shared_shares, int hidden, int n,
                        double *sums, int first, void *out, int out_type);

/* h [n][topk + 1][inter] of type act: one place for each choice, the shared expert last. */
void cuda_ffn_up_plain(cudaStream_t stream, const struct cuda_mlp *mlp, int first_expert,
                       int experts, const void *x, int act, const int32_t *ids, int topk, int n,
                       void *h, int inter);
void cuda_ffn_down_plain(cudaStream_t stream, const struct cuda_mlp *mlp, int first_expert,
                         int experts, const void *h, int act, int inter, const int32_t *ids,
                         const float *weights, int topk, int n, int hidden, void *out,
                         int out_type);

/* ---- attention --------------------------------------------------------------------------------
 */

/* The cache of one layer: for every block and kv head KV_BLOCK keys and then KV_BLOCK values, none
 * when they are part of the keys. TILED (keys and values of 64, 128 or 256; bf16 or e4m3; bf16
 * activations): each half block of 32 tokens in the order of mma fragments, see kv.cuh.
 * Otherwise [token][key_dim] and [token][value_dim]. */
struct cuda_kv {
    void *data;
    int type;
    int tiled;
    int kv_heads, key_dim, value_dim;
    int value_in_key;
};

struct cuda_batch {
    int rows, segments, max_rows, max_context;
    const int32_t *row_seg, *row_pos, *blocks;
    int blocks_stride, ring;
};

/* What struct attn_spec has beside the shape of the cache. */
struct cuda_attn {
    int heads, rope_at, rope_dim, neighbors, window;
    float scale;
    const float *sinks;
};

void cuda_rope_append(cudaStream_t stream, const struct cuda_attn *spec, const struct cuda_kv *kv,
                      const struct cuda_batch *batch, const float *angles, int act, void *q,
                      void *k, const void *v);

/* A row's context is cut in chunks of ATTEND_CHUNK(type) tokens from its beginning, whatever the
 * batch; a row of one chunk is finished by its block, else the chunks are added in order. Two rows
 * of one segment may share a block: each warp works for one row, in the same order as alone. */
#define ATTEND_CHUNK(type) ((type) == 1 ? 1024 : 2048)

/* Chunks that a row with at most `context` tokens can have, when it sees `window` of them (0: all); one
 * more than its own where the next row's are counted in. */
static inline int cuda_attend_chunks(int type, int window, int context)
{
    int chunk = ATTEND_CHUNK(type), all = (context + chunk - 1) / chunk;
    int seen = (window + chunk - 1) / chunk + 1;
    return window > 0 && seen < all ? seen : all;
}

/* Floats of scratch for one row and one chunk. */
#define ATTEND_PARTIAL(heads, head_dim) ((size_t)(heads) * ((size_t)(head_dim) + 2))

/* Rows [row, row + rows) of the batch; memory: the most shared memory a block can have; partial:
 * scratch for rows x chunks of max_context. */
void cuda_attend_tiled(cudaStream_t stream, const struct cuda_attn *spec, const struct cuda_kv *kv,
                       const struct cuda_batch *batch, int row, int rows, size_t memory,
                       const void *q, void *out, float *partial);
/* The same for a cache whose values are part of the keys; cuda_attend_latent_can(): whether of this shape. */
int cuda_attend_latent_can(int heads, int kv_heads, int key_dim, int value_dim, int window);
void cuda_attend_latent(cudaStream_t stream, const struct cuda_attn *spec, const struct cuda_kv *kv,
                        const struct cuda_batch *batch, int row, int rows, size_t memory,
                        const void *q, void *out, float *partial);
void cuda_attend_plain(cudaStream_t stream, const struct cuda_attn *spec, const struct cuda_kv *kv,
                       const struct cuda_batch *batch, int act, const void *q, void *out);

/* ---- rows that travel (exchange/nccl.c) -------------------------------------------------------
 */

#define RECORD_PARTS 4 /* numbers, scales, experts, weights of experts */

/* Rows as arrays, part p with bytes[p] a row and no gaps (0: there is none), and as records, where it stands
 * at[p] bytes behind the record's beginning. */
struct cuda_record {
    void *part[RECORD_PARTS];
    int bytes[RECORD_PARTS], at[RECORD_PARTS];
    int stride; /* bytes from one record to the next */
};

/* Records in pieces: rows first[i] .. first[i + 1] - 1 from record i x apart on. */
struct cuda_pieces {
    int apart, first[NORM_PARTS + 1];
};

void cuda_record_pack(cudaStream_t stream, const struct cuda_record *r, int n, void *records);
void cuda_record_unpack(cudaStream_t stream, const struct cuda_record *r, const void *records,
                        const struct cuda_pieces *pieces, int n);

#ifdef __cplusplus
}
#endif

#endif
