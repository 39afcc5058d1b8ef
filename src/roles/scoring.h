/* scoring.h - what a sequence keeps of its steps besides its tokens: logprobs of tokens that were known
 * before (those of the prompt that are scored), and the likeliest tokens at every place of the completion, or of these.
 *
 * A step is asked for them (score_wanted) and gives them by sampled row (scores, roles/attention.h). For
 * the decoder alone; one thread.
 */
#ifndef TANDEM_ROLES_SCORING_H
#define TANDEM_ROLES_SCORING_H

#include "output/fields.h"
#include "roles/attention.h"
#include "schedule/sequence.h"

/* Makes room in q, whose request, limit and prompt are set; score_from: the first token of the prompt that
 * is scored, 0: none is. */
void scoring_open(struct sequence *q, size_t score_from);

/* What sampled row i of a micro-batch, behind which token `next` of q stands, is asked for. */
void scoring_want(const struct sequence *q, size_t next, int i, struct score_wanted *wanted);

/* Row i's answer: of a token of the prompt, which is known; of the next one that is drawn. */
void scoring_take_known(struct sequence *q, size_t token, const struct scores *s, int i);
void scoring_take_drawn(struct sequence *q, const struct scores *s, int i);

/* Is one of the prompt's scores no number? */
bool scoring_is_broken(const struct sequence *q);

/* The completion, whose number of tokens is set, takes over all of it. */
void scoring_hand_over(struct sequence *q, struct completion *c);

#endif
