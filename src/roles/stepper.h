/* stepper.h - decode steps that are made up, to measure how long their parts take.
 *
 * The whole model in one process, both roles, on all cores that it may use; no MPI, no prompts. A step
 * has rows of chosen number and context, of caches that are full of numbers by chance: pages that were
 * never written are all the one page of zeros, which stays in the nearest cache. One thread; CPUs only.
 */
#ifndef TANDEM_ROLES_STEPPER_H
#define TANDEM_ROLES_STEPPER_H

#include "plan/forecast.h"
#include "roles/engine.h"
#include "roles/kv_fill.h"

struct step_times {
    double attention, ffn, sample; /* seconds of all layers, and of head and draws */
};

struct stepper {
    struct inputs in; /* opened by the caller, then the stepper's */
    int threads;      /* as many as there are cores, set by stepper_open() */
    struct engine engine;
    struct micro_batch batch;
    struct sample_params *params;
    struct kv_filled filled;
};

/* Loads the model for steps of up to `slots` sequences; changes the job to one colocated rank. s is
 * zeros but for `in`. -1: the job is for GPUs, or the memory does not hold the model. Whether it fails or
 * not, stepper_close() takes all back. */
int stepper_open(struct stepper *s, int slots, struct err *e);
void stepper_close(struct stepper *s);

/* Whether the caches have room for so many sequences of so many tokens. */
bool stepper_fits(const struct stepper *s, int sequences, int context);

/* The rows of the next steps: n at this context, of as many sequences or of as many as there may be, each
 * with some tokens more. Fills what they look at. */
void stepper_fill(struct stepper *s, int n, int context);
struct step_times stepper_run(struct stepper *s);

/* Medians over steps, for about so many seconds, at least 3 steps; the first, which wakes threads and fills
 * caches, does not count. */
struct step_times stepper_measure(struct stepper *s, int rows, int context, double seconds);

/* Times for rows 1, 2, 4, ..., for plan/forecast.h, at this mean context, about so many seconds for each.
 * Only as far as the last will be done at clock_now() = `end`; INFINITY: all. -1: as handover_measure(). */
int stepper_times(struct stepper *s, double context, double seconds, double end,
                  struct forecast_times *t, struct err *e);

#endif
