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
#include "tests/cuda/gpu_bench.h"
#include "tests/kernels/cases.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_GPU  77
#define RUNS    11
#define LM_ROWS 32256 /* of lm_head, packed here: a quarter */

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

double bench_show(struct bench *b, const char *name, bench_op op, const void *what,
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

double bench_show_bytes(struct bench *b, const char *name, bench_op op, const void *what,
                        double bytes)
{
    return bench_show(b, name, op, what, (struct traffic){bytes, bytes, 0});
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

void bench_show_graph(struct bench *b, const char *name, bench_op op, const void *what,
                      struct traffic t)
{
    if (!wanted(b, name))
        return;
    struct graph *g = capture(b, op, what);
    bench_show(b, name, do_graph, g, t);
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
void *bench_numbers(struct bench *b, size_t bytes, bool bf16)
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
struct weight_part bench_part(const struct bench *b, size_t n, size_t k, enum dtype t)
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

struct weight *bench_weight(struct bench *b, size_t n, size_t k, enum dtype t)
{
    struct weight_part p = bench_part(b, n, k, t);
    return b->ops->weight_create(b->d, &p, WEIGHT_KEEP);
}

/* bytes: of one weight. */
static void linear_of(struct bench *b, const char *of, const struct weight *w, const char *type,
                      double bytes, enum dtype y_dtype, int most)
{
    for (int n = ROWS; n <= most; n *= n == ROWS ? 2 : 4) {
        char name[64];
        struct product p = {w, n < MOST ? n : MOST, y_dtype};
        snprintf(name, sizeof name, "linear %s %s, %d rows", of, type, p.n);
        bench_show(b, name, do_linear, &p,
                   traffic_linear(p.n, w->m.n, w->m.k, bytes, (double)dtype_size(y_dtype)));
    }
}

static void linear(struct bench *b, const char *of, const struct weight *w, enum dtype t,
                   enum dtype y_dtype, int most)
{
    linear_of(b, of, w, dtype_name(t), (double)dtype_size(t), y_dtype, most);
}

/* Its o_proj is Step-3's. */
static void of_deepseek(struct bench *b)
{
    static const struct {
        const char *name;
        size_t n, k;
    } all[] = {{"DeepSeek q_a 1536x7168", 1536, 7168},
               {"DeepSeek q_b 24576x1536", 24576, 1536},
               {"DeepSeek kv_a 576x7168", 576, 7168}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct weight *w = bench_weight(b, all[i].n, all[i].k, DTYPE_F8E4M3);
        linear(b, all[i].name, w, DTYPE_F8E4M3, DTYPE_BF16, 512);
        b->ops->weight_destroy(b->d, w);
    }
}

static void projections(struct bench *b, const struct bench_layer *l)
{
    linear(b, "q_proj 2048x7168", l->weights.q_down, DTYPE_F8E4M3, DTYPE_BF16, MOST);
    linear(b, "k_proj 256x7168", l->weights.k, DTYPE_F8E4M3, DTYPE_BF16, MOST);
    linear(b, "wq 16384x2048", l->weights.q_up, DTYPE_F8E4M3, DTYPE_BF16, MOST);
    linear(b, "o_proj 7168x16384", l->weights.o, DTYPE_F8E4M3, DTYPE_F32, MOST);
    of_deepseek(b);
    struct weight_part p = bench_part(b, HIDDEN, 4096, DTYPE_BF16);
    struct weight *w = b->ops->weight_create(b->d, &p, WEIGHT_INT4);
    linear_of(b, "7168x4096", w, "int4", 0.625, DTYPE_BF16, 512);
    b->ops->weight_destroy(b->d, w);
    w = bench_weight(b, HIDDEN, 4096, DTYPE_BF16);
    linear(b, "7168x4096", w, DTYPE_BF16, DTYPE_BF16, 512);
    b->ops->weight_destroy(b->d, w);
    w = bench_weight(b, LM_ROWS, HIDDEN, DTYPE_BF16);
    linear(b, "lm_head 32256x7168", w, DTYPE_BF16, DTYPE_F32, ROWS);
    b->ops->weight_destroy(b->d, w);
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
    struct draw d = {.logits = bench_numbers(b, (size_t)ROWS * VOCAB * 4, false)};
    d.params = b->dev->alloc(b->d, ROWS * sizeof *d.params);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct sample_params params[ROWS];
        for (int j = 0; j < ROWS; j++)
            params[j] = all[i].params;
        b->dev->upload(b->d, b->s, d.params, params, sizeof params);
        b->dev->stream_sync(b->d, b->s);
        bench_show_bytes(b, all[i].name, do_sample, &d, ROWS * (double)VOCAB * 4);
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
                                              .heads = MOST_HEADS,
                                              .head_dim = MOST_DIM,
                                              .context = TOKENS,
                                              .vocab = VOCAB,
                                              .logit_rows = ROWS,
                                              .experts = MOST_HELD,
                                              .topk = MOST_TOPK,
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
    b->flush = bench_numbers(b, FLUSH, false);
    b->sink = b->dev->alloc(b->d, 256);
    b->x = bench_numbers(b, (size_t)MOST * WIDTH * 2, true);
    b->y = bench_numbers(b, (size_t)MOST * WIDTH * 4, true);
    b->z = bench_numbers(b, (size_t)MOST * WIDTH * 2, true);
    b->f = bench_numbers(b, (size_t)MOST * HIDDEN * 4, false);
    b->g = bench_numbers(b, (size_t)MOST * HIDDEN * 4, false);
    b->angles = bench_numbers(b, (size_t)TOKENS * DIM * 4, false);
    b->ids = b->dev->alloc(b->d, MOST * MOST_TOPK * 4);
    b->weights = bench_numbers(b, MOST * MOST_TOPK * 4, false);
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
    static struct bench_layer layer;
    struct bench b;
    for (enum dtype kv = DTYPE_BF16; kv <= DTYPE_F8E4M3; kv++) {
        open_bench(&b, kv);
        b.only = only;
        fill_bench(&b);
        measure_card(&b);
        bench_make_layer(&b, &layer);
        if (kv == DTYPE_BF16) {
            bench_small(&b);
            projections(&b, &layer);
            bench_experts(&b);
            sampling(&b);
        }
        bench_attention(&b, "MFA 64/1/256", &bench_mfa);
        bench_attention(&b, "GQA 64/4/128", &bench_gqa);
        bench_attention(&b, "MLA 128/1/576/512", &bench_mla);
        bench_layers(&b, &layer);
        b.dev->close(b.d); /* and with it, as the program ends, what it holds */
    }
}

static int cases(void)
{
    int failures = 0;
    for (const struct kernel_case *c = kernel_cases; c->name; c++) {
        if (c->cpu_only)
            continue;
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
