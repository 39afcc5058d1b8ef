/* attention.h - an attention rank's side of a step: its layers, from the embeddings to the tokens.
 *
 * Residual stream, norms, attention, router and sampling, for one micro-batch at a time; the results
 * of the FFN come through the exchange, wherever it is computed (ffn.h).
 *
 * One struct attention a rank, opened after device, weights and exchange, closed before them. Buffers
 * are made for the largest step; inside one nothing is allocated but room for more changes of logits
 * than there were in any step before.
 *
 * Where the model makes drafts (model.drafts) each is one more layer behind the last (roles/mtp.h).
 */
#ifndef TANDEM_ROLES_ATTENTION_H
#define TANDEM_ROLES_ATTENTION_H

#include "model/caches.h"
#include "model/weights.h"
#include "roles/request.h"
#include "roles/side.h"
#include "schedule/schedule.h"

struct attention;

/* What only this side works with; outlives it. */
struct attention_parts {
    const struct attention_weights *weights;
    const struct caches *caches;
    const struct schedule_limits *limits; /* how large a micro-batch may be */
};

struct attention *attention_open(const struct side *side, const struct attention_parts *own);
void attention_close(struct attention *a); /* NULL: nothing */

/* Device bytes open() takes, without the exchange: for the memory plan. Of the side, device, stream and
 * exchange are not looked at. */
size_t attention_bytes(const struct side *side, const struct schedule_limits *limits);

/* Before anything of the step is enqueued: keeps micro-batch m and params [n_sampled]
 * where the device will fetch them. The stream has passed the step before. */
void attention_plan(struct attention *a, int m, const struct micro_batch *batch,
                    const struct sample_params *params);

/* After attention_plan(), where the model makes drafts: how they are drawn, guesses[i * n_sampled + j]
 * draft i of sampled row j. */
void attention_plan_drafts(struct attention *a, int m, const struct micro_batch *batch,
                           const struct sample_params *guesses);

/* After attention_plan(), before attention_sample(): what is done to the micro-batch's logits before they
 * are sampled; without it nothing is. A step with changes is not like any other: no graph can hold it. */
void attention_change(struct attention *a, int m, const struct logit_changes *changes);

/* What is wanted of a micro-batch's sampled rows besides their tokens (ops.h: score). */
struct score_wanted {
    bool any;
    int32_t *targets; /* [n_sampled] -1: none */
    int k;            /* likeliest tokens of every row */
};

/* After attention_plan(), likewise: without it nothing is scored. No graph either. */
void attention_score(struct attention *a, int m, const struct micro_batch *batch,
                     const struct score_wanted *wanted);

/* A number that is equal for two plans of this rank when the functions below enqueue the
 * same for them, the same operations on the same addresses. Same rank, any micro-batch. */
uint64_t attention_shape(const struct attention *a, const struct micro_batch *batch);

/* All functions from here to attention_draft() enqueue and do not wait for the device, unless the
 * exchange does. */

/* Micro-batch m of the step: uploads the plan and looks up the embeddings. */
void attention_begin(struct attention *a, int m);

/* Before layer `layer` (or after the last): waits for the partial sums of the layer
 * before. Nothing for layer 0. Separate from attention_layer() so that waiting is timed apart
 * from working. */
void attention_collect(struct attention *a, int m, int layer);

/* One layer: adds the partial sums, norm, projections, RoPE, attention, residual, norm,
 * router; the rows are left where the exchange sends them from. */
void attention_layer(struct attention *a, int m, int layer);

/* The rows of attention_layer() are sent. */
void attention_dispatch(struct attention *a, int m, int layer);

/* After attention_collect() of the last layer: adds the partials. attention_sample() does it where it was not
 * done: apart, it can be in a graph that ends before the tokens. */
void attention_finish(struct attention *a, int m);

/* Final norm and lm_head for the sampled rows, and one token for each. logits (host, [n_sampled][V]) may be
 * NULL. */
void attention_sample(struct attention *a, int m, float *logits);

/* After attention_sample(), for i = 0 to model.drafts, of the micro-batches in turn. Draft i - 1, if there is
 * one (after attention_collect() of layer model.layers + i), is drawn; draft i, if there is one, gets its
 * input, and its layer, model.layers + i, may run like any other. logits (host, [n_sampled][V], what
 * draft i - 1 is drawn from) may be NULL. */
void attention_draft(struct attention *a, int m, int i, float *logits);

/* How many rows of this rank chose each expert since open(): chosen[layers][most experts]. Between steps;
 * waits for the device. */
void attention_chosen(struct attention *a, uint64_t *chosen);

/* What attention_sample() has found, [n_sampled] each, once the stream has passed it and
 * until the next attention_plan(). */
const int32_t *attention_tokens(const struct attention *a, int m);
const float *attention_logprobs(const struct attention *a, int m);
/* The guesses behind them, [drafts][sampled of its bucket] (schedule/bucket.h), -1: none; NULL where the
 * model makes none. */
const int32_t *attention_guesses(const struct attention *a, int m);

/* The same of what attention_score() asked for: own [n_sampled], the others [n_sampled][k]. */
struct scores {
    int k;
    const float *own;
    const int32_t *top;
    const float *top_logprobs;
};
struct scores attention_scores(const struct attention *a, int m);

#endif
