/* cores.h - the processor cores a rank may run on, and what that means for its threads.
 *
 * mpirun and srun bind ranks: to one core each when there are two ranks, to nothing when told so. A
 * rank with more threads than cores crawls, so the number of threads follows the affinity masks of
 * all ranks of the host unless the job says otherwise, and the start table warns.
 */
#ifndef TANDEM_ROLES_CORES_H
#define TANDEM_ROLES_CORES_H

#include <sched.h>
#include <stddef.h>

/* The cores this process may run on. */
void cores_mask(cpu_set_t *mask);

int cores_count(const cpu_set_t *mask);

/* This rank's fair share of its cores: every core counts 1 / (ranks that may use it); at least 1.
 * masks[n]: of all ranks of this host; mine is masks[self]. */
int cores_share(const cpu_set_t *masks, int n, int self);

/* "0-3,8" */
void cores_text(const cpu_set_t *mask, char *text, size_t size);

#endif
