/* ranks.h - the table of ranks: what the user sees at the start, and what the output keeps.
 *
 * Printed by the writer on stdout, from what all ranks say.
 */
#ifndef TANDEM_ROLES_RANKS_H
#define TANDEM_ROLES_RANKS_H

#include "roles/comm.h"
#include "roles/engine.h"

/* Collective: a line for every rank, or, of many, for those of one host and role. Warns when a rank has
 * fewer cores than threads. */
void ranks_print(struct comm *c, const struct engine *g);

/* The table as text, one line a rank, for the output's attributes; malloc'd at the writer, NULL
 * elsewhere. Collective. */
char *ranks_table(struct comm *c, const struct engine *g);

#endif
