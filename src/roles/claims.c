#include "roles/claims.h"

#include "base/clock.h"
#include "base/mem.h"
#include "exchange/call.h"

#include <stdlib.h>
#include <string.h>

#define PERIOD 0.2 /* seconds between two operations when nothing is wanted */

/* The shared numbers, and their places in memory. */
enum { BLOCKS, STOPS, FINISHED, TOKENS, NUMBERS };

struct claims {
    MPI_Win window;
    MPI_Request request; /* MPI_REQUEST_NULL: nothing is under way */
    int64_t add[NUMBERS], got[NUMBERS];
    int64_t said_finished, said_tokens;
    bool said_stop;
    double last;
    struct claims_heard heard;
};

struct claims *claims_open(struct comm *c)
{
    if (c->cells == 1)
        return NULL;
    struct claims *k = mem_zeroed(1, sizeof *k);
    int64_t *numbers = NULL;
    MPI_Aint bytes = comm_is_first(c) ? NUMBERS * (MPI_Aint)sizeof *numbers : 0;
    k->request = MPI_REQUEST_NULL;
    k->heard.block = -1;
    mpi_must(
        MPI_Win_allocate(bytes, sizeof *numbers, MPI_INFO_NULL, c->world.mpi, &numbers, &k->window),
        "MPI_Win_allocate");
    mpi_must(MPI_Win_lock_all(0, k->window), "MPI_Win_lock_all");
    if (comm_is_first(c)) {
        memset(numbers, 0, (size_t)bytes);
        mpi_must(MPI_Win_sync(k->window), "MPI_Win_sync");
    }
    comm_barrier(&c->world);
    return k;
}

void claims_close(struct claims *k, struct comm *c)
{
    if (!k)
        return;
    comm_barrier(&c->world); /* asleep; freeing a window waits awake */
    mpi_must(MPI_Win_unlock_all(k->window), "MPI_Win_unlock_all");
    mpi_must(MPI_Win_free(&k->window), "MPI_Win_free");
    free(k);
}

static void start(struct claims *k, const struct claims_say *say)
{
    k->add[BLOCKS] = say->block;
    k->add[STOPS] = say->stop && !k->said_stop;
    k->add[FINISHED] = say->finished - k->said_finished;
    k->add[TOKENS] = say->tokens - k->said_tokens;
    k->said_stop = k->said_stop || say->stop;
    k->said_finished = say->finished;
    k->said_tokens = say->tokens;
    k->last = clock_now();
    mpi_must(MPI_Rget_accumulate(k->add, NUMBERS, MPI_INT64_T, k->got, NUMBERS, MPI_INT64_T, 0, 0,
                                 NUMBERS, MPI_INT64_T, MPI_SUM, k->window, &k->request),
             "MPI_Rget_accumulate");
}

/* The operation has come back: what was there before it. */
static void hear(struct claims *k)
{
    k->heard.block = k->add[BLOCKS] ? k->got[BLOCKS] : -1;
    k->heard.stop = k->got[STOPS] + k->add[STOPS] > 0;
    k->heard.finished = k->got[FINISHED] + k->add[FINISHED];
    k->heard.tokens = k->got[TOKENS] + k->add[TOKENS];
}

struct claims_heard claims_exchange(struct claims *k, const struct claims_say *say)
{
    int done = 0;
    k->heard.block = -1;
    if (k->request != MPI_REQUEST_NULL) {
        mpi_must(MPI_Test(&k->request, &done, MPI_STATUS_IGNORE), "a claim");
        if (done)
            hear(k);
        return k->heard;
    }
    if (say->block || (say->stop && !k->said_stop) || clock_now() - k->last >= PERIOD)
        start(k, say);
    return k->heard;
}

void claims_settle(struct claims *k, const struct claims_say *say)
{
    if (k->request != MPI_REQUEST_NULL)
        mpi_wait(1, &k->request, "a claim");
    start(k, say);
    mpi_wait(1, &k->request, "a claim");
    hear(k);
}
