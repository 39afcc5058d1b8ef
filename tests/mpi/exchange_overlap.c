/* exchange_overlap TRANSPORT ATTENTION EXPERT TENSOR MILLISECONDS - do messages move while both sides compute?
 *
 * Computing is played by sleeping, so that what is measured is the exchange and not the machine: each
 * role takes so many milliseconds for each layer and micro-batch, and calls nothing meanwhile. Three
 * micro-batches hide a message that takes as long as that. Prints the shares of the time in which
 * the two roles worked, added up, in percent: 200 when neither ever waited, 100 when they take turns.
 * The best of three passes.
 */
#include "base/clock.h"
#include "base/err.h"
#include "exchange/exchange.h"
#include "roles/comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LAYERS = 8, MICRO_BATCHES = 3, ROWS = 64, HIDDEN = 4096, TOPK = 8, PASSES = 3 };

static const bool routed[LAYERS] = {false, true, true, true, true, true, true, true};

struct test {
    struct comm comm;
    struct endpoint end;
    const struct exchange_ops *ops;
    struct exchange *x;
    double work_seconds, worked; /* of a layer and micro-batch; in this pass */
};

static void work(struct test *t)
{
    double start = clock_now();
    nanosleep(&(struct timespec){.tv_nsec = (long)(t->work_seconds * 1e9)}, NULL);
    t->worked += clock_now() - start;
}

static void attention_layer(struct test *t, int layer, int m)
{
    if (layer > 0)
        t->ops->collect(t->x, layer - 1, m);
    if (layer == LAYERS)
        return;
    work(t);
    struct wire w = t->ops->out(t->x, m);
    memset(w.rows, layer, (size_t)ROWS * HIDDEN * sizeof(bf16_t));
    memset(w.ids, 0, (size_t)ROWS * TOPK * sizeof *w.ids);
    memset(w.weights, 0, (size_t)ROWS * TOPK * sizeof *w.weights);
    t->ops->dispatch(t->x, layer, m);
}

static void ffn_layer(struct test *t, int layer, int m)
{
    if (layer == LAYERS)
        return;
    struct wire w = t->ops->receive(t->x, layer, m);
    void *partial = t->ops->reply_buffer(t->x, m);
    work(t);
    memset(partial, 0, (size_t)w.n * HIDDEN * sizeof(float));
    t->ops->reply(t->x, layer, m);
}

/* The sum of the shares of both roles in one step, on the average rank. */
static double pass(struct test *t, const int *rows)
{
    comm_barrier(&t->comm.cell);
    double start = clock_now(), shares = 0, *all = NULL;
    size_t total;
    t->worked = 0;
    t->ops->begin(t->x, rows);
    for (int layer = 0; layer <= LAYERS; layer++)
        for (int m = 0; m < MICRO_BATCHES; m++)
            if (t->end.place.attention)
                attention_layer(t, layer, m);
            else
                ffn_layer(t, layer, m);
    t->ops->end(t->x);
    double mine = t->worked / (clock_now() - start);
    comm_gather(&t->comm.cell, &mine, sizeof mine, (void **)&all, &total);
    for (int i = 0; all && i < t->comm.cell.size; i++) {
        bool attention = i < t->end.place.layout.attention;
        int ranks =
            attention ? t->end.place.layout.attention : layout_ffn_ranks(&t->end.place.layout);
        shares += 100 * all[i] / ranks;
    }
    free(all);
    return shares;
}

int main(int argc, char **argv)
{
    static struct test t;
    struct err e = {{0}};
    int rows[16 * MICRO_BATCHES_MAX];
    double best = 0;
    comm_start(&t.comm, &argc, &argv);
    if (argc != 6)
        die("usage: exchange_overlap TRANSPORT ATTENTION EXPERT TENSOR MILLISECONDS");
    t.ops = exchange_find(argv[1]);
    t.work_seconds = atof(argv[5]) / 1e3;
    struct layout layout = {atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), false, 0};
    const struct exchange_shape shape = {.micro_batches = MICRO_BATCHES,
                                         .layers = LAYERS,
                                         .routed = routed,
                                         .hidden = HIDDEN,
                                         .topk = TOPK,
                                         .rows = ROWS,
                                         .dispatch = DTYPE_BF16,
                                         .combine = DTYPE_F32};
    if (!t.ops || comm_split(&t.comm, &layout, 1, ROLE_ANY, &e) != 0)
        die("%s: %s", argv[1], e.text);
    const struct backend *b = backend_find("cpu", "plain", &e);
    struct device_config config = {.threads = 1, .act = DTYPE_F32, .kv = DTYPE_F32};
    if (!b || b->device->open(&config, &t.end.device, &e) != 0)
        die("%s", e.text);
    t.end.backend = b;
    t.end.place = t.comm.place;
    t.end.cell = t.comm.cell.mpi;
    t.end.compute = b->device->stream_create(t.end.device);
    t.x = t.ops->open(&shape, &t.end);
    for (int i = 0; i < layout.attention * MICRO_BATCHES; i++)
        rows[i] = ROWS;
    for (int i = 0; i < PASSES; i++) {
        double shares = pass(&t, rows);
        best = shares > best ? shares : best;
    }
    if (comm_is_writer(&t.comm))
        printf("%.1f\n", best);
    t.ops->close(t.x);
    b->device->stream_destroy(t.end.device, t.end.compute);
    b->device->close(t.end.device);
    comm_finish(&t.comm);
    return 0;
}
