/* merge.h - the finished output file, from the sealed shards.
 *
 * Attention rank 0, at the end of a job. Streams: memory does not grow with the number of
 * completions.
 */
#ifndef TANDEM_DATA_MERGE_H
#define TANDEM_DATA_MERGE_H

#include "base/err.h"
#include "data/completions.h"
#include "data/prompts.h"
#include "data/shards.h"

#define MERGE_FORMAT "tandem completions 1"

/* malloc'd: "out.tokens.h5" for "out.h5"; ".tokens.h5" is appended to a path without .h5 or .hdf5.
 */
char *merge_tokens_path(const char *path);

/* Writes both files under names of their own inside the shards' directory and publishes them, the
 * ragged one first: when `path` exists, everything it refers to does. -1: nothing of `path` is
 * there; a unit that is missing is an error of the program: die(). Attributes whose name the file
 * itself uses are left out. */
int merge_write(const char *path, const struct shards *s, const struct completions_identity *id,
                struct prompts *prompts, const struct attribute *attributes, size_t n_attributes,
                struct err *e);

#endif
