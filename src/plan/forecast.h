/* forecast.h - how long a job will take on this machine, from times of its operations.
 *
 * Measured are the operations of one decode step on all cores, for some numbers of rows
 * (roles/measure.h). Ranks that share the cores take turns on them, or share them while they do the
 * same, so a step of a layout takes what its operations take one after the other: an attention rank's for
 * its rows, once for each attention rank (each reads all of its weights), the FFN's for all rows once,
 * however it is cut, and the hand-overs between the roles. The job is then played through: slots, chunks
 * of prompts, the tail in which slots stay empty. Pure functions; any thread.
 */
#ifndef TANDEM_PLAN_FORECAST_H
#define TANDEM_PLAN_FORECAST_H

#include "schedule/placement.h"

#include <stddef.h>
#include <stdint.h>

#define FORECAST_POINTS 16

struct forecast_times {
    int n;                     /* points, rising in rows; the first is 1 row */
    int rows[FORECAST_POINTS]; /* of a step */
    /* Seconds of all layers for so many rows, and of as many sampled tokens. */
    double attention[FORECAST_POINTS], ffn[FORECAST_POINTS], sample[FORECAST_POINTS];
    double context;     /* tokens that were attended to; each one more costs a row */
    double row_context; /* so many seconds, in all layers together */
    double handover;    /* seconds from one process's word to another's awakening */
    int layers;
};

/* Prompts and what follows them, in tokens; the same arrays for every layout. */
struct forecast_job {
    const uint32_t *prompt, *completion; /* [n] units in order */
    size_t n;
    int slots, chunk; /* of an attention rank: sequences, and prompt rows in a step */
};

struct forecast {
    struct layout layout;
    double seconds, tokens_per_second; /* completion tokens */
    double rows, step;                 /* means: rows of a step, and its seconds */
};

/* Seconds of a step with so many rows on all attention ranks, of which some are sampled. */
double forecast_step(const struct forecast_times *t, const struct layout *l, double rows,
                     double sampled, double context);

struct forecast forecast_run(const struct forecast_times *t, const struct forecast_job *job,
                             const struct layout *l);

#endif
