/* cores.h - the processor cores a rank may run on, and what that means for its threads and for the
 * micro-batches.
 *
 * mpirun and srun bind ranks: to one core each when there are two ranks, to nothing when told so. A
 * rank with more threads than cores crawls, so the number of threads follows the affinity masks of
 * all ranks of the host unless the job says otherwise, and the start table warns.
 *
 * Where attention and FFN ranks may run on the same cores, they take turns: each role has threads
 * for all of them, and leaves them to the other while that works (exchange/turns.h). Cutting a step
 * into micro-batches gains nothing there, since nothing can overlap, and costs another reading of
 * all weights for each; so `micro_batches: auto` is 1. Where each role has cores of its own it is 2.
 */
#ifndef TANDEM_ROLES_CORES_H
#define TANDEM_ROLES_CORES_H

#include "roles/comm.h"

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

/* The cores this process may run on, as far as they are among the first CPU_SETSIZE of its host. */
void cores_mask(cpu_set_t *mask);

int cores_count(const cpu_set_t *mask);

/* This rank's fair share of its cores: every core counts 1 / (ranks that may use it); at least 1.
 * masks[n]: of all ranks of this host; mine is masks[self]. */
int cores_share(const cpu_set_t *masks, int n, int self);

/* What the ranks' cores mean for this one. */
struct cores {
    int threads;      /* this rank's share of its cores among the ranks of its role and host */
    bool shared_here; /* a rank of the other role may run on a core of this one */
    bool
        shared_by_roles; /* that is so of some rank: same answer on all. Both false when colocated */
};

/* Collective over the world, after comm_split(). */
struct cores cores_find(struct comm *c);

/* "0-3,8" */
void cores_text(const cpu_set_t *mask, char *text, size_t size);

#endif
