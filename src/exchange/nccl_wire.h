/* nccl_wire.h - the communicators of the NCCL exchange, and the thread that watches them. Private
 * to exchange/nccl.c, which says what they are for. All functions but those of the watchdog's own
 * thread are called by the main thread.
 */
#ifndef TANDEM_EXCHANGE_NCCL_WIRE_H
#define TANDEM_EXCHANGE_NCCL_WIRE_H

#include "exchange/exchange.h"
#include "kernels/cuda/device_cuda.h"

#include <nccl.h>
#include <pthread.h>
#include <stdatomic.h>

#define NCCL_LEAST 21800 /* 2.18: ncclCommSplit with a configuration */
#if defined(NCCL_VERSION_CODE) && NCCL_VERSION_CODE < NCCL_LEAST
#error "NCCL 2.18 or later is needed; name its folder with NCCL_HOME=, or say make CUDA=0"
#endif

/* What the program needs when it runs: what it was built to call. */
#if NCCL_VERSION_CODE >= 21900
#define NCCL_RUNS 21900 /* 2.19: ncclMemAlloc, ncclCommRegister */
#else
#define NCCL_RUNS NCCL_LEAST
#endif

/* One direction, out or back: its stream and communicators. */
struct direction {
    struct stream *stream;
    struct event *passed; /* everything of the step */
    ncclComm_t rail;      /* attention ranks of the rail in order, then one FFN rank an instance */
    ncclComm_t instance;  /* FFN ranks of the instance; NULL: it has one rank */
};

/* Dies, saying what failed and why, unless code is ncclSuccess. */
void nccl_must(ncclResult_t code, const char *what);

/* Streams, communicators and events of both directions, [2]. Collective over all ranks; dies when
 * two ranks have different NCCLs or one GPU. */
void nccl_connect(const struct exchange_shape *shape, const struct endpoint *end,
                  struct direction *both);
void nccl_disconnect(const struct endpoint *end, struct direction *both);

/* Device memory that travels: NCCL takes it from there and puts it there itself, without a copy of its own,
 * where it can (NCCL 2.19 and later; NCCL_LOCAL_REGISTER=0 has it copy). One piece for everything, since
 * NCCL gives whole pages of its own, which some versions make 512 MiB large on GPUs with NVSwitch. */
#define BUFFER_USERS 4
struct buffer {
    char *memory;
    ncclComm_t user[BUFFER_USERS];
    void *handle[BUFFER_USERS]; /* NULL: NCCL has not taken it */
};

/* For the communicators of both directions. Dies when there is no memory. */
struct buffer nccl_buffer(size_t bytes, const struct direction *both);
/* Nothing is under way. Before nccl_disconnect(), whose communicators have it. */
void nccl_release(struct buffer *b);

/* What a buffer takes: tried, with the device at hand, and given back. Where there is none: in pages of 2 MiB. */
size_t nccl_buffer_bytes(size_t bytes);

/* Ends the job with one message when NCCL reports an error, or when a step does not end within the
 * limit: an FFN rank that waits in a kernel would wait for ever. It is a thread since the main one
 * may be in CUDA then, or in NCCL while it connects to a peer that is not there. */
struct watchdog {
    pthread_t thread;
    double limit, seconds;        /* after which this rank gives up; what the job has asked for */
    const struct direction *both; /* looked at once `connected` */
    _Atomic bool connected, closing;
    _Atomic double started; /* clock_now() of the step; 0: between steps. Connecting is one too. */
};

/* seconds: 0 waits for ever. */
void watchdog_start(struct watchdog *w, const struct direction *both, double seconds);
void watchdog_stop(struct watchdog *w);

#endif
