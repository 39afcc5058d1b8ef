/* engine.h - one rank's machine: device, weights, KV cache, exchange and the sides of its roles, made
 * to measure.
 *
 * First the plan: from job, model and role alone, what shapes a rank will meet and what memory it
 * will take; the dry run prints it, and opening an engine allocates exactly that. One engine per
 * rank.
 */
#ifndef TANDEM_ROLES_ENGINE_H
#define TANDEM_ROLES_ENGINE_H

#include "exchange/exchange.h"
#include "roles/attention.h"
#include "roles/comm.h"
#include "roles/ffn.h"
#include "roles/inputs.h"

struct engine_memory {
    /* Device bytes; buffers: exchange, activations, scratch, or on a CPU what loading takes in their place
     * if that is more. */
    size_t weights, kv, buffers;
    size_t widened; /* of the weights: ffn_weights_widened() */
    struct weights_slow slow_matrices, slow_ffns;
};

struct engine {
    const struct inputs *in;
    struct place place;
    struct device_config config;
    struct schedule_limits limits;
    struct exchange_shape shape;
    const struct exchange_ops *exchange_ops;
    const struct backend *backend;
    struct device *device;
    struct stream *stream;
    struct attention_weights attention_weights;
    struct ffn_weights ffn_weights;
    struct caches caches;
    struct exchange *exchange;
    struct attention *attention; /* NULL where the rank has not the role, like ffn */
    struct ffn *ffn;
    struct engine_memory memory;
    struct fingerprint *fingerprint; /* notes what engine_load() loads; NULL: nothing does */
};

/* What a rank, or several that use the same memory (a host's or a card's), take of it beside KV
 * caches, and how many caches there are. `memory` tells the memories of a host apart. */
struct engine_tenant {
    uint64_t memory;
    size_t bytes;
    int caches;
};

/* Chooses the transport. one_host: all ranks share memory. -1: the job asks for one that cannot be.
 */
const struct exchange_ops *engine_transport(const struct job *job, bool one_host, struct err *e);

/* The job's micro-batches, or what auto means: 1 in a colocated layout and where attention and FFN
 * ranks share cores (roles/cores.h); 3 between GPUs of several hosts, where the wire takes as long as
 * either role; else 2. */
int engine_micro_batches(const struct job *job, bool shared_cores, bool one_host);

/* Opens the device, with `threads` CPU threads, and plans limits, shapes and all memory but the KV
 * cache's. -1: no device. Nothing large is allocated yet. */
int engine_plan(struct engine *g, const struct inputs *in, const struct place *place, int threads,
                const struct exchange_ops *transport, struct err *e);

/* What this rank takes. */
struct engine_tenant engine_tenant(const struct engine *g);

/* Plans the KV cache: of every pool as many blocks as all slots can use, within schedule.kv_memory (how
 * that is divided: schedule/pools.h), or within the rank's share of nine tenths of what all tenants of its memory leave free. all: their sum, of the
 * same moment. -1: it does not hold one longest sequence, or the memory does not hold all. */
int engine_plan_kv(struct engine *g, const struct engine_tenant *all, struct err *e);

/* After engine_plan_kv(), of an attention rank: what one longest sequence holds, how many run at once. */
void engine_describe_kv(const struct engine *g, char *text, size_t size);

/* What is to be said of weights that became `bytes` wider; "" where that is nothing. */
#define ENGINE_WIDENED_TEXT 200
const char *engine_describe_widened(size_t bytes, char text[ENGINE_WIDENED_TEXT]);

/* The same of weights whose kernels are slow: the most that a rank has of them. */
struct engine_slow {
    int matrices, ffns; /* of how many layers */
    char why[100];      /* the first of them */
};
#define ENGINE_SLOW_TEXT 400
void engine_slow_add(struct engine_slow *most, const struct engine_slow *rank);
struct engine_slow engine_slow(const struct engine *g);
const char *engine_describe_slow(const struct engine_slow *most, char text[ENGINE_SLOW_TEXT]);

/* Loads the weights and makes everything else. Collective where the transport is: all ranks of
 * `cell`, in the order of the layout. */
void engine_load(struct engine *g, const struct group *cell, weights_progress progress,
                 void *progress_context);

/* The exchange alone, for a test without a model; engine_load() does it too. Collective likewise. */
void engine_connect(struct engine *g, MPI_Comm cell);

/* This rank's end of the exchange, once there is a stream. */
struct endpoint engine_endpoint(const struct engine *g, MPI_Comm cell);

/* Frees whatever plan and load have made. */
void engine_close(struct engine *g);

#endif
