/* exchange_traffic TRANSPORT ATTENTION EXPERT TENSOR DISPATCH - every row of every rank, checked.
 *
 * Random row counts, many steps: each attention rank fills its rows with numbers that say where
 * they come from, each FFN rank checks all of them and answers with numbers of its own, which are
 * checked again. A random pause here and there makes ranks meet in different orders. Exit status 0:
 * all was right.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/philox.h"
#include "exchange/exchange.h"
#include "roles/comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LAYERS = 5, STEPS = 60, ROWS = 9, HIDDEN = 131, TOPK = 3 };

static const bool routed[LAYERS] = {false, true, true, false, true};

struct test {
    struct comm comm;
    struct exchange_shape shape;
    struct endpoint end;
    const struct exchange_ops *ops;
    struct exchange *x;
    int rows[16 * MICRO_BATCHES_MAX];
    uint32_t step;
};

/* A number that everybody can compute: who sent what, when. Small enough for bf16 to hold exactly.
 */
static float mark(const struct test *t, int layer, int m, int a, int row, int column)
{
    uint32_t counter[4] = {t->step, (uint32_t)(layer * 16 + m), (uint32_t)(a * 1000 + row),
                           (uint32_t)column};
    uint32_t out[4];
    philox4x32(counter, (uint32_t[2]){1, 2}, out);
    return (float)(out[0] % 256);
}

static void put(enum dtype t, void *p, size_t i, float v)
{
    if (t == DTYPE_F32)
        ((float *)p)[i] = v;
    else if (t == DTYPE_BF16)
        ((bf16_t *)p)[i] = bf16_from_f32(v);
    else
        ((uint8_t *)p)[i] = (uint8_t)v;
}

static float get(enum dtype t, const void *p, size_t i)
{
    if (t == DTYPE_F32)
        return ((const float *)p)[i];
    if (t == DTYPE_BF16)
        return f32_from_bf16(((const bf16_t *)p)[i]);
    return ((const uint8_t *)p)[i];
}

static void expect(const struct test *t, float found, float wanted, const char *what, int layer,
                   int m)
{
    if (!(found == wanted))
        die("step %u layer %d micro-batch %d: %s is %g, wanted %g", t->step, layer, m, what,
            (double)found, (double)wanted);
}

static void maybe_pause(const struct test *t, int salt)
{
    if (philox_uniform(7, t->step, (uint32_t)t->comm.rank, (uint32_t)salt) < 0.02f)
        nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
}

static void send_rows(struct test *t, int layer, int m)
{
    struct wire w = t->ops->out(t->x, m);
    for (int r = 0; r < w.n; r++) {
        for (int c = 0; c < HIDDEN; c++)
            put(t->shape.dispatch, w.rows, (size_t)(r * HIDDEN + c),
                mark(t, layer, m, t->end.place.index, r, c));
        for (int g = 0; w.scales && g < 2; g++)
            w.scales[r * 2 + g] = mark(t, layer, m, t->end.place.index, r, 5000 + g);
        for (int k = 0; routed[layer] && k < TOPK; k++) {
            w.ids[r * TOPK + k] = (int32_t)mark(t, layer, m, t->end.place.index, r, 2000 + k);
            w.weights[r * TOPK + k] = mark(t, layer, m, t->end.place.index, r, 3000 + k);
        }
    }
    t->ops->dispatch(t->x, layer, m);
}

static void check_row(const struct test *t, const struct wire *w, int at, int layer, int m, int a,
                      int r)
{
    for (int c = 0; c < HIDDEN; c++)
        expect(t, get(t->shape.dispatch, w->rows, (size_t)(at * HIDDEN + c)),
               mark(t, layer, m, a, r, c), "a row", layer, m);
    for (int g = 0; w->scales && g < 2; g++)
        expect(t, w->scales[at * 2 + g], mark(t, layer, m, a, r, 5000 + g), "a scale", layer, m);
    for (int k = 0; routed[layer] && k < TOPK; k++) {
        expect(t, (float)w->ids[at * TOPK + k], mark(t, layer, m, a, r, 2000 + k), "an id", layer,
               m);
        expect(t, w->weights[at * TOPK + k], mark(t, layer, m, a, r, 3000 + k), "a weight", layer,
               m);
    }
}

/* Whose rows begin at `at`: the order is the transport's. */
static int whose(const struct test *t, const struct wire *w, int at, int layer, int m,
                 const bool *seen)
{
    for (int a = 0; a < t->end.place.layout.attention; a++) {
        int c = 0;
        while (c < 8 && get(t->shape.dispatch, w->rows, (size_t)(at * HIDDEN + c)) ==
                            mark(t, layer, m, a, 0, c))
            c++;
        if (c == 8 && !seen[a] && t->rows[a * t->shape.micro_batches + m] > 0)
            return a;
    }
    die("step %u layer %d micro-batch %d: nobody's row at %d", t->step, layer, m, at);
}

static void work(struct test *t, int layer, int m)
{
    struct wire w = t->ops->receive(t->x, layer, m);
    if (w.n == 0)
        return;
    int at = 0, a;
    bool seen[16] = {false};
    float *partial = t->ops->reply_buffer(t->x, m);
    for (; at < w.n && (a = whose(t, &w, at, layer, m, seen)) >= 0; seen[a] = true)
        for (int r = 0; r < t->rows[a * t->shape.micro_batches + m]; r++, at++) {
            check_row(t, &w, at, layer, m, a, r);
            for (int c = 0; c < HIDDEN; c++)
                partial[at * HIDDEN + c] =
                    mark(t, layer, m, a, r, c) + 1000.0f * (float)(t->end.place.index + 1);
        }
    expect(t, (float)w.n, (float)at, "the number of rows", layer, m);
    maybe_pause(t, 100 + layer * 4 + m);
    t->ops->reply(t->x, layer, m);
}

/* What the ranks of instance p answer a row's number with, together. */
static float instance_sum(const struct test *t, float value, int p)
{
    int tensor = t->end.place.layout.tensor, colocated = t->end.place.layout.colocated;
    float sum = 0;
    for (int r = 0; r < (colocated ? 1 : tensor); r++)
        sum += value + 1000.0f * (float)(p * tensor + r + 1);
    return sum;
}

static void check_partials(struct test *t, int layer, int m)
{
    const void *const *parts = t->ops->collect(t->x, layer, m);
    int index = t->end.place.index, n = t->rows[index * t->shape.micro_batches + m];
    const struct layout *l = &t->end.place.layout;
    for (int p = 0; p < layout_instances(l); p++)
        for (int r = 0; r < n; r++)
            for (int c = 0; c < HIDDEN; c++)
                expect(t, ((const float *)parts[p])[r * HIDDEN + c],
                       instance_sum(t, mark(t, layer, m, index, r, c), p), "a partial sum", layer,
                       m);
}

static void step(struct test *t)
{
    int n = t->end.place.layout.attention, mb = t->shape.micro_batches;
    for (int i = 0; i < n * mb; i++) {
        float u = philox_uniform(3, t->step, (uint32_t)i, 0);
        t->rows[i] = u < 0.2f ? 0 : (int)(u * (ROWS + 1)) % (ROWS + 1);
    }
    t->ops->begin(t->x, t->rows);
    for (int layer = 0; layer <= LAYERS; layer++)
        for (int m = 0; m < mb; m++) {
            bool mine = t->end.place.attention && t->rows[t->end.place.index * mb + m] > 0;
            maybe_pause(t, layer * 4 + m);
            if (mine && layer > 0)
                check_partials(t, layer - 1, m);
            if (mine && layer < LAYERS)
                send_rows(t, layer, m);
            if (t->end.place.ffn && layer < LAYERS)
                work(t, layer, m);
        }
    t->ops->end(t->x);
    comm_barrier(&t->comm.cell);
}

static const struct exchange_ops *find(const char *name)
{
    const struct exchange_ops *ops = exchange_find(name);
    if (!ops)
        die("no transport '%s'", name);
    return ops;
}

int main(int argc, char **argv)
{
    static struct test t;
    struct err e = {{0}};
    comm_start(&t.comm, &argc, &argv);
    if (argc != 6)
        die("usage: exchange_traffic TRANSPORT ATTENTION EXPERT TENSOR f32|bf16|fp8");
    t.ops = find(argv[1]);
    struct layout layout = {atoi(argv[2]), atoi(argv[3]), atoi(argv[4]),
                            strcmp(argv[1], "local") == 0, 0};
    t.shape = (struct exchange_shape){
        .layers = LAYERS,
        .routed = routed,
        .hidden = HIDDEN,
        .topk = TOPK,
        .rows = ROWS,
        .dispatch = argv[5][0] == 'b'   ? DTYPE_BF16
                    : argv[5][1] == '3' ? DTYPE_F32
                                        : DTYPE_F8E4M3,
        .combine = DTYPE_F32,
    };
    if (comm_split(&t.comm, &layout, 1, ROLE_ANY, &e) != 0)
        die("%s", e.text);
    const struct backend *b = backend_find("cpu", "plain", &e);
    struct device_config config = {.threads = 1, .act = DTYPE_F32, .kv = DTYPE_F32};
    if (!b || b->device->open(&config, &t.end.device, &e) != 0)
        die("%s", e.text);
    t.end.backend = b;
    t.end.place = t.comm.place;
    t.end.cell = t.comm.cell.mpi;
    t.end.compute = b->device->stream_create(t.end.device);
    for (t.shape.micro_batches = 1; t.shape.micro_batches <= MICRO_BATCHES_MAX;
         t.shape.micro_batches++) {
        t.x = t.ops->open(&t.shape, &t.end);
        for (t.step = 0; t.step < STEPS; t.step++)
            step(&t);
        t.ops->close(t.x);
    }
    b->device->stream_destroy(t.end.device, t.end.compute);
    b->device->close(t.end.device);
    if (t.comm.rank == 0)
        printf("%s: all rows and partial sums right\n", t.ops->name);
    comm_finish(&t.comm);
    return 0;
}
