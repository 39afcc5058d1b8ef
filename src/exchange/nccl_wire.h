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
