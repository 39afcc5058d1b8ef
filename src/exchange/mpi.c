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
#include "base/backoff.h"
#include "base/clock.h"
#include "base/mem.h"
#include "exchange/exchange.h"

#include <limits.h>
#include <mpi.h>
#include <stdlib.h>

enum { TAG_ROWS = 0, TAG_PARTIALS = MICRO_BATCHES_MAX };

struct exchange {
    struct exchange_shape shape;
    struct exchange_place place;
    int n_peers;     /* ranks of the other role */
    const int *peer; /* their world ranks */
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

    double waited;
};

/* Every call's result is looked at: errors return, and are told with rank, role and step. */
static void must(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING];
    int length;
    if (code == MPI_SUCCESS)
        return;
    MPI_Error_string(code, text, &length);
    die("MPI: %s failed: %s", what, text);
}

static size_t most_rows(const struct exchange_shape *s, const struct exchange_place *p)
{
    return p->attention ? s->rows : mem_mul(s->rows, (size_t)s->layout.attention);
}

static size_t partial_bytes(const struct exchange_shape *s, const struct exchange_place *p)
{
    size_t copies = p->attention ? (size_t)layout_ffn_ranks(&s->layout) : 1;
    size_t row = mem_mul(s->hidden, dtype_size(s->combine));
    return mem_mul(mem_mul(most_rows(s, p), row), copies);
}

static size_t mpi_bytes(const struct exchange_shape *s, const struct exchange_place *p)
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
    const struct device_ops *dev = x->place.backend->device;
    size_t peers = (size_t)x->n_peers;
    x->wire[m] = wire_alloc(&x->shape, &x->place, most_rows(&x->shape, &x->place));
    x->partial[m] = dev->alloc(x->place.device, partial_bytes(&x->shape, &x->place));
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

static struct exchange *mpi_open(const struct exchange_shape *shape,
                                 const struct exchange_place *place)
{
    struct exchange *x = mem_zeroed(1, sizeof *x);
    x->shape = *shape;
    x->place = *place;
    x->n_peers = place->attention ? layout_ffn_ranks(&shape->layout) : shape->layout.attention;
    x->peer = place->attention ? place->world_of_ffn : place->world_of_attention;
    check_counts(shape);
    must(MPI_Comm_dup(MPI_COMM_WORLD, &x->comm), "MPI_Comm_dup");
    must(MPI_Comm_set_errhandler(x->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    must(MPI_Type_contiguous((int)(shape->hidden * dtype_size(shape->combine)), MPI_BYTE,
                             &x->partial_row),
         "MPI_Type_contiguous");
    must(MPI_Type_commit(&x->partial_row), "MPI_Type_commit");
    for (int m = 0; m < shape->micro_batches; m++)
        open_micro_batch(x, m);
    return x;
}

static void mpi_close(struct exchange *x)
{
    if (!x)
        return;
    for (int m = 0; m < x->shape.micro_batches; m++) {
        wire_free(&x->place, &x->wire[m]);
        x->place.backend->device->release(x->place.device, x->partial[m]);
        free(x->parts[m]);
        free(x->peer_rows[m]);
        free(x->out[m]);
        free(x->in[m]);
        free(x->wire_type[0][m]);
        free(x->wire_type[1][m]);
    }
    must(MPI_Type_free(&x->partial_row), "MPI_Type_free");
    must(MPI_Comm_free(&x->comm), "MPI_Comm_free");
    free(x);
}

/* Until all n requests are done. */
static void wait_all(struct exchange *x, int n, MPI_Request *requests, const char *what)
{
    double start = 0;
    struct backoff pause = {0};
    for (;;) {
        int done;
        must(MPI_Testall(n, requests, &done, MPI_STATUSES_IGNORE), what);
        if (done)
            break;
        if (start == 0)
            start = clock_now();
        backoff_pause(&pause);
    }
    if (start != 0)
        x->waited += clock_now() - start;
}

/* The datatype of a wire: its parts at their addresses, as bytes. */
static MPI_Datatype wire_type(const struct exchange_shape *s, const struct wire *w, bool routed)
{
    struct wire_bytes b = wire_bytes(s, (size_t)w->n);
    int length[4] = {(int)b.rows};
    MPI_Aint address[4];
    int parts = 1;
    MPI_Datatype type;
    must(MPI_Get_address(w->rows, &address[0]), "MPI_Get_address");
    if (b.scales) {
        length[parts] = (int)b.scales;
        must(MPI_Get_address(w->scales, &address[parts++]), "MPI_Get_address");
    }
    if (routed) {
        length[parts] = (int)b.ids;
        must(MPI_Get_address(w->ids, &address[parts++]), "MPI_Get_address");
        length[parts] = (int)b.weights;
        must(MPI_Get_address(w->weights, &address[parts++]), "MPI_Get_address");
    }
    must(MPI_Type_create_hindexed(parts, length, address, MPI_BYTE, &type),
         "MPI_Type_create_hindexed");
    must(MPI_Type_commit(&type), "MPI_Type_commit");
    return type;
}

/* FFN: posts the receives of the rows of one layer and micro-batch. */
static void expect_rows(struct exchange *x, size_t layer, int m)
{
    if (layer >= x->shape.layers)
        return;
    for (int i = 0; i < x->n_peers; i++)
        if (x->peer_rows[m][i] > 0)
            must(MPI_Irecv(MPI_BOTTOM, 1, x->wire_type[x->shape.routed[layer]][m][i], x->peer[i],
                           TAG_ROWS + m, x->comm, &x->in[m][i]),
                 "MPI_Irecv of rows");
}

/* Which rows go to and come from each peer in this step, and their datatypes. */
static void begin_micro_batch(struct exchange *x, const int *rows, int m)
{
    int mb = x->shape.micro_batches, first = 0;
    x->rows[m] = 0;
    if (x->place.attention)
        x->rows[m] = rows[x->place.index * mb + m];
    for (int i = 0; i < x->n_peers; i++) {
        int n = x->place.attention ? x->rows[m] : rows[i * mb + m];
        struct wire part = wire_at(&x->shape, &x->wire[m], (size_t)first, n);
        x->peer_rows[m][i] = n;
        if (n > 0)
            for (int routed = 0; routed < 2; routed++)
                x->wire_type[routed][m][i] = wire_type(&x->shape, &part, routed);
        if (!x->place.attention)
            first += n;
    }
    if (!x->place.attention) {
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
    wait_all(x, x->n_peers, x->out[m], "sending rows");
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
    x->place.backend->device->stream_sync(x->place.device, x->place.compute);
    size_t part = mem_mul(x->shape.rows, row_bytes(x));
    for (int i = 0; i < x->n_peers; i++) {
        char *partial = (char *)x->partial[m] + (size_t)i * part;
        x->parts[m][i] = partial;
        must(MPI_Irecv(partial, x->rows[m], x->partial_row, x->peer[i], TAG_PARTIALS + m, x->comm,
                       &x->in[m][i]),
             "MPI_Irecv of partial sums");
    }
    for (int i = 0; i < x->n_peers; i++)
        must(MPI_Isend(MPI_BOTTOM, 1, x->wire_type[x->shape.routed[layer]][m][i], x->peer[i],
                       TAG_ROWS + m, x->comm, &x->out[m][i]),
             "MPI_Isend of rows");
}

static const void *const *mpi_collect(struct exchange *x, int layer, int m)
{
    (void)layer;
    wait_all(x, x->n_peers, x->in[m], "receiving partial sums");
    return x->parts[m];
}

static struct wire mpi_receive(struct exchange *x, int layer, int m)
{
    (void)layer;
    wait_all(x, x->n_peers, x->in[m], "receiving rows");
    return mpi_wire(x, m);
}

static void *mpi_reply_buffer(struct exchange *x, int m)
{
    wait_all(x, x->n_peers, x->out[m], "sending partial sums");
    return x->partial[m];
}

static void mpi_reply(struct exchange *x, int layer, int m)
{
    x->place.backend->device->stream_sync(x->place.device, x->place.compute);
    expect_rows(x, (size_t)layer + 1, m);
    size_t first = 0;
    for (int i = 0; i < x->n_peers; i++) {
        int n = x->peer_rows[m][i];
        if (n > 0)
            must(MPI_Isend((char *)x->partial[m] + first * row_bytes(x), n, x->partial_row,
                           x->peer[i], TAG_PARTIALS + m, x->comm, &x->out[m][i]),
                 "MPI_Isend of partial sums");
        first += (size_t)n;
    }
}

static void mpi_end(struct exchange *x)
{
    for (int m = 0; m < x->shape.micro_batches; m++) {
        wait_all(x, x->n_peers, x->out[m], "finishing the step");
        for (int i = 0; i < x->n_peers; i++)
            for (int routed = 0; routed < 2; routed++)
                if (x->wire_type[routed][m][i] != MPI_DATATYPE_NULL)
                    must(MPI_Type_free(&x->wire_type[routed][m][i]), "MPI_Type_free");
    }
}

static double mpi_waited(const struct exchange *x)
{
    return x->waited;
}

const struct exchange_ops exchange_mpi = {
    .name = "mpi",
    .open = mpi_open,
    .close = mpi_close,
    .bytes = mpi_bytes,
    .parts = layout_ffn_ranks,
    .begin = mpi_begin,
    .out = mpi_out,
    .dispatch = mpi_dispatch,
    .collect = mpi_collect,
    .receive = mpi_receive,
    .reply_buffer = mpi_reply_buffer,
    .reply = mpi_reply,
    .end = mpi_end,
    .waited = mpi_waited,
};
