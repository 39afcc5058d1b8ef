/* reading.h - parts of matrices, and what of the checkpoint they make a rank read. Pure but for the hints. */
#ifndef TANDEM_MODEL_READING_H
#define TANDEM_MODEL_READING_H

#include "data/fingerprint.h"
#include "kernels/weights/codec.h"
#include "schedule/placement.h"

/* Some rows, some columns of a part. */
struct weight_part reading_rows(struct weight_part p, struct span s);
struct weight_part reading_columns(struct weight_part p, struct span s);

/* Tells the kernel about the stored rows that hold the part: checkpoint_prefetch(), checkpoint_release(). */
void reading_hint(const struct weight_part *p, void (*tell)(const void *, size_t));

/* The part is read: its stored rows, and what stands beside it; of scales and zero points that do not lie as
 * the rows do, all. f NULL: nothing. */
void reading_note(struct fingerprint *f, const struct weight_part *p);

#endif
