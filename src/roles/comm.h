/* comm.h - the ranks: who is who, and everything the host sides say to each other.
 *
 * The world is split by role into attention ranks and FFN ranks (or every rank has both, in a
 * colocated layout). What is said goes to a group of ranks: `cell`, the ranks that decode in
 * lock-step, or `world`, all ranks of the job: one cell after the other, all with the same layout. Functions are collective over the group they name, or over the world where they take a
 * struct comm: every rank of it calls them, in the same order. Rows and partial sums go through
 * exchange/, not through here.
 *
 * Ranks have two numbers. comm.rank is the launcher's: messages, tables and the output name a rank
 * by it. Inside a cell ranks are numbered as in the layout, attention ranks first
 * (schedule/placement.h): so rank 0 of a cell is an attention rank, and is its writer, whatever
 * the order in which ranks were started; rank 0 of the world is that of the first cell.
 *
 * Whoever waits here sleeps: while one rank loads or merges, the others leave their cores alone
 * (base/backoff.h). MPI errors are a broken world: die(), which ends all ranks (comm_start()
 * arranges that). All functions are called by the main thread.
 */
#ifndef TANDEM_ROLES_COMM_H
#define TANDEM_ROLES_COMM_H

#include "base/err.h"
#include "model/slices.h"
#include "schedule/placement.h"

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum role { ROLE_ANY, ROLE_ATTENTION, ROLE_FFN };

/* A set of ranks that talk to each other. */
struct group {
    int rank, size; /* this rank's number in it, and how many there are */
    MPI_Comm mpi;
};

/* A rank of the world, as messages and tables name it. */
struct peer {
    int rank;      /* the launcher's number */
    int host;      /* the launcher's number of the first rank that shares its host's memory */
    char name[64]; /* of the host */
};

struct watch;

struct comm {
    int rank;                 /* the launcher's number of this rank */
    struct group world, cell; /* cell: after comm_split(); world is renumbered by it */
    int cells, cell_index;    /* how many, and which is this rank's */
    struct place place;       /* after comm_split() */
    struct peer *peers;       /* [world.size], in the order of the world */
    bool one_host;            /* all ranks of the cell are on one host */
    struct watch *watch;      /* notices ranks that have stopped (roles/watch.h) */
};

/* MPI_Init, error handlers, die() connected to MPI_Abort, hosts, the watch. First call of the program that
 * runs a job; the roles are not known yet, and rank 0 is the launcher's. */
void comm_start(struct comm *c, int *argc, char ***argv);

/* Splits by role into cells of the layout. `want` is the rank's --role or ROLE_ANY; either all ranks
 * say one or none: then every cell is as many ranks that follow each other, attention ranks first.
 * -1 on every rank when the counts do not fit. */
int comm_split(struct comm *c, const struct layout *layout, int cells, enum role want,
               struct err *e);

/* After comm_split(): a rank that gives no sign of life for so many seconds ends the job; 0: none
 * does. */
void comm_limit(struct comm *c, double seconds);

/* MPI_Finalize. */
void comm_finish(struct comm *c);

/* Is this rank the writer of its cell: the one that writes its output? */
bool comm_is_writer(const struct comm *c);

/* Is it the first rank of the world: the one that talks to the user, and opens and finishes the
 * output? */
bool comm_is_first(const struct comm *c);

/* True when every rank says ok. If not, one line per different message is printed by rank 0, with
 * the first rank that says it (all, when all do). Nobody may go on alone. */
bool comm_agree(struct comm *c, bool ok, const struct err *e);

/* What the ranks hand over to the writer in this step. */
enum commit {
    COMMIT_NOTHING,
    COMMIT_FINISHED, /* completions */
    COMMIT_ALL,      /* and what the sequences under way have come to */
};

/* What each rank says at the start of a step (DESIGN: the step contract). Attention ranks fill all
 * of it; FFN ranks say 0 except `stop`. */
struct contract {
    int32_t rows[MICRO_BATCHES_MAX]; /* in each micro-batch, and how many of them are dead */
    int32_t dead[MICRO_BATCHES_MAX]; /* (schedule/bucket.h) */
    int32_t room, ahead;             /* sequences it can be given (schedule_room()) */
    int32_t busy;                    /* running or waiting sequences */
    int32_t stop;             /* 1: wants the job to end after this step (signal, time limit) */
    int32_t commit;           /* writer only: enum commit */
    int32_t drafts;           /* first rank: guesses of the next step (enum draft_kind), and */
    int32_t mtp;              /* whether MTP layers run in this one (schedule/pace.h) */
    int32_t changing;         /* this step's logits are changed or scored, as those of no other */
    int32_t fail;             /* the status all leave with, after a commit; 0: go on */
    int64_t finished, tokens; /* completions and completion tokens so far: for progress */
    int64_t claimed;          /* writer only: 1 + the block of units it has drawn; 0: none */
    uint64_t shape;           /* what the rank will enqueue: equal numbers, equal launches */
};

/* all[cell.size]: what every rank of the cell said. */
void comm_contract(struct comm *c, const struct contract *mine, struct contract *all);

/* Rank 0 gets everybody's bytes, any number of them, one after the other in rank order; *out is
 * malloc'd there and NULL elsewhere. */
void comm_gather(const struct group *g, const void *data, size_t bytes, void **out, size_t *total);

/* Everybody's `bytes` bytes to everybody, in rank order: all[size * bytes]. */
void comm_allgather(const struct group *g, const void *mine, size_t bytes, void *all);

/* Each value becomes the largest that any rank has. */
void comm_largest(const struct group *g, uint64_t *values, size_t n);

/* Each value becomes the sum of all ranks'. */
void comm_sum(const struct group *g, uint64_t *values, size_t n);

/* Ranks first .. first + n - 1 of the group: give[i] to rank first + i, take[i] from it. */
void comm_swap(const struct group *g, int first, size_t n, const struct slices_bytes *give,
               const struct slices_bytes *take);

/* root's bytes to all. */
void comm_broadcast(const struct group *g, int root, void *data, size_t bytes);

/* Rank 0's text to all: it gives a malloc'd one, the others NULL, and everybody gets one back. */
char *comm_broadcast_text(const struct group *g, char *text);

/* All ranks are here; returns when they are. */
void comm_barrier(const struct group *g);

#endif
