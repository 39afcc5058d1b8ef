/* claims.h - which cell decodes what: units drawn in blocks from a counter, and the cells' sums.
 *
 * Cells are not in step with each other. What they share are four numbers of the first rank of the world:
 * the number of blocks drawn so far (schedule/units.h), whether the job is to stop, and how many
 * completions and tokens there are. A cell's writer sends what it adds to them, and is answered what
 * they were; the first rank answers in every step of its own, and while it waits for other cells at the
 * end. The writer's cell decodes meanwhile: the answer is in the step contract of a later step.
 *
 * These are messages, and no one-sided operations: between hosts on TCP, Open MPI 4.1 has no windows for a
 * program that lets several threads call MPI, and where a window has to be served by software, its
 * owner must be inside MPI as often as the first rank is here.
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

/* By every cell's writer, once, before the cell leaves: waits for what is under way. What was said last has
 * been heard then; a block that comes with it is lost, so nothing may be asked for that is wanted. */
void claims_settle(struct claims *k, const struct claims_say *say);

#endif
