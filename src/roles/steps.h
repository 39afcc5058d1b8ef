/* steps.h - the step loop: contract, admission, layers, sampling, commit.
 *
 * Every rank runs the same loop in step with the others; what it does in it depends on its role.
 * The loop ends when all units are finished, when a rank wants to stop, or when the output cannot
 * be written; all ranks leave it in the same step with the same status.
 */
#ifndef TANDEM_ROLES_STEPS_H
#define TANDEM_ROLES_STEPS_H

#include "output/output.h"
#include "roles/begun.h"
#include "roles/claims.h"
#include "roles/comm.h"
#include "roles/decoder.h"
#include "roles/engine.h"
#include "roles/chosen.h"
#include "roles/progress.h"
#include "roles/replay.h"
#include "roles/report.h"
#include "roles/timing.h"
#include "roles/trace.h"
#include "roles/work.h"
#include "schedule/pace.h"
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
    struct units *units;       /* the same on every rank of the cell */
    struct claims *claims;     /* NULL: one cell */
    struct output *out;        /* the writer, else NULL */
    struct report *report;     /* the writer, else NULL */
    struct progress *progress; /* the first rank, else NULL */
    struct begun_list *begun;  /* of earlier runs */
    struct bytes *finished;    /* this rank's records, not handed over yet */
    struct timings *timings;   /* this rank's */
    struct trace *trace;
    double started; /* clock_now() at the start of the job: the time limit counts from it */
    /* Inside the loop: */
    struct contract *all; /* [world] of this step */
    const struct micro_batch *plan;
    int all_rows[MICRO_BATCHES_MAX];  /* of each micro-batch, on all attention ranks, */
    int sent_rows[MICRO_BATCHES_MAX]; /* dead ones included */
    struct launches *key;             /* [world] of this step */
    struct sample_params *params;     /* of one micro-batch */
    struct logit_changes changes;     /* likewise, */
    struct score_wanted scores;       /* likewise */
    struct pace pace;                 /* of the first rank: what drafts bring, */
    struct pace_step taken;           /* and this step's part of it */
    struct admission *admission;
    int *room;          /* [attention ranks] */
    uint64_t *unit;     /* [attention ranks x slots] units under way to an owner, */
    int *owner;         /* an attention rank */
    bool all_claimed;   /* there are no more units to claim */
    uint64_t handed[2]; /* units handed out in this step and the one before */
    struct claims_heard heard;
    struct replay *replay;
    long step;
    struct chosen chosen; /* of experts */
    struct work work;     /* what this rank has to do at least */
    double last_commit, last_save;
    uint64_t committed;        /* completions, and */
    int64_t committed_tokens;  /* their tokens, handed to the writer's thread (writer) */
    enum output_state written; /* what that has come to (writer) */
    struct err write_error;
    struct err read_error; /* this rank's prompts cannot be read; empty: they can */
    uint64_t replayed;     /* steps that were launched as a graph */
};

/* Runs to the end. Returns EXIT_DONE, EXIT_UNFINISHED, EXIT_RUN or, when the prompts were changed,
 * EXIT_INPUT, the same on every rank; when the output cannot be written, the writer's message is in
 * write_error, and in read_error that of a rank whose prompts cannot be read. Everything finished, and
 * what the sequences under way have come to, is on disk unless it cannot be written. */
enum exit_status steps_run(struct steps *s);

/* Has the job, begun at `started` (clock_now()), reached its time limit? */
bool steps_over_time(const struct job *job, double started);

#endif
