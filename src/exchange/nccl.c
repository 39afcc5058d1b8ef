/* nccl.c - the exchange between GPUs, by NCCL, on streams of its own.
 *
 * Ranks talk on rails (schedule/rails.h): a rail is one communicator of its attention ranks and of
 * one FFN rank of every instance; an instance of several ranks has communicators of its own. Out
 * and back use different communicators and streams, so both directions are under way at once.
 *
 * Out: attention sends its rows to the FFN rank of its rail in every instance. Inside an instance
 * every rank then gets the rows of all rails: an all-gather, of parts that are as long as the longest
 * rail's. A row is one record (kernels/cuda/record.cu) on the way, so that each of this is one call:
 * NCCL runs the calls of a group on the same few blocks, and small ones cost as much as large ones.
 *
 * Back: inside an instance every rank sends each other rank the partial sums of that rank's rail,
 * and adds what it gets in rank order. Then it answers the attention ranks of its rail.
 *
 * The second is a reduce-scatter with an order of additions that depends on nothing:
 * ncclReduceScatter adds along its ring, so that a row's bits would depend on its place among the
 * rows.
 *
 * The host never waits here. Events order the streams: rows leave after the compute stream has
 * written them, a buffer is written again after the stream that reads it has passed, and computing
 * starts when the rows or partials are there. All of them are recorded in the step that waits for
 * them, and fork() and join() tie the streams to the compute stream, so that a step can be captured
 * in a graph (roles/replay.h).
 *
 * Why it cannot lock up: a receive that has started occupies part of its GPU until the peer sends, and a
 * send, of registered memory, until the peer receives.
 * At most two NCCL kernels are started on a GPU at once, one a direction, and what is computed
 * always ends and makes room for them. On each rank whatever a receive is waiting for comes earlier
 * in the order in which the peers enqueue; so streams that share a hardware queue, and then run in
 * that order, cost overlap but no more. Within a graph there is no such order: there a receive
 * waits (`sent`) for the send that it answers.
 *
 * Communicators and the watchdog are in nccl_wire.h.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "exchange/nccl_wire.h"
#include "schedule/rails.h"

#include <stdlib.h>
#include <string.h>

enum { OUT, BACK };

/* Events of one micro-batch, valid from their first record in a step. */
struct lane {
    struct event *written;  /* compute: rows (attention) or partials (FFN) are in their buffer */
    struct event *sent;     /* out or back: that buffer has been read */
    struct event *received; /* out or back: the peer's data is in our buffer */
    bool sending;           /* `sent` was recorded in this step */
    struct wire wire;       /* what compute writes or reads */
    char *records; /* the same on the way. FFN: [tensor][rows of the longest rail] of them */
    char *partial; /* attention: [instances][rows][H]; FFN: [all rows][H], what compute writes */
    char *gather;  /* FFN of an instance with several ranks: [tensor][rows of the rail][H] */
    char *reduced; /* likewise: [rows of the rail][H] */
    const void **parts;
    int rows;   /* attention: mine; FFN: all */
    int *first; /* FFN: [tensor + 1] where the rows of each rail begin */
};

struct exchange {
    struct exchange_shape shape;
    struct endpoint end;
    int rail, rail_attention; /* of this rank; attention ranks of it */
    struct direction wire[2]; /* OUT, BACK */
    struct watchdog watchdog;
    struct buffer travels; /* what the lanes have in it */
    struct lane lane[MICRO_BATCHES_MAX];
    int *rows; /* [attention][micro_batches] of this step */
};

static const struct device_ops *dev(const struct exchange *x)
{
    return x->end.backend->device;
}

static int tensor(const struct exchange *x)
{
    return x->end.place.layout.tensor;
}

static int micro_batches(const struct exchange *x)
{
    return x->shape.micro_batches;
}

static size_t row_bytes(const struct exchange_shape *s)
{
    return mem_mul(s->hidden, dtype_size(s->combine));
}

/* ---- buffers -------------------------------------------------------------------------------- */

static size_t most_rows(const struct exchange_shape *s, const struct place *p)
{
    return p->attention ? s->rows : mem_mul(s->rows, (size_t)p->layout.attention);
}

static size_t rail_most_rows(const struct exchange_shape *s, const struct place *p)
{
    return mem_mul(s->rows, (size_t)rails_attention(&p->layout, 0));
}

/* Where the parts of a row are in its record; those of `w`, which may be NULL. Rows of a layer without
 * routed experts travel without the choice of some. */
static struct cuda_record record_of(const struct exchange_shape *s, const struct wire *w,
                                    bool routed)
{
    struct wire_bytes b = wire_bytes(s, 1);
    if (!routed)
        b.ids = b.weights = 0;
    struct cuda_record r = {.bytes = {(int)b.rows, (int)b.scales, (int)b.ids, (int)b.weights}};
    void *parts[RECORD_PARTS] = {NULL};
    if (w) {
        parts[0] = w->rows;
        parts[1] = w->scales;
        parts[2] = w->ids;
        parts[3] = w->weights;
    }
    for (int p = 0; p < RECORD_PARTS; p++) {
        r.part[p] = parts[p];
        r.at[p] = r.stride;
        r.stride += (r.bytes[p] + 15) / 16 * 16;
    }
    return r;
}

static size_t records_bytes(const struct exchange_shape *s, const struct place *p)
{
    size_t rows = p->attention ? s->rows : mem_mul(rail_most_rows(s, p), (size_t)p->layout.tensor);
    return mem_mul(rows, (size_t)record_of(s, NULL, true).stride);
}

/* Bytes of what travels of one micro-batch, each a multiple of a cache line's. */
#define BUFFERS 4
enum { RECORDS, PARTIAL, GATHER, REDUCED };
static size_t buffer_sizes(const struct exchange_shape *s, const struct place *p,
                           size_t size[BUFFERS])
{
    size_t row = row_bytes(s), t = (size_t)p->layout.tensor, sum = 0;
    size_t copies = p->attention ? (size_t)p->layout.expert : 1;
    bool reduces = p->ffn && t > 1;
    size[RECORDS] = records_bytes(s, p);
    size[PARTIAL] = mem_mul(mem_mul(most_rows(s, p), row), copies);
    size[GATHER] = reduces ? mem_mul(mem_mul(rail_most_rows(s, p), row), t) : 0;
    size[REDUCED] = reduces ? mem_mul(rail_most_rows(s, p), row) : 0;
    for (int i = 0; i < BUFFERS; i++)
        sum += size[i] = (size[i] + 255) / 256 * 256;
    return sum;
}

/* What NCCL takes itself, at most: for every block, and every peer that something is received from, a buffer of
 * each of its three protocols: 4 MiB, 4.7 MiB and 512 KiB (NCCL 2.28, src/init.cc: computeBuffSizes, and
 * src/transport/p2p.cc: p2pRecvSetup; over a network less). An all-gather has a ring's peer and a tree's
 * three. Blocks are rounded up to a power of two (src/graph/paths.cc); without a limit there are 32 on GPUs
 * with NVLink. */
static size_t communicator_bytes(const struct exchange_shape *s, const struct place *p)
{
    size_t buffer = 4194304 + 4915200 + 524288, blocks = 1, tensor = (size_t)p->layout.tensor;
    size_t most = s->nccl_blocks > 0 ? (size_t)s->nccl_blocks : 32;
    size_t peers = p->attention ? (size_t)p->layout.expert : (size_t)rails_attention(&p->layout, 0);
    while (blocks < most)
        blocks *= 2;
    if (p->ffn && tensor > 1)
        peers += tensor - 1 + (tensor < 5 ? tensor - 1 : 4);
    return mem_mul(peers * blocks, buffer);
}

static size_t nccl_bytes(const struct exchange_shape *s, const struct place *p)
{
    size_t size[BUFFERS], micro_batches = (size_t)s->micro_batches;
    struct wire_bytes b = wire_bytes(s, most_rows(s, p));
    return communicator_bytes(s, p) +
           nccl_buffer_bytes(mem_mul(micro_batches, buffer_sizes(s, p, size))) +
           mem_mul(micro_batches, b.rows + b.scales + b.ids + b.weights);
}

/* memory: what travels of it; returns what is behind that. */
static char *open_lane(struct exchange *x, struct lane *l, char *memory)
{
    size_t size[BUFFERS];
    char **buffer[BUFFERS] = {&l->records, &l->partial, &l->gather, &l->reduced};
    buffer_sizes(&x->shape, &x->end.place, size);
    for (int i = 0; i < BUFFERS; memory += size[i++])
        *buffer[i] = memory;
    l->wire = wire_alloc(&x->shape, &x->end, most_rows(&x->shape, &x->end.place));
    l->written = dev(x)->event_create(x->end.device);
    l->sent = dev(x)->event_create(x->end.device);
    l->received = dev(x)->event_create(x->end.device);
    size_t most = (size_t)x->end.place.layout.expert + (size_t)tensor(x);
    l->parts = mem_zeroed(most, sizeof *l->parts);
    l->first = mem_zeroed((size_t)tensor(x) + 1, sizeof *l->first);
    return memory;
}

static struct exchange *nccl_open(const struct exchange_shape *shape, const struct endpoint *end)
{
    struct exchange *x = mem_zeroed(1, sizeof *x);
    x->shape = *shape;
    x->end = *end;
    x->rail = rails_of(&end->place);
    x->rail_attention = rails_attention(&end->place.layout, x->rail);
    x->rows =
        mem_zeroed(mem_mul((size_t)end->place.layout.attention, MICRO_BATCHES_MAX), sizeof(int));
    watchdog_start(&x->watchdog, x->wire, shape->timeout);
    nccl_connect(shape, end, x->wire);
    x->watchdog.connected = true;
    x->watchdog.started = 0;
    size_t size[BUFFERS], lane = buffer_sizes(shape, &end->place, size);
    x->travels = nccl_buffer(mem_mul((size_t)micro_batches(x), lane), x->wire);
    char *memory = x->travels.memory;
    for (int m = 0; m < micro_batches(x); m++)
        memory = open_lane(x, &x->lane[m], memory);
    return x;
}

static void nccl_close(struct exchange *x)
{
    if (!x)
        return;
    watchdog_stop(&x->watchdog);
    for (int i = 0; i < 2; i++)
        dev(x)->stream_sync(x->end.device, x->wire[i].stream);
    for (int m = 0; m < micro_batches(x); m++) {
        struct lane *l = &x->lane[m];
        struct event *events[] = {l->written, l->sent, l->received};
        wire_free(&x->end, &l->wire);
        for (int i = 0; i < 3; i++)
            dev(x)->event_destroy(x->end.device, events[i]);
        free(l->parts);
        free(l->first);
    }
    nccl_release(&x->travels);
    nccl_disconnect(&x->end, x->wire);
    free(x->rows);
    free(x);
}

/* ---- a step --------------------------------------------------------------------------------- */

static int rows_of(const struct exchange *x, int attention, int m)
{
    return x->rows[attention * micro_batches(x) + m];
}

static int rail_rows(const struct lane *l, int rail)
{
    return l->first[rail + 1] - l->first[rail];
}

static void nccl_begin(struct exchange *x, const int *rows)
{
    size_t n = (size_t)(x->end.place.layout.attention * micro_batches(x));
    memcpy(x->rows, rows, n * sizeof *rows);
    x->watchdog.started = clock_now();
    for (int m = 0; m < micro_batches(x); m++) {
        struct lane *l = &x->lane[m];
        rails_rows(&x->end.place.layout, x->rows, micro_batches(x), m, l->first);
        l->rows = x->end.place.attention ? rows_of(x, x->end.place.index, m) : l->first[tensor(x)];
    }
}

static void nccl_fork(struct exchange *x)
{
    for (int m = 0; m < micro_batches(x); m++) {
        struct lane *l = &x->lane[m];
        l->sending = false;
        dev(x)->event_record(x->end.device, l->written, x->end.compute);
        dev(x)->stream_wait(x->end.device, x->wire[OUT].stream, l->written);
        dev(x)->stream_wait(x->end.device, x->wire[BACK].stream, l->written);
    }
}

static void nccl_join(struct exchange *x)
{
    for (int i = 0; i < 2; i++) {
        dev(x)->event_record(x->end.device, x->wire[i].passed, x->wire[i].stream);
        dev(x)->stream_wait(x->end.device, x->end.compute, x->wire[i].passed);
    }
}

static void send_bytes(const void *p, size_t n, int peer, struct direction *d)
{
    if (n > 0)
        nccl_must(ncclSend(p, n, ncclUint8, peer, d->rail, d->stream->cuda), "ncclSend");
}

static void receive_bytes(void *p, size_t n, int peer, struct direction *d)
{
    if (n > 0)
        nccl_must(ncclRecv(p, n, ncclUint8, peer, d->rail, d->stream->cuda), "ncclRecv");
}

/* ---- attention ------------------------------------------------------------------------------ */

static struct wire nccl_out(struct exchange *x, int m)
{
    return wire_at(&x->shape, &x->lane[m].wire, 0, x->lane[m].rows);
}

/* On the compute stream, once what was there has been sent. */
static void pack_rows(struct exchange *x, struct lane *l, const struct cuda_record *r)
{
    if (l->sending)
        dev(x)->stream_wait(x->end.device, x->end.compute, l->sent);
    cuda_record_pack(x->end.compute->cuda, r, l->rows, l->records);
}

static void nccl_dispatch(struct exchange *x, int layer, int m)
{
    struct lane *l = &x->lane[m];
    int instances = x->end.place.layout.expert;
    const struct cuda_record r = record_of(&x->shape, &l->wire, x->shape.routed[layer]);
    size_t records = mem_mul((size_t)l->rows, (size_t)r.stride);
    size_t answer = mem_mul((size_t)l->rows, row_bytes(&x->shape));
    size_t apart = mem_mul(x->shape.rows, row_bytes(&x->shape));
    pack_rows(x, l, &r);
    dev(x)->event_record(x->end.device, l->written, x->end.compute);
    dev(x)->stream_wait(x->end.device, x->wire[OUT].stream, l->written);
    nccl_must(ncclGroupStart(), "ncclGroupStart");
    for (int p = 0; p < instances; p++)
        send_bytes(l->records, records, x->rail_attention + p, &x->wire[OUT]);
    nccl_must(ncclGroupEnd(), "sending rows");
    dev(x)->event_record(x->end.device, l->sent, x->wire[OUT].stream);
    l->sending = true;
    /* Also after `written`: the partials of the layer before have been added. */
    dev(x)->stream_wait(x->end.device, x->wire[BACK].stream, l->sent);
    nccl_must(ncclGroupStart(), "ncclGroupStart");
    for (int p = 0; p < instances; p++) {
        l->parts[p] = l->partial + (size_t)p * apart;
        receive_bytes(l->partial + (size_t)p * apart, answer, x->rail_attention + p,
                      &x->wire[BACK]);
    }
    nccl_must(ncclGroupEnd(), "receiving partial sums");
    dev(x)->event_record(x->end.device, l->received, x->wire[BACK].stream);
}

static const void *const *nccl_collect(struct exchange *x, int layer, int m)
{
    (void)layer;
    dev(x)->stream_wait(x->end.device, x->end.compute, x->lane[m].received);
    return x->lane[m].parts;
}

/* ---- FFN ------------------------------------------------------------------------------------ */

/* Rows between two rails' parts of the records: those of the longest. */
static int longest_rail(const struct exchange *x, const struct lane *l)
{
    int most = 0;
    for (int r = 0; r < tensor(x); r++)
        most = rail_rows(l, r) > most ? rail_rows(l, r) : most;
    return most;
}

/* From the attention ranks of this rank's rail. */
static void receive_rail(struct exchange *x, int m, size_t record, char *to)
{
    nccl_must(ncclGroupStart(), "ncclGroupStart");
    for (int i = 0; i < x->rail_attention; i++) {
        int n = rows_of(x, rails_attention_rank(&x->end.place.layout, x->rail, i), m);
        receive_bytes(to, (size_t)n * record, i, &x->wire[OUT]);
        to += (size_t)n * record;
    }
    nccl_must(ncclGroupEnd(), "receiving rows");
}

static struct wire nccl_receive(struct exchange *x, int layer, int m)
{
    struct lane *l = &x->lane[m];
    struct wire w = wire_at(&x->shape, &l->wire, 0, l->rows);
    if (l->rows == 0)
        return w;
    const struct cuda_record r = record_of(&x->shape, &l->wire, x->shape.routed[layer]);
    struct cuda_pieces pieces = {.apart = longest_rail(x, l)};
    size_t apart = (size_t)pieces.apart * (size_t)r.stride;
    memcpy(pieces.first, l->first, ((size_t)tensor(x) + 1) * sizeof *l->first);
    /* The rows of the layer before have been computed on, and answered. */
    if (l->sending)
        dev(x)->stream_wait(x->end.device, x->wire[OUT].stream, l->sent);
    char *mine = l->records + (size_t)x->rail * apart;
    receive_rail(x, m, (size_t)r.stride, mine);
    if (x->wire[OUT].instance)
        nccl_must(ncclAllGather(mine, l->records, apart, ncclUint8, x->wire[OUT].instance,
                                x->wire[OUT].stream->cuda),
                  "ncclAllGather");
    dev(x)->event_record(x->end.device, l->received, x->wire[OUT].stream);
    dev(x)->stream_wait(x->end.device, x->end.compute, l->received);
    cuda_record_unpack(x->end.compute->cuda, &r, l->records, &pieces, l->rows);
    return w;
}

static void *nccl_reply_buffer(struct exchange *x, int m)
{
    struct lane *l = &x->lane[m];
    if (l->sending)
        dev(x)->stream_wait(x->end.device, x->end.compute, l->sent);
    return l->partial;
}

/* Reduce-scatter inside the instance, in rank order; returns where the sums of this rail are. */
static const char *reduce_rails(struct exchange *x, struct lane *l)
{
    size_t row = row_bytes(&x->shape), mine = (size_t)rail_rows(l, x->rail) * row;
    nccl_must(ncclGroupStart(), "ncclGroupStart");
    for (int r = 0; r < tensor(x); r++) {
        size_t theirs = (size_t)rail_rows(l, r) * row;
        char *slot = l->gather + (size_t)r * mine;
        const char *part = l->partial + (size_t)l->first[r] * row;
        l->parts[r] = slot;
        if (r == x->rail) {
            l->parts[r] = part;
            continue;
        }
        if (theirs > 0)
            nccl_must(ncclSend(part, theirs, ncclUint8, r, x->wire[BACK].instance,
                               x->wire[BACK].stream->cuda),
                      "ncclSend");
        if (mine > 0)
            nccl_must(ncclRecv(slot, mine, ncclUint8, r, x->wire[BACK].instance,
                               x->wire[BACK].stream->cuda),
                      "ncclRecv");
    }
    nccl_must(ncclGroupEnd(), "scattering the partial sums of an instance");
    x->end.backend->ops->sum(x->end.device, x->wire[BACK].stream, l->parts, tensor(x),
                             x->shape.combine, rail_rows(l, x->rail), (int)x->shape.hidden,
                             l->reduced);
    return l->reduced;
}

static void nccl_reply(struct exchange *x, int layer, int m)
{
    (void)layer;
    struct lane *l = &x->lane[m];
    size_t row = row_bytes(&x->shape);
    dev(x)->event_record(x->end.device, l->written, x->end.compute);
    dev(x)->stream_wait(x->end.device, x->wire[BACK].stream, l->written);
    const char *sum = l->partial;
    if (x->wire[BACK].instance)
        sum = reduce_rails(x, l);
    nccl_must(ncclGroupStart(), "ncclGroupStart");
    for (int i = 0; i < x->rail_attention; i++) {
        size_t n =
            (size_t)rows_of(x, rails_attention_rank(&x->end.place.layout, x->rail, i), m) * row;
        send_bytes(sum, n, i, &x->wire[BACK]);
        sum += n;
    }
    nccl_must(ncclGroupEnd(), "sending partial sums");
    dev(x)->event_record(x->end.device, l->sent, x->wire[BACK].stream);
    l->sending = true;
}

/* ---- end of a step -------------------------------------------------------------------------- */

/* The caller has waited for the compute stream, and that for the others. */
static void nccl_end(struct exchange *x)
{
    x->watchdog.started = 0;
}

const struct exchange_ops exchange_nccl = {
    .name = "nccl",
    .open = nccl_open,
    .close = nccl_close,
    .bytes = nccl_bytes,
    .begin = nccl_begin,
    .fork = nccl_fork,
    .join = nccl_join,
    .out = nccl_out,
    .dispatch = nccl_dispatch,
    .collect = nccl_collect,
    .receive = nccl_receive,
    .reply_buffer = nccl_reply_buffer,
    .reply = nccl_reply,
    .end = nccl_end,
};
