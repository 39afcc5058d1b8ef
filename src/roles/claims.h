/* claims.h - which cell decodes what: units drawn in blocks from a counter, and the cells' sums.
 *
 * Cells are not in step with each other. What they share are four numbers in the memory of the first
 * rank of the world, which a cell's writer adds to and reads at once with a one-sided operation of
 * MPI: the number of blocks drawn so far (schedule/units.h), whether the job is to stop, and how many
 * completions and tokens there are. The operation goes on while the cell decodes; its answer is in
 * the step contract of a later step. The first rank's part in it is to be inside MPI now and then,
 * which it is in every step and while it waits at the end.
 *
 * With one cell nothing of this exists: there is one block, and it is drawn at the start.
 */
#ifndef TANDEM_ROLES_CLAIMS_H
#define TANDEM_ROLES_CLAIMS_H

#include "roles/comm.h"

struct claims;

/* Collective over the world, which waits for the last cell in both. NULL: one cell. */
struct claims *claims_open(struct comm *c);
void claims_close(struct claims *k, struct comm *c);

/* What a cell asks for, and what it has done so far. */
struct claims_say {
    bool block, stop;
    int64_t finished, tokens;
};

/* What it has heard; the sums are of all cells. */
struct claims_heard {
    int64_t block; /* -1: none was drawn */
    bool stop;
    int64_t finished, tokens;
};

/* Once a step, by a cell's writer. Never waits: the answer to what is said now comes in a later
 * call. Until then `block` is not asked for again. The sums are those heard last. */
struct claims_heard claims_exchange(struct claims *k, const struct claims_say *say);

/* Waits for what is under way: before the cell leaves. What was said last has been heard then; a
 * block that comes with it is lost, so nothing may be asked for that is wanted. */
void claims_settle(struct claims *k, const struct claims_say *say);

#endif
