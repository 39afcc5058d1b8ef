/* exchange.h - rows to the FFN ranks and partial sums back, every layer, for every micro-batch.
 *
 * A row leaves its attention rank after the post-attention norm, together with the router's choice,
 * and goes to every FFN rank; each makes the partial sum of its share. So the exchange does not care
 * how experts were cut. (Paper section 7.1, figure 6; the broadcast is the paper's, as every FFN rank
 * has a slice of the shared expert.)
 *
 * Order of additions, the same in every transport: the partials of an instance's ranks are added in
 * their order, as ops->sum does (one rank: nothing is added), and rounded to the combine dtype; the
 * attention rank adds the sums of the instances in theirs. With f64 nothing is rounded on the way and
 * the order does not matter.
 *
 * A layer l of micro-batch m, in the order in which things happen:
 *
 *   attention   out(m)            where to write the rows
 *               dispatch(l, m)    they are on their way
 *   FFN         receive(l, m)     waits; the rows of all attention ranks
 *               reply_buffer(m)   where to write the partial sums
 *               reply(l, m)       they are on their way
 *   attention   collect(l, m)     waits; the partial sums of all FFN instances
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

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct exchange;

/* The same on all ranks. */
struct exchange_shape {
    int micro_batches;
    size_t layers;
    const bool *routed;  /* [layers] does the layer have routed experts? */
    size_t hidden;       /* H */
    size_t topk;         /* K */
    size_t rows;         /* most rows of one attention rank in one micro-batch */
    enum dtype dispatch; /* rows out: f32, bf16, f8e4m3 with f32 scales per 128 columns */
    enum dtype combine;  /* partial sums back: f32, bf16 or f64 (kernels/exact.h) */
    double timeout;      /* seconds after which a step counts as hung (nccl); 0: never */
    int nccl_blocks;     /* nccl: the most blocks of a transfer's kernel; 0: as NCCL likes */
};

/* This rank's end of the exchange; what is pointed to outlives it. */
struct endpoint {
    struct place place;
    MPI_Comm cell; /* the ranks of the layout, in its order; unused by `local` */
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

    struct exchange *(*open)(const struct exchange_shape *shape, const struct endpoint *end);
    void (*close)(struct exchange *x);

    /* Device and host bytes open() takes: for the memory plan. */
    size_t (*bytes)(const struct exchange_shape *shape, const struct place *place);

    /* Start of a step: rows[a * micro_batches + m] of every attention rank. All ranks. Host only.
     */
    void (*begin)(struct exchange *x, const int *rows);

    /* Around everything that is enqueued in a step, or NULL where the transport has no streams of
     * its own: fork() makes them follow the compute stream, join() makes that follow them. A step
     * that is launched again as a graph (roles/replay.h) has both in it, and calls neither. */
    void (*fork)(struct exchange *x);
    void (*join)(struct exchange *x);

    /* Attention. out(): buffers of micro-batch m, free to write until dispatch(). collect() returns
     * the partials [layout_instances()] in the order of FFN instances, each [n][H] of the combine
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
};

/* All transports in this binary, NULL at the end. */
extern const struct exchange_ops *const exchange_all[];

/* The transport of that name, or NULL: `nccl` is not in a binary without CUDA. */
const struct exchange_ops *exchange_find(const char *name);

/* Columns that share one scale on the FP8 wire. */
#define WIRE_SCALE_COLUMNS 128

/* Bytes of n rows in each part of a wire; for the transports. */
struct wire_bytes {
    size_t rows, scales, ids, weights;
};
struct wire_bytes wire_bytes(const struct exchange_shape *shape, size_t n);

/* Device memory for a wire of n rows, and its release. */
struct wire wire_alloc(const struct exchange_shape *shape, const struct endpoint *end, size_t n);
void wire_free(const struct endpoint *end, struct wire *w);

/* out[i] = parts[0][i] + parts[1][i] + ..., `count` values of dtype (f32, bf16 or f64): ops->sum to the
 * last bit, on the calling thread, in host memory. */
void wire_sum(enum dtype dtype, const void *const *parts, int n_parts, size_t count, void *out);

/* The wire w from its row `first` on, n rows. */
struct wire wire_at(const struct exchange_shape *shape, const struct wire *w, size_t first, int n);

#endif
