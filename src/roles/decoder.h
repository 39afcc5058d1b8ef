/* decoder.h - the sequences of one attention rank: from unit to prompt, tokens, completion.
 *
 * Turns the units a rank is given into sequences for the schedule, chooses the sampling parameters
 * of every row, appends the sampled tokens and turns finished sequences into completions. A prompt
 * that cannot be decoded becomes an error row at once and never takes a slot. One per attention
 * rank; no MPI.
 */
#ifndef TANDEM_ROLES_DECODER_H
#define TANDEM_ROLES_DECODER_H

#include "kernels/ops.h"
#include "output/fields.h"
#include "roles/attention.h"
#include "roles/feeder.h"
#include "roles/inputs.h"
#include "schedule/pace.h"
#include "schedule/schedule.h"

struct decoder {
    const struct job *job;
    const struct prompting *prompting;
    struct feeder *feeder; /* units on their way to the schedule */
    struct schedule *schedule;
    int rank;                     /* attention index, recorded in completions */
    struct bytes *finished;       /* a batch of records (output/journal.h): where completions go */
    int changing;                 /* sequences whose logits may be changed, or are scored */
    int64_t n_finished, n_tokens; /* completions and completion tokens so far */
    int64_t drawn;                /* tokens so far, of unfinished completions too */
    int drafts;                   /* most guesses of a sequence; 0: none are made, */
    enum draft_kind guesses;      /* in this step, those that can be wrong, */
    int filled;                   /* and sequences for which MTP layers make them */
    double planned;               /* clock_now() of the step before */
};

/* Everything given outlives the decoder; feeder and schedule are made here. */
void decoder_open(struct decoder *d, const struct inputs *in, const struct schedule_limits *limits,
                  int rank, struct bytes *finished);
void decoder_close(struct decoder *d);

/* Takes on one unit; it is read and tokenized by the feeder. `begun` (NULL: nothing; lives until the
 * unit is submitted), what an earlier run has sampled of it, is not sampled again, only computed, so
 * the completion is the one it would have become. */
void decoder_accept(struct decoder *d, uint64_t unit, const struct piece *begun);

/* What the feeder has ready goes to the schedule, or becomes an error row. Returns how many units are
 * still on their way. */
int decoder_feed(struct decoder *d);

/* Files what the unfinished sequences have that no journal has. */
void decoder_save(struct decoder *d);

/* What to compute in the step: schedule_plan(), where the engine has rows for them with guesses at the tokens
 * that come next: those that can be no others, which cost no row more in the end, and those of a kind that may be
 * wrong. */
const struct micro_batch *decoder_plan(struct decoder *d, enum draft_kind guesses);

/* What must be done to the logits of the micro-batch's sampled rows; *changes is reused. */
void decoder_changes(const struct decoder *d, const struct micro_batch *batch,
                     struct logit_changes *changes);

/* What is wanted to be known of the sampled rows besides their tokens; targets has room for all. */
void decoder_scores(const struct decoder *d, const struct micro_batch *batch,
                    struct score_wanted *wanted);

/* Sampling parameters of the micro-batch's sampled rows; params[batch->n_sampled]. */
void decoder_params(const struct decoder *d, const struct micro_batch *batch,
                    struct sample_params *params);

/* The same of guess i behind each of them (roles/mtp.h). */
void decoder_guess_params(const struct decoder *d, const struct micro_batch *batch, int i,
                          struct sample_params *params);

/* Appends the sampled tokens to their sequences, and keeps the guesses behind them, [batch->depth][n_sampled]
 * or NULL, for the next step. Call after schedule_advance(). */
void decoder_take(struct decoder *d, const struct micro_batch *batch, const int32_t *tokens,
                  const float *logprobs, const struct scores *scores, const int32_t *guesses);

#endif
