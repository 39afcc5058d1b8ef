/* gpu_bench.c - first every kernel case against its reference, then times at Step-3's shapes: each
 * operation alone and cold (256 MB of other data are read in between), the median of RUNS; then whole
 * attention and FFN layers as captured graphs, gaps between kernels included.
 *
 * What the card can do is measured first: bytes a second of a kernel that only reads, operations a
 * second of one that only does mma.sync. From these and the least bytes and operations of an operation
 * (traffic.h) comes the time nothing could be faster than: `roof`, and how near to it the operation is.
 *
 *   gpu_bench [cases | times [operation ...]]    nothing: both; operations: those whose names begin so
 *
 * Exit status: 0 done; 1 a case failed; 77 there is no GPU, nothing was measured.
 */
#include "kernels/cuda/device_cuda.h"
#include "kernels/ops.h"
#include "model/block_qkv.h"
#include "tests/cuda/gpu_peak.h"
#include "tests/cuda/traffic.h"
#include "tests/kernels/cases.h"

#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_GPU  77
#define RUNS    11
#define FLUSH   ((size_t)256 << 20)
#define ROWS    64
#define MOST    2048   /* rows */
#define TOKENS  131072 /* of the longest sequence */
#define HIDDEN  7168
#define RANK    2048 /* of the queries */
#define HEADS   64
#define DIM     256
#define WIDTH   (HEADS * DIM)
#define VOCAB   128815
#define LM_ROWS 32256 /* of lm_head, packed here: a quarter */
#define HELD    24    /* experts of one instance, of ALL */
#define ALL     48
#define TOPK    3

extern const struct backend backend_cuda;

struct bench {
    const struct device_ops *dev;
    const struct ops *ops;
    struct device *d;
    struct stream *s;
    struct event *from, *to;
    void *flush, *sink;
    double read, mma;  /* bytes and operations a second, at most */
    void *x, *y, *z;   /* bf16 rows [MOST][WIDTH], three times */
    float *f, *g;      /* f32 [MOST][HIDDEN], gains too */
    float *angles;     /* [TOKENS][DIM / 2][2] */
    int32_t *ids;      /* [MOST][TOPK] */
    float *weights;    /* likewise */
    unsigned char *w8; /* host: e4m3, and bf16 */
    uint16_t *w16;
    float *scales;
    char **only; /* operations that are wanted; NULL: all */
};

typedef void (*bench_op)(struct bench *b, const void *what);

/* ---- the clock ------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_us(struct bench *b, bench_op op, const void *what)
{
    double seconds[RUNS];
    op(b, what);
    for (int i = 0; i < RUNS; i++) {
        peak_read(b->s->cuda, b->flush, FLUSH, b->sink);
        b->dev->event_record(b->d, b->from, b->s);
        op(b, what);
        b->dev->event_record(b->d, b->to, b->s);
        b->dev->stream_sync(b->d, b->s);
        seconds[i] = b->dev->event_seconds(b->d, b->from, b->to);
    }
    qsort(seconds, RUNS, sizeof *seconds, by_size);
    return seconds[RUNS / 2] * 1e6;
}

static bool wanted(const struct bench *b, const char *name)
{
    if (!b->only || !*b->only)
        return true;
    for (char **o = b->only; *o; o++)
        if (strncmp(name, *o, strlen(*o)) == 0)
            return true;
    return false;
}

static double show(struct bench *b, const char *name, bench_op op, const void *what,
                   struct traffic t)
{
    if (!wanted(b, name))
        return 0;
    double us = median_us(b, op, what);
    double bytes = t.least / b->read * 1e6, mma = t.flops / b->mma * 1e6;
    double roof = bytes > mma ? bytes : mma;
    printf("%-48s %9.1f us %8.1f roof (%s) %5.1f %%  %6.2f TB/s %6.1f TFLOP/s\n", name, us, roof,
           bytes > mma ? "bytes" : "mma", 100 * roof / us, t.least / us * 1e-6,
           t.flops / us * 1e-6);
    fflush(stdout);
    return us;
}

static double show_bytes(struct bench *b, const char *name, bench_op op, const void *what,
                         double bytes)
{
    return show(b, name, op, what, (struct traffic){bytes, bytes, 0});
}

/* ---- the card -------------------------------------------------------------------------------- */

static void do_read(struct bench *b, const void *p)
{
    peak_read(b->s->cuda, p, 4 * FLUSH, b->sink);
}

static void do_copy(struct bench *b, const void *p)
{
    peak_copy(b->s->cuda, p, (unsigned char *)(uintptr_t)p + 2 * FLUSH, 2 * FLUSH);
}

static void do_mma(struct bench *b, const void *flops)
{
    *(double *)(uintptr_t)flops = peak_mma(b->s->cuda, b->d->processors * 8, b->sink);
}

static void do_nothing(struct bench *b, const void *n)
{
    for (int i = 0; i < *(const int *)n; i++)
        peak_nothing(b->s->cuda, b->sink);
}

static void do_graph(struct bench *b, const void *g)
{
    b->dev->graph_launch(b->d, b->s, (struct graph *)(uintptr_t)g);
}

static struct graph *capture(struct bench *b, bench_op op, const void *what)
{
    op(b, what); /* the first launch of a kernel is not captured */
    b->dev->stream_sync(b->d, b->s);
    b->dev->capture_begin(b->d, b->s);
    op(b, what);
    return b->dev->capture_end(b->d, b->s);
}

static void show_graph(struct bench *b, const char *name, bench_op op, const void *what,
                       struct traffic t)
{
    if (!wanted(b, name))
        return;
    struct graph *g = capture(b, op, what);
    show(b, name, do_graph, g, t);
    b->dev->graph_destroy(b->d, g);
}

static void measure_card(struct bench *b)
{
    static const int none = 1, many = 101;
    void *p = b->dev->alloc(b->d, 4 * FLUSH);
    double flops = 0;
    peak_noise(b->s->cuda, p, FLUSH, ~0u, 0);
    b->read = (double)(4 * FLUSH) / median_us(b, do_read, p) * 1e6;
    double copy = (double)(4 * FLUSH) / median_us(b, do_copy, p) * 1e6;
    double us = median_us(b, do_mma, &flops);
    b->mma = flops / us * 1e6;
    struct graph *one = capture(b, do_nothing, &none), *hundred = capture(b, do_nothing, &many);
    double base = median_us(b, do_graph, one), gap = (median_us(b, do_graph, hundred) - base) / 100;
    printf(
        "this card: reads %.2f TB/s, copies %.2f TB/s (read and written), mma.sync %.0f TFLOP/s; "
        "a kernel that does nothing %.1f us, each more in a graph %.2f us\n",
        b->read * 1e-12, copy * 1e-12, b->mma * 1e-12, base, gap);
    b->dev->graph_destroy(b->d, one);
    b->dev->graph_destroy(b->d, hundred);
    b->dev->release(b->d, p);
}

/* Numbers of about 1, of either sign. */
static void *numbers(struct bench *b, size_t bytes, bool bf16)
{
    void *p = b->dev->alloc(b->d, bytes);
    peak_noise(b->s->cuda, p, bytes / 4, bf16 ? 0x807f807fu : 0x807fffffu,
               bf16 ? 0x3f003f00u : 0x3f000000u);
    return p;
}

/* ---- matrices -------------------------------------------------------------------------------- */

struct product {
    const struct weight *w;
    int n;
    enum dtype y_dtype;
};

static void do_linear(struct bench *b, const void *what)
{
    const struct product *p = what;
    b->ops->linear(b->d, b->s, p->w, b->x, p->n, b->y, p->y_dtype);
}

/* A matrix whose rows lie 64 elements apart in one short noise: different, but cheap to make. */
static struct weight_part part(const struct bench *b, size_t n, size_t k, enum dtype t)
{
    return (struct weight_part){.data = t == DTYPE_BF16 ? (void *)b->w16 : b->w8,
                                .codec = codec_of(t),
                                .n = n,
                                .k = k,
                                .stride = 64,
                                .scale = t == DTYPE_F8E4M3 ? b->scales : NULL,
                                .scale_rows = 128,
                                .scale_columns = 128,
                                .scale_stride = 8};
}

static struct weight *weight(struct bench *b, size_t n, size_t k, enum dtype t)
{
    struct weight_part p = part(b, n, k, t);
    return b->ops->weight_create(b->d, &p, WEIGHT_KEEP);
}

static void linear(struct bench *b, const char *of, const struct weight *w, enum dtype t,
                   enum dtype y_dtype, int most)
{
    for (int n = ROWS; n <= most; n *= n == ROWS ? 2 : 4) {
        char name[64];
        struct product p = {w, n < MOST ? n : MOST, y_dtype};
        snprintf(name, sizeof name, "linear %s %s, %d rows", of, dtype_name(t), p.n);
        show(b, name, do_linear, &p,
             traffic_linear(p.n, w->m.n, w->m.k, (double)dtype_size(t),
                            (double)dtype_size(y_dtype)));
    }
}

/* ---- attention ------------------------------------------------------------------------------- */

static const struct attn_spec mfa = {.heads = HEADS,
                                     .kv_heads = 1,
                                     .key_dim = DIM,
                                     .value_dim = DIM,
                                     .rope_dim = DIM,
                                     .scale = 1.0f / 16};
static const struct attn_spec gqa = {.heads = 64,
                                     .kv_heads = 4,
                                     .key_dim = 128,
                                     .value_dim = 128,
                                     .rope_dim = 128,
                                     .scale = 1.0f / 11};

static void *put(struct bench *b, const int32_t *from, size_t n)
{
    void *p = b->dev->alloc(b->d, n * 4);
    b->dev->upload(b->d, b->s, p, from, n * 4);
    b->dev->stream_sync(b->d, b->s);
    return p;
}

/* `decode` sequences of `context` tokens whose last token is decoded, and `prompt` last rows of one
 * more. */
static struct attn_batch batch(struct bench *b, int decode, int prompt, int context)
{
    int segments = decode + (prompt > 0), rows = decode + prompt, blocks = context / KV_BLOCK;
    int32_t *at = mem_new((size_t)segments + 1, 4), *pos = mem_new((size_t)segments, 4);
    int32_t *seg = mem_new((size_t)rows, 4), *row_pos = mem_new((size_t)rows, 4);
    int32_t *table = mem_new((size_t)(segments * blocks), 4);
    for (int i = 0; i < segments * blocks; i++)
        table[i] = (int32_t)((int64_t)i * 37 % (segments * blocks));
    for (int i = 0; i < segments; i++) {
        at[i] = i;
        pos[i] = i < decode ? context - 1 : context - prompt;
    }
    at[segments] = rows;
    for (int i = 0; i < rows; i++) {
        seg[i] = i < decode ? i : decode;
        row_pos[i] = i < decode ? context - 1 : context - prompt + i - decode;
    }
    struct attn_batch made = {.rows = rows,
                              .segments = segments,
                              .max_rows = prompt > 1 ? prompt : 1,
                              .max_context = context,
                              .seg_row = put(b, at, (size_t)segments + 1),
                              .seg_pos = put(b, pos, (size_t)segments),
                              .row_seg = put(b, seg, (size_t)rows),
                              .row_pos = put(b, row_pos, (size_t)rows),
                              .blocks = put(b, table, (size_t)(segments * blocks)),
                              .blocks_stride = blocks};
    free(at);
    free(pos);
    free(seg);
    free(row_pos);
    free(table);
    return made;
}

static void release_batch(struct bench *b, const struct attn_batch *m)
{
    const int32_t *all[5] = {m->seg_row, m->seg_pos, m->row_seg, m->row_pos, m->blocks};
    for (int i = 0; i < 5; i++)
        b->dev->release(b->d, (void *)(uintptr_t)all[i]);
}

struct looking {
    const struct attn_spec *spec;
    struct kv *kv;
    struct attn_batch batch;
};

static void do_attend(struct bench *b, const void *what)
{
    const struct looking *l = what;
    b->ops->attend(b->d, b->s, l->spec, l->kv, 0, &l->batch, b->x, b->y);
}

static void do_rope(struct bench *b, const void *what)
{
    const struct looking *l = what;
    b->ops->rope_append(b->d, b->s, l->spec, l->kv, 0, &l->batch, b->angles, b->x, b->y, b->z);
}

static struct kv *cache(struct bench *b, const struct attn_spec *s, size_t tokens)
{
    struct kv_shape shape = {.layers = 1,
                             .blocks = tokens / KV_BLOCK,
                             .kv_heads = s->kv_heads,
                             .key_dim = s->key_dim,
                             .value_dim = s->value_dim};
    struct kv *kv = b->ops->kv_create(b->d, &shape);
    bool bf16 = b->d->config.kv == DTYPE_BF16;
    peak_noise(b->s->cuda, kv->cuda.data, kv->layer_bytes / 4, bf16 ? 0x807f807fu : 0xb7b7b7b7u,
               bf16 ? 0x3f003f00u : 0);
    return kv;
}

static void attention(struct bench *b, const char *of, const struct attn_spec *spec)
{
    static const struct {
        int decode, prompt, context;
    } shapes[] = {{64, 0, 4096},  {64, 0, 8192},  {64, 128, 8192}, {0, 512, 8192},
                  {64, 0, 32768}, {8, 0, 131072}, {1, 0, 131072}};
    struct looking l = {.spec = spec, .kv = cache(b, spec, (size_t)64 * 32768)};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int n = shapes[i].decode, prompt = shapes[i].prompt, context = shapes[i].context;
        char name[80], with[32] = "";
        l.batch = batch(b, n, prompt, context);
        struct traffic t = traffic_attend(n + (prompt > 0), context, spec->heads * spec->kv_heads,
                                          spec->key_dim, (int)b->d->config.kv);
        t.least = (double)(n + (prompt > 0)) * context * 2 * spec->kv_heads * spec->key_dim *
                  (double)dtype_size(b->d->config.kv);
        t.flops = 4.0 * (n + prompt) * spec->heads * spec->key_dim * context;
        if (prompt > 0)
            snprintf(with, sizeof with, " + prompt of %d", prompt);
        snprintf(name, sizeof name, "attend %s %d x %d%s, %s", of, n, context, with,
                 dtype_name(b->d->config.kv));
        show(b, name, do_attend, &l, t);
        if (i == 0)
            show_bytes(b, "rope_append 64 rows", do_rope, &l, 64.0 * spec->heads * DIM * 4);
        release_batch(b, &l.batch);
    }
    b->ops->kv_destroy(b->d, l.kv);
}

/* ---- a layer of attention -------------------------------------------------------------------- */

struct layer {
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

static void do_layer(struct bench *b, const void *what)
{
    const struct layer *l = what;
    const void *parts[1] = {b->y}, *o = l->out;
    int n = l->batch.rows;
    struct pass p = {.backend = &backend_cuda,
                     .device = b->d,
                     .stream = b->s,
                     .act = DTYPE_BF16,
                     .model = &l->model,
                     .layer = &l->spec,
                     .weights = &l->weights,
                     .angles = b->angles,
                     .kv = l->kv,
                     .batch = &l->batch,
                     .h = l->h,
                     .out = l->out};
    memcpy(p.buffer, l->buffer, sizeof p.buffer);
    b->ops->residual_norm(b->d, b->s, l->stream, parts, 1, DTYPE_BF16, b->g, 1e-5f, n, HIDDEN,
                          l->h);
    block_qkv.run(&p);
    b->ops->residual_norm(b->d, b->s, l->stream, &o, 1, DTYPE_F32, b->g, 1e-5f, n, HIDDEN, l->h);
    struct router_spec router = {.experts = ALL, .topk = TOPK, .factor = 1};
    b->ops->route(b->d, b->s, &router, b->f, NULL, l->h, n, HIDDEN, b->ids, b->weights);
    const struct rows own = {DTYPE_BF16, l->h, NULL, HIDDEN};
    const struct rows wire = {DTYPE_F8E4M3, l->wire, l->scales, HIDDEN};
    b->ops->copy(b->d, b->s, &own, &wire, n, HIDDEN);
}

static void do_residual(struct bench *b, const void *what)
{
    const void *parts[1] = {b->y};
    b->ops->residual_norm(b->d, b->s, b->f, parts, 1, DTYPE_BF16, b->g, 1e-5f, *(const int *)what,
                          HIDDEN, b->z);
}

static void do_norm(struct bench *b, const void *what)
{
    const struct rows x = {DTYPE_BF16, b->x, NULL, RANK}, y = {DTYPE_BF16, b->y, NULL, RANK};
    b->ops->norm(b->d, b->s, &x, b->g, 1e-5f, *(const int *)what, RANK, &y);
}

static void do_route(struct bench *b, const void *what)
{
    struct router_spec spec = {.experts = ALL, .topk = TOPK, .factor = 1};
    b->ops->route(b->d, b->s, &spec, b->f, NULL, b->x, *(const int *)what, HIDDEN, b->ids,
                  b->weights);
}

static void do_encode(struct bench *b, const void *what)
{
    const struct rows x = {DTYPE_BF16, b->x, NULL, HIDDEN}, y = {DTYPE_F8E4M3, b->y, b->g, HIDDEN};
    b->ops->copy(b->d, b->s, &x, &y, *(const int *)what, HIDDEN);
}

static void small_operations(struct bench *b)
{
    static const int n = ROWS;
    show_bytes(b, "residual_norm 64 rows", do_residual, &n, n * HIDDEN * 12.0);
    show_bytes(b, "norm 64 rows of 2048", do_norm, &n, n * RANK * 4.0);
    show_bytes(b, "route 64 rows, 48 experts", do_route, &n, ALL * HIDDEN * 4.0 + n * HIDDEN * 2.0);
    show_bytes(b, "copy to fp8 64 rows", do_encode, &n, n * HIDDEN * 3.0);
}

static void layer_graphs(struct bench *b, struct layer *l)
{
    double weights = HIDDEN * (RANK + 2.0 * DIM + WIDTH) + (double)RANK * WIDTH;
    double row = 2 * (HIDDEN * (RANK + 2.0 * DIM + WIDTH) + (double)RANK * WIDTH);
    l->kv = cache(b, &mfa, (size_t)64 * 8192);
    for (int context = 4096; context <= 8192; context *= 2) {
        char name[80];
        struct traffic t = traffic_attend(ROWS, context, HEADS, DIM, (int)b->d->config.kv);
        t.least += weights + ALL * HIDDEN * 4.0 + ROWS * HIDDEN * 8.0;
        t.flops += ROWS * row;
        l->batch = batch(b, ROWS, 0, context);
        snprintf(name, sizeof name, "layer of attention, graph, 64 x %d, %s cache", context,
                 dtype_name(b->d->config.kv));
        show_graph(b, name, do_layer, l, t);
        release_batch(b, &l->batch);
    }
    b->ops->kv_destroy(b->d, l->kv);
}

static void make_layer(struct bench *b, struct layer *l)
{
    size_t rows = ROWS;
    *l = (struct layer){.spec.attention = {.attn = mfa, .q_rank = RANK}};
    l->model.norm_eps = 1e-5f;
    l->weights.q_down = weight(b, RANK, HIDDEN, DTYPE_F8E4M3);
    l->weights.q_up = weight(b, WIDTH, RANK, DTYPE_F8E4M3);
    l->weights.k = weight(b, DIM, HIDDEN, DTYPE_F8E4M3);
    l->weights.v = weight(b, DIM, HIDDEN, DTYPE_F8E4M3);
    l->weights.o = weight(b, HIDDEN, WIDTH, DTYPE_F8E4M3);
    l->weights.inter_norm = b->g;
    for (int i = 0; i < BLOCK_BUFFERS; i++)
        l->buffer[i] = numbers(b, rows * WIDTH * 2, true);
    l->stream = numbers(b, rows * HIDDEN * 4, false);
    l->out = numbers(b, rows * HIDDEN * 4, false);
    l->h = numbers(b, rows * HIDDEN * 2, true);
    l->wire = b->dev->alloc(b->d, rows * HIDDEN);
    l->scales = b->dev->alloc(b->d, rows * HIDDEN);
}

static void projections(struct bench *b, const struct layer *l)
{
    linear(b, "q_proj 2048x7168", l->weights.q_down, DTYPE_F8E4M3, DTYPE_BF16, MOST);
    linear(b, "k_proj 256x7168", l->weights.k, DTYPE_F8E4M3, DTYPE_BF16, MOST);
    linear(b, "wq 16384x2048", l->weights.q_up, DTYPE_F8E4M3, DTYPE_BF16, MOST);
    linear(b, "o_proj 7168x16384", l->weights.o, DTYPE_F8E4M3, DTYPE_F32, MOST);
    struct weight *w = weight(b, HIDDEN, 4096, DTYPE_BF16);
    linear(b, "7168x4096", w, DTYPE_BF16, DTYPE_BF16, 512);
    b->ops->weight_destroy(b->d, w);
    w = weight(b, LM_ROWS, HIDDEN, DTYPE_BF16);
    linear(b, "lm_head 32256x7168", w, DTYPE_BF16, DTYPE_F32, ROWS);
    b->ops->weight_destroy(b->d, w);
}

/* ---- experts --------------------------------------------------------------------------------- */

enum choice { EVEN, RANDOM, SKEWED };

struct mixture {
    struct ffn *f;
    int n, held; /* rows; their choices that are held here */
    bool early;
    struct cuda_down_place place;
    struct cuda_groups g;
    void *h, *h_shared;
    float *acc;
};

/* Different experts for every row: all as often; by chance; or expert e with a chance of 1 / (e + 8). */
static void choose(struct bench *b, struct mixture *m, enum choice choice)
{
    int32_t ids[MOST * TOPK];
    uint32_t state = 1;
    double sum[ALL + 1] = {0};
    for (int e = 0; e < ALL; e++)
        sum[e + 1] = sum[e] + (choice == SKEWED ? 1.0 / (e / 2 + e % 2 * HELD + 8) : 1);
    m->held = 0;
    for (int i = 0; i < m->n; i++)
        for (int k = 0; k < TOPK; k++) {
            int e = (i * 7 + k * 16) % ALL;
            bool again = choice != EVEN;
            while (again) {
                state = state * 1664525u + 1013904223u;
                double at = (state >> 8) * 0x1p-24 * sum[ALL];
                for (e = 0; e < ALL - 1 && sum[e + 1] <= at;)
                    e++;
                again = false;
                for (int j = 0; j < k; j++)
                    again = again || ids[i * TOPK + j] == e;
            }
            ids[i * TOPK + k] = e;
            m->held += e < HELD;
        }
    b->dev->upload(b->d, b->s, b->ids, ids, (size_t)(m->n * TOPK) * 4);
    b->dev->stream_sync(b->d, b->s);
}

static void do_ffn(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    b->ops->ffn(b->d, b->s, m->f, b->x, b->ids, b->weights, TOPK, m->n, b->y, DTYPE_BF16);
}

static void do_group(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    cuda_group(b->s->cuda, &m->g, b->ids, b->weights, TOPK, m->n, 0, m->early);
}

static void do_up(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    cuda_ffn_up_tiled(b->s->cuda, m->f->mlp, &m->g, m->f->type, b->x, HIDDEN, m->n, m->h,
                      m->f->inter, m->h_shared, m->f->inter_shared, 2 * b->d->processors);
}

static void do_down(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    cuda_ffn_down_tiled(b->s->cuda, m->f->mlp, &m->g, m->f->type, m->h, m->f->inter, m->h_shared,
                        m->f->inter_shared, HIDDEN, m->n, m->place, m->acc, b->y, DTYPE_BF16);
}

static void do_ffn_layer(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    const struct rows wire = {DTYPE_F8E4M3, b->z, b->g, HIDDEN},
                      x = {DTYPE_BF16, b->x, NULL, HIDDEN};
    b->ops->copy(b->d, b->s, &wire, &x, m->n, HIDDEN);
    do_ffn(b, what);
}

static void mixture(struct bench *b, struct mixture *m, int n, enum choice choice)
{
    static const char *const names[] = {"even", "random", "skewed"};
    char name[80];
    m->n = n;
    m->g.capacity = n;
    m->early = cuda_down_early(m->f->type, n, HELD, m->f->inter_shared, m->place.slots);
    choose(b, m, choice);
    double columns = (double)m->held * m->f->inter + (double)n * m->f->inter_shared;
    double held = 1.0 * HIDDEN * (HELD * m->f->inter + m->f->inter_shared);
    struct traffic up = {.flops = 4 * HIDDEN * columns}, down = {.flops = 2 * HIDDEN * columns};
    up.least = 2 * held + 2.0 * n * HIDDEN + 2 * columns;
    down.least = held + 2 * columns + 2.0 * n * HIDDEN;
    struct traffic all = {.flops = up.flops + down.flops, .least = 3 * held + 4.0 * n * HIDDEN};
    snprintf(name, sizeof name, "ffn layer, graph, %s, %d rows", names[choice], n);
    show_graph(b, name, do_ffn_layer, m, all);
    do_group(b, m);
    if (choice == RANDOM) {
        snprintf(name, sizeof name, "ffn group, %d rows", n);
        show_bytes(b, name, do_group, m, n * TOPK * 8.0);
    }
    snprintf(name, sizeof name, "ffn up, %s, %d rows", names[choice], n);
    show(b, name, do_up, m, up);
    snprintf(name, sizeof name, "ffn down, %s, %d rows (%s)", names[choice], n,
             m->early ? "early" : "late");
    show(b, name, do_down, m, down);
}

static void experts(struct bench *b)
{
    struct mlp_part mlps[HELD], shared;
    for (int i = 0; i <= HELD; i++) {
        size_t inter = i < HELD ? 640 : 320;
        struct mlp_part m = {.gate = part(b, inter, HIDDEN, DTYPE_F8E4M3),
                             .up = part(b, inter, HIDDEN, DTYPE_F8E4M3),
                             .down = part(b, HIDDEN, inter, DTYPE_F8E4M3)};
        *(i < HELD ? &mlps[i] : &shared) = m;
    }
    struct ffn_part f = {.n_experts = HELD, .experts = mlps, .shared = shared};
    struct mixture m = {.f = b->ops->ffn_create(b->d, &f, WEIGHT_KEEP)};
    m.place = cuda_down_place(m.f->type, HIDDEN, b->d->processors, b->d->shared);
    m.g.experts = HELD;
    m.g.count = b->dev->alloc(b->d, (HELD + 1) * 4);
    m.g.finish = b->dev->alloc(b->d, (HELD + 1) * 4);
    m.g.entry = b->dev->alloc(b->d, (HELD + 1) * MOST * sizeof *m.g.entry);
    m.h = numbers(b, (size_t)MOST * TOPK * 640 * 2, true);
    m.h_shared = numbers(b, (size_t)MOST * 320 * 2, true);
    m.acc = numbers(b, (size_t)MOST * HIDDEN * 4, false);
    for (int n = 64; n <= MOST; n *= n == 256 ? 8 : 4)
        mixture(b, &m, n, RANDOM);
    mixture(b, &m, 512, RANDOM);
    mixture(b, &m, 256, EVEN);
    mixture(b, &m, 2048, EVEN);
    mixture(b, &m, 256, SKEWED);
    mixture(b, &m, 2048, SKEWED);
    b->ops->ffn_destroy(b->d, m.f);
}

/* ---- sampling -------------------------------------------------------------------------------- */

struct draw {
    float *logits;
    struct sample_params *params;
};

static void do_sample(struct bench *b, const void *what)
{
    const struct draw *d = what;
    b->ops->sample(b->d, b->s, d->logits, ROWS, VOCAB, d->params, b->ids, b->weights);
}

static void sampling(struct bench *b)
{
    static const struct {
        const char *name;
        struct sample_params params;
    } all[] = {{"sample greedy", {.top_p = 1}},
               {"sample temperature 1", {.temperature = 1, .top_p = 1, .uniform = 0.5f}},
               {"sample top_p 0.95", {.temperature = 1, .top_p = 0.95f, .uniform = 0.5f}},
               {"sample top_k 50, top_p 0.95",
                {.temperature = 1, .top_p = 0.95f, .top_k = 50, .uniform = 0.5f}}};
    struct draw d = {.logits = numbers(b, (size_t)ROWS * VOCAB * 4, false)};
    d.params = b->dev->alloc(b->d, ROWS * sizeof *d.params);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct sample_params params[ROWS];
        for (int j = 0; j < ROWS; j++)
            params[j] = all[i].params;
        b->dev->upload(b->d, b->s, d.params, params, sizeof params);
        b->dev->stream_sync(b->d, b->s);
        show_bytes(b, all[i].name, do_sample, &d, ROWS * (double)VOCAB * 4);
    }
    b->dev->release(b->d, d.logits);
    b->dev->release(b->d, d.params);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static void open_bench(struct bench *b, enum dtype kv)
{
    struct device_config config = {.threads = 1,
                                   .timed = true,
                                   .act = DTYPE_BF16,
                                   .kv = kv,
                                   .limits = {.rows = MOST,
                                              .hidden = HIDDEN,
                                              .q_width = WIDTH,
                                              .heads = HEADS,
                                              .head_dim = DIM,
                                              .context = TOKENS,
                                              .vocab = VOCAB,
                                              .logit_rows = ROWS,
                                              .experts = HELD,
                                              .topk = TOPK,
                                              .inter = 640}};
    struct err e;
    *b = (struct bench){.dev = backend_cuda.device, .ops = backend_cuda.ops};
    if (b->dev->open(&config, &b->d, &e) != 0)
        die("%s", e.text);
    b->s = b->dev->stream_create(b->d);
    b->from = b->dev->event_create(b->d);
    b->to = b->dev->event_create(b->d);
}

static void fill_bench(struct bench *b)
{
    size_t rows = (size_t)LM_ROWS * 64 + WIDTH;
    uint32_t state = 1;
    b->flush = numbers(b, FLUSH, false);
    b->sink = b->dev->alloc(b->d, 256);
    b->x = numbers(b, (size_t)MOST * WIDTH * 2, true);
    b->y = numbers(b, (size_t)MOST * WIDTH * 4, true);
    b->z = numbers(b, (size_t)MOST * WIDTH * 2, true);
    b->f = numbers(b, (size_t)MOST * HIDDEN * 4, false);
    b->g = numbers(b, (size_t)MOST * HIDDEN * 4, false);
    b->angles = numbers(b, (size_t)TOKENS * DIM * 4, false);
    b->ids = b->dev->alloc(b->d, MOST * TOPK * 4);
    b->weights = numbers(b, MOST * TOPK * 4, false);
    b->w8 = mem_new(rows, 1);
    b->w16 = mem_new(rows, 2);
    for (size_t i = 0; i < rows; i++) {
        state = state * 1664525u + 1013904223u;
        b->w8[i] = (unsigned char)(state >> 24 & 0xb7); /* below 2 */
        b->w16[i] = (uint16_t)((state >> 16 & 0x80ff) | 0x3f00);
    }
    b->scales = mem_new((size_t)LM_ROWS, sizeof *b->scales);
    for (int i = 0; i < LM_ROWS; i++)
        b->scales[i] = 1.0f / (float)(64 + i % 7);
}

static void measure(char **only)
{
    static struct layer layer;
    struct bench b;
    for (enum dtype kv = DTYPE_BF16; kv <= DTYPE_F8E4M3; kv++) {
        open_bench(&b, kv);
        b.only = only;
        fill_bench(&b);
        measure_card(&b);
        make_layer(&b, &layer);
        if (kv == DTYPE_BF16) {
            small_operations(&b);
            projections(&b, &layer);
            experts(&b);
            sampling(&b);
        }
        attention(&b, "MFA 64/1/256", &mfa);
        attention(&b, "GQA 64/4/128", &gqa);
        layer_graphs(&b, &layer);
        b.dev->close(b.d); /* and with it, as the program ends, what it holds */
    }
}

static int cases(void)
{
    int failures = 0;
    for (const struct kernel_case *c = kernel_cases; c->name; c++) {
        int failed = c->run(&backend_cuda);
        printf("%-20s %s\n", c->name, failed ? "WRONG" : "right");
        failures += failed;
    }
    return failures;
}

int main(int argc, char **argv)
{
    struct err e = {""};
    if (backend_cuda.usable(&e) != 0) {
        printf("no GPU: %s\n", e.text);
        return NO_GPU;
    }
    struct bench b;
    char text[128];
    open_bench(&b, DTYPE_BF16);
    b.dev->describe(b.d, text, sizeof text);
    b.dev->close(b.d);
    if (strncmp(text, "emulation", 9) == 0) {
        printf("no GPU: this is the emulation, its times mean nothing\n");
        return NO_GPU;
    }
    printf("%s\n", text);
    if ((argc < 2 || strcmp(argv[1], "cases") == 0) && cases() > 0)
        return 1;
    if (argc < 2 || strcmp(argv[1], "times") == 0)
        measure(argc > 2 ? argv + 2 : NULL);
    return 0;
}
