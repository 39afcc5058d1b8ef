/* shared.c - the exchange between ranks of one host, through memory they share.
 *
 * One segment holds, for every micro-batch, the rows of all attention ranks and the partial sums of
 * every FFN rank. An attention rank writes its rows where all FFN ranks read them, an FFN rank
 * writes its partials where the attention ranks read theirs: nothing is sent and nothing is copied.
 * What moves is a number: each rank has a flag per micro-batch that counts (step, layer), and a
 * peer waits for it to reach the count it needs.
 *
 * Buffers need no other guard. Rows of layer l + 1 are written after all partials of layer l are
 * there, so every FFN rank has read layer l; partials of l + 1 are written after the rows of l + 1
 * are there, so their owners have added layer l; and between steps stands the step contract.
 *
 * A wait spins briefly, then sleeps on the flag (futex), so a waiting rank gives its core away.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "exchange/exchange.h"

#include <linux/futex.h>
#include <mpi.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LINE         64 /* bytes of a cache line: one flag each */
#define SPIN_SECONDS 20e-6

/* Counts (step, layer) pairs; comparisons are modulo 2^32. */
struct flag {
    _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
    char pad[LINE - 8];
};

struct exchange {
    struct exchange_shape shape;
    struct exchange_place place;
    MPI_Win window;
    struct flag *sent, *done;            /* [attention][micro_batches], [ffn][micro_batches] */
    struct wire wire[MICRO_BATCHES_MAX]; /* rows of all attention ranks */
    char *partial[MICRO_BATCHES_MAX];    /* [ffn][all rows][H] */
    size_t partial_bytes;                /* of one FFN rank and micro-batch */
    const void *
        *parts[MICRO_BATCHES_MAX]; /* attention: where my rows' partials begin, per FFN rank */

    /* Of this step: */
    int *rows;                    /* [attention][micro_batches] */
    int first[MICRO_BATCHES_MAX]; /* attention: my first row among all */
    int total[MICRO_BATCHES_MAX]; /* rows of all */
    uint32_t step_count;          /* the count before layer 0 of this step */

    double waited;
};

/* ---- flags ---------------------------------------------------------------------------------- */

static void flag_raise(struct flag *f, uint32_t value)
{
    atomic_store(&f->value, value);
    if (atomic_load(&f->sleepers) > 0)
        syscall(SYS_futex, &f->value, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static bool reached(struct flag *f, uint32_t value)
{
    return (int32_t)(atomic_load(&f->value) - value) >= 0;
}

static void flag_sleep(struct flag *f, uint32_t value)
{
    const struct timespec second = {.tv_sec = 1};
    atomic_fetch_add(&f->sleepers, 1);
    uint32_t now = atomic_load(&f->value);
    if ((int32_t)(now - value) < 0)
        syscall(SYS_futex, &f->value, FUTEX_WAIT, now, &second, NULL, 0);
    atomic_fetch_sub(&f->sleepers, 1);
}

static void flag_wait(struct exchange *x, struct flag *f, uint32_t value)
{
    if (reached(f, value))
        return;
    double start = clock_now();
    while (!reached(f, value))
        if (clock_now() - start > SPIN_SECONDS)
            flag_sleep(f, value);
    x->waited += clock_now() - start;
}

static uint32_t count_of(const struct exchange *x, int layer)
{
    return x->step_count + (uint32_t)layer + 1;
}

/* ---- the segment ---------------------------------------------------------------------------- */

static size_t all_rows(const struct exchange_shape *s)
{
    return mem_mul(s->rows, (size_t)s->layout.attention);
}

static size_t partial_bytes(const struct exchange_shape *s)
{
    return mem_mul(mem_mul(all_rows(s), s->hidden), dtype_size(s->combine));
}

/* Hands out the segment piece by piece; with base NULL it only counts. */
struct carver {
    char *base;
    size_t used;
};

static void *carve(struct carver *c, size_t bytes)
{
    void *piece = c->base ? c->base + c->used : NULL;
    c->used += (bytes + LINE - 1) / LINE * LINE;
    return piece;
}

static void carve_all(struct exchange *x, struct carver *c)
{
    const struct exchange_shape *s = &x->shape;
    struct wire_bytes b = wire_bytes(s, all_rows(s));
    size_t mb = (size_t)s->micro_batches, ffn = (size_t)layout_ffn_ranks(&s->layout);
    x->sent = carve(c, (size_t)s->layout.attention * mb * sizeof(struct flag));
    x->done = carve(c, ffn * mb * sizeof(struct flag));
    x->partial_bytes = partial_bytes(s);
    for (size_t m = 0; m < mb; m++) {
        x->wire[m].rows = carve(c, b.rows);
        x->wire[m].scales = b.scales ? carve(c, b.scales) : NULL;
        x->wire[m].ids = carve(c, b.ids);
        x->wire[m].weights = carve(c, b.weights);
        x->partial[m] = carve(c, mem_mul(x->partial_bytes, ffn));
    }
}

static size_t shared_bytes(const struct exchange_shape *shape, const struct exchange_place *place)
{
    (void)place;
    struct exchange x = {.shape = *shape};
    struct carver count = {0};
    carve_all(&x, &count);
    /* One segment for all ranks: every rank accounts for an equal part of it. */
    return count.used / (size_t)layout_ranks(&shape->layout);
}

static void open_segment(struct exchange *x)
{
    struct carver count = {0}, carver = {0};
    int rank, unit;
    MPI_Aint size;
    carve_all(x, &count);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (MPI_Win_allocate_shared(rank == 0 ? (MPI_Aint)count.used : 0, 1, MPI_INFO_NULL,
                                MPI_COMM_WORLD, &carver.base, &x->window) != MPI_SUCCESS ||
        MPI_Win_shared_query(x->window, 0, &size, &unit, &carver.base) != MPI_SUCCESS)
        die("MPI: %zu bytes of shared memory were not granted (is /dev/shm large enough?); "
            "layout.exchange: mpi does without",
            count.used);
    carve_all(x, &carver);
    if (rank == 0)
        memset(x->sent, 0, (size_t)((char *)x->wire[0].rows - (char *)x->sent));
    MPI_Barrier(MPI_COMM_WORLD);
}

static struct exchange *shared_open(const struct exchange_shape *shape,
                                    const struct exchange_place *place)
{
    struct exchange *x = mem_zeroed(1, sizeof *x);
    x->shape = *shape;
    x->place = *place;
    open_segment(x);
    for (int m = 0; m < shape->micro_batches; m++)
        x->parts[m] = mem_zeroed((size_t)layout_ffn_ranks(&shape->layout), sizeof *x->parts[m]);
    x->rows =
        mem_zeroed(mem_mul((size_t)shape->layout.attention, MICRO_BATCHES_MAX), sizeof *x->rows);
    return x;
}

static void shared_close(struct exchange *x)
{
    if (!x)
        return;
    MPI_Win_free(&x->window);
    for (int m = 0; m < x->shape.micro_batches; m++)
        free(x->parts[m]);
    free(x->rows);
    free(x);
}

/* ---- a step --------------------------------------------------------------------------------- */

static int rows_of(const struct exchange *x, int attention, int m)
{
    return x->rows[attention * x->shape.micro_batches + m];
}

static void shared_begin(struct exchange *x, const int *rows)
{
    int n = x->shape.layout.attention, mb = x->shape.micro_batches;
    memcpy(x->rows, rows, (size_t)(n * mb) * sizeof *rows);
    for (int m = 0; m < mb; m++) {
        x->total[m] = 0;
        for (int a = 0; a < n; a++) {
            if (x->place.attention && a == x->place.index)
                x->first[m] = x->total[m];
            x->total[m] += rows_of(x, a, m);
        }
    }
}

static struct wire shared_out(struct exchange *x, int m)
{
    return wire_at(&x->shape, &x->wire[m], (size_t)x->first[m], rows_of(x, x->place.index, m));
}

static void shared_dispatch(struct exchange *x, int layer, int m)
{
    flag_raise(&x->sent[x->place.index * x->shape.micro_batches + m], count_of(x, layer));
}

static const void *const *shared_collect(struct exchange *x, int layer, int m)
{
    size_t row = x->shape.hidden * dtype_size(x->shape.combine);
    for (int f = 0; f < layout_ffn_ranks(&x->shape.layout); f++) {
        flag_wait(x, &x->done[f * x->shape.micro_batches + m], count_of(x, layer));
        x->parts[m][f] = x->partial[m] + (size_t)f * x->partial_bytes + (size_t)x->first[m] * row;
    }
    return x->parts[m];
}

static struct wire shared_receive(struct exchange *x, int layer, int m)
{
    for (int a = 0; a < x->shape.layout.attention; a++)
        if (rows_of(x, a, m) > 0)
            flag_wait(x, &x->sent[a * x->shape.micro_batches + m], count_of(x, layer));
    return wire_at(&x->shape, &x->wire[m], 0, x->total[m]);
}

static void *shared_reply_buffer(struct exchange *x, int m)
{
    return x->partial[m] + (size_t)x->place.index * x->partial_bytes;
}

static void shared_reply(struct exchange *x, int layer, int m)
{
    flag_raise(&x->done[x->place.index * x->shape.micro_batches + m], count_of(x, layer));
}

static void shared_end(struct exchange *x)
{
    x->step_count += (uint32_t)x->shape.layers;
}

static double shared_waited(const struct exchange *x)
{
    return x->waited;
}

const struct exchange_ops exchange_shared = {
    .name = "shared",
    .open = shared_open,
    .close = shared_close,
    .bytes = shared_bytes,
    .parts = layout_ffn_ranks,
    .begin = shared_begin,
    .out = shared_out,
    .dispatch = shared_dispatch,
    .collect = shared_collect,
    .receive = shared_receive,
    .reply_buffer = shared_reply_buffer,
    .reply = shared_reply,
    .end = shared_end,
    .waited = shared_waited,
};
