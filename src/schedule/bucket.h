/* bucket.h - micro-batches of a few sizes, so that steps repeat.
 *
 * A device with graphs launches at once what an earlier step has enqueued in the same sizes
 * (roles/replay.h). Steps that read prompts hardly ever have the same number of rows twice, so there a
 * micro-batch is filled up to 8, 16 or 32 rows or to a multiple of 64: products are made in tiles of as
 * many rows, which cost the same however many of them are wanted; what else is done with dead rows, and the
 * records that travel, is small beside them.
 *
 * What fills it are dead rows behind the others: token 0 at position 0, all in one segment behind the
 * last, whose block is the one behind those of the pool, that no sequence ever has. All of them come to
 * the same numbers, so it does not matter which writes that block last. They choose no experts
 * (ops->tally), and nobody looks at what comes of them; the others come to what they would without them,
 * since a row's bits depend on the row alone.
 *
 * Pure functions.
 */
#ifndef TANDEM_SCHEDULE_BUCKET_H
#define TANDEM_SCHEDULE_BUCKET_H

#include "schedule/schedule.h"

/* What a device computes of a micro-batch, dead rows and what belongs to them included. */
struct bucket {
    int rows, segments, sampled;
};

/* As it is, where it is not to be filled up (struct micro_batch: filled). */
struct bucket bucket_of(const struct micro_batch *b);

/* The largest of any micro-batch: what a device's buffers are made for. */
struct bucket bucket_most(const struct schedule_limits *limits);

#endif
