/* exact_split.h - whether a job's completions are the same however the FFN is split (kernels/exact.h).
 *
 * Terms are added exactly, so that it does not matter which rank has them, as long as each comes out the
 * same on every rank: ranks have whole slices, and the backend says that its kernels make the same of a part
 * (ops.h: ffn_same). FP8 scales in one row that are 2^64 apart, which turn a part plain on a GPU, are not looked
 * for: it would mean reading all.
 */
#ifndef TANDEM_ROLES_EXACT_SPLIT_H
#define TANDEM_ROLES_EXACT_SPLIT_H

#include "roles/inputs.h"

/* Whether completions are the same as if one rank had all of the FFN. After inputs_open(); any thread. */
bool exact_split(const struct inputs *in);

#endif
