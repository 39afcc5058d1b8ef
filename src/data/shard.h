/* shard.h - one sealed file of finished completions inside `<output>.partial/`.
 *
 * HDF5, contiguous and uncompressed: `rows` (a table of fixed size, one row per completion, units
 * rising), `bytes` (text and then error message of every row, one after the other), `tokens`,
 * `logprobs`, and `steps`. Written once, from front to back, and never changed; read forward in
 * bounded memory. The attribute `job` is the hash of the job's identity. Attention rank 0; reading
 * also by export.
 */
#ifndef TANDEM_DATA_SHARD_H
#define TANDEM_DATA_SHARD_H

#include "base/err.h"
#include "data/completions.h"

#include <stddef.h>
#include <stdint.h>

/* Elements of the datasets; known before the first is written. */
struct shard_size {
    size_t rows, tokens, bytes, steps;
};

/* Adds what one completion takes. */
void shard_measure(struct shard_size *size, const struct completion *c);

struct shard_writer;

/* Creates `path` (a name readers do not look at: the caller publishes it). */
int shard_create(struct shard_writer **out, const char *path, uint64_t job, struct shard_size size,
                 struct err *e);

/* One completion, copied; units must rise. Step timings, in the order they are to be kept. */
int shard_put(struct shard_writer *w, const struct completion *c, struct err *e);
int shard_put_steps(struct shard_writer *w, const struct step_timing *steps, size_t n,
                    struct err *e);

/* Closes the file and frees w, whether it succeeds or not. What was announced must have come. */
int shard_finish(struct shard_writer *w, struct err *e);

/* Closes and frees w after an error; the file is worthless. NULL: nothing. */
void shard_abandon(struct shard_writer *w);

struct shard_reader;

/* -1: not a shard, not complete, or of another job. The message names the file. */
int shard_open(struct shard_reader **out, const char *path, uint64_t job, struct err *e);
void shard_close(struct shard_reader *r); /* NULL: nothing */

struct shard_size shard_size(const struct shard_reader *r);

/* Unit of the row shard_take() would give; UINT64_MAX behind the last. -1: it cannot be read. */
int shard_peek(struct shard_reader *r, uint64_t *unit, struct err *e);

/* The next completion, to be freed with completion_free(). */
int shard_take(struct shard_reader *r, struct completion *out, struct err *e);

/* Sets the bit of every unit in the bitmap of `units` bits and adds their number to *count; checks
 * all rows on the way. -1: a row is wrong, a unit is out of range or its bit was set. */
int shard_mark(struct shard_reader *r, uint64_t units, uint8_t *bitmap, size_t *count,
               struct err *e);

/* Step timings begin .. begin + n - 1. */
int shard_steps(struct shard_reader *r, size_t begin, size_t n, struct step_timing *out,
                struct err *e);

#endif
