/* nccl_watch.c - the watchdog of the NCCL exchange (nccl_wire.h). */
#include "exchange/nccl_wire.h"

#include "base/clock.h"

#include <mpi.h>
#include <time.h>
#include <unistd.h>

/* die() calls MPI_Abort, and MPI was told that only the main thread calls it
 * (MPI_THREAD_FUNNELED). That thread is stuck, so nothing better is to be had; Open MPI passes an
 * abort on to its daemon from any thread. Should it not come back, the alarm ends this process, and
 * then the launcher ends the others. */
#define ABORT_SECONDS 20

/* A rank that has stopped altogether is found out by its neighbour, by name (roles/watch.h): the
 * neighbour speaks first. */
#define RANK_BEFORE_SECONDS 3

static void watch(const struct direction *d)
{
    ncclComm_t comms[] = {d->rail, d->instance};
    for (int i = 0; i < 2; i++) {
        ncclResult_t state = ncclSuccess;
        if (!comms[i])
            continue;
        nccl_must(ncclCommGetAsyncError(comms[i], &state), "ncclCommGetAsyncError");
        if (state == ncclSuccess || state == ncclInProgress)
            continue;
        alarm(ABORT_SECONDS);
        nccl_must(state, "an operation under way");
    }
}

static _Noreturn void give_up(const struct watchdog *w)
{
    alarm(ABORT_SECONDS);
    if (!w->connected)
        die("NCCL has not connected the ranks after %.0f s: one hangs, or cannot be reached "
            "(NCCL_DEBUG=INFO says more; schedule.step_timeout)",
            w->seconds);
    die("the step has not ended after %.0f s: a rank hangs or is gone (schedule.step_timeout)",
        w->seconds);
}

/* Time in which this process itself was stopped does not count. */
static void *run(void *argument)
{
    struct watchdog *w = argument;
    double step = 0, waited = 0, last = clock_now();
    while (!w->closing) {
        double started = w->started, now = clock_now(), passed = now - last;
        waited = started > 0 && started == step ? waited + (passed < 1 ? passed : 1) : 0;
        step = started;
        last = now;
        if (w->seconds > 0 && waited > w->limit)
            give_up(w);
        if (w->connected) {
            watch(&w->both[0]);
            watch(&w->both[1]);
        }
        nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
    }
    return NULL;
}

void watchdog_start(struct watchdog *w, const struct direction *both, double seconds)
{
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    w->both = both;
    w->seconds = seconds;
    /* A step that hangs does so everywhere, and all ranks see it at the same time. The first rank
     * that can still speak shall do so alone: each waits longer than the one before, by more than
     * Open MPI takes to end a job. */
    w->limit = seconds + RANK_BEFORE_SECONDS + 3.0 * rank;
    w->started = clock_now();
    if (pthread_create(&w->thread, NULL, run, w) != 0)
        die("the watchdog thread of the NCCL exchange cannot be started");
}

void watchdog_stop(struct watchdog *w)
{
    w->closing = true;
    pthread_join(w->thread, NULL);
}
