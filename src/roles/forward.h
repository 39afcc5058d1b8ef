/* forward.h - the layers of a step, as each role sees them.
 *
 * Attention side: residual stream, norms, attention, router, sampling, for one micro-batch at a
 * time; its FFN results come through the exchange. FFN side: the rank's share of every layer's FFN
 * for the rows of all attention ranks. Neither knows where the other is.
 *
 * One struct forward per rank, opened after the device and the weights, closed before them. Buffers
 * are made for the largest step; nothing is allocated inside one.
 */
#ifndef TANDEM_ROLES_FORWARD_H
#define TANDEM_ROLES_FORWARD_H

#include "exchange/exchange.h"
#include "kernels/ops.h"
#include "model/caches.h"
#include "roles/request.h"
#include "model/weights.h"
#include "schedule/schedule.h"

struct forward;

/* What a forward works with; all of it outlives it. attention or ffn is NULL when the rank does not
 * have the role. */
struct forward_parts {
    const struct model *model;
    const struct backend *backend;
    struct device *device;
    struct stream *stream;
    const struct attention_weights *attention;
    const struct ffn_weights *ffn;
    const struct caches *caches; /* attention */
    const struct exchange_ops *exchange_ops;
    struct exchange *exchange;
    const struct exchange_shape *shape;
    const struct place *place;
    const struct schedule_limits *limits; /* attention: how large a micro-batch may be */
    enum dtype act;
};

struct forward *forward_open(const struct forward_parts *parts);
void forward_close(struct forward *f);

/* Device bytes open() takes, without the exchange: for the memory plan. parts: device, exchange,
 * weights and kv are not looked at. */
size_t forward_bytes(const struct forward_parts *parts);

/* Attention, before anything of the step is enqueued: keeps micro-batch m and params [n_sampled]
 * where the device will fetch them. The stream has passed the step before. */
void forward_plan(struct forward *f, int m, const struct micro_batch *batch,
                  const struct sample_params *params);

/* Attention, after forward_plan(): what is done to the micro-batch's logits before they are sampled;
 * without it nothing is. A step with changes is not like any other: its shape must say so. */
void forward_change(struct forward *f, int m, const struct logit_changes *changes);

/* Attention: a number that is equal for two plans of this rank when the functions below enqueue the
 * same for them, the same operations on the same addresses. Same rank, any micro-batch. */
uint64_t forward_shape(const struct forward *f, const struct micro_batch *batch);

/* All functions from here to forward_reply() enqueue and do not wait for the device, unless the
 * exchange does. */

/* Attention, micro-batch m of the step: uploads the plan and looks up the embeddings. */
void forward_begin(struct forward *f, int m);

/* Attention, before layer `layer` (or after the last): waits for the partial sums of the layer
 * before. Nothing for layer 0. Separate from forward_attention() so that waiting is timed apart
 * from working. */
void forward_collect(struct forward *f, int m, int layer);

/* Attention, one layer: adds the partial sums, norm, projections, RoPE, attention, residual, norm,
 * router; the rows are left where the exchange sends them from. */
void forward_attention(struct forward *f, int m, int layer);

/* Attention: the rows of forward_attention() are sent. */
void forward_dispatch(struct forward *f, int m, int layer);

/* Attention, after forward_collect() of the last layer: adds the partials, final norm and lm_head
 * for the sampled rows, and one token for each. logits (host, [n_sampled][V]) may be NULL. */
void forward_sample(struct forward *f, int m, float *logits);

/* Attention: what forward_sample() has found, [n_sampled] each, once the stream has passed it and
 * until the next forward_plan(). */
const int32_t *forward_tokens(const struct forward *f, int m);
const float *forward_logprobs(const struct forward *f, int m);

/* FFN, one layer and micro-batch: waits for the rows; false when nobody has any. */
bool forward_receive(struct forward *f, int m, int layer);
/* FFN, from forward_receive() until forward_reply(): the rows and their experts as they came in. */
const struct wire *forward_received(const struct forward *f, int m);
/* FFN: computes the partial sums of the rows received. */
void forward_ffn(struct forward *f, int m, int layer);
/* FFN: sends them back. */
void forward_reply(struct forward *f, int m, int layer);

#endif
