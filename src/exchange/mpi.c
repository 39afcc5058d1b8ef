/* mpi.c - the exchange by MPI point to point, in host memory.
 *
 * One message each way per pair of ranks and micro-batch. The parts of a wire (rows, scales, ids,
 * weights) are sent as one datatype over their addresses and land where the FFN computes on them,
 * so nothing is packed or copied on our side. Receives are posted before the peer can send: for the
 * FFN, layer l + 1 of a micro-batch when layer l has been replied to; for attention, the partials
 * when the rows are dispatched.
 *
 * Waiting polls and gives the core away between polls: with more ranks than cores, the peer that is
 * waited for may need this very core (base/backoff.h).
 */
#include "base/mem.h"
#include "exchange/call.h"
#include "exchange/exchange.h"

#include <limits.h>
#include <stdlib.h>

enum { TAG_ROWS = 0, TAG_PARTIALS = MICRO_BATCHES_MAX };

struct exchange {
    struct exchange_shape shape;
    struct endpoint end;
    int n_peers;    /* ranks of the other role */
    int first_peer; /* their ranks in the cell are consecutive */
    MPI_Comm comm;
    MPI_Datatype partial_row; /* [H] of the combine dtype */

    struct wire wire[MICRO_BATCHES_MAX];   /* attention: its rows; ffn: everybody's */
    void *partial[MICRO_BATCHES_MAX];      /* attention: [peer][rows][H]; ffn: [all rows][H] */
    const void **parts[MICRO_BATCHES_MAX]; /* attention: where each peer's partials begin */

    /* Of this step: */
    int rows[MICRO_BATCHES_MAX];                   /* attention: mine; ffn: all */
    int *peer_rows[MICRO_BATCHES_MAX];             /* [n_peers] rows exchanged with each peer */
    MPI_Datatype *wire_type[2][MICRO_BATCHES_MAX]; /* [routed][m][peer], absolute addresses */
    MPI_Request *out[MICRO_BATCHES_MAX], *in[MICRO_BATCHES_MAX]; /* [n_peers] */
};

static size_t most_rows(const struct exchange_shape *s, const struct place *p)
{
    return p->attention ? s->rows : mem_mul(s->rows, (size_t)p->layout.attention);
}

static size_t partial_bytes(const struct exchange_shape *s, const struct place *p)
{
    size_t copies = p->attention ? (size_t)layout_ffn_ranks(&p->layout) : 1;
    size_t row = mem_mul(s->hidden, dtype_size(s->combine));
    return mem_mul(mem_mul(most_rows(s, p), row), copies);
}

static size_t mpi_bytes(const struct exchange_shape *s, const struct place *p)
{
    struct wire_bytes b = wire_bytes(s, most_rows(s, p));
    size_t one = b.rows + b.scales + b.ids + b.weights + partial_bytes(s, p);
    return mem_mul((size_t)s->micro_batches, one);
}

/* Counts of one message are `int` in MPI: say so before the first step, not in it. */
static void check_counts(const struct exchange_shape *s)
{
    struct wire_bytes b = wire_bytes(s, s->rows);
    if (b.rows > INT_MAX || b.ids > INT_MAX || mem_mul(s->hidden, 4) > INT_MAX)
        die("%zu rows of %zu values in one message are more than MPI can count; "
            "use fewer schedule.slots or a smaller schedule.prefill_chunk",
            s->rows, s->hidden);
}

static void open_micro_batch(struct exchange *x, int m)
{
    const struct device_ops *dev = x->end.backend->device;
    size_t peers = (size_t)x->n_peers;
    x->wire[m] = wire_alloc(&x->shape, &x->end, most_rows(&x->shape, &x->end.place));
    x->partial[m] = dev->alloc(x->end.device, partial_bytes(&x->shape, &x->end.place));
    x->parts[m] = mem_zeroed(peers, sizeof *x->parts[m]);
    x->peer_rows[m] = mem_zeroed(peers, sizeof *x->peer_rows[m]);
    x->out[m] = mem_new(peers, sizeof(MPI_Request));
    x->in[m] = mem_new(peers, sizeof(MPI_Request));
    for (int routed = 0; routed < 2; routed++)
        x->wire_type[routed][m] = mem_new(peers, sizeof(MPI_Datatype));
    for (size_t i = 0; i < peers; i++) {
        x->out[m][i] = x->in[m][i] = MPI_REQUEST_NULL;
        x->wire_type[0][m][i] = x->wire_type[1][m][i] = MPI_DATATYPE_NULL;
    }
}

static struct exchange *mpi_open(const struct exchange_shape *shape, const struct endpoint *end)
{
    struct exchange *x = mem_zeroed(1, sizeof *x);
    x->shape = *shape;
    x->end = *end;
    const struct layout *l = &end->place.layout;
    x->n_peers = end->place.attention ? layout_ffn_ranks(l) : l->attention;
    x->first_peer = end->place.attention ? l->attention : 0;
    check_counts(shape);
    mpi_meet(end->cell);
    mpi_must(MPI_Comm_dup(end->cell, &x->comm), "MPI_Comm_dup");
    mpi_must(MPI_Comm_set_errhandler(x->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    mpi_must(MPI_Type_contiguous((int)(shape->hidden * dtype_size(shape->combine)), MPI_BYTE,
                                 &x->partial_row),
             "MPI_Type_contiguous");
    mpi_must(MPI_Type_commit(&x->partial_row), "MPI_Type_commit");
    for (int m = 0; m < shape->micro_batches; m++)
        open_micro_batch(x, m);
    return x;
}

static void mpi_close(struct exchange *x)
{
    if (!x)
        return;
    for (int m = 0; m < x->shape.micro_batches; m++) {
        wire_free(&x->end, &x->wire[m]);
        x->end.backend->device->release(x->end.device, x->partial[m]);
        free(x->parts[m]);
        free(x->peer_rows[m]);
        free(x->out[m]);
        free(x->in[m]);
        free(x->wire_type[0][m]);
        free(x->wire_type[1][m]);
    }
    mpi_must(MPI_Type_free(&x->partial_row), "MPI_Type_free");
    mpi_must(MPI_Comm_free(&x->comm), "MPI_Comm_free");
    free(x);
}

/* The datatype of a wire: its parts at their addresses, as bytes. */
static MPI_Datatype wire_type(const struct exchange_shape *s, const struct wire *w, bool routed)
{
    struct wire_bytes b = wire_bytes(s, (size_t)w->n);
    int length[4] = {(int)b.rows};
    MPI_Aint address[4];
    int parts = 1;
    MPI_Datatype type;
    mpi_must(MPI_Get_address(w->rows, &address[0]), "MPI_Get_address");
    if (b.scales) {
        length[parts] = (int)b.scales;
        mpi_must(MPI_Get_address(w->scales, &address[parts++]), "MPI_Get_address");
    }
    if (routed) {
        length[parts] = (int)b.ids;
        mpi_must(MPI_Get_address(w->ids, &address[parts++]), "MPI_Get_address");
        length[parts] = (int)b.weights;
        mpi_must(MPI_Get_address(w->weights, &address[parts++]), "MPI_Get_address");
    }
    mpi_must(MPI_Type_create_hindexed(parts, length, address, MPI_BYTE, &type),
             "MPI_Type_create_hindexed");
    mpi_must(MPI_Type_commit(&type), "MPI_Type_commit");
    return type;
}

/* FFN: posts the receives of the rows of one layer and micro-batch. */
static void expect_rows(struct exchange *x, size_t layer, int m)
{
    if (layer >= x->shape.layers)
        return;
    for (int i = 0; i < x->n_peers; i++)
        if (x->peer_rows[m][i] > 0)
            mpi_must(MPI_Irecv(MPI_BOTTOM, 1, x->wire_type[x->shape.routed[layer]][m][i],
                               x->first_peer + i, TAG_ROWS + m, x->comm, &x->in[m][i]),
                     "MPI_Irecv of rows");
}

/* Which rows go to and come from each peer in this step, and their datatypes. */
static void begin_micro_batch(struct exchange *x, const int *rows, int m)
{
    int mb = x->shape.micro_batches, first = 0;
    x->rows[m] = 0;
    if (x->end.place.attention)
        x->rows[m] = rows[x->end.place.index * mb + m];
    for (int i = 0; i < x->n_peers; i++) {
        int n = x->end.place.attention ? x->rows[m] : rows[i * mb + m];
        struct wire part = wire_at(&x->shape, &x->wire[m], (size_t)first, n);
        x->peer_rows[m][i] = n;
        if (n > 0)
            for (int routed = 0; routed < 2; routed++)
                x->wire_type[routed][m][i] = wire_type(&x->shape, &part, routed);
        if (!x->end.place.attention)
            first += n;
    }
    if (!x->end.place.attention) {
        x->rows[m] = first;
        expect_rows(x, 0, m);
    }
}

static void mpi_begin(struct exchange *x, const int *rows)
{
    for (int m = 0; m < x->shape.micro_batches; m++)
        begin_micro_batch(x, rows, m);
}

static struct wire mpi_wire(struct exchange *x, int m)
{
    return wire_at(&x->shape, &x->wire[m], 0, x->rows[m]);
}

static struct wire mpi_out(struct exchange *x, int m)
{
    mpi_wait(x->n_peers, x->out[m], "sending rows");
    return mpi_wire(x, m);
}

static size_t row_bytes(const struct exchange *x)
{
    return x->shape.hidden * dtype_size(x->shape.combine);
}

static void mpi_dispatch(struct exchange *x, int layer, int m)
{
    if (x->rows[m] == 0)
        return;
    x->end.backend->device->stream_sync(x->end.device, x->end.compute);
    size_t part = mem_mul(x->shape.rows, row_bytes(x));
    for (int i = 0; i < x->n_peers; i++) {
        char *partial = (char *)x->partial[m] + (size_t)i * part;
        x->parts[m][i] = partial;
        mpi_must(MPI_Irecv(partial, x->rows[m], x->partial_row, x->first_peer + i, TAG_PARTIALS + m,
                           x->comm, &x->in[m][i]),
                 "MPI_Irecv of partial sums");
    }
    for (int i = 0; i < x->n_peers; i++)
        mpi_must(MPI_Isend(MPI_BOTTOM, 1, x->wire_type[x->shape.routed[layer]][m][i],
                           x->first_peer + i, TAG_ROWS + m, x->comm, &x->out[m][i]),
                 "MPI_Isend of rows");
}

/* The sum of instance p takes the place of its first rank's partials. */
static void add_instance(struct exchange *x, int m, int p)
{
    int tensor = x->end.place.layout.tensor;
    const void **parts = &x->parts[m][p * tensor];
    void *sum = (char *)x->partial[m] + (size_t)p * (size_t)tensor * x->shape.rows * row_bytes(x);
    if (tensor > 1)
        x->end.backend->ops->sum(x->end.device, x->end.compute, parts, tensor, x->shape.combine,
                                 x->rows[m], (int)x->shape.hidden, sum);
    x->parts[m][p] = sum;
}

static const void *const *mpi_collect(struct exchange *x, int layer, int m)
{
    (void)layer;
    mpi_wait(x->n_peers, x->in[m], "receiving partial sums");
    for (int p = 0; p < layout_instances(&x->end.place.layout); p++)
        add_instance(x, m, p);
    return x->parts[m];
}

static struct wire mpi_receive(struct exchange *x, int layer, int m)
{
    (void)layer;
    mpi_wait(x->n_peers, x->in[m], "receiving rows");
    return mpi_wire(x, m);
}

static void *mpi_reply_buffer(struct exchange *x, int m)
{
    mpi_wait(x->n_peers, x->out[m], "sending partial sums");
    return x->partial[m];
}

static void mpi_reply(struct exchange *x, int layer, int m)
{
    x->end.backend->device->stream_sync(x->end.device, x->end.compute);
    expect_rows(x, (size_t)layer + 1, m);
    size_t first = 0;
    for (int i = 0; i < x->n_peers; i++) {
        int n = x->peer_rows[m][i];
        if (n > 0)
            mpi_must(MPI_Isend((char *)x->partial[m] + first * row_bytes(x), n, x->partial_row,
                               x->first_peer + i, TAG_PARTIALS + m, x->comm, &x->out[m][i]),
                     "MPI_Isend of partial sums");
        first += (size_t)n;
    }
}

static void mpi_end(struct exchange *x)
{
    for (int m = 0; m < x->shape.micro_batches; m++) {
        mpi_wait(x->n_peers, x->out[m], "finishing the step");
        for (int i = 0; i < x->n_peers; i++)
            for (int routed = 0; routed < 2; routed++)
                if (x->wire_type[routed][m][i] != MPI_DATATYPE_NULL)
                    mpi_must(MPI_Type_free(&x->wire_type[routed][m][i]), "MPI_Type_free");
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
