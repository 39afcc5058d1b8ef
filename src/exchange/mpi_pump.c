#include "exchange/mpi_pump.h"

#include "base/backoff.h"
#include "base/err.h"
#include "base/mem.h"
#include "exchange/call.h"

#include <stdlib.h>
#include <time.h>

/* Looks at every batch once; true when something is still under way. Under the lock. */
static bool look(struct pump *p)
{
    bool under_way = false;
    for (int i = 0; i < p->n; i++) {
        struct batch *b = p->batch[i];
        if (!b->under_way)
            continue;
        if (!mpi_done(b->n, b->request, b->what)) {
            under_way = true;
            continue;
        }
        b->n = 0;
        b->under_way = false;
        if (b->then) {
            b->then(p->context, b->m);
            under_way = true; /* perhaps */
        }
    }
    return under_way;
}

static void *run(void *argument)
{
    struct pump *p = argument;
    pthread_mutex_lock(&p->lock);
    while (!p->closing) {
        if (p->waiting || !look(p)) {
            p->parked = true;
            pthread_cond_wait(&p->wake, &p->lock);
            p->parked = false;
            continue;
        }
        pthread_mutex_unlock(&p->lock);
        nanosleep(&(struct timespec){.tv_nsec = (long)(PUMP_SECONDS * 1e9)}, NULL);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

void pump_open(struct pump *p, void *context, int batches_most)
{
    int level;
    *p = (struct pump){.context = context};
    p->batch = mem_new((size_t)batches_most, sizeof(struct batch *));
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    mpi_must(MPI_Query_thread(&level), "MPI_Query_thread");
    if (level < MPI_THREAD_SERIALIZED)
        return;
    if (pthread_create(&p->thread, NULL, run, p) != 0)
        die("the thread that moves messages cannot be started");
    p->has_thread = true;
}

void pump_close(struct pump *p)
{
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    if (p->has_thread)
        pthread_join(p->thread, NULL);
    for (int i = 0; i < p->n; i++)
        free(p->batch[i]->request);
    free(p->batch);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
}

void pump_add(struct pump *p, struct batch *b, const char *what, int most,
              void (*then)(void *context, int m), int m)
{
    *b = (struct batch){.what = what, .most = most, .then = then, .m = m};
    b->request = mem_new((size_t)most, sizeof *b->request);
    pthread_mutex_lock(&p->lock); /* the thread looks already */
    p->batch[p->n++] = b;
    pthread_mutex_unlock(&p->lock);
}

void pump_begin(struct pump *p)
{
    pthread_mutex_lock(&p->lock);
}

void pump_end(struct pump *p)
{
    bool parked = p->parked;
    pthread_mutex_unlock(&p->lock);
    if (parked)
        pthread_cond_signal(&p->wake);
}

static MPI_Request *next(struct batch *b)
{
    if (b->n == b->most || b->under_way)
        die("exchange: %s: more messages than the batch of %d holds", b->what, b->most);
    return &b->request[b->n++];
}

void batch_send(struct batch *b, MPI_Comm comm, int peer, int tag, const void *data, size_t bytes)
{
    if (bytes > 0)
        mpi_must(MPI_Isend(data, (int)bytes, MPI_BYTE, peer, tag, comm, next(b)), b->what);
}

void batch_receive(struct batch *b, MPI_Comm comm, int peer, int tag, void *data, size_t bytes)
{
    if (bytes > 0)
        mpi_must(MPI_Irecv(data, (int)bytes, MPI_BYTE, peer, tag, comm, next(b)), b->what);
}

void batch_start(struct batch *b)
{
    b->under_way = b->n > 0;
}

void pump_wait(struct pump *p, struct batch *b)
{
    struct backoff pause = {0};
    mpi_waiting();
    pthread_mutex_lock(&p->lock);
    p->waiting = true;
    while (b->under_way) {
        look(p);
        if (!b->under_way)
            break;
        pthread_mutex_unlock(&p->lock);
        backoff_pause(&pause);
        pthread_mutex_lock(&p->lock);
    }
    p->waiting = false;
    pump_end(p);
    mpi_working();
}
