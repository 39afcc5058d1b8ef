/* gpu_bench.h - what the files of gpu_bench share. */
#ifndef TANDEM_TESTS_CUDA_GPU_BENCH_H
#define TANDEM_TESTS_CUDA_GPU_BENCH_H

#include "kernels/cuda/device_cuda.h"
#include "kernels/ops.h"
#include "model/block_qkv.h"
#include "tests/cuda/gpu_peak.h"
#include "tests/cuda/traffic.h"

#define FLUSH  ((size_t)256 << 20)
#define ROWS   64
#define MOST   2048   /* rows */
#define TOKENS 131072 /* of the longest sequence */
#define HIDDEN 7168
#define RANK   2048 /* of the queries */
#define HEADS  64
#define DIM    256
#define WIDTH  (HEADS * DIM)
#define VOCAB  128815
#define HELD   24 /* experts of one instance, of ALL */
#define ALL    48
#define TOPK   3

#define MOST_TOPK  8 /* of any model here, */
#define MOST_HELD  256
#define MOST_HEADS 128
#define MOST_DIM   576

extern const struct backend backend_cuda;

struct bench {
    const struct device_ops *dev;
    const struct ops *ops;
    struct device *d;
    struct stream *s;
    struct event *from, *to;
    void *flush, *sink;
    double read, mma;  /* bytes and operations a second, at most */
    void *x, *z;       /* bf16 rows [MOST][WIDTH], twice */
    void *y;           /* rows as large in f32, filled with bf16 */
    float *f, *g;      /* f32 [MOST][HIDDEN], gains too */
    float *angles;     /* [TOKENS][DIM / 2][2] */
    int32_t *ids;      /* [MOST][MOST_TOPK] */
    float *weights;    /* likewise */
    unsigned char *w8; /* host: e4m3, and bf16 */
    uint16_t *w16;
    float *scales;
    char **only; /* operations that are wanted; NULL: all */
};

typedef void (*bench_op)(struct bench *b, const void *what);

/* The median time of `op` alone and cold, printed beside what nothing could be faster than; 0 when it is
 * not wanted. The graph is captured after one run. */
double bench_show(struct bench *b, const char *name, bench_op op, const void *what,
                  struct traffic t);
double bench_show_bytes(struct bench *b, const char *name, bench_op op, const void *what,
                        double bytes);
void bench_show_graph(struct bench *b, const char *name, bench_op op, const void *what,
                      struct traffic t);

/* Device memory with numbers of about 1, of either sign; a matrix of noise, and packed. */
void *bench_numbers(struct bench *b, size_t bytes, bool bf16);
struct weight_part bench_part(const struct bench *b, size_t n, size_t k, enum dtype t);
struct weight *bench_weight(struct bench *b, size_t n, size_t k, enum dtype t);

/* ---- gpu_bench_attention.c ------------------------------------------------------------------- */

extern const struct attn_spec bench_mfa, bench_gqa, bench_mla;

struct bench_layer {
    struct qkv_weights weights;
    struct model model;
    struct layer_spec spec;
    struct kv *kv;
    struct attn_batch batch;
    void *buffer[BLOCK_BUFFERS];
    float *stream, *out; /* [rows][HIDDEN] */
    void *h, *wire;
    float *scales;
};

void bench_small(struct bench *b);
void bench_attention(struct bench *b, const char *of, const struct attn_spec *spec);
void bench_make_layer(struct bench *b, struct bench_layer *l);
void bench_layers(struct bench *b, struct bench_layer *l);

/* ---- gpu_bench_experts.c --------------------------------------------------------------------- */

void bench_experts(struct bench *b);

#endif
