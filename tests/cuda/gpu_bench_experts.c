/* gpu_bench_experts.c - the experts: each kernel alone, and a layer as a captured graph. */
#include "tests/cuda/gpu_bench.h"

#include <stdio.h>

/* ---- experts --------------------------------------------------------------------------------- */

enum choice { EVEN, RANDOM, SKEWED };

struct mixture {
    struct ffn *f;
    int n, held; /* rows; their choices that are held here */
    struct cuda_groups g;
    void *h, *h_shared;
    float *shares, *shared;
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
    cuda_group(b->s->cuda, &m->g, b->ids, b->weights, TOPK, m->n, 0);
}

static void do_up(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    cuda_ffn_up_tiled(b->s->cuda, m->f->mlp, &m->g, m->f->type, b->x, HIDDEN, m->n, TOPK, m->h,
                      m->f->inter, m->h_shared, m->f->inter_shared, b->d->processors);
}

static void do_down(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    cuda_ffn_down_tiled(b->s->cuda, m->f->mlp, &m->g, m->f->type, m->h, m->f->inter, m->h_shared,
                        m->f->inter_shared, HIDDEN, m->n, TOPK, m->shares, m->shared,
                        b->d->processors);
}

static void do_add(struct bench *b, const void *what)
{
    const struct mixture *m = what;
    cuda_ffn_add(b->s->cuda, &m->g, TOPK, m->shares, m->shared, HIDDEN, m->n, b->y, DTYPE_BF16);
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
    double held = 1.0 * HIDDEN * (HELD * m->f->inter + m->f->inter_shared);
    struct traffic up = {.flops = 4 * HIDDEN * columns}, down = {.flops = 2 * HIDDEN * columns};
    up.least = 2 * held + 2.0 * n * HIDDEN + 2 * columns;
    down.least = held + 2 * columns + 2.0 * n * HIDDEN;
    struct traffic all = {.flops = up.flops + down.flops, .least = 3 * held + 4.0 * n * HIDDEN};
    snprintf(name, sizeof name, "ffn layer, graph, %s, %d rows", names[choice], n);
    bench_show_graph(b, name, do_ffn_layer, m, all);
    do_group(b, m);
    if (choice == RANDOM) {
        snprintf(name, sizeof name, "ffn group, %d rows", n);
        bench_show_bytes(b, name, do_group, m, n * TOPK * 8.0);
    }
    snprintf(name, sizeof name, "ffn up, %s, %d rows", names[choice], n);
    bench_show(b, name, do_up, m, up);
    snprintf(name, sizeof name, "ffn down, %s, %d rows", names[choice], n);
    bench_show(b, name, do_down, m, down);
    snprintf(name, sizeof name, "ffn add, %s, %d rows", names[choice], n);
    bench_show_bytes(b, name, do_add, m, (m->held + n) * HIDDEN * 4.0 + n * HIDDEN * 2.0);
}

void bench_experts(struct bench *b)
{
    struct mlp_part mlps[HELD], shared;
    for (int i = 0; i <= HELD; i++) {
        size_t inter = i < HELD ? 640 : 320;
        struct mlp_part m = {.gate = bench_part(b, inter, HIDDEN, DTYPE_F8E4M3),
                             .up = bench_part(b, inter, HIDDEN, DTYPE_F8E4M3),
                             .down = bench_part(b, HIDDEN, inter, DTYPE_F8E4M3)};
        *(i < HELD ? &mlps[i] : &shared) = m;
    }
    struct ffn_part f = {.n_experts = HELD, .experts = mlps, .shared = shared};
    struct mixture m = {.f = b->ops->ffn_create(b->d, &f, WEIGHT_KEEP)};
    m.g.experts = HELD;
    m.g.count = b->dev->alloc(b->d, HELD * 4);
    m.g.start = b->dev->alloc(b->d, HELD * 4);
    m.g.entry = b->dev->alloc(b->d, HELD * MOST * sizeof *m.g.entry);
    m.g.place = b->dev->alloc(b->d, MOST * TOPK * 4);
    m.h = bench_numbers(b, (size_t)MOST * TOPK * 640 * 2, true);
    m.h_shared = bench_numbers(b, (size_t)MOST * 320 * 2, true);
    m.shares = b->dev->alloc(b->d, (size_t)MOST * TOPK * HIDDEN * 4);
    m.shared = b->dev->alloc(b->d, (size_t)MOST * HIDDEN * 4);
    for (int n = 64; n <= MOST; n *= n == 256 ? 8 : 4)
        mixture(b, &m, n, RANDOM);
    mixture(b, &m, 512, RANDOM);
    mixture(b, &m, 256, EVEN);
    mixture(b, &m, 2048, EVEN);
    mixture(b, &m, 256, SKEWED);
    mixture(b, &m, 2048, SKEWED);
    b->ops->ffn_destroy(b->d, m.f);
}
