/* output.h - checks a finished output against scratch_completion(), and makes the prompts for it.
 */
#ifndef TANDEM_TESTS_DATA_OUTPUT_H
#define TANDEM_TESTS_DATA_OUTPUT_H

#include "data/completions.h"
#include "data/prompts.h"

#include <stddef.h>

/* Writes n prompts with ids "p0", "p1" ... to `path` and opens them. */
struct prompts *output_prompts(const char *path, size_t n);

/* Seals units begin, begin + stride ... below `end` that are not done, as one shard with one step
 * timing whose number is the unit's. */
int output_seal(struct completions *c, uint64_t begin, uint64_t stride, uint64_t end,
                struct err *e);

/* Fails unless the output has every unit exactly once, each field of it as scratch_completion()
 * says, the ids of output_prompts() from prompt `first` on, and nothing is left of
 * `<path>.partial`. */
void expect_output_from(const char *path, size_t first, size_t units, size_t samples);
void expect_output(const char *path, size_t units, size_t samples); /* first 0 */

#endif
