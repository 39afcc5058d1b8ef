/* comm.h - the ranks: who is who, and everything the host sides say to each other.
 *
 * The world is split by role into attention ranks and FFN ranks (or every rank has both, in a
 * colocated layout). All functions are collective over the world unless they say otherwise: every
 * rank calls them, in the same order. Rows and partial sums go through exchange/, not through here.
 * MPI errors are a broken world: die(), which ends all ranks (comm_start() arranges that).
 */
#ifndef TANDEM_ROLES_COMM_H
#define TANDEM_ROLES_COMM_H

#include "base/err.h"
#include "schedule/placement.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum role { ROLE_ANY, ROLE_ATTENTION, ROLE_FFN };

struct comm {
    int rank, size;            /* in the world */
    int host_rank, host_ranks; /* among the ranks of this host */
    bool one_host;             /* all ranks are on one host */
    bool attention, ffn;       /* roles of this rank */
    int index;                 /* among the ranks of its role */
    int *world_of_attention;   /* [layout.attention] world rank of every attention rank */
    int *world_of_ffn;         /* [layout_ffn_ranks] */
    int writer;       /* world rank of attention rank 0: writes output, talks to the user */
    char (*host)[64]; /* [size] host names */
};

/* MPI_Init, error handlers, die() connected to MPI_Abort, hosts. First call of the program that
 * runs a job; the roles are not known yet, and the writer is rank 0. */
void comm_start(struct comm *c, int *argc, char ***argv);

/* Splits by role. `want` is the rank's --role or ROLE_ANY; either all ranks say one or none: then
 * the first layout.attention ranks are attention. -1 on every rank when the counts do not fit. */
int comm_split(struct comm *c, const struct layout *layout, enum role want, struct err *e);

/* MPI_Finalize. */
void comm_finish(struct comm *c);

/* "attention", "ffn" or "colocated": the rank's role in words. */
const char *comm_role(const struct comm *c);

/* True when every rank says ok. If not, one line per different message is printed by rank 0, with
 * the first rank that says it (all, when all do). Nobody may go on alone. */
bool comm_agree(struct comm *c, bool ok, const struct err *e);

/* True when all ranks have the same 64-bit value (configuration, model, ...). */
bool comm_same(struct comm *c, uint64_t value);

/* What each rank says at the start of a step (DESIGN: the step contract). Attention ranks fill all
 * of it; FFN ranks say 0 except `stop`. */
struct contract {
    int32_t rows[MICRO_BATCHES_MAX]; /* in each micro-batch */
    int32_t room;                    /* sequences it can still be given */
    int32_t busy;                    /* running or waiting sequences */
    int32_t stop;             /* 1: wants the job to end after this step (signal, time limit) */
    int32_t commit;           /* writer only: seal finished completions now */
    int32_t fail;             /* writer only: the output cannot be written; all leave */
    int32_t running;          /* sequences in slots */
    int64_t finished, tokens; /* completions and completion tokens so far: for progress */
    uint64_t shape;           /* what the rank will enqueue: equal numbers, equal launches */
};

/* all[size]: what every rank said. */
void comm_contract(struct comm *c, const struct contract *mine, struct contract *all);

/* Rank `root` gets everybody's bytes, one after the other in rank order; *out is malloc'd there and
 * NULL elsewhere; sizes[size] (root only, may be NULL) receives how many bytes each rank gave. */
void comm_gather(struct comm *c, int root, const void *data, size_t bytes, void **out,
                 size_t *total, size_t *sizes);

/* Everybody's `bytes` bytes to everybody, in rank order: all[size * bytes]. */
void comm_allgather(struct comm *c, const void *mine, size_t bytes, void *all);

/* root's bytes to all. */
void comm_broadcast(struct comm *c, int root, void *data, size_t bytes);

/* All ranks are here; returns when they are. */
void comm_barrier(struct comm *c);

#endif
