/* measure.h - `tandem plan --measure`: how fast a job will be on this machine, in which layout.
 *
 * Loads the job's model in one process, measures the operations of decode steps for some numbers of rows
 * on all cores that this process may use (a second each, less than a minute in all), makes tokens of the
 * prompts, and plays the job through for its own layout and for others (plan/forecast.h). For ranks of
 * one machine that share its cores. One process, no MPI.
 */
#ifndef TANDEM_ROLES_MEASURE_H
#define TANDEM_ROLES_MEASURE_H

#include "base/err.h"

#include <stddef.h>
#include <stdio.h>

struct measure_options {
    const char *job;
    const char *const *overrides; /* as of a run */
    size_t n_overrides;
    double tokens; /* of a completion; 0: as many as the job allows */
};

/* Prints times, the job's layout, and the five best. -1: the job cannot be opened, or is for GPUs. */
int measure_job(const struct measure_options *o, FILE *out, struct err *e);

#endif
