/* pacing.h - the pace of a job's drafts (schedule/pace.h): how it begins, and what a step was.
 *
 * For the step loop of an attention rank.
 */
#ifndef TANDEM_ROLES_PACING_H
#define TANDEM_ROLES_PACING_H

#include "job/job.h"
#include "model/model.h"
#include "schedule/pace.h"
#include "schedule/schedule.h"

/* mtp_drafts: that MTP layers make, 0: there are none. */
struct pace pacing_open(enum speculation wanted, size_t mtp_drafts,
                        const struct schedule_limits *limits);

/* MTP layers' share of a step of a GPU, whose layers are not timed one by one: every layer counts alike,
 * and what draws tokens as one more. */
double pacing_share(const struct model *m);

/* The step whose plan this is has run; t has its kind, seconds, filled and tokens. */
void pacing_took(struct pace *p, struct pace_step *t, const struct micro_batch *plan,
                 int micro_batches);

#endif
