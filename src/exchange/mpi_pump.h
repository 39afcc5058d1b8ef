/* mpi_pump.h - the messages under way, and the thread that moves them while kernels run. Private to
 * exchange/mpi.c.
 *
 * A message of more than a few KiB does not leave by itself: most networks of MPI move it only
 * inside MPI calls, of the receiver and of the sender. A rank that computes for milliseconds between
 * two calls would send its rows when it needs the answer. So requests are gathered in batches, and
 * whoever is free looks at all of them: the main thread while it waits for one, and a thread of the
 * pump while the main thread computes. What must follow a batch (the next hop of the same rows) is
 * posted by whoever sees it end.
 *
 * The thread looks every PUMP_SECONDS, and only while something is under way and nobody waits. The
 * other way, calls from the main thread, was measured in its place (tests/mpi/exchange_overlap, TCP;
 * shares in which both roles worked, of 200 %): between the operations of a layer, eight in
 * attention and one in the FFN, 140 to 178; eight times in both, as between the tiles of kernels, 183
 * to 186; the thread 182 to 188. So the thread, since kernels need not know of it. Looking every 50 us
 * or every 1 ms made no difference.
 *
 * MPI must allow calls from two threads, though never at the same time (MPI_THREAD_SERIALIZED). If
 * it does not, messages move only while the main thread waits.
 */
#ifndef TANDEM_EXCHANGE_MPI_PUMP_H
#define TANDEM_EXCHANGE_MPI_PUMP_H

#include <mpi.h>
#include <pthread.h>
#include <stdbool.h>

/* How often the thread looks: short beside a layer, long beside a look (a few microseconds). */
#define PUMP_SECONDS 200e-6

/* Requests that are waited for together. */
struct batch {
    const char *what; /* for messages: "rows", ... */
    MPI_Request *request;
    int n, most;
    bool under_way;
    void (*then)(void *context, int m); /* at the end of the batch, or NULL */
    int m;
};

struct pump {
    struct batch **batch;
    int n;
    void *context; /* for then() */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool has_thread, parked, closing;
    bool waiting; /* the main thread looks itself */
};

void pump_open(struct pump *p, void *context, int batches_most);
void pump_close(struct pump *p);

/* Makes a batch of up to `most` requests and adds it to those that are looked at. */
void pump_add(struct pump *p, struct batch *b, const char *what, int most,
              void (*then)(void *context, int m), int m);

/* Main thread: between these two, messages are posted and batches begun. then() runs inside. */
void pump_begin(struct pump *p);
void pump_end(struct pump *p);

/* Inside: one message of `bytes` bytes to or from rank `peer`; nothing when there are none. */
void batch_send(struct batch *b, MPI_Comm comm, int peer, int tag, const void *data, size_t bytes);
void batch_receive(struct batch *b, MPI_Comm comm, int peer, int tag, void *data, size_t bytes);
/* Inside, after the messages of a batch: it is under way, or has ended already when it is empty. */
void batch_start(struct batch *b);

/* Main thread, outside: until the batch has ended, and with it what then() has done. */
void pump_wait(struct pump *p, struct batch *b);

#endif
