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

/* How many guesses q can have, so that the token drawn after the last is still within its limit: at most
 * `most`. */
int draft_room(const struct sequence *q, int most);

/* Adds guesses behind the tokens of q that are known and the q->n_drafts that are guessed already, until
 * there are `most` (at most draft_room()). q->grams is made at the first call and grows with the tokens: a
 * call costs what is new since the one before. */
void draft_from_grams(struct sequence *q, int most);

void grams_free(struct grams *g); /* NULL is nothing */

#endif
