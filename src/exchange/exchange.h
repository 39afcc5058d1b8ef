/* exchange.h - rows to the FFN ranks and partial sums back, every layer, for every micro-batch.
 *
 * A row leaves its attention rank after the post-attention norm, together with the router's choice,
 * and goes to every FFN rank; each returns the partial sum of its share, and the attention rank
 * adds the partials in the order of the FFN ranks. So the exchange does not care how experts were
 * cut. (Paper section 7.1, figure 6; the broadcast is the paper's, as every FFN rank has a slice of
 * the shared expert.)
 *
 * A layer l of micro-batch m, in the order in which things happen:
 *
 *   attention   out(m)            where to write the rows
 *               dispatch(l, m)    they are on their way
 *   FFN         receive(l, m)     waits; the rows of all attention ranks
 *               reply_buffer(m)   where to write the partial sums
 *               reply(l, m)       they are on their way
 *   attention   collect(l, m)     waits; the partial sums of all FFN ranks
 *
 * Order: per micro-batch, layers ascending, and within a layer dispatch before collect. Attention
 * may dispatch (l, 0), (l, 1), ... before it collects (l, 0): that is the pipeline. A micro-batch
 * without rows on a rank is skipped by that rank; without rows at all, by everyone.
 *
 * Counts come from the step contract: begin() gives them to every rank, so nothing about sizes is
 * ever sent. All buffers are made by open() for the largest step; nothing is allocated in a step.
 *
 * Transports: `local` (both roles in this process), `shared` (ranks of one host, memory they
 * share), `mpi` (host memory, any hosts), `nccl` (device memory and streams, no host
 * synchronization). One struct exchange per rank, used by its main thread. Failures of the wire are
 * a broken world: die().
 */
#ifndef TANDEM_EXCHANGE_EXCHANGE_H
#define TANDEM_EXCHANGE_EXCHANGE_H

#include "kernels/ops.h"
#include "schedule/placement.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct exchange;

/* The same on all ranks. */
struct exchange_shape {
    struct layout layout;
    int micro_batches;
    size_t layers;
    const bool *routed;  /* [layers] does the layer have routed experts? */
    size_t hidden;       /* H */
    size_t topk;         /* K */
    size_t rows;         /* most rows of one attention rank in one micro-batch */
    enum dtype dispatch; /* rows out: f32, bf16, f8e4m3 with f32 scales per 128 columns */
    enum dtype combine;  /* partial sums back: f32 or bf16 */
    double timeout;      /* seconds after which a step counts as hung (nccl); 0: never */
};

/* This rank. world_of_*: world ranks of all attention and FFN ranks, for the transports; the arrays
 * outlive the exchange. */
struct exchange_place {
    bool attention, ffn; /* roles of this rank; both for `local` */
    int index;           /* among the ranks of its role */
    const int *world_of_attention, *world_of_ffn;
    const struct backend *backend;
    struct device *device;
    struct stream *compute; /* operations that fill and read the buffers run here */
};

/* Rows on the wire, device memory. scales is NULL unless dispatch is FP8; ids and weights are not
 * meaningful in a layer without routed experts. */
struct wire {
    int n;          /* rows */
    void *rows;     /* dispatch dtype [n][H] */
    float *scales;  /* [n][ceil(H / 128)] */
    int32_t *ids;   /* [n][K] */
    float *weights; /* [n][K] */
};

struct exchange_ops {
    const char *name;

    struct exchange *(*open)(const struct exchange_shape *shape,
                             const struct exchange_place *place);
    void (*close)(struct exchange *x);

    /* Device and host bytes open() takes: for the memory plan. */
    size_t (*bytes)(const struct exchange_shape *shape, const struct exchange_place *place);

    /* Start of a step: rows[a * micro_batches + m] of every attention rank. All ranks. Host only.
     */
    void (*begin)(struct exchange *x, const int *rows);

    /* Around everything that is enqueued in a step, or NULL where the transport has no streams of
     * its own: fork() makes them follow the compute stream, join() makes that follow them. A step
     * that is launched again as a graph (roles/replay.h) has both in it, and calls neither. */
    void (*fork)(struct exchange *x);
    void (*join)(struct exchange *x);

    /* How many partial sums collect() returns: one from every FFN rank, or from every FFN instance
     * where the transport reduces inside an instance. */
    int (*parts)(const struct layout *layout);

    /* Attention. out(): buffers of micro-batch m, free to write until dispatch(). collect() returns
     * the partials [parts()] in the order of FFN ranks or instances, each [n][H] of the combine
     * dtype, valid until the next dispatch() of the same micro-batch; work put on the compute
     * stream after it sees them. */
    struct wire (*out)(struct exchange *x, int m);
    void (*dispatch)(struct exchange *x, int layer, int m);
    const void *const *(*collect)(struct exchange *x, int layer, int m);

    /* FFN. receive(): rows of all attention ranks, rank after rank, in an order that is the
     * transport's own; valid until reply(). */
    struct wire (*receive)(struct exchange *x, int layer, int m);
    void *(*reply_buffer)(struct exchange *x, int m);
    void (*reply)(struct exchange *x, int layer, int m);

    /* End of a step; the compute stream has passed it. Nothing is under way any more when it
     * returns. All ranks. */
    void (*end)(struct exchange *x);

    /* Seconds this rank has waited for a peer inside the calls above since open(): exposed wait. */
    double (*waited)(const struct exchange *x);
};

extern const struct exchange_ops exchange_local, exchange_shared, exchange_mpi;

/* The NCCL transport, or NULL in a binary without CUDA (kernels/backend.c knows). */
const struct exchange_ops *exchange_find_nccl(void);

/* Columns that share one scale on the FP8 wire. */
#define WIRE_SCALE_COLUMNS 128

/* Bytes of n rows in each part of a wire; for the transports. */
struct wire_bytes {
    size_t rows, scales, ids, weights;
};
struct wire_bytes wire_bytes(const struct exchange_shape *shape, size_t n);

/* Device memory for a wire of n rows, and its release. */
struct wire wire_alloc(const struct exchange_shape *shape, const struct exchange_place *place,
                       size_t n);
void wire_free(const struct exchange_place *place, struct wire *w);

/* The wire w from its row `first` on, n rows. */
struct wire wire_at(const struct exchange_shape *shape, const struct wire *w, size_t first, int n);

#endif
