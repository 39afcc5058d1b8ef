/* mtp.h - drafts by MTP layers: what an attention rank does before and after each of them.
 *
 * An MTP layer is a decoder layer: it attends and has an FFN like any other, so it runs like one more
 * layer behind the last, for the same rows and blocks of the KV cache and through the same exchange
 * (attention.h). What is special is its input and what is made of its result. Draft i (0, 1, ...) of the
 * row at position p takes the hidden state that draft i - 1 left there (draft 0: the model's) and the
 * embedding of the token at p + 1 + i, and guesses the one behind it:
 *
 *   x = proj [norm(embedding) | norm(hidden)];  layer;  draw from head(norm(x))
 *
 * Of a prompt that token is known to the host. Behind it, it is what was drawn in this same step: the
 * model's own draw for draft 0, then the guess before. So nothing waits for the host, and a step with
 * drafts is one piece like any other. A guess is drawn as its token will be, with the same parameters and
 * random number: it is more often right than the likeliest token.
 *
 * A row of a draft's cache was made with the tokens that were guessed when it was made; it is not made
 * again when they turn out wrong. And where blocks are shared, the last rows of a block were made with the
 * tokens that followed it the first time. Both only make later guesses worse: guesses change no
 * completion.
 *
 * Made by attention_open() where the model makes drafts; used in the order of its functions, all of which
 * but mtp_plan() and mtp_guesses() only enqueue.
 */
#ifndef TANDEM_ROLES_MTP_H
#define TANDEM_ROLES_MTP_H

#include "model/weights.h"
#include "roles/side.h"
#include "schedule/schedule.h"

struct mtp;

struct mtp *mtp_open(const struct side *side, const struct attention_weights *weights,
                     const struct schedule_limits *limits);
void mtp_close(struct mtp *d); /* NULL: nothing */

/* Device bytes open() takes. */
size_t mtp_bytes(const struct side *side, const struct schedule_limits *limits);

/* Micro-batch m of the step: its rows and what stands behind them, and how guess i of sampled row j is
 * drawn, params[i * n_sampled + j]. The stream has passed the step before. */
void mtp_plan(struct mtp *d, int m, const struct micro_batch *batch,
              const struct sample_params *params);

/* Where the model's own draws of the sampled rows belong: device [n_sampled]. */
int32_t *mtp_drawn(struct mtp *d, int m);

/* What the attention side lends for one call; device memory. */
struct mtp_scratch {
    float *x;                   /* [rows][H] the residual stream */
    const int32_t *sampled_row; /* [n_sampled] */
    void *h;                    /* act [rows][H] */
    float *wide;                /* [rows][H] */
    float *picked, *logits;     /* [n_sampled][H], [n_sampled][V] */
    struct sample_params *params;
    float *logprob;
};

/* x, the hidden states that came before, becomes the input of draft i's layer. */
void mtp_input(struct mtp *d, int m, int i, const struct mtp_scratch *s);

/* x is what draft i's layer has left: the guesses are drawn from it. */
void mtp_draw(struct mtp *d, int m, int i, const struct mtp_scratch *s);

/* [drafts][sampled of the micro-batch's bucket], or -1 for what is no token, once the stream has passed the last mtp_draw() and
 * until the next mtp_plan(). */
const int32_t *mtp_guesses(const struct mtp *d, int m);

#endif
