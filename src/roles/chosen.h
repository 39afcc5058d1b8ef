/* chosen.h - how many rows chose each expert, on its way to the steps file.
 *
 * Attention ranks count where the router's choice is (attention.h). Whenever everything is saved the
 * counts of a cell are added up, and now and then, and at the end, the writer makes rows of what
 * has been added since (timing.h): a kill costs an hour's counts at most, and a job of days has
 * megabytes of them.
 */
#ifndef TANDEM_ROLES_CHOSEN_H
#define TANDEM_ROLES_CHOSEN_H

#include "roles/attention.h"
#include "roles/comm.h"
#include "roles/timing.h"

#include <stdbool.h>

#define CHOSEN_SECONDS 3600

struct chosen {
    uint64_t *written; /* [layers][experts], of the writer; NULL: nothing yet */
    double last;       /* clock_now() */
};

/* Collective over the cell, between steps. a: NULL on FFN ranks. all: write whatever there is. */
void chosen_gather(struct chosen *l, struct comm *c, const struct model *m, struct attention *a,
                   struct timings *t, bool all);
void chosen_free(struct chosen *l);

#endif
