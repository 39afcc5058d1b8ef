#include "roles/claims.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/mem.h"
#include "exchange/call.h"

#include <stdlib.h>

#define PERIOD 0.2 /* seconds between two words when nothing is wanted */

/* The shared numbers. */
enum { BLOCKS, STOPS, FINISHED, TOKENS, NUMBERS };

/* What a writer says: added to the numbers. */
struct word {
    int64_t add[NUMBERS];
    int64_t last; /* 1: this writer says nothing more */
};

enum { WORD, ANSWER }; /* tags */

struct claims {
    MPI_Comm mpi; /* the world's ranks */
    bool first;
    int64_t numbers[NUMBERS]; /* first rank */
    int others;               /* first rank: writers that have not said their last word */
    bool under_way;
    MPI_Request request[2]; /* of other writers: the answer, the word */
    struct word word;
    int64_t got[NUMBERS]; /* the answer: what the numbers were before */
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
    k->first = comm_is_first(c);
    k->others = c->cells - 1;
    k->heard.block = -1;
    k->request[0] = k->request[1] = MPI_REQUEST_NULL;
    comm_barrier(&c->world); /* asleep; MPI_Comm_dup waits awake */
    mpi_must(MPI_Comm_dup(c->world.mpi, &k->mpi), "MPI_Comm_dup");
    mpi_must(MPI_Comm_set_errhandler(k->mpi, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    return k;
}

static void add(struct claims *k, const struct word *word, int64_t *before)
{
    for (int i = 0; i < NUMBERS; i++) {
        before[i] = k->numbers[i];
        k->numbers[i] += word->add[i];
    }
}

/* First rank: answers everybody who has said something. Whoever says a word has made room for the answer
 * before, and such a short one leaves at once. */
static void serve(struct claims *k)
{
    struct word word;
    int64_t before[NUMBERS];
    MPI_Status from;
    for (int there = 1; there;) {
        mpi_must(MPI_Iprobe(MPI_ANY_SOURCE, WORD, k->mpi, &there, &from), "MPI_Iprobe");
        if (!there)
            break;
        mpi_must(MPI_Recv(&word, sizeof word, MPI_BYTE, from.MPI_SOURCE, WORD, k->mpi, &from),
                 "MPI_Recv");
        add(k, &word, before);
        k->others -= word.last != 0;
        mpi_must(MPI_Send(before, NUMBERS, MPI_INT64_T, from.MPI_SOURCE, ANSWER, k->mpi),
                 "MPI_Send");
    }
}

void claims_close(struct claims *k, struct comm *c)
{
    struct backoff pause = {0};
    if (!k)
        return;
    if (k->first) {
        mpi_waiting();
        for (serve(k); k->others > 0; serve(k))
            backoff_pause(&pause);
        mpi_working();
    }
    comm_barrier(&c->world);
    mpi_must(MPI_Comm_free(&k->mpi), "MPI_Comm_free");
    free(k);
}

static void start(struct claims *k, const struct claims_say *say, bool last)
{
    k->word = (struct word){.last = last};
    k->word.add[BLOCKS] = say->block;
    k->word.add[STOPS] = say->stop && !k->said_stop;
    k->word.add[FINISHED] = say->finished - k->said_finished;
    k->word.add[TOKENS] = say->tokens - k->said_tokens;
    k->said_stop = k->said_stop || say->stop;
    k->said_finished = say->finished;
    k->said_tokens = say->tokens;
    k->last = clock_now();
    k->under_way = true;
    if (k->first) {
        add(k, &k->word, k->got);
        return;
    }
    mpi_must(MPI_Irecv(k->got, NUMBERS, MPI_INT64_T, 0, ANSWER, k->mpi, &k->request[0]),
             "MPI_Irecv");
    mpi_must(MPI_Isend(&k->word, sizeof k->word, MPI_BYTE, 0, WORD, k->mpi, &k->request[1]),
             "MPI_Isend");
}

static void hear(struct claims *k)
{
    k->under_way = false;
    k->heard.block = k->word.add[BLOCKS] ? k->got[BLOCKS] : -1;
    k->heard.stop = k->got[STOPS] + k->word.add[STOPS] > 0;
    k->heard.finished = k->got[FINISHED] + k->word.add[FINISHED];
    k->heard.tokens = k->got[TOKENS] + k->word.add[TOKENS];
}

struct claims_heard claims_exchange(struct claims *k, const struct claims_say *say)
{
    k->heard.block = -1;
    if (k->first)
        serve(k);
    if (k->under_way) {
        if (mpi_done(2, k->request, "a claim"))
            hear(k);
        return k->heard;
    }
    if (say->block || (say->stop && !k->said_stop) || clock_now() - k->last >= PERIOD)
        start(k, say, false);
    return k->heard;
}

void claims_settle(struct claims *k, const struct claims_say *say)
{
    if (k->under_way)
        mpi_wait(2, k->request, "a claim");
    start(k, say, true);
    mpi_wait(2, k->request, "a claim");
    hear(k);
}
