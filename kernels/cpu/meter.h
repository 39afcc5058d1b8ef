/* meter.h - how near something comes to a limit of the machine (limits.h).
 *
 * A measurement is rounds: the limits, then what is measured, and so on. Each round is divided by the
 * limits right before and after it, so that other work on the machine slows both down alike, and the
 * median of these shares is the result. A share of 1 means: as fast as memory can deliver the bytes, or as
 * the arithmetic units can do the operations, whichever takes longer. `seconds` is the median time of a
 * run, and says little on a busy machine. Nothing is held against what another measurement found: within
 * minutes, and between two placements of its threads, memory has different speeds.
 *
 * The limits are the caller's. One thread.
 */
#ifndef TANDEM_KERNELS_CPU_METER_H
#define TANDEM_KERNELS_CPU_METER_H

#include "kernels/cpu/limits.h"

#include <stdbool.h>
#include <stddef.h>

#define METER_ROUNDS 64    /* at most */
#define METER_PIECE  0.004 /* seconds of a limit, and at least of what is measured */

struct meter_task {
    double bytes, flops;                  /* that one run has to move and make at least */
    void (*run)(void *context, size_t i); /* the i-th run; rotates over cold data by itself */
    void *context;
};

/* One measurement under way; private. */
struct metering {
    struct limits *limits;
    const struct meter_task *task;
    size_t next, runs, n,
        by_memory;          /* the next run; runs of a round; rounds; of these bound by memory */
    double bandwidth, peak; /* before the next round */
    double share[METER_ROUNDS], seconds[METER_ROUNDS];
    double read[METER_ROUNDS], made[METER_ROUNDS]; /* the limits of each round: bandwidth, peak */
};

struct metered {
    double seconds;          /* of a run, the median */
    double low, share, high; /* quarter, median, quarter */
    bool memory;             /* the limit is bandwidth, not the peak */
    double bandwidth, peak;  /* the limits, the medians of their rounds */
    /* From 1 up: how many times as fast as the read loop beside it this one read, whose own speed is its limit
     * then: its bytes lie in caches, or the loop is not the best that memory can do. */
    double faster;
};

/* Runs the task until memory is touched and threads are awake, and finds how many runs make a round. */
void meter_begin(struct metering *g, struct limits *l, const struct meter_task *t);
/* One round; its seconds of a run. At most METER_ROUNDS. */
double meter_round(struct metering *g);
/* Something else has run since the last round: the limits are measured anew. */
void meter_again(struct metering *g);
struct metered meter_end(struct metering *g);

#endif
