#include "roles/watch.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "exchange/call.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BEAT_SECONDS  1.0
#define LOOK_SECONDS  0.25
#define LIMIT_SECONDS 600

/* A sign of life. */
struct beat {
    int32_t last; /* the rank ends: nothing comes after this one */
    float stuck;  /* seconds its main thread has worked in a step without waiting for anybody */
};

struct watch {
    MPI_Comm comm;
    int rank, before, after;
    pthread_t thread;
    bool has_thread;
    _Atomic bool closing;
    pthread_mutex_t lock; /* the next two */
    char who[128];
    double limit;
    /* The thread's own: */
    struct beat heard, sent;
    MPI_Request hears, sends;
    double their_stuck;      /* of the last beat heard */
    double silent, beat_age; /* seconds since the last beat heard, and sent */
    bool warned, before_ended, said_last;
    uint64_t waits; /* mpi_waits() when it last changed */
    double since;   /* and when that was */
};

/* How long the main thread has worked in this step without waiting. */
static float stuck(struct watch *w, double now)
{
    uint64_t waits = mpi_waits();
    bool works = waits % 2 == 0 && die_step() >= 0;
    if (waits != w->waits || !works) {
        w->waits = waits;
        w->since = now;
    }
    return (float)(now - w->since);
}

static void listen(struct watch *w)
{
    mpi_must(MPI_Irecv(&w->heard, sizeof w->heard, MPI_BYTE, w->before, 0, w->comm, &w->hears),
             "listening for a rank");
}

/* Takes in what the rank before has sent. */
static void hear(struct watch *w)
{
    for (int done = 1; done && !w->before_ended;) {
        mpi_must(MPI_Test(&w->hears, &done, MPI_STATUS_IGNORE), "listening for a rank");
        if (!done)
            return;
        w->silent = 0;
        w->before_ended = w->heard.last;
        w->their_stuck = (double)w->heard.stuck;
        if (!w->before_ended)
            listen(w);
    }
}

/* Sends a beat when it is time and the one before has left: a rank that is stopped takes none. */
static void beat(struct watch *w, double now)
{
    int done;
    bool last = w->closing;
    mpi_must(MPI_Test(&w->sends, &done, MPI_STATUS_IGNORE), "a sign of life");
    if (!done || w->said_last || (w->beat_age < BEAT_SECONDS && !last))
        return;
    w->sent = (struct beat){.last = last, .stuck = stuck(w, now)};
    mpi_must(MPI_Isend(&w->sent, sizeof w->sent, MPI_BYTE, w->after, 0, w->comm, &w->sends),
             "a sign of life");
    w->said_last = last;
    w->beat_age = 0;
}

/* Speaks when the rank before is silent or does not get on. */
static void judge(struct watch *w)
{
    char who[sizeof w->who];
    double stuck_for = w->silent + w->their_stuck;
    bool silent = w->silent >= 2 * BEAT_SECONDS;
    double bad = silent ? w->silent : stuck_for;
    pthread_mutex_lock(&w->lock);
    double limit = w->limit;
    snprintf(who, sizeof who, "%s", w->who);
    pthread_mutex_unlock(&w->lock);
    if (limit > 0 && w->silent > limit)
        die("%s has given no sign of life for %.0f s: it is stopped, or its host is gone or "
            "thrashing (schedule.step_timeout)",
            who, w->silent);
    if (limit > 0 && !silent && stuck_for > limit)
        die("%s has been at one piece of work in a step for %.0f s (schedule.step_timeout)", who,
            stuck_for);
    if (bad > WATCH_WARN_SECONDS && !w->warned) {
        fprintf(stderr, "tandem: warning: %s %s for %.0f s; all ranks wait for it", who,
                silent ? "has given no sign of life" : "has been at one piece of work in a step",
                bad);
        if (limit > 0)
            fprintf(stderr, ", until %.0f s (schedule.step_timeout)", limit);
        fputc('\n', stderr);
    }
    if (bad < WATCH_WARN_SECONDS && w->warned)
        fprintf(stderr, "tandem: %s is back\n", who);
    w->warned = bad > WATCH_WARN_SECONDS;
}

static void *run(void *argument)
{
    struct watch *w = argument;
    double last = clock_now();
    listen(w);
    while (!w->said_last || !w->before_ended) {
        double now = clock_now(), passed = now - last < BEAT_SECONDS ? now - last : BEAT_SECONDS;
        last = now;
        w->silent += passed;
        w->beat_age += passed;
        hear(w);
        beat(w, now);
        if (!w->before_ended)
            judge(w);
        double pause = w->closing ? LOOK_SECONDS / 50 : LOOK_SECONDS;
        nanosleep(&(struct timespec){.tv_nsec = (long)(pause * 1e9)}, NULL);
    }
    mpi_must(MPI_Wait(&w->sends, MPI_STATUS_IGNORE), "a sign of life");
    return NULL;
}

struct watch *watch_start(void)
{
    int level, size;
    struct watch *w = mem_zeroed(1, sizeof *w);
    pthread_mutex_init(&w->lock, NULL);
    mpi_must(MPI_Comm_dup(MPI_COMM_WORLD, &w->comm), "MPI_Comm_dup");
    mpi_must(MPI_Comm_set_errhandler(w->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    mpi_must(MPI_Comm_rank(w->comm, &w->rank), "MPI_Comm_rank");
    mpi_must(MPI_Comm_size(w->comm, &size), "MPI_Comm_size");
    mpi_must(MPI_Query_thread(&level), "MPI_Query_thread");
    w->before = (w->rank + size - 1) % size;
    w->after = (w->rank + 1) % size;
    w->hears = w->sends = MPI_REQUEST_NULL;
    snprintf(w->who, sizeof w->who, "rank %d", w->before);
    w->limit = LIMIT_SECONDS;
    w->since = clock_now();
    if (level < MPI_THREAD_MULTIPLE && w->rank == 0 && size > 1)
        fprintf(stderr, "tandem: warning: this MPI does not let several threads call it at once; "
                        "ranks that stop are not noticed (schedule.step_timeout)\n");
    w->has_thread = level >= MPI_THREAD_MULTIPLE && size > 1;
    if (w->has_thread && pthread_create(&w->thread, NULL, run, w) != 0)
        die("the thread that watches the other ranks cannot be started");
    return w;
}

void watch_know(struct watch *w, const char *who, double limit)
{
    pthread_mutex_lock(&w->lock);
    snprintf(w->who, sizeof w->who, "%s", who);
    w->limit = limit;
    pthread_mutex_unlock(&w->lock);
}

int watch_before(const struct watch *w)
{
    return w->before;
}

void watch_stop(struct watch *w)
{
    w->closing = true;
    if (w->has_thread)
        pthread_join(w->thread, NULL);
    mpi_must(MPI_Comm_free(&w->comm), "MPI_Comm_free");
    pthread_mutex_destroy(&w->lock);
    free(w);
}
