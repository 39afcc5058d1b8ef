/* rows.h - a job whose completions follow from formulas: what the tests of src/output/ share. */
#ifndef TANDEM_TESTS_OUTPUT_ROWS_H
#define TANDEM_TESTS_OUTPUT_ROWS_H

#include "output/output.h"

#include <stddef.h>
#include <stdint.h>

/* Completion of a unit: every value depends on the unit, the sizes too. The caller frees it. */
struct completion rows_completion(uint64_t unit, uint64_t first, uint64_t samples);

/* The job of these completions; `seed` is part of its identity. Static: until the next call. */
const struct output_job *rows_job(const char *path, uint64_t first, uint64_t units,
                                  uint64_t samples, int seed);

/* Opens it, seed 11, first 0, and starts the journal; fails the test when it cannot. */
struct output *rows_open(const char *path, uint64_t units, uint64_t samples);

/* A batch with the units begin, begin + stride ... below `end` that are not done, backwards, and one
 * timing. Then pushes it and waits. */
enum output_state rows_push(struct output *o, uint64_t begin, uint64_t stride, uint64_t end,
                            uint64_t units, uint64_t samples, struct err *e);

/* Merges and closes; fails the test when that fails. */
void rows_finish(struct output *o);

/* Fails unless the output has every unit exactly once, each value as rows_completion() says, in
 * three files, and nothing is left of `<path>.partial`. */
void rows_expect(const char *path, uint64_t first, uint64_t units, uint64_t samples);

#endif
