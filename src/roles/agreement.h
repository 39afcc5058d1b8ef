/* agreement.h - what all ranks of a cell agree on before a step: one allgather (struct contract), and what every
 * rank works out from it by itself. For steps.c.
 */
#ifndef TANDEM_ROLES_AGREEMENT_H
#define TANDEM_ROLES_AGREEMENT_H

#include "roles/steps.h"

/* Collective over the cell: plans this rank's rows of the step, says what it has, can take and wants, and has
 * what all said in s->all. */
void agreement_make(struct steps *s);

/* Completions that are finished, and tokens that were made, so far on all ranks of the cell. */
uint64_t agreement_finished(const struct steps *s);
int64_t agreement_tokens(const struct steps *s);

/* The same for the other cells, and whether this one stops. */
struct claims_say agreement_say(const struct steps *s, bool stop);

/* The status that the job ends with; EXIT_DONE: it goes on. Of several failures the one that says most
 * about what to do: wrong input before a broken world before what may be well tomorrow. */
enum exit_status agreement_failure(const struct steps *s);

/* Deals the next units to the attention ranks that have room; this rank takes its own. Who has a slot and memory is
 * served before who would let the unit wait. */
void agreement_hand_out(struct steps *s);

#endif
