/* fleet.h - the attention ranks of a job in one process: contract, admission, schedule, no device.
 * What a step costs is not modelled; it is counted. */
#ifndef TANDEM_TESTS_SCHEDULE_FLEET_H
#define TANDEM_TESTS_SCHEDULE_FLEET_H

#include "schedule/admission.h"
#include "schedule/schedule.h"

/* Of one unit: tokens of the prompt, new tokens after which it stops by itself, most new tokens. */
struct lengths {
    size_t prompt, answer, most;
};

struct fleet {
    int ranks;
    struct schedule_limits limits;
    uint64_t units, samples; /* units of a prompt: samples */
    struct lengths (*lengths)(uint64_t unit);
    /* Kept by fleet_step(): */
    uint64_t next, finished;
    uint64_t steps, idle_steps; /* the latter: without a row on any rank */
    uint64_t tokens, rows;      /* sampled; computed */
    /* Over the steps before the last unit is handed out, summed over ranks: */
    uint64_t full_steps;
    double slots_used, kv_used; /* sequences that got a row; blocks in use */
    uint64_t *idle;             /* [ranks] steps without a row */
    uint64_t *done;             /* [units] the step in which each ended; may be NULL */
    struct schedule **schedule;
    struct admission *admission;
    int *now, *ahead, *owner;
    uint64_t *unit;
    const struct micro_batch **plan;
};

/* The members above "kept by" are the caller's. */
void fleet_open(struct fleet *f);
void fleet_close(struct fleet *f);

/* One step of all ranks; false: everything is finished. */
bool fleet_step(struct fleet *f);

/* Sequences put back, and tokens computed again, over all ranks. */
struct schedule_usage fleet_usage(const struct fleet *f);

#endif
