/* device.h - one processor that a rank drives: its memory, streams and events.
 *
 * A backend is a pair of constant tables, `struct device_ops` (this file) and `struct ops` (ops.h),
 * chosen once from the job by backend_find() and never changed. A rank opens one device and uses it
 * from one thread. All work is enqueued on a stream and runs in the stream's order; work of
 * different streams is ordered only by events. The CPU backends run everything at once, in the
 * call: their streams and events exist and do nothing, and their device memory is host memory.
 *
 * Ownership: what alloc, stream_create and event_create give is returned by the matching call
 * before close(). Nothing here may be called inside a decode step except upload, download, record,
 * wait: memory is taken when the job is planned.
 *
 * Failure: open() returns -1 and says what is missing. Every other failure is a broken world:
 * die().
 */
#ifndef TANDEM_KERNELS_DEVICE_H
#define TANDEM_KERNELS_DEVICE_H

#include "base/dtype.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device; /* opaque; each backend has its own */
struct stream;
struct event;
struct graph;
struct ops;

/* The largest shapes a rank will ever ask for; open() takes scratch memory for them, so that no
 * operation allocates. Fields a role does not use are 0. */
struct device_limits {
    size_t rows;       /* rows of one call: of one micro-batch (attention), of all ranks (ffn) */
    size_t hidden;     /* H */
    size_t q_width;    /* the widest projection: heads x key_dim, or a rank between two */
    size_t heads;      /* query heads */
    size_t head_dim;   /* D: numbers of the widest key or value */
    bool values_apart; /* no attention takes its values out of the keys (attn_spec.value_in_key) */
    size_t context;    /* tokens of the longest sequence */
    size_t vocab;      /* V, of logits */
    size_t logit_rows; /* rows that are sampled in one call */
    size_t experts;    /* experts this rank holds */
    size_t topk;       /* K */
    size_t inter;      /* widest intermediate part of one expert or dense MLP on this rank */
};

struct device_config {
    int index;               /* which GPU of the host; CPU: ignored */
    int threads;             /* CPU threads of this rank; at least 1 */
    bool always_all_threads; /* CPU: also for what one thread would have done before others woke */
    bool takes_turns; /* CPU: a rank of the other role works on cores of this one while it waits */
    enum dtype act;   /* activations: DTYPE_F32 or DTYPE_BF16 */
    enum dtype kv;    /* KV cache: DTYPE_F32, DTYPE_BF16 or DTYPE_F8E4M3 */
    /* CPU: weights in groups of integers (kernels/weights/form.h: I8, I4) are multiplied with rows that are
     * rounded to 8 bits (kernels/cpu/integer.h); slices of an FFN's inputs are then multiples of 32. CUDA:
     * ignored. */
    bool int8_products;
    /* CUDA: bf16 matrices go through cuBLAS instead of the backend's own kernels. A row's bits may
     * then depend on its place in a batch (kernels/cuda/linear.c). CPU: ignored. */
    bool blas;
    bool
        timed; /* CUDA: events also tell times (event_seconds), which slows them. CPU: they always do */
    struct device_limits limits;
};

struct device_ops {
    const char *name; /* "cpu", "cuda" */

    /* How many devices this process sees; NULL on the CPU. open() or usable() says why it is 0. */
    int (*count)(void);

    /* What it has in common with all others of its sort: name and driver, "NVIDIA H100 80GB HBM3, driver
     * 12.8, CUDA 12.6", and TANDEM_OVERLAP=1. NULL: nothing is known that way (CPU). */
    void (*sort)(const struct device *d, char *text, size_t size);

    /* What came of asking for kernels that are set up while the ones before them run (TANDEM_OVERLAP=1); "":
     * nobody asked. NULL: there is no such thing (CPU). */
    const char *(*overlap)(const struct device *d);

    /* Opens device `config->index`. Returns 0, or -1 with what is missing (no driver, no such GPU).
     */
    int (*open)(const struct device_config *config, struct device **out, struct err *e);
    void (*close)(struct device *d);

    /* One line for the start table: "avx512, 2 threads", "NVIDIA H100 80GB HBM3 0000:3b:00.0". */
    void (*describe)(const struct device *d, char *text, size_t size);

    /* Free bytes of device memory right now (CPU: base/host_memory.h). */
    size_t (*memory_free)(const struct device *d);

    /* Bytes of device memory that open() and one stream_create() take for scratch: for the plan. */
    size_t (*scratch_bytes)(const struct device *d);

    /* Device memory, aligned to at least 256 bytes (CPU: 64), contents undefined. */
    void *(*alloc)(struct device *d, size_t bytes);
    void (*release)(struct device *d, void *p);

    /* Host memory that upload and download reach without a copy in between (pinned). */
    void *(*alloc_host)(struct device *d, size_t bytes);
    void (*release_host)(struct device *d, void *p);

    /* Copies in stream order. The host side must stay unchanged until the stream has passed. */
    void (*upload)(struct device *d, struct stream *s, void *to, const void *from_host,
                   size_t bytes);
    void (*download)(struct device *d, struct stream *s, void *to_host, const void *from,
                     size_t bytes);
    void (*zero)(struct device *d, struct stream *s, void *p, size_t bytes);

    struct stream *(*stream_create)(struct device *d);
    void (*stream_destroy)(struct device *d, struct stream *s);
    /* The host waits until everything enqueued on s has run. */
    void (*stream_sync)(struct device *d, struct stream *s);
    /* Later work of s starts after e, as last recorded, has happened. */
    void (*stream_wait)(struct device *d, struct stream *s, struct event *e);

    struct event *(*event_create)(struct device *d);
    void (*event_destroy)(struct device *d, struct event *e);
    void (*event_record)(struct device *d, struct event *e, struct stream *s);
    /* True when e, as last recorded, has happened. Never waits. */
    bool (*event_done)(struct device *d, struct event *e);
    /* Seconds between two events that have happened (CPU: clock at the record). Needs config.timed. */
    double (*event_seconds)(struct device *d, struct event *from, struct event *to);

    /* Optional (CUDA: NULL). work(context) on all threads of the device at once, for a wait in which they leave their
     * cores to others: the operation after it finds them awake. */
    void (*together)(struct device *d, void (*work)(void *), void *context);

    /* Optional, all or none (CPU: NULL). From capture_begin to capture_end what is enqueued on
     * s, and on streams that wait for events recorded there, is not run but kept in a graph; those
     * streams must have been waited for by s at the end. Meanwhile the host may not wait for any of
     * them. graph_launch enqueues all of it on s, with the same pointers and sizes. */
    void (*capture_begin)(struct device *d, struct stream *s);
    struct graph *(*capture_end)(struct device *d, struct stream *s);
    void (*graph_launch)(struct device *d, struct stream *s, struct graph *g);
    /* The stream it was launched on must have passed it. */
    void (*graph_destroy)(struct device *d, struct graph *g);
    /* Rows that one round of ffn's launches takes: for the memory of graphs. */
    size_t (*ffn_rows)(const struct device *d);
};

/* The tables of one implementation. */
struct backend {
    const char *name; /* "plain", "avx2", "avx512", "cuda" */
    const struct device_ops *device;
    const struct ops *ops;
    /* 0 when this machine can run it, else -1 and why not. */
    int (*usable)(struct err *e);
};

/* The backend for `device:` ("cpu", "cuda") and `kernels:` ("auto" or a backend's name) of the job.
 * "auto" takes the fastest that is usable. Returns NULL and says what is there when none fits. */
const struct backend *backend_find(const char *device, const char *kernels, struct err *e);

/* All backends in this binary, slowest first, NULL at the end. */
const struct backend *const *backend_all(void);

#endif
