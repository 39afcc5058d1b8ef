/* timing.h - what a rank did, second by second, on its way to the journal.
 *
 * Steps are summed up to one row of timing_table (output/fields.h) a second: a row a step would be
 * gigabytes a day. With `trace` there is a row for every step. One per rank, no MPI.
 */
#ifndef TANDEM_ROLES_TIMING_H
#define TANDEM_ROLES_TIMING_H

#include "output/fields.h"

#include <stdbool.h>
#include <stddef.h>

struct timings {
    bool every_step;
    int rank;           /* in the world */
    struct timing open; /* the second that has begun; steps 0: none */
    struct timing *rows;
    size_t n, room;
};

/* Adds a step: what it took, as the members of struct timing say (time, steps, longest and rank are
 * filled in here). began: since the epoch. */
void timing_add(struct timings *t, double began, const struct timing *step);

/* Adds a row: how many rows of the cell chose an expert. until: since the epoch. */
void timing_chosen(struct timings *t, double until, int layer, int expert, uint64_t chosen);

/* Moves everything into a batch of records and is empty then. */
void timing_take(struct timings *t, struct bytes *batch);

void timing_free(struct timings *t);

#endif
