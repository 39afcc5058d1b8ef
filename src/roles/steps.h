/* steps.h - the step loop: contract, admission, layers, sampling, commit.
 *
 * Every rank runs the same loop in step with the others; what it does in it depends on its role.
 * The loop ends when all units are finished, when a rank wants to stop, or when the output cannot
 * be written; all ranks leave it in the same step with the same status.
 */
#ifndef TANDEM_ROLES_STEPS_H
#define TANDEM_ROLES_STEPS_H

#include "roles/comm.h"
#include "roles/decoder.h"
#include "roles/engine.h"
#include "roles/parcel.h"
#include "roles/progress.h"
#include "roles/replay.h"
#include "roles/report.h"
#include "roles/trace.h"
#include "schedule/units.h"

/* What one rank enqueues in a step, as far as it changes from step to step. */
struct launches {
    int32_t rows[MICRO_BATCHES_MAX];
    uint64_t shape;
};

struct steps {
    struct comm *comm;
    const struct inputs *in;
    struct engine *engine;
    struct decoder *decoder;   /* attention ranks, else NULL */
    struct units *units;       /* the same on every rank */
    struct completions *out;   /* the writer, else NULL */
    struct report *report;     /* the writer, else NULL */
    struct progress *progress; /* the writer, else NULL */
    struct parcel *finished;   /* this rank's, not sealed yet */
    struct trace *trace;
    double started; /* clock_now() at the start of the job: the time limit counts from it */
    /* Inside the loop: */
    struct contract *all; /* [world] of this step */
    const struct micro_batch *plan;
    struct launches *key;         /* [world] of this step */
    struct sample_params *params; /* of one micro-batch */
    struct admission *admission;
    int *room;      /* [attention ranks] */
    uint64_t *unit; /* [attention ranks x slots] units under way to an owner, */
    int *owner;     /* an attention rank */
    struct replay *replay;
    long step;
    double last_commit;
    uint64_t sealed;  /* completions sealed in this run (writer) */
    bool seal_failed; /* the writer's output cannot be written */
    struct err seal_error;
    uint64_t replayed; /* steps that were launched as a graph */
};

/* Runs to the end. Returns EXIT_DONE, EXIT_UNFINISHED or EXIT_RUN (with the writer's message in
 * seal_error), the same on every rank. Everything finished has been sealed unless EXIT_RUN. */
enum exit_status steps_run(struct steps *s);

#endif
