/* draft.h - guesses at the tokens that come next, from the sequence itself.
 *
 * What a completion copies (from its prompt, from what it has said before) can be guessed: where its
 * last tokens stood the last time, the guess is what followed there ("prompt lookup"). A guess costs
 * a row of the step, and what the model draws decides whether it was right, so a guess changes no
 * completion, only how many tokens of it a step brings.
 *
 * Pure functions of one sequence; one thread.
 */
#ifndef TANDEM_SCHEDULE_DRAFT_H
#define TANDEM_SCHEDULE_DRAFT_H

#include "schedule/sequence.h"

/* Where the grams of a sequence ended last. A table by hash: what collides is forgotten. */
struct grams;

/* Writes up to `most` guesses behind the tokens of q that are known (q->n_drafts of them, so that the
 * token drawn after the last is still within its limit). q->grams is made at the first call and grows
 * with the tokens: a call costs what is new since the one before. */
void draft_from_grams(struct sequence *q, int most);

void grams_free(struct grams *g); /* NULL is nothing */

#endif
