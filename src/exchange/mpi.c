/* mpi.c - the exchange by MPI point to point, in host memory, on rails (schedule/rails.h).
 *
 * A micro-batch travels in two kinds of messages: its rows, which land where the FFN computes on
 * them, and the rest (scales, expert ids, weights: small) in one piece, which the receiver takes
 * apart. Nothing is packed, and no datatype is made. Which batch of messages (mpi_pump.h) is what:
 *
 *   attention  out      rows and rest, to the FFN rank of its rail in every instance
 *              in       the sums of the instances
 *   FFN        in       rows and rest, from the attention ranks of its rail
 *              forward  the same, on to the other ranks of the instance
 *              gather   and theirs, of their rails
 *              give     partial sums of the others' rails, to them
 *              take     and of the own rail, from them
 *              out      the sums of the own rail, to its attention ranks
 *
 * `forward` follows `in`, and adding and `out` follow `take`, whatever the main thread does
 * meanwhile. They are added by a simple loop on one thread: those of the backend are then at work on
 * the next micro-batch, and a rank adds no more than its rail's part.
 *
 * Receives are posted before the peer can send: for the FFN, layer l + 1 of a micro-batch when layer
 * l has been replied to; for attention, the sums when the rows are dispatched. That rows of l + 1
 * are there says that the answers of l have arrived, so their buffer is free; rows of l + 1 may
 * overwrite those of l once `forward` has ended.
 */
#include "base/mem.h"
#include "exchange/call.h"
#include "exchange/exchange.h"
#include "exchange/mpi_pump.h"
#include "schedule/rails.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { TAG_ROWS = 0, TAG_REST = MICRO_BATCHES_MAX, TAG_PARTIALS = 2 * MICRO_BATCHES_MAX };

/* Of one micro-batch. */
struct lane {
    struct wire wire;   /* attention: mine; FFN: of all */
    char *rest;         /* attention: the small parts of `wire`, in one piece; FFN: as they came */
    char *partial;      /* attention: [instance][rows][H]; FFN: [all rows][H] */
    char *taken;        /* FFN of an instance of several ranks: [tensor][rows of the rail][H] */
    char *sum;          /* likewise: [rows of the rail][H] */
    const void **parts; /* attention: [instance]; FFN: [tensor] */
    struct batch in, out, forward, gather, give, take;
    /* Of this step: */
    int rows;   /* attention: mine; FFN: of all */
    int *first; /* [tensor + 1] where the rows of each rail begin at the FFN */
    int layer;  /* FFN: whose rows are under way */
};

struct exchange {
    struct exchange_shape shape;
    struct endpoint end;
    MPI_Comm comm;
    int rail;
    struct pump pump;
    struct lane lane[MICRO_BATCHES_MAX];
    int *rows; /* [attention][micro_batches] of this step */
};

static const struct layout *layout(const struct exchange *x)
{
    return &x->end.place.layout;
}

/* ---- sizes ---------------------------------------------------------------------------------- */

static size_t row_bytes(const struct exchange_shape *s)
{
    return mem_mul(s->hidden, dtype_size(s->combine));
}

static size_t rest_bytes(const struct exchange_shape *s, size_t n, bool routed)
{
    struct wire_bytes b = wire_bytes(s, n);
    return b.scales + (routed ? b.ids + b.weights : 0);
}

static size_t most_rows(const struct exchange_shape *s, const struct place *p)
{
    return p->attention ? s->rows : mem_mul(s->rows, (size_t)p->layout.attention);
}

static size_t rail_most_rows(const struct exchange_shape *s, const struct place *p)
{
    return mem_mul(s->rows, (size_t)rails_attention(&p->layout, 0));
}

/* The buffers of one micro-batch. */
struct sizes {
    size_t wire, rest, partial, taken, sum;
};

static struct sizes sizes_of(const struct exchange_shape *s, const struct place *p)
{
    size_t most = most_rows(s, p), rail = mem_mul(rail_most_rows(s, p), row_bytes(s));
    struct wire_bytes b = wire_bytes(s, most);
    struct sizes z = {.wire = b.rows, .rest = rest_bytes(s, most, true)};
    z.partial = mem_mul(most, row_bytes(s));
    if (p->attention)
        z.partial = mem_mul(z.partial, (size_t)p->layout.expert);
    else
        z.wire += z.rest;
    if (p->ffn && p->layout.tensor > 1) {
        z.taken = mem_mul(rail, (size_t)p->layout.tensor);
        z.sum = rail;
    }
    return z;
}

static size_t mpi_bytes(const struct exchange_shape *s, const struct place *p)
{
    struct sizes z = sizes_of(s, p);
    return mem_mul((size_t)s->micro_batches, z.wire + z.rest + z.partial + z.taken + z.sum);
}

/* Counts of one message are `int` in MPI: say so before the first step, not in it. */
static void check_counts(const struct exchange_shape *s, const struct place *p)
{
    size_t n = p->layout.tensor > 1 ? rail_most_rows(s, p) : s->rows;
    if (wire_bytes(s, n).rows > INT_MAX || mem_mul(n, row_bytes(s)) > INT_MAX)
        die("%zu rows of %zu values in one message are more than MPI can count; "
            "use fewer schedule.slots or a smaller schedule.prefill_chunk",
            n, s->hidden);
}

/* ---- open and close ------------------------------------------------------------------------- */

static void forward_rows(void *exchange, int m);
static void add_and_answer(void *exchange, int m);

static void open_batches(struct exchange *x, struct lane *l, int m)
{
    int instances = layout(x)->expert, others = layout(x)->tensor - 1;
    int attention = rails_attention(layout(x), x->rail);
    if (x->end.place.attention) {
        pump_add(&x->pump, &l->out, "sending rows", 2 * instances, NULL, m);
        pump_add(&x->pump, &l->in, "receiving partial sums", instances, NULL, m);
        return;
    }
    pump_add(&x->pump, &l->in, "receiving rows", 2 * attention, forward_rows, m);
    pump_add(&x->pump, &l->forward, "forwarding rows", 2 * others, NULL, m);
    pump_add(&x->pump, &l->gather, "gathering rows", 2 * others, NULL, m);
    pump_add(&x->pump, &l->give, "giving partial sums", others, NULL, m);
    pump_add(&x->pump, &l->take, "taking partial sums", others, add_and_answer, m);
    pump_add(&x->pump, &l->out, "sending partial sums", attention, NULL, m);
}

static void *device_new(struct exchange *x, size_t bytes)
{
    return bytes ? x->end.backend->device->alloc(x->end.device, bytes) : NULL;
}

static void open_lane(struct exchange *x, int m)
{
    struct lane *l = &x->lane[m];
    struct sizes z = sizes_of(&x->shape, &x->end.place);
    size_t tensor = (size_t)layout(x)->tensor, instances = (size_t)layout(x)->expert;
    if (x->end.place.attention)
        l->wire.rows = device_new(x, z.wire);
    else
        l->wire = wire_alloc(&x->shape, &x->end, most_rows(&x->shape, &x->end.place));
    l->rest = device_new(x, z.rest);
    l->partial = device_new(x, z.partial);
    l->taken = device_new(x, z.taken);
    l->sum = device_new(x, z.sum);
    l->parts = mem_zeroed(tensor + instances, sizeof *l->parts);
    l->first = mem_zeroed(tensor + 1, sizeof *l->first);
    open_batches(x, l, m);
}

static struct exchange *mpi_open(const struct exchange_shape *shape, const struct endpoint *end)
{
    struct exchange *x = mem_zeroed(1, sizeof *x);
    x->shape = *shape;
    x->end = *end;
    x->rail = rails_of(&end->place);
    x->rows = mem_zeroed(mem_mul((size_t)layout(x)->attention, MICRO_BATCHES_MAX), sizeof(int));
    check_counts(shape, &end->place);
    mpi_meet(end->cell);
    mpi_must(MPI_Comm_dup(end->cell, &x->comm), "MPI_Comm_dup");
    mpi_must(MPI_Comm_set_errhandler(x->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    pump_open(&x->pump, x, 6 * shape->micro_batches);
    for (int m = 0; m < shape->micro_batches; m++)
        open_lane(x, m);
    return x;
}

static void mpi_close(struct exchange *x)
{
    if (!x)
        return;
    pump_close(&x->pump);
    for (int m = 0; m < x->shape.micro_batches; m++) {
        struct lane *l = &x->lane[m];
        void *buffers[] = {l->wire.rows, l->rest, l->partial, l->taken, l->sum};
        if (x->end.place.ffn)
            wire_free(&x->end, &l->wire);
        for (size_t i = x->end.place.ffn; i < sizeof buffers / sizeof *buffers; i++)
            if (buffers[i])
                x->end.backend->device->release(x->end.device, buffers[i]);
        free(l->parts);
        free(l->first);
    }
    mpi_must(MPI_Comm_free(&x->comm), "MPI_Comm_free");
    free(x->rows);
    free(x);
}

/* ---- messages ------------------------------------------------------------------------------- */

static int rows_of(const struct exchange *x, int attention, int m)
{
    return x->rows[attention * x->shape.micro_batches + m];
}

static int rail_rows(const struct lane *l, int rail)
{
    return l->first[rail + 1] - l->first[rail];
}

/* Another rank of this rank's instance. */
static int fellow(const struct exchange *x, int rail)
{
    return rails_ffn_rank(layout(x), rail, rails_instance(&x->end.place));
}

typedef void (*mover)(struct batch *, MPI_Comm, int peer, int tag, void *data, size_t bytes);

static void send(struct batch *b, MPI_Comm comm, int peer, int tag, void *data, size_t bytes)
{
    batch_send(b, comm, peer, tag, data, bytes);
}

/* Rows [first, first + n) of a lane and what belongs to them, to or from a peer. */
static void move_rows(struct exchange *x, struct batch *b, mover move, int peer, int m, int layer,
                      int first, int n)
{
    struct lane *l = &x->lane[m];
    bool routed = x->shape.routed[layer];
    size_t at = (size_t)first, count = (size_t)n;
    char *rows = (char *)l->wire.rows + wire_bytes(&x->shape, at).rows;
    char *rest = l->rest + rest_bytes(&x->shape, at, routed);
    move(b, x->comm, peer, TAG_ROWS + m, rows, wire_bytes(&x->shape, count).rows);
    move(b, x->comm, peer, TAG_REST + m, rest, rest_bytes(&x->shape, count, routed));
}

/* FFN: posts the receives of the rows of one layer and micro-batch. */
static void expect_rows(struct exchange *x, int layer, int m)
{
    struct lane *l = &x->lane[m];
    int first = l->first[x->rail];
    if ((size_t)layer >= x->shape.layers)
        return;
    l->layer = layer;
    for (int i = 0; i < rails_attention(layout(x), x->rail); i++) {
        int a = rails_attention_rank(layout(x), x->rail, i), n = rows_of(x, a, m);
        move_rows(x, &l->in, batch_receive, a, m, layer, first, n);
        first += n;
    }
    for (int t = 0; t < layout(x)->tensor; t++)
        if (t != x->rail)
            move_rows(x, &l->gather, batch_receive, fellow(x, t), m, layer, l->first[t],
                      rail_rows(l, t));
    batch_start(&l->in);
    batch_start(&l->gather);
}

/* When the rows of the rail are here. */
static void forward_rows(void *exchange, int m)
{
    struct exchange *x = exchange;
    struct lane *l = &x->lane[m];
    for (int t = 0; t < layout(x)->tensor; t++)
        if (t != x->rail)
            move_rows(x, &l->forward, send, fellow(x, t), m, l->layer, l->first[x->rail],
                      rail_rows(l, x->rail));
    batch_start(&l->forward);
}

/* The sums of the rail's rows, from `sum` on, to their attention ranks. */
static void answer(struct exchange *x, int m, const char *sum)
{
    struct lane *l = &x->lane[m];
    for (int i = 0; i < rails_attention(layout(x), x->rail); i++) {
        int a = rails_attention_rank(layout(x), x->rail, i);
        size_t n = (size_t)rows_of(x, a, m) * row_bytes(&x->shape);
        batch_send(&l->out, x->comm, a, TAG_PARTIALS + m, sum, n);
        sum += n;
    }
    batch_start(&l->out);
}

/* When the partial sums of the rail are here from all ranks of the instance. */
static void add_and_answer(void *exchange, int m)
{
    struct exchange *x = exchange;
    struct lane *l = &x->lane[m];
    size_t row = row_bytes(&x->shape), mine = (size_t)rail_rows(l, x->rail);
    for (int t = 0; t < layout(x)->tensor; t++)
        l->parts[t] = t == x->rail ? l->partial + (size_t)l->first[t] * row
                                   : l->taken + (size_t)t * mine * row;
    wire_sum(x->shape.combine, l->parts, layout(x)->tensor, mine * x->shape.hidden, l->sum);
    answer(x, m, l->sum);
}

/* Partial sums to and from the other ranks of the instance. */
static void give_and_take(struct exchange *x, int m)
{
    struct lane *l = &x->lane[m];
    size_t row = row_bytes(&x->shape), mine = (size_t)rail_rows(l, x->rail) * row;
    for (int t = 0; t < layout(x)->tensor; t++) {
        if (t == x->rail)
            continue;
        batch_receive(&l->take, x->comm, fellow(x, t), TAG_PARTIALS + m,
                      l->taken + (size_t)t * mine, mine);
        batch_send(&l->give, x->comm, fellow(x, t), TAG_PARTIALS + m,
                   l->partial + (size_t)l->first[t] * row, (size_t)rail_rows(l, t) * row);
    }
    batch_start(&l->take);
    batch_start(&l->give);
}

/* ---- a step --------------------------------------------------------------------------------- */

static void mpi_begin(struct exchange *x, const int *rows)
{
    int mb = x->shape.micro_batches;
    memcpy(x->rows, rows, (size_t)(layout(x)->attention * mb) * sizeof *rows);
    pump_begin(&x->pump);
    for (int m = 0; m < mb; m++) {
        struct lane *l = &x->lane[m];
        rails_rows(layout(x), rows, mb, m, l->first);
        l->rows = l->first[layout(x)->tensor];
        if (x->end.place.attention)
            l->rows = rows_of(x, x->end.place.index, m);
        else
            expect_rows(x, 0, m);
    }
    pump_end(&x->pump);
}

static struct wire mpi_out(struct exchange *x, int m)
{
    struct lane *l = &x->lane[m];
    struct wire_bytes b = wire_bytes(&x->shape, (size_t)l->rows);
    pump_wait(&x->pump, &l->out);
    return (struct wire){
        .n = l->rows,
        .rows = l->wire.rows,
        .scales = b.scales ? (float *)l->rest : NULL,
        .ids = (int32_t *)(l->rest + b.scales),
        .weights = (float *)(l->rest + b.scales + b.ids),
    };
}

static void mpi_dispatch(struct exchange *x, int layer, int m)
{
    struct lane *l = &x->lane[m];
    size_t bytes = (size_t)l->rows * row_bytes(&x->shape);
    if (l->rows == 0)
        return;
    x->end.backend->device->stream_sync(x->end.device, x->end.compute);
    pump_begin(&x->pump);
    for (int p = 0; p < layout(x)->expert; p++) {
        int peer = rails_ffn_rank(layout(x), x->rail, p);
        char *sums = l->partial + (size_t)p * x->shape.rows * row_bytes(&x->shape);
        l->parts[p] = sums;
        batch_receive(&l->in, x->comm, peer, TAG_PARTIALS + m, sums, bytes);
        move_rows(x, &l->out, send, peer, m, layer, 0, l->rows);
    }
    batch_start(&l->in);
    batch_start(&l->out);
    pump_end(&x->pump);
}

static const void *const *mpi_collect(struct exchange *x, int layer, int m)
{
    (void)layer;
    pump_wait(&x->pump, &x->lane[m].in);
    return x->lane[m].parts;
}

/* The small parts stand as they were sent, one attention rank after the other; the FFN wants all
 * scales, all ids and all weights together. */
static void take_apart(struct exchange *x, struct lane *l, int layer, int m)
{
    bool routed = x->shape.routed[layer];
    const char *from = l->rest;
    size_t first = 0;
    for (int r = 0; r < layout(x)->tensor; r++)
        for (int i = 0; i < rails_attention(layout(x), r); i++) {
            int n = rows_of(x, rails_attention_rank(layout(x), r, i), m);
            struct wire to = wire_at(&x->shape, &l->wire, first, n);
            struct wire_bytes b = wire_bytes(&x->shape, (size_t)n);
            if (b.scales)
                memcpy(to.scales, from, b.scales);
            if (routed && n > 0) {
                memcpy(to.ids, from + b.scales, b.ids);
                memcpy(to.weights, from + b.scales + b.ids, b.weights);
            }
            from += rest_bytes(&x->shape, (size_t)n, routed);
            first += (size_t)n;
        }
}

static struct wire mpi_receive(struct exchange *x, int layer, int m)
{
    struct lane *l = &x->lane[m];
    pump_wait(&x->pump, &l->in);
    pump_wait(&x->pump, &l->gather);
    pump_wait(&x->pump, &l->out);
    take_apart(x, l, layer, m);
    return wire_at(&x->shape, &l->wire, 0, l->rows);
}

static void *mpi_reply_buffer(struct exchange *x, int m)
{
    pump_wait(&x->pump, &x->lane[m].give);
    return x->lane[m].partial;
}

static void mpi_reply(struct exchange *x, int layer, int m)
{
    struct lane *l = &x->lane[m];
    x->end.backend->device->stream_sync(x->end.device, x->end.compute);
    pump_wait(&x->pump, &l->forward);
    pump_begin(&x->pump);
    if (layout(x)->tensor > 1)
        give_and_take(x, m);
    else
        answer(x, m, l->partial);
    expect_rows(x, layer + 1, m);
    pump_end(&x->pump);
}

static void mpi_end(struct exchange *x)
{
    for (int m = 0; m < x->shape.micro_batches; m++) {
        struct lane *l = &x->lane[m];
        struct batch *all[] = {&l->in, &l->gather, &l->forward, &l->give, &l->take, &l->out};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            pump_wait(&x->pump, all[i]);
    }
}

const struct exchange_ops exchange_mpi = {
    .name = "mpi",
    .open = mpi_open,
    .close = mpi_close,
    .bytes = mpi_bytes,
    .begin = mpi_begin,
    .out = mpi_out,
    .dispatch = mpi_dispatch,
    .collect = mpi_collect,
    .receive = mpi_receive,
    .reply_buffer = mpi_reply_buffer,
    .reply = mpi_reply,
    .end = mpi_end,
};
