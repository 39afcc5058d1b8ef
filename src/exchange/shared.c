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
 * A wait spins briefly, then sleeps on the flag (futex), so a waiting rank gives its core away. Where ranks take
 * turns on the same cores, turns.h says how.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "exchange/call.h"
#include "exchange/exchange.h"
#include "exchange/turns.h"

#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LINE          64 /* bytes of a cache line: one flag each */
#define SPIN_SECONDS  20e-6
#define YIELD_SECONDS 5e-3 /* a longer wait may end as late as threads wake */

/* Counts (step, layer) pairs; comparisons are modulo 2^32. */
struct flag {
    _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
    double raised; /* clock_now() */
    char pad[LINE - 16];
};

struct exchange {
    struct exchange_shape shape;
    struct endpoint end;
    MPI_Win window;
    struct flag *sent, *done;            /* [attention][micro_batches], [ffn][micro_batches] */
    struct wire wire[MICRO_BATCHES_MAX]; /* rows of all attention ranks */
    char *partial[MICRO_BATCHES_MAX];    /* [ffn][all rows][H] */
    size_t partial_bytes;                /* of one FFN rank and micro-batch */
    struct turns turns;
    /* Attention: */
    char *sum[MICRO_BATCHES_MAX]; /* [instance][rows][H], when an instance has several ranks */
    const void **sums[MICRO_BATCHES_MAX]; /* [instance], what collect() returns */
    const void **parts;                   /* [tensor] my rows' partials of one instance's ranks */

    /* Of this step: */
    int *rows;                    /* [attention][micro_batches] */
    int first[MICRO_BATCHES_MAX]; /* attention: my first row among all */
    int total[MICRO_BATCHES_MAX]; /* rows of all */
    uint32_t step_count;          /* the count before layer 0 of this step */
};

/* ---- flags ---------------------------------------------------------------------------------- */

static void flag_raise(struct flag *f, uint32_t value)
{
    f->raised = clock_now();
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

struct wait {
    struct flag *flag;
    uint32_t value;
    double spin; /* seconds awake */
    bool yields;
};

static void wait_here(void *context)
{
    const struct wait *w = context;
    double start = clock_now();
    while (!reached(w->flag, w->value))
        if (clock_now() - start > w->spin)
            flag_sleep(w->flag, w->value);
        else if (w->yields)
            sched_yield();
}

static void flag_wait(struct exchange *x, struct flag *f, uint32_t value)
{
    const struct device_ops *dev = x->end.backend->device;
    bool turns = x->end.place.shared_cores && dev->together;
    if (reached(f, value))
        return;
    mpi_waiting();
    if (turns && turns_awake(&x->turns)) {
        dev->together(x->end.device, wait_here, &(struct wait){f, value, YIELD_SECONDS, true});
        turns_learn(&x->turns, clock_now() - f->raised);
    } else {
        wait_here(&(struct wait){f, value, SPIN_SECONDS, false});
    }
    mpi_working();
}

static uint32_t count_of(const struct exchange *x, int layer)
{
    return x->step_count + (uint32_t)layer + 1;
}

/* ---- the segment ---------------------------------------------------------------------------- */

static size_t all_rows(const struct exchange_shape *s, const struct layout *l)
{
    return mem_mul(s->rows, (size_t)l->attention);
}

static size_t row_bytes(const struct exchange_shape *s)
{
    return mem_mul(s->hidden, dtype_size(s->combine));
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
    const struct layout *l = &x->end.place.layout;
    struct wire_bytes b = wire_bytes(s, all_rows(s, l));
    size_t mb = (size_t)s->micro_batches, ffn = (size_t)layout_ffn_ranks(l);
    x->sent = carve(c, (size_t)l->attention * mb * sizeof(struct flag));
    x->done = carve(c, ffn * mb * sizeof(struct flag));
    x->partial_bytes = mem_mul(all_rows(s, l), row_bytes(s));
    for (size_t m = 0; m < mb; m++) {
        x->wire[m].rows = carve(c, b.rows);
        x->wire[m].scales = b.scales ? carve(c, b.scales) : NULL;
        x->wire[m].ids = carve(c, b.ids);
        x->wire[m].weights = carve(c, b.weights);
        x->partial[m] = carve(c, mem_mul(x->partial_bytes, ffn));
    }
}

/* Of one micro-batch, on this rank alone. */
static size_t sum_bytes(const struct exchange_shape *s, const struct place *p)
{
    bool adds = p->attention && p->layout.tensor > 1;
    return adds ? mem_mul(mem_mul(s->rows, row_bytes(s)), (size_t)layout_instances(&p->layout)) : 0;
}

static size_t shared_bytes(const struct exchange_shape *shape, const struct place *place)
{
    struct exchange x = {.shape = *shape, .end.place = *place};
    struct carver count = {0};
    carve_all(&x, &count);
    /* One segment for all ranks: every rank accounts for an equal part of it. */
    return count.used / (size_t)layout_ranks(&place->layout) +
           mem_mul((size_t)shape->micro_batches, sum_bytes(shape, place));
}

static void open_segment(struct exchange *x)
{
    struct carver count = {0}, carver = {0};
    int rank = x->end.place.rank, unit;
    MPI_Aint size;
    carve_all(x, &count);
    if (MPI_Win_allocate_shared(rank == 0 ? (MPI_Aint)count.used : 0, 1, MPI_INFO_NULL, x->end.cell,
                                &carver.base, &x->window) != MPI_SUCCESS ||
        MPI_Win_shared_query(x->window, 0, &size, &unit, &carver.base) != MPI_SUCCESS)
        die("MPI: %zu bytes of shared memory were not granted (is /dev/shm large enough?); "
            "layout.exchange: mpi does without",
            count.used);
    carve_all(x, &carver);
    if (rank == 0)
        memset(x->sent, 0, (size_t)((char *)x->wire[0].rows - (char *)x->sent));
    mpi_meet(x->end.cell);
}

static struct exchange *shared_open(const struct exchange_shape *shape, const struct endpoint *end)
{
    struct exchange *x = mem_zeroed(1, sizeof *x);
    x->shape = *shape;
    x->end = *end;
    const struct layout *l = &end->place.layout;
    size_t sum = sum_bytes(shape, &end->place);
    mpi_meet(end->cell);
    open_segment(x);
    for (int m = 0; m < shape->micro_batches; m++) {
        x->sums[m] = mem_zeroed((size_t)layout_instances(l), sizeof *x->sums[m]);
        x->sum[m] = sum ? end->backend->device->alloc(end->device, sum) : NULL;
    }
    x->parts = mem_zeroed((size_t)l->tensor, sizeof *x->parts);
    x->rows = mem_zeroed(mem_mul((size_t)l->attention, MICRO_BATCHES_MAX), sizeof *x->rows);
    return x;
}

static void shared_close(struct exchange *x)
{
    if (!x)
        return;
    mpi_meet(x->end.cell);
    mpi_must(MPI_Win_free(&x->window), "MPI_Win_free");
    for (int m = 0; m < x->shape.micro_batches; m++) {
        if (x->sum[m])
            x->end.backend->device->release(x->end.device, x->sum[m]);
        free(x->sums[m]);
    }
    free(x->parts);
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
    int n = x->end.place.layout.attention, mb = x->shape.micro_batches;
    memcpy(x->rows, rows, (size_t)(n * mb) * sizeof *rows);
    for (int m = 0; m < mb; m++) {
        x->total[m] = 0;
        for (int a = 0; a < n; a++) {
            if (x->end.place.attention && a == x->end.place.index)
                x->first[m] = x->total[m];
            x->total[m] += rows_of(x, a, m);
        }
    }
}

static struct wire shared_out(struct exchange *x, int m)
{
    return wire_at(&x->shape, &x->wire[m], (size_t)x->first[m], rows_of(x, x->end.place.index, m));
}

static void shared_dispatch(struct exchange *x, int layer, int m)
{
    flag_raise(&x->sent[x->end.place.index * x->shape.micro_batches + m], count_of(x, layer));
}

/* The sum of instance p, of which each rank has written its part. */
static const void *instance_sum(struct exchange *x, int m, int p)
{
    const struct exchange_shape *s = &x->shape;
    int tensor = x->end.place.layout.tensor, n = rows_of(x, x->end.place.index, m);
    char *sum = x->sum[m] + (size_t)p * s->rows * row_bytes(s);
    for (int t = 0; t < tensor; t++)
        x->parts[t] = x->partial[m] + (size_t)(p * tensor + t) * x->partial_bytes +
                      (size_t)x->first[m] * row_bytes(s);
    if (tensor == 1)
        return x->parts[0];
    x->end.backend->ops->sum(x->end.device, x->end.compute, x->parts, tensor, s->combine, n,
                             (int)s->hidden, sum);
    return sum;
}

static const void *const *shared_collect(struct exchange *x, int layer, int m)
{
    const struct layout *l = &x->end.place.layout;
    for (int f = 0; f < layout_ffn_ranks(l); f++)
        flag_wait(x, &x->done[f * x->shape.micro_batches + m], count_of(x, layer));
    for (int p = 0; p < layout_instances(l); p++)
        x->sums[m][p] = instance_sum(x, m, p);
    return x->sums[m];
}

static struct wire shared_receive(struct exchange *x, int layer, int m)
{
    for (int a = 0; a < x->end.place.layout.attention; a++)
        if (rows_of(x, a, m) > 0)
            flag_wait(x, &x->sent[a * x->shape.micro_batches + m], count_of(x, layer));
    return wire_at(&x->shape, &x->wire[m], 0, x->total[m]);
}

static void *shared_reply_buffer(struct exchange *x, int m)
{
    return x->partial[m] + (size_t)x->end.place.index * x->partial_bytes;
}

static void shared_reply(struct exchange *x, int layer, int m)
{
    flag_raise(&x->done[x->end.place.index * x->shape.micro_batches + m], count_of(x, layer));
}

static void shared_end(struct exchange *x)
{
    x->step_count += (uint32_t)x->shape.layers;
}

const struct exchange_ops exchange_shared = {
    .name = "shared",
    .open = shared_open,
    .close = shared_close,
    .bytes = shared_bytes,
    .begin = shared_begin,
    .out = shared_out,
    .dispatch = shared_dispatch,
    .collect = shared_collect,
    .receive = shared_receive,
    .reply_buffer = shared_reply_buffer,
    .reply = shared_reply,
    .end = shared_end,
};
