/* gpu_bench_experts.c - the experts: each kernel alone, and a layer as a captured graph. */
#include "tests/cuda/gpu_bench.h"

#include <stdio.h>

/* ---- experts --------------------------------------------------------------------------------- */

enum choice { EVEN, RANDOM, SKEWED };

/* An FFN rank's part of a model: experts of all, columns of each and of the shared one. */
struct deal {
    const char *of;
    int held, all, topk, inter, shared;
};

static const struct deal step3 = {"", HELD, ALL, TOPK, 640, 320};
/* One of eight FFN ranks, all in tensor parallel. */
static const struct deal deepseek = {"DeepSeek-V3 ", 256, 256, 8, 256, 256};

struct mixture {
    const struct deal *deal;
    struct ffn *f;
    int n, held; /* rows; their choices that are held here */
    struct cuda_groups g;
    void *h, *h_shared;
    float *shares, *shared;
};

/* Different experts for every row: all as often; by chance; or expert e with a chance of 1 / (e + 8). */
static void choose(struct bench *b, struct mixture *m, enum choice choice)
{
    const struct deal *d = m->deal;
    int topk = d->topk, most = d->all - 1;
    int32_t ids[MOST * MOST_TOPK];
    uint32_t state = 1;
    double sum[257] = {0};
    for (int e = 0; e <= most; e++)
        sum[e + 1] = sum[e] + (choice == SKEWED ? 1.0 / (e / 2 + e % 2 * d->held + 8) : 1);
    m->held = 0;
    for (int i = 0; i < m->n; i++)
        for (int k = 0; k < topk; k++) {
            int e = (i * 7 + k * 16) % d->all;
            bool again = choice != EVEN;
            while (again) {
                state = state * 1664525u + 1013904223u;
                double at = (state >> 8) * 0x1p-24 * sum[d->all];
                for (e = 0; e < most && sum[e + 1] <= at;)
                    e++;
                again = false;
                for (int j = 0; j < k; j++)
                    again = again || ids[i * topk + j] == e;
            }
            ids[i * topk + k] = e;
            m->held += e < d->held;
        }
    b->dev->upload(b->d, b->s, b->ids, ids, (size_t)(m->n * topk) * 4);
    b->dev->stream_sync(b->d, b->s);
}

static void do_ffn(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    b->ops->ffn(b->d, b->s, m->f, b->x, b->ids, b->weights, m->deal->topk, m->n, b->y, DTYPE_BF16);
}

/* precision.combine: f32 */
static void do_exact_ffn(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    b->ops->ffn(b->d, b->s, m->f, b->x, b->ids, b->weights, m->deal->topk, m->n, b->y, DTYPE_F64);
}

static void do_group(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    cuda_group(b->s->cuda, &m->g, b->ids, b->weights, m->deal->topk, m->n, 0);
}

static void do_up(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    cuda_ffn_up_tiled(b->s->cuda, m->f->mlp, &m->g, m->f->type, b->x, HIDDEN, m->n, m->deal->topk,
                      m->h, m->f->inter, m->h_shared, m->f->inter_shared, b->d->processors);
}

static bool joins(const struct mixture *m)
{
    return cuda_ffn_joins(m->g.experts, m->n, m->deal->topk, HIDDEN, m->f->inter_shared);
}

/* With the sums, where a kernel of products makes them. */
static void do_down(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    cuda_ffn_down_tiled(b->s->cuda, m->f->mlp, &m->g, m->f->type, m->h, m->f->inter, m->h_shared,
                        m->f->inter_shared, HIDDEN, m->n, m->deal->topk, -1, m->shares, m->shared,
                        joins(m) ? b->y : NULL, b->d->processors);
}

static void do_add(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    cuda_ffn_add(b->s->cuda, &m->g, m->deal->topk, m->shares, m->shared, HIDDEN, m->n, b->y);
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
    choose(b, m, choice);
    double columns = (double)m->held * m->f->inter + (double)n * m->f->inter_shared;
    double held = 1.0 * HIDDEN * (m->deal->held * m->f->inter + m->f->inter_shared);
    struct traffic up = {.flops = 4 * HIDDEN * columns}, down = {.flops = 2 * HIDDEN * columns};
    up.least = 2 * held + 2.0 * n * HIDDEN + 2 * columns;
    down.least = held + 2 * columns + 2.0 * n * HIDDEN;
    struct traffic all = {.flops = up.flops + down.flops, .least = 3 * held + 4.0 * n * HIDDEN};
    const char *of = m->deal->of;
    snprintf(name, sizeof name, "%sffn layer, graph, %s, %d rows", of, names[choice], n);
    bench_show_graph(b, name, do_ffn_layer, m, all);
    do_group(b, m);
    if (choice == RANDOM) {
        snprintf(name, sizeof name, "%sffn, exact sums, %d rows", of, n);
        bench_show(b, name, do_exact_ffn, m, all);
        snprintf(name, sizeof name, "%sffn group, %d rows", of, n);
        bench_show_bytes(b, name, do_group, m, n * m->deal->topk * 8.0);
    }
    snprintf(name, sizeof name, "%sffn up, %s, %d rows", of, names[choice], n);
    bench_show(b, name, do_up, m, up);
    snprintf(name, sizeof name, "%sffn down, %s, %d rows", of, names[choice], n);
    bench_show(b, name, do_down, m, down);
    if (joins(m))
        return;
    snprintf(name, sizeof name, "%sffn add, %s, %d rows", of, names[choice], n);
    bench_show_bytes(b, name, do_add, m, (m->held + n) * HIDDEN * 4.0 + n * HIDDEN * 2.0);
}

static struct mixture make(struct bench *b, const struct deal *deal)
{
    struct mlp_part mlps[256], shared;
    size_t cuts[2][2] = {{(size_t)deal->inter / 256 * 128, (size_t)deal->inter},
                         {(size_t)deal->shared / 256 * 128, (size_t)deal->shared}};
    for (int i = 0; i <= deal->held; i++) {
        bool routed = i < deal->held;
        size_t inter = (size_t)(routed ? deal->inter : deal->shared);
        struct mlp_part m = {.gate = bench_part(b, inter, HIDDEN, DTYPE_F8E4M3),
                             .up = bench_part(b, inter, HIDDEN, DTYPE_F8E4M3),
                             .down = bench_part(b, HIDDEN, inter, DTYPE_F8E4M3),
                             .cuts = cuts[!routed],
                             .n_cuts = 2};
        *(routed ? &mlps[i] : &shared) = m;
    }
    struct ffn_part f = {.n_experts = deal->held, .experts = mlps, .shared = shared};
    struct mixture m = {.deal = deal, .f = b->ops->ffn_create(b->d, &f, WEIGHT_KEEP)};
    size_t held = (size_t)deal->held, pairs = MOST * (size_t)deal->topk;
    m.g.experts = deal->held;
    m.g.count = b->dev->alloc(b->d, held * 4);
    m.g.start = b->dev->alloc(b->d, held * 4);
    m.g.entry = b->dev->alloc(b->d, held * MOST * sizeof *m.g.entry);
    m.g.place = b->dev->alloc(b->d, pairs * 4);
    m.g.weight = b->dev->alloc(b->d, pairs * 4);
    m.g.n_turns = FFN_TURNS(HIDDEN);
    m.g.turns = b->dev->alloc(b->d, (size_t)m.g.n_turns * 4);
    m.h = bench_numbers(b, pairs * (size_t)deal->inter * 2, true);
    m.h_shared = bench_numbers(b, MOST * (size_t)deal->shared * 2, true);
    m.shares = b->dev->alloc(b->d, pairs * HIDDEN * 4);
    m.shared = b->dev->alloc(b->d, (size_t)MOST * HIDDEN * 4);
    return m;
}

static void drop(struct bench *b, struct mixture *m)
{
    void *all[] = {m->g.count, m->g.start, m->g.entry,  m->g.place, m->g.weight,
                   m->g.turns, m->h,       m->h_shared, m->shares,  m->shared};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        b->dev->release(b->d, all[i]);
    b->ops->ffn_destroy(b->d, m->f);
}

void bench_experts(struct bench *b)
{
    struct mixture m = make(b, &step3);
    for (int n = 64; n <= MOST; n *= n == 256 ? 8 : 4)
        mixture(b, &m, n, RANDOM);
    mixture(b, &m, 512, RANDOM);
    mixture(b, &m, 256, EVEN);
    mixture(b, &m, 2048, EVEN);
    mixture(b, &m, 256, SKEWED);
    mixture(b, &m, 2048, SKEWED);
    drop(b, &m);
    m = make(b, &deepseek);
    for (int n = 64; n <= MOST; n *= n == 256 ? 8 : 4)
        mixture(b, &m, n, RANDOM);
    drop(b, &m);
}
