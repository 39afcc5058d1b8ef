/* rails.h - who talks to whom between attention and FFN ranks: pure arithmetic of the layout, under
 * every transport that sends messages.
 *
 * The ranks of an FFN instance share a host or a few, and its network is better inside than
 * outside. So attention rank a does not talk to all of them: it is on rail a % tensor, FFN rank
 * (p, t) is on rail t, and rows and partial sums between instances and attention travel on their
 * rail alone (paper figure 7: GPU i talks to GPU i). Inside an instance every rank then hands the
 * rows of its rail to the others, and gets their partial sums of those rows, which it adds before
 * they travel. With `tensor` ranks an instance this is 1 / tensor of the traffic between hosts; with
 * one rank there is one rail, and nothing to hand on.
 *
 * An FFN rank keeps the rows of a micro-batch rail after rail, in a rail by attention rank, so what
 * one message holds is contiguous. All functions may be called by anyone.
 */
#ifndef TANDEM_SCHEDULE_RAILS_H
#define TANDEM_SCHEDULE_RAILS_H

#include "schedule/placement.h"

/* The rail of a rank. */
int rails_of(const struct place *p);

/* The instance of an FFN rank; 0 for attention ranks. */
int rails_instance(const struct place *p);

/* How many attention ranks are on a rail, and the i-th of them. Some rails have none when there are
 * fewer attention ranks than rails; rail 0 has most. */
int rails_attention(const struct layout *l, int rail);
int rails_attention_rank(const struct layout *l, int rail, int i);

/* The rank, among all of the layout, of instance p's FFN rank on a rail. */
int rails_ffn_rank(const struct layout *l, int rail, int p);

/* Where the rows of each rail begin among those of micro-batch m: first[tensor + 1], the last is the
 * number of rows. rows[a * micro_batches + m] as the step contract gives them. */
void rails_rows(const struct layout *l, const int *rows, int micro_batches, int m, int *first);

#endif
