/* gpu_bench.c - for the day there is a GPU: first every kernel case against its reference, then the
 * time of each operation at Step-3's shapes, cold (256 MB are cleared in between), the median of 21
 * runs, with the bandwidth that its bytes (traffic.h) make of it.
 *
 * Exit status: 0 done; 1 a case failed; 77 there is no GPU, nothing was measured.
 */
#include "kernels/ops.h"
#include "tests/cuda/traffic.h"
#include "tests/kernels/cases.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_GPU   77
#define RUNS     21
#define FLUSH    ((size_t)256 << 20)
#define ROWS     64
#define FFN_ROWS 256
#define CONTEXT  8192
#define HIDDEN   7168
#define VOCAB    128815

extern const struct backend backend_cuda;

struct bench {
    const struct device_ops *dev;
    const struct ops *ops;
    struct device *d;
    struct stream *s;
    struct event *from, *to;
    void *flush;
    double layer; /* microseconds of the attention layer so far */
};

/* What an operation under the clock works on; each uses what it needs. */
struct work {
    const struct weight *w;
    struct ffn *ffn;
    struct kv *kv;
    struct attn_batch batch;
    void *x, *y, *z;
    float *f, *g;
    int32_t *ids;
    struct sample_params *params;
    int n;
    enum dtype y_dtype;
};

static unsigned char *noise(size_t bytes)
{
    unsigned char *p = mem_new(bytes, 1);
    uint32_t state = 1;
    for (size_t i = 0; i < bytes; i++) {
        state = state * 1664525u + 1013904223u;
        p[i] = (unsigned char)(state >> 24 & 0xb7); /* finite in e4m3, bf16 and f32, and below 2 */
    }
    return p;
}

static void *put(struct bench *b, size_t bytes)
{
    unsigned char *host = noise(bytes);
    void *p = b->dev->alloc(b->d, bytes);
    b->dev->upload(b->d, b->s, p, host, bytes);
    b->dev->stream_sync(b->d, b->s);
    free(host);
    return p;
}

static void *put_ints(struct bench *b, const int32_t *from, size_t n)
{
    void *p = b->dev->alloc(b->d, n * 4);
    b->dev->upload(b->d, b->s, p, from, n * 4);
    b->dev->stream_sync(b->d, b->s);
    return p;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double clock_op(struct bench *b, void (*op)(struct bench *, struct work *), struct work *w)
{
    double seconds[RUNS];
    op(b, w);
    for (int i = 0; i < RUNS; i++) {
        b->dev->zero(b->d, b->s, b->flush, FLUSH);
        b->dev->event_record(b->d, b->from, b->s);
        op(b, w);
        b->dev->event_record(b->d, b->to, b->s);
        b->dev->stream_sync(b->d, b->s);
        seconds[i] = b->dev->event_seconds(b->d, b->from, b->to);
    }
    qsort(seconds, RUNS, sizeof *seconds, by_size);
    return seconds[RUNS / 2] * 1e6;
}

static double show(struct bench *b, const char *name, void (*op)(struct bench *, struct work *),
                   struct work *w, struct traffic t)
{
    double us = clock_op(b, op, w);
    printf("%-44s %9.1f us %8.3f TB/s %8.1f TFLOP/s\n", name, us, t.least / us * 1e-6,
           t.flops / us * 1e-6);
    fflush(stdout);
    return us;
}

static void do_linear(struct bench *b, struct work *w)
{
    b->ops->linear(b->d, b->s, w->w, w->x, w->n, w->y, w->y_dtype);
}

static const struct attn_spec mfa = {.heads = 64,
                                     .kv_heads = 1,
                                     .key_dim = 256,
                                     .value_dim = 256,
                                     .rope_dim = 256,
                                     .scale = 1.0f / 16};

static void do_residual(struct bench *b, struct work *w)
{
    const void *parts[1] = {w->g};
    b->ops->residual_norm(b->d, b->s, w->f, parts, 1, DTYPE_F32, (float *)w->z, 1e-5f, w->n, HIDDEN,
                          w->y);
}

static void do_norm(struct bench *b, struct work *w)
{
    const struct rows x = {DTYPE_BF16, w->x, NULL, 2048}, y = {DTYPE_BF16, w->y, NULL, 2048};
    b->ops->norm(b->d, b->s, &x, w->f, 1e-5f, w->n, 2048, &y);
}

static void do_rope(struct bench *b, struct work *w)
{
    b->ops->rope_append(b->d, b->s, &mfa, w->kv, 0, &w->batch, w->f, w->x, w->y, w->z);
}

static void do_attend(struct bench *b, struct work *w)
{
    b->ops->attend(b->d, b->s, &mfa, w->kv, 0, &w->batch, w->x, w->y);
}

static void do_route(struct bench *b, struct work *w)
{
    struct router_spec spec = {.experts = 48, .topk = 3, .factor = 1};
    b->ops->route(b->d, b->s, &spec, w->f, NULL, w->x, w->n, HIDDEN, w->ids, w->g);
}

static void do_ffn(struct bench *b, struct work *w)
{
    b->ops->ffn(b->d, b->s, w->ffn, w->x, w->ids, w->f, 3, w->n, w->y, DTYPE_BF16);
}

static void do_encode(struct bench *b, struct work *w)
{
    const struct rows x = {DTYPE_BF16, w->x, NULL, HIDDEN}, y = {DTYPE_F8E4M3, w->y, w->f, HIDDEN};
    b->ops->copy(b->d, b->s, &x, &y, w->n, HIDDEN);
}

static void do_sample(struct bench *b, struct work *w)
{
    b->ops->sample(b->d, b->s, w->f, w->n, VOCAB, w->params, w->ids, w->g);
}

static struct weight_part part(size_t n, size_t k, enum dtype t, const void *data, const float *one)
{
    return (struct weight_part){.data = data,
                                .codec = codec_of(t),
                                .n = n,
                                .k = k,
                                .stride = k,
                                .scale = t == DTYPE_F8E4M3 ? one : NULL,
                                .scale_rows = 128,
                                .scale_columns = 128,
                                .scale_stride = (k + 127) / 128};
}

static double linear(struct bench *b, const char *name, size_t n, size_t k, enum dtype t,
                     enum dtype y_dtype, const void *data, const float *one)
{
    struct weight_part p = part(n, k, t, data, one);
    struct weight *weight = b->ops->weight_create(b->d, &p, WEIGHT_KEEP);
    struct work w = {.w = weight, .n = ROWS, .y_dtype = y_dtype};
    w.x = put(b, ROWS * k * 2);
    w.y = b->dev->alloc(b->d, ROWS * n * 4);
    double us = show(b, name, do_linear, &w,
                     traffic_linear(ROWS, (double)n, (double)k, (double)dtype_size(t),
                                    (double)dtype_size(y_dtype)));
    b->dev->release(b->d, w.x);
    b->dev->release(b->d, w.y);
    b->ops->weight_destroy(b->d, weight);
    return us;
}

static double bytes_only(struct bench *b, const char *name,
                         void (*op)(struct bench *, struct work *), struct work *w, double bytes)
{
    return show(b, name, op, w, (struct traffic){bytes, bytes, 0});
}

/* ROWS sequences of CONTEXT tokens, their last token being decoded. */
static struct attn_batch decode_batch(struct bench *b)
{
    enum { BLOCKS = CONTEXT / KV_BLOCK };
    static int32_t seg_row[ROWS + 1], pos[ROWS], seg[ROWS], blocks[ROWS * BLOCKS];
    for (int i = 0; i < ROWS; i++) {
        seg_row[i] = seg[i] = i;
        pos[i] = CONTEXT - 1;
        for (int j = 0; j < BLOCKS; j++)
            blocks[i * BLOCKS + j] = (i * BLOCKS + j) * 37 % (ROWS * BLOCKS);
    }
    seg_row[ROWS] = ROWS;
    return (struct attn_batch){.rows = ROWS,
                               .segments = ROWS,
                               .max_rows = 1,
                               .max_context = CONTEXT,
                               .seg_row = put_ints(b, seg_row, ROWS + 1),
                               .seg_pos = put_ints(b, pos, ROWS),
                               .row_seg = put_ints(b, seg, ROWS),
                               .row_pos = put_ints(b, pos, ROWS),
                               .blocks = put_ints(b, blocks, ROWS * BLOCKS),
                               .blocks_stride = BLOCKS};
}

static double attention(struct bench *b, enum dtype kv)
{
    struct kv_shape shape = {.layers = 1,
                             .blocks = ROWS * CONTEXT / KV_BLOCK,
                             .kv_heads = 1,
                             .key_dim = 256,
                             .value_dim = 256};
    struct work w = {.n = ROWS, .kv = b->ops->kv_create(b->d, &shape), .batch = decode_batch(b)};
    size_t width = 64 * 256;
    w.x = put(b, ROWS * width * 2);
    w.y = put(b, ROWS * width * 2);
    w.z = put(b, ROWS * 256 * 2);
    w.f = put(b, (size_t)CONTEXT * 256 * 4);
    double us = bytes_only(b, "rope_append", do_rope, &w, ROWS * (double)width * 4);
    us += show(b, kv == DTYPE_BF16 ? "attend 64 x 8192, bf16 cache" : "attend 64 x 8192, fp8 cache",
               do_attend, &w, traffic_attend(ROWS, CONTEXT, 64, 256, (int)kv));
    b->dev->release(b->d, w.x);
    b->dev->release(b->d, w.y);
    b->dev->release(b->d, w.z);
    b->dev->release(b->d, w.f);
    b->ops->kv_destroy(b->d, w.kv);
    return us;
}

static void experts(struct bench *b, const void *data, const float *one)
{
    struct mlp_part mlps[24], shared;
    int32_t ids[FFN_ROWS * 3];
    for (int i = 0; i < 25; i++) {
        size_t inter = i < 24 ? 640 : 320;
        struct mlp_part m = {.gate = part(inter, HIDDEN, DTYPE_F8E4M3, data, one),
                             .up = part(inter, HIDDEN, DTYPE_F8E4M3, data, one),
                             .down = part(HIDDEN, inter, DTYPE_F8E4M3, data, one)};
        if (i < 24)
            mlps[i] = m;
        else
            shared = m;
    }
    for (int i = 0; i < FFN_ROWS * 3; i++)
        ids[i] = (i / 3 * 7 + i % 3 * 16) % 48;
    struct ffn_part f = {.n_experts = 24, .experts = mlps, .shared = shared};
    struct work w = {.n = FFN_ROWS, .ffn = b->ops->ffn_create(b->d, &f, WEIGHT_KEEP)};
    w.x = put(b, FFN_ROWS * HIDDEN * 2);
    w.y = put(b, FFN_ROWS * HIDDEN * 4);
    w.f = put(b, FFN_ROWS * 3 * 4);
    w.ids = put_ints(b, ids, FFN_ROWS * 3);
    struct traffic_experts here = {HIDDEN, 24, 48, 3, 640, 320, 132, (size_t)227 * 1024};
    show(b, "ffn 24 experts x 640 + 320, 256 rows, fp8", do_ffn, &w, traffic_ffn(FFN_ROWS, &here));
    b->ops->ffn_destroy(b->d, w.ffn);
}

static double small_operations(struct bench *b)
{
    struct work w = {.n = ROWS};
    w.x = put(b, ROWS * HIDDEN * 2);
    w.y = put(b, ROWS * HIDDEN * 4);
    w.z = put(b, HIDDEN * 4);
    w.f = put(b, (size_t)ROWS * HIDDEN * 4);
    w.g = put(b, (size_t)ROWS * HIDDEN * 4);
    w.ids = put(b, ROWS * 48 * 4);
    double us = bytes_only(b, "residual_norm", do_residual, &w, ROWS * HIDDEN * 14.0);
    us += bytes_only(b, "inter_norm", do_norm, &w, ROWS * 2048 * 4.0);
    bytes_only(b, "route, 48 experts", do_route, &w, 48 * HIDDEN * 4.0 + ROWS * HIDDEN * 2.0);
    bytes_only(b, "copy to fp8", do_encode, &w, ROWS * HIDDEN * 3.0);
    return us;
}

static void sampling(struct bench *b)
{
    struct sample_params params[ROWS];
    struct work w = {.n = ROWS, .f = put(b, (size_t)ROWS * VOCAB * 4)};
    for (int i = 0; i < ROWS; i++)
        params[i] = (struct sample_params){1.0f, 0.95f, 50, 0.5f, 0};
    w.params = b->dev->alloc(b->d, sizeof params);
    b->dev->upload(b->d, b->s, w.params, params, sizeof params);
    b->dev->stream_sync(b->d, b->s);
    w.ids = b->dev->alloc(b->d, ROWS * 4);
    w.g = b->dev->alloc(b->d, ROWS * 4);
    bytes_only(b, "sample, top_k 50, top_p 0.95", do_sample, &w, ROWS * (double)VOCAB * 4);
}

static void open_bench(struct bench *b, enum dtype kv)
{
    struct device_config config = {.threads = 1,
                                   .timed = true,
                                   .act = DTYPE_BF16,
                                   .kv = kv,
                                   .limits = {.rows = FFN_ROWS,
                                              .hidden = HIDDEN,
                                              .q_width = 64 * 256,
                                              .heads = 64,
                                              .head_dim = 256,
                                              .context = CONTEXT,
                                              .vocab = VOCAB,
                                              .logit_rows = ROWS,
                                              .experts = 24,
                                              .topk = 3,
                                              .inter = 640}};
    struct err e;
    *b = (struct bench){.dev = backend_cuda.device, .ops = backend_cuda.ops};
    if (b->dev->open(&config, &b->d, &e) != 0)
        die("%s", e.text);
    b->s = b->dev->stream_create(b->d);
    b->from = b->dev->event_create(b->d);
    b->to = b->dev->event_create(b->d);
    b->flush = b->dev->alloc(b->d, FLUSH);
}

static void close_bench(struct bench *b)
{
    b->dev->release(b->d, b->flush);
    b->dev->event_destroy(b->d, b->from);
    b->dev->event_destroy(b->d, b->to);
    b->dev->stream_destroy(b->d, b->s);
    b->dev->close(b->d);
}

static void measure(void)
{
    struct bench b;
    size_t most = (size_t)VOCAB * HIDDEN * 2;
    unsigned char *data = noise(most);
    float *one = mem_new(56 * 128, sizeof *one);
    for (int i = 0; i < 56 * 128; i++)
        one[i] = 1.0f / 64;
    open_bench(&b, DTYPE_BF16);
    double us = small_operations(&b);
    us += linear(&b, "q_proj 2048x7168 fp8", 2048, 7168, DTYPE_F8E4M3, DTYPE_BF16, data, one);
    us += 2 * linear(&b, "k_proj or v_proj 256x7168 fp8 (twice)", 256, 7168, DTYPE_F8E4M3,
                     DTYPE_BF16, data, one);
    us += linear(&b, "wq 16384x2048 fp8", 16384, 2048, DTYPE_F8E4M3, DTYPE_BF16, data, one);
    us += attention(&b, DTYPE_BF16);
    us += linear(&b, "o_proj 7168x16384 fp8", 7168, 16384, DTYPE_F8E4M3, DTYPE_F32, data, one);
    printf("%-44s %9.1f us   paper, table 9 (8K): 281 H800, 438 H20, 531 A800\n",
           "attention layer with projections, 64 x 8192", us);
    experts(&b, data, one);
    linear(&b, "lm_head 128815x7168 bf16", VOCAB, HIDDEN, DTYPE_BF16, DTYPE_F32, data, one);
    sampling(&b);
    close_bench(&b);
    open_bench(&b, DTYPE_F8E4M3);
    attention(&b, DTYPE_F8E4M3);
    close_bench(&b);
    free(data);
    free(one);
}

int main(void)
{
    struct err e = {""};
    int failures = 0;
    if (backend_cuda.usable(&e) != 0) {
        printf("no GPU: %s\n", e.text);
        return NO_GPU;
    }
    struct bench b;
    char text[128];
    open_bench(&b, DTYPE_BF16);
    b.dev->describe(b.d, text, sizeof text);
    close_bench(&b);
    if (strncmp(text, "emulation", 9) == 0) {
        printf("no GPU: this is the emulation, its times mean nothing\n");
        return NO_GPU;
    }
    printf("%s\n", text);
    for (const struct kernel_case *c = kernel_cases; c->name; c++) {
        int failed = c->run(&backend_cuda);
        printf("%-20s %s\n", c->name, failed ? "WRONG" : "right");
        failures += failed;
    }
    if (failures)
        return 1;
    measure();
    return 0;
}
