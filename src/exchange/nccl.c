/* nccl.c - the exchange between GPUs, by NCCL, on streams of its own.
 *
 * Attention rank a belongs to rail a % tensor, FFN rank (p, t) to rail t (paper figure 7: GPU i
 * talks to GPU i). A rail is one communicator of its attention ranks and of one FFN rank of every
 * instance; an instance of several ranks has communicators of its own. Out and back use different
 * communicators and streams, so both directions are under way at once.
 *
 *   out    attention sends its rows to the FFN rank of its rail in every instance; inside an
 * instance every rank broadcasts the rows of its rail (an all-gather of unequal parts) back inside
 * an instance every rank sends each other rank the partial sums of that rank's rail, and adds what
 * it gets in rank order; then it answers the attention ranks of its rail
 *
 * The second is a reduce-scatter with an order of additions that depends on nothing:
 * ncclReduceScatter adds along its ring, so that a row's bits would depend on its place among the
 * rows.
 *
 * The host never waits here. Events order the streams: rows leave after the compute stream has
 * written them, a buffer is written again after the stream that reads it has passed, and computing
 * starts when the rows or partials are there. A watchdog thread ends the job with one message when
 * NCCL reports an error or a step does not end: an FFN rank that waits in a kernel would wait for
 * ever.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "exchange/exchange.h"
#include "kernels/cuda/device_cuda.h"

#include <mpi.h>
#include <nccl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* One direction: its stream and communicators. */
struct direction {
    struct stream *stream;
    ncclComm_t rail;     /* attention ranks of the rail in order, then one FFN rank an instance */
    ncclComm_t instance; /* FFN ranks of the instance; NULL: it has one rank */
};

/* Events of one micro-batch, valid from their first record in a step. */
struct lane {
    struct event *written;  /* compute: rows (attention) or partials (FFN) are in their buffer */
    struct event *sent;     /* out or back: that buffer has been read */
    struct event *received; /* out or back: the peer's data is in our buffer */
    bool sending;           /* `sent` was recorded in this step */
    struct wire wire;
    char *partial; /* attention: [instances][rows][H]; FFN: [all rows][H], what compute writes */
    char *gather;  /* FFN of an instance with several ranks: [tensor][rows of the rail][H] */
    char *reduced; /* likewise: [rows of the rail][H] */
    const void **parts;
    int rows;                          /* attention: mine; FFN: all */
    int rail_first[64], rail_rows[64]; /* FFN: which of its rows belong to each rail */
};

struct exchange {
    struct exchange_shape shape;
    struct exchange_place place;
    int rail, instance, rail_attention; /* numbers; attention ranks of my rail */
    struct direction out, back;
    struct lane lane[MICRO_BATCHES_MAX];
    int *rows; /* [attention][micro_batches] of this step */
    pthread_t watchdog;
    _Atomic bool closing;
    _Atomic double step_started; /* clock_now(); 0: between steps */
};

static void must(ncclResult_t code, const char *what)
{
    if (code != ncclSuccess && code != ncclInProgress)
        die("NCCL: %s failed: %s (NCCL_DEBUG=INFO says more)", what, ncclGetErrorString(code));
}

static const struct device_ops *dev(const struct exchange *x)
{
    return x->place.backend->device;
}

static int tensor(const struct exchange *x)
{
    return x->shape.layout.tensor;
}

static int micro_batches(const struct exchange *x)
{
    return x->shape.micro_batches;
}

static size_t row_bytes(const struct exchange_shape *s)
{
    return mem_mul(s->hidden, dtype_size(s->combine));
}

/* Attention ranks of a rail: a with a % tensor == rail. */
static int attention_on_rail(const struct layout *l, int rail)
{
    return l->attention / l->tensor + (rail < l->attention % l->tensor);
}

/* ---- start ---------------------------------------------------------------------------------- */

/* Ranks with different NCCLs, or two ranks on one GPU, hang or crash later: found here. */
static void check_ranks(const struct exchange *x)
{
    struct rank_gpu {
        char host[64], gpu[128];
        int version, rank;
    } mine = {{0}, {0}, 0, 0}, *all;
    int size, length;
    char host[MPI_MAX_PROCESSOR_NAME];
    MPI_Comm_rank(MPI_COMM_WORLD, &mine.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_processor_name(host, &length);
    snprintf(mine.host, sizeof mine.host, "%.63s", host);
    dev(x)->describe(x->place.device, mine.gpu, sizeof mine.gpu);
    must(ncclGetVersion(&mine.version), "ncclGetVersion");
    all = mem_zeroed((size_t)size, sizeof *all);
    MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, MPI_COMM_WORLD);
    for (int i = 0; i < mine.rank; i++) {
        if (all[i].version != mine.version)
            die("this rank has NCCL %d, rank %d on %s has %d; all hosts need the same",
                mine.version, i, all[i].host, all[i].version);
        if (strcmp(all[i].host, mine.host) == 0 && strcmp(all[i].gpu, mine.gpu) == 0)
            die("ranks %d and %d share one GPU (%s), which NCCL does not allow: start as many "
                "ranks "
                "on a host as it has GPUs, and do not give each rank a CUDA_VISIBLE_DEVICES of its "
                "own unless they differ (srun --gpus-per-task=1 --gpu-bind=none lets each see all)",
                i, mine.rank, mine.gpu);
    }
    free(all);
}

static ncclComm_t world_communicator(void)
{
    ncclUniqueId id;
    ncclComm_t world;
    int rank, size;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (rank == 0)
        must(ncclGetUniqueId(&id), "ncclGetUniqueId");
    MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
    must(ncclCommInitRank(&world, size, id, rank), "ncclCommInitRank");
    return world;
}

/* Splits off the rail and the instance for one direction. All ranks. */
static void open_direction(struct exchange *x, struct direction *d, ncclComm_t world)
{
    int ffn_key = x->shape.layout.attention + x->instance;
    int key = x->place.attention ? x->place.index : ffn_key;
    bool instance = x->place.ffn && tensor(x) > 1;
    d->stream = dev(x)->stream_create(x->place.device);
    must(ncclCommSplit(world, x->rail, key, &d->rail, NULL), "splitting off a rail");
    must(ncclCommSplit(world, instance ? x->instance : NCCL_SPLIT_NOCOLOR, x->rail, &d->instance,
                       NULL),
         "splitting off an FFN instance");
    if (!instance)
        d->instance = NULL;
}

static size_t most_rows(const struct exchange_shape *s, const struct exchange_place *p)
{
    return p->attention ? s->rows : mem_mul(s->rows, (size_t)s->layout.attention);
}

static size_t rail_most_rows(const struct exchange_shape *s)
{
    return mem_mul(s->rows, (size_t)attention_on_rail(&s->layout, 0));
}

/* Bytes of the three partial buffers of one micro-batch. */
static void partial_sizes(const struct exchange_shape *s, const struct exchange_place *p,
                          size_t size[3])
{
    size_t row = row_bytes(s), t = (size_t)s->layout.tensor;
    size_t copies = p->attention ? (size_t)s->layout.expert : 1;
    bool reduces = p->ffn && t > 1;
    size[0] = mem_mul(mem_mul(most_rows(s, p), row), copies);
    size[1] = reduces ? mem_mul(mem_mul(rail_most_rows(s), row), t) : 0;
    size[2] = reduces ? mem_mul(rail_most_rows(s), row) : 0;
}

static size_t nccl_bytes(const struct exchange_shape *s, const struct exchange_place *p)
{
    size_t size[3];
    struct wire_bytes b = wire_bytes(s, most_rows(s, p));
    partial_sizes(s, p, size);
    return mem_mul((size_t)s->micro_batches,
                   b.rows + b.scales + b.ids + b.weights + size[0] + size[1] + size[2]);
}

static void open_lane(struct exchange *x, struct lane *l)
{
    size_t size[3];
    partial_sizes(&x->shape, &x->place, size);
    l->wire = wire_alloc(&x->shape, &x->place, most_rows(&x->shape, &x->place));
    l->partial = dev(x)->alloc(x->place.device, size[0]);
    l->gather = size[1] ? dev(x)->alloc(x->place.device, size[1]) : NULL;
    l->reduced = size[2] ? dev(x)->alloc(x->place.device, size[2]) : NULL;
    l->written = dev(x)->event_create(x->place.device);
    l->sent = dev(x)->event_create(x->place.device);
    l->received = dev(x)->event_create(x->place.device);
    size_t most = (size_t)x->shape.layout.expert + (size_t)tensor(x);
    l->parts = mem_zeroed(most, sizeof *l->parts);
}

/* ---- watchdog ------------------------------------------------------------------------------- */

static void watch(const struct direction *d)
{
    ncclComm_t comms[] = {d->rail, d->instance};
    for (int i = 0; i < 2; i++) {
        ncclResult_t state = ncclSuccess;
        if (!comms[i])
            continue;
        must(ncclCommGetAsyncError(comms[i], &state), "ncclCommGetAsyncError");
        must(state, "an operation under way");
    }
}

static void *watchdog_main(void *argument)
{
    struct exchange *x = argument;
    while (!x->closing) {
        double started = x->step_started;
        watch(&x->out);
        watch(&x->back);
        if (x->shape.timeout > 0 && started > 0 && clock_now() - started > x->shape.timeout)
            die("the step has not ended after %.0f s: a peer hangs or is gone "
                "(schedule.step_timeout)",
                x->shape.timeout);
        nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
    }
    return NULL;
}

static struct exchange *nccl_open(const struct exchange_shape *shape,
                                  const struct exchange_place *place)
{
    struct exchange *x = mem_zeroed(1, sizeof *x);
    x->shape = *shape;
    x->place = *place;
    if (tensor(x) > 64)
        die("layout.ffn.tensor: at most 64 with the nccl exchange, not %d", tensor(x));
    x->rail = place->index % tensor(x);
    x->instance = place->attention ? 0 : place->index / tensor(x);
    x->rail_attention = attention_on_rail(&shape->layout, x->rail);
    x->rows = mem_zeroed(mem_mul((size_t)shape->layout.attention, MICRO_BATCHES_MAX), sizeof(int));
    check_ranks(x);
    ncclComm_t world = world_communicator();
    open_direction(x, &x->out, world);
    open_direction(x, &x->back, world);
    must(ncclCommDestroy(world), "ncclCommDestroy");
    for (int m = 0; m < micro_batches(x); m++)
        open_lane(x, &x->lane[m]);
    if (pthread_create(&x->watchdog, NULL, watchdog_main, x) != 0)
        die("the watchdog thread of the NCCL exchange cannot be started");
    return x;
}

static void close_direction(struct exchange *x, struct direction *d)
{
    dev(x)->stream_sync(x->place.device, d->stream);
    if (d->instance)
        must(ncclCommDestroy(d->instance), "ncclCommDestroy");
    must(ncclCommDestroy(d->rail), "ncclCommDestroy");
    dev(x)->stream_destroy(x->place.device, d->stream);
}

static void nccl_close(struct exchange *x)
{
    if (!x)
        return;
    x->closing = true;
    pthread_join(x->watchdog, NULL);
    close_direction(x, &x->out);
    close_direction(x, &x->back);
    for (int m = 0; m < micro_batches(x); m++) {
        struct lane *l = &x->lane[m];
        struct event *events[] = {l->written, l->sent, l->received};
        void *buffers[] = {l->partial, l->gather, l->reduced};
        wire_free(&x->place, &l->wire);
        for (int i = 0; i < 3; i++) {
            dev(x)->event_destroy(x->place.device, events[i]);
            if (buffers[i])
                dev(x)->release(x->place.device, buffers[i]);
        }
        free(l->parts);
    }
    free(x->rows);
    free(x);
}

/* ---- a step --------------------------------------------------------------------------------- */

static int rows_of(const struct exchange *x, int attention, int m)
{
    return x->rows[attention * micro_batches(x) + m];
}

static int nccl_parts(const struct layout *l)
{
    return l->expert;
}

/* The FFN's rows of a micro-batch stand rail after rail, in a rail by attention rank. */
static void find_rails(struct exchange *x, int m)
{
    struct lane *l = &x->lane[m];
    l->rows = 0;
    for (int r = 0; r < tensor(x); r++) {
        l->rail_first[r] = l->rows;
        for (int a = r; a < x->shape.layout.attention; a += tensor(x))
            l->rows += rows_of(x, a, m);
        l->rail_rows[r] = l->rows - l->rail_first[r];
    }
}

static void nccl_begin(struct exchange *x, const int *rows)
{
    size_t n = (size_t)(x->shape.layout.attention * micro_batches(x));
    memcpy(x->rows, rows, n * sizeof *rows);
    x->step_started = clock_now();
    for (int m = 0; m < micro_batches(x); m++) {
        struct lane *l = &x->lane[m];
        if (x->place.attention)
            l->rows = rows_of(x, x->place.index, m);
        else
            find_rails(x, m);
        l->sending = false;
        /* The streams begin where the compute stream is: what it read last step is free again. */
        dev(x)->event_record(x->place.device, l->written, x->place.compute);
        dev(x)->stream_wait(x->place.device, x->out.stream, l->written);
        dev(x)->stream_wait(x->place.device, x->back.stream, l->written);
    }
}

static void send_bytes(const void *p, size_t n, int peer, struct direction *d)
{
    if (n > 0)
        must(ncclSend(p, n, ncclUint8, peer, d->rail, d->stream->cuda), "ncclSend");
}

static void receive_bytes(void *p, size_t n, int peer, struct direction *d)
{
    if (n > 0)
        must(ncclRecv(p, n, ncclUint8, peer, d->rail, d->stream->cuda), "ncclRecv");
}

/* The parts of a wire that travel in this layer. */
struct wire_part {
    void *data;
    size_t bytes;
};

static int wire_parts(const struct exchange *x, int layer, const struct wire *w,
                      struct wire_part part[4])
{
    struct wire_bytes b = wire_bytes(&x->shape, (size_t)w->n);
    int n = 0;
    part[n++] = (struct wire_part){w->rows, b.rows};
    if (b.scales)
        part[n++] = (struct wire_part){w->scales, b.scales};
    if (x->shape.routed[layer]) {
        part[n++] = (struct wire_part){w->ids, b.ids};
        part[n++] = (struct wire_part){w->weights, b.weights};
    }
    return n;
}

/* ---- attention ------------------------------------------------------------------------------ */

static struct wire nccl_out(struct exchange *x, int m)
{
    struct lane *l = &x->lane[m];
    if (l->sending)
        dev(x)->stream_wait(x->place.device, x->place.compute, l->sent);
    return wire_at(&x->shape, &l->wire, 0, l->rows);
}

static void nccl_dispatch(struct exchange *x, int layer, int m)
{
    struct lane *l = &x->lane[m];
    struct wire_part part[4];
    struct wire w = wire_at(&x->shape, &l->wire, 0, l->rows);
    int parts = wire_parts(x, layer, &w, part), instances = x->shape.layout.expert;
    size_t answer = mem_mul((size_t)l->rows, row_bytes(&x->shape));
    size_t apart = mem_mul(x->shape.rows, row_bytes(&x->shape));
    dev(x)->event_record(x->place.device, l->written, x->place.compute);
    dev(x)->stream_wait(x->place.device, x->out.stream, l->written);
    must(ncclGroupStart(), "ncclGroupStart");
    for (int p = 0; p < instances; p++)
        for (int i = 0; i < parts; i++)
            send_bytes(part[i].data, part[i].bytes, x->rail_attention + p, &x->out);
    must(ncclGroupEnd(), "sending rows");
    dev(x)->event_record(x->place.device, l->sent, x->out.stream);
    l->sending = true;
    /* The partials of the layer before have been added: `written` comes after that. */
    dev(x)->stream_wait(x->place.device, x->back.stream, l->written);
    must(ncclGroupStart(), "ncclGroupStart");
    for (int p = 0; p < instances; p++) {
        l->parts[p] = l->partial + (size_t)p * apart;
        receive_bytes(l->partial + (size_t)p * apart, answer, x->rail_attention + p, &x->back);
    }
    must(ncclGroupEnd(), "receiving partial sums");
    dev(x)->event_record(x->place.device, l->received, x->back.stream);
}

static const void *const *nccl_collect(struct exchange *x, int layer, int m)
{
    (void)layer;
    dev(x)->stream_wait(x->place.device, x->place.compute, x->lane[m].received);
    return x->lane[m].parts;
}

/* ---- FFN ------------------------------------------------------------------------------------ */

/* From the attention ranks of this rank's rail. */
static void receive_rail(struct exchange *x, int layer, int m)
{
    struct lane *l = &x->lane[m];
    size_t first = (size_t)l->rail_first[x->rail];
    must(ncclGroupStart(), "ncclGroupStart");
    for (int i = 0; i < x->rail_attention; i++) {
        int n = rows_of(x, i * tensor(x) + x->rail, m);
        struct wire w = wire_at(&x->shape, &l->wire, first, n);
        struct wire_part part[4];
        int parts = wire_parts(x, layer, &w, part);
        for (int j = 0; j < parts; j++)
            receive_bytes(part[j].data, part[j].bytes, i, &x->out);
        first += (size_t)n;
    }
    must(ncclGroupEnd(), "receiving rows");
}

/* Every rank of the instance gives the others the rows of its rail. */
static void gather_rails(struct exchange *x, int layer, int m)
{
    struct lane *l = &x->lane[m];
    must(ncclGroupStart(), "ncclGroupStart");
    for (int r = 0; r < tensor(x); r++) {
        struct wire w = wire_at(&x->shape, &l->wire, (size_t)l->rail_first[r], l->rail_rows[r]);
        struct wire_part part[4];
        int parts = wire_parts(x, layer, &w, part);
        for (int j = 0; j < parts; j++)
            if (part[j].bytes > 0)
                must(ncclBroadcast(part[j].data, part[j].data, part[j].bytes, ncclUint8, r,
                                   x->out.instance, x->out.stream->cuda),
                     "ncclBroadcast");
    }
    must(ncclGroupEnd(), "gathering the rows of an instance");
}

static struct wire nccl_receive(struct exchange *x, int layer, int m)
{
    struct lane *l = &x->lane[m];
    struct wire w = wire_at(&x->shape, &l->wire, 0, l->rows);
    if (l->rows == 0)
        return w;
    /* `written` was last recorded when the rows of the layer before had been computed on. */
    dev(x)->stream_wait(x->place.device, x->out.stream, l->written);
    receive_rail(x, layer, m);
    if (x->out.instance)
        gather_rails(x, layer, m);
    dev(x)->event_record(x->place.device, l->received, x->out.stream);
    dev(x)->stream_wait(x->place.device, x->place.compute, l->received);
    return w;
}

static void *nccl_reply_buffer(struct exchange *x, int m)
{
    struct lane *l = &x->lane[m];
    if (l->sending)
        dev(x)->stream_wait(x->place.device, x->place.compute, l->sent);
    return l->partial;
}

/* Reduce-scatter inside the instance, in rank order; returns where the sums of this rail are. */
static const char *reduce_rails(struct exchange *x, struct lane *l)
{
    size_t row = row_bytes(&x->shape), mine = (size_t)l->rail_rows[x->rail] * row;
    must(ncclGroupStart(), "ncclGroupStart");
    for (int r = 0; r < tensor(x); r++) {
        size_t theirs = (size_t)l->rail_rows[r] * row;
        char *slot = l->gather + (size_t)r * mine;
        const char *part = l->partial + (size_t)l->rail_first[r] * row;
        l->parts[r] = slot;
        if (r == x->rail) {
            l->parts[r] = part;
            continue;
        }
        if (theirs > 0)
            must(ncclSend(part, theirs, ncclUint8, r, x->back.instance, x->back.stream->cuda),
                 "ncclSend");
        if (mine > 0)
            must(ncclRecv(slot, mine, ncclUint8, r, x->back.instance, x->back.stream->cuda),
                 "ncclRecv");
    }
    must(ncclGroupEnd(), "scattering the partial sums of an instance");
    x->place.backend->ops->sum(x->place.device, x->back.stream, l->parts, tensor(x),
                               x->shape.combine, l->rail_rows[x->rail], (int)x->shape.hidden,
                               l->reduced);
    return l->reduced;
}

static void nccl_reply(struct exchange *x, int layer, int m)
{
    (void)layer;
    struct lane *l = &x->lane[m];
    size_t row = row_bytes(&x->shape);
    dev(x)->event_record(x->place.device, l->written, x->place.compute);
    dev(x)->stream_wait(x->place.device, x->back.stream, l->written);
    const char *sum = l->partial;
    if (x->back.instance)
        sum = reduce_rails(x, l);
    must(ncclGroupStart(), "ncclGroupStart");
    for (int i = 0; i < x->rail_attention; i++) {
        size_t n = (size_t)rows_of(x, i * tensor(x) + x->rail, m) * row;
        send_bytes(sum, n, i, &x->back);
        sum += n;
    }
    must(ncclGroupEnd(), "sending partial sums");
    dev(x)->event_record(x->place.device, l->sent, x->back.stream);
    l->sending = true;
}

/* ---- end of a step -------------------------------------------------------------------------- */

/* The host waits here once a step, so that the watchdog sees a step that hangs, and a rank that has
 * ended its step in the contract has really ended it. */
static void nccl_end(struct exchange *x)
{
    dev(x)->stream_sync(x->place.device, x->place.compute);
    dev(x)->stream_sync(x->place.device, x->out.stream);
    dev(x)->stream_sync(x->place.device, x->back.stream);
    x->step_started = 0;
}

static double nccl_waited(const struct exchange *x)
{
    (void)x; /* the host does not wait: GPUs do */
    return 0;
}

const struct exchange_ops exchange_nccl = {
    .name = "nccl",
    .open = nccl_open,
    .close = nccl_close,
    .bytes = nccl_bytes,
    .parts = nccl_parts,
    .begin = nccl_begin,
    .out = nccl_out,
    .dispatch = nccl_dispatch,
    .collect = nccl_collect,
    .receive = nccl_receive,
    .reply_buffer = nccl_reply_buffer,
    .reply = nccl_reply,
    .end = nccl_end,
    .waited = nccl_waited,
};
