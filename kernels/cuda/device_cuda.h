/* device_cuda.h - what the C files of the CUDA backend share. Private to kernels/cuda, and to the
 * NCCL exchange, which enqueues on the same streams.
 *
 * Scratch belongs to a stream, since operations on different streams run at the same time: it is
 * taken from the device when the stream is made, large enough for every operation within the limits
 * the device was opened with, and each operation begins at its start again.
 */
#ifndef TANDEM_CUDA_DEVICE_CUDA_H
#define TANDEM_CUDA_DEVICE_CUDA_H

#include "kernels/card/pack.h"
#include "kernels/card/pack_ffn.h"
#include "kernels/cuda/kernels.h"
#include "kernels/ops.h"

#if defined(CUDART_VERSION) && CUDART_VERSION < 12000
#error "CUDA 12.0 or later is needed (cudaGraphInstantiate with flags); or say make CUDA=0"
#endif

struct device {
    struct device_config config;
    int processors; /* multiprocessors */
    size_t shared;  /* the most shared memory a block can ask for */
    char text[128]; /* for describe() */
    char sort[64];  /* its name alone */
    size_t scratch_bytes;
    struct stream *loading; /* for weights; has no scratch */
    struct blas *blas;      /* only with config.blas */
};

struct stream {
    cudaStream_t cuda;
    unsigned char *scratch;
    size_t used, bytes;
    void *blas; /* BLAS_WORKSPACE bytes for cuBLAS, with config.blas */
};

struct event {
    cudaEvent_t cuda;
};

struct graph {
    cudaGraphExec_t cuda;
};

struct weight {
    struct cuda_matrix m;
    void *memory;
};

struct weight_heads {
    int heads, outputs, inputs;
    int layout;            /* TILED: all are bf16 */
    struct cuda_matrix *m; /* device: [heads] */
    void *memory;          /* the matrices, then m */
};

struct ffn {
    int first_expert, n_experts, hidden;
    int inter, inter_shared;   /* of the widest expert, and of the shared one */
    int slices, shared_slices; /* of the columns of down (kernels/exact.h) */
    int type, down_type;       /* of gate and up, and of down, when layout is MATRIX_TILED */
    int layout;
    struct cuda_mlp *mlp; /* device: [n_experts + 1], the shared one last */
    void *memory;
};

struct kv {
    struct kv_shape shape;
    struct cuda_kv cuda; /* data: of layer 0 */
    size_t layer_bytes;
};

/* Dies with what CUDA says when `code` is an error. */
void cuda_check(cudaError_t code, const char *what);

/* Graphs (graph.c), in the shape of device.h. */
void cuda_capture_begin(struct device *d, struct stream *s);
struct graph *cuda_capture_end(struct device *d, struct stream *s);
void cuda_graph_launch(struct device *d, struct stream *s, struct graph *g);
void cuda_graph_destroy(struct device *d, struct graph *g);

/* cuBLAS (blas.c), opened; NULL: it is not there. y = W x for BLAS_PANEL rows. */
struct blas *cuda_blas_open(struct err *e);
void cuda_blas_close(struct blas *b);
void cuda_blas_panel(struct device *d, struct stream *s, const struct cuda_matrix *m, const void *x,
                     void *y, enum dtype y_dtype);

/* Scratch of an operation: begin, then take; aligned as card_round() has it. */
void scratch_begin(struct stream *s);
void *scratch_take(struct stream *s, size_t count, size_t size);

/* The scratch every operation needs at most (scratch.c). */
size_t scratch_bytes(const struct device_config *config);
/* Rows that ffn takes at once, so that what they add stays below ffn_shares bytes: 512 MB, which tests make
 * less before they open a device. */
size_t ffn_slice(const struct device_limits *l);
extern size_t ffn_shares;
#define ROUTER_MAX     1024               /* experts of a router */
#define LINEAR_PANEL   256                /* rows whose parts are in scratch at once, at most */
#define BLAS_PANEL     128                /* rows of every cuBLAS call */
#define BLAS_WORKSPACE ((size_t)32 << 20) /* what cuBLAS would take itself on sm_90 */
#define ATTEND_PAIRS   2048               /* (row, chunk) pairs likewise, or one row's */

/* Operations (linear.c, ffn.c, attention.c), in the shape of ops.h. */
size_t cuda_weight_bytes(const struct device *d, const struct weight_part *w,
                         enum weight_keep keep);
const char *cuda_weight_obstacle(const struct device *d, const struct weight_part *w,
                                 enum weight_keep keep);
struct weight *cuda_weight_create(struct device *d, const struct weight_part *w,
                                  enum weight_keep keep);
void cuda_weight_destroy(struct device *d, struct weight *w);
struct weight *cuda_table_create(struct device *d, const struct weight_part *w);
size_t cuda_heads_bytes(const struct device *d, const struct weight_part *w, int heads,
                        enum weight_keep keep);
struct weight_heads *cuda_heads_create(struct device *d, const struct weight_part *w, int heads,
                                       enum weight_keep keep);
void cuda_heads_destroy(struct device *d, struct weight_heads *w);
size_t cuda_ffn_bytes(const struct device *d, const struct ffn_part *f, enum weight_keep keep);
const char *cuda_ffn_obstacle(const struct device *d, const struct ffn_part *f,
                              enum weight_keep keep);
struct ffn *cuda_ffn_create(struct device *d, const struct ffn_part *f, enum weight_keep keep);
void cuda_ffn_destroy(struct device *d, struct ffn *f);
void cuda_linear_op(struct device *d, struct stream *s, const struct weight *w, const void *x,
                    int n, void *y, enum dtype y_dtype);
void cuda_linears_op(struct device *d, struct stream *s, const struct linear_part *parts, int count,
                     const void *x, int n, enum dtype y_dtype);
void cuda_heads_op(struct device *d, struct stream *s, const struct weight_heads *w,
                   const struct rows *x, int x_step, int n, const struct rows *y, int y_step);
struct cuda_rows cuda_rows_of(const struct rows *r);
void cuda_ffn_op(struct device *d, struct stream *s, const struct ffn *f, const void *x,
                 const int32_t *ids, const float *weights, int topk, int n, void *out,
                 enum dtype out_dtype);
size_t cuda_kv_bytes(const struct device *d, const struct kv_shape *shape);
struct kv *cuda_kv_create(struct device *d, const struct kv_shape *shape);
void cuda_kv_destroy(struct device *d, struct kv *kv);
void cuda_rope_op(struct device *d, struct stream *s, const struct attn_spec *spec, struct kv *kv,
                  int layer, const struct attn_batch *batch, const float *angles, void *q, void *k,
                  const void *v);
void cuda_attend_op(struct device *d, struct stream *s, const struct attn_spec *spec,
                    const struct kv *kv, int layer, const struct attn_batch *batch, const void *q,
                    void *out);

#endif
