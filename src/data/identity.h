/* identity.h - which job a file belongs to: writing it down, reading it back, comparing.
 *
 * Stands in `identity.json` of an unfinished job's directory and in the attributes of the finished
 * files; its hash in every shard.
 */
#ifndef TANDEM_DATA_IDENTITY_H
#define TANDEM_DATA_IDENTITY_H

#include "base/err.h"
#include "data/completions.h"

#include <hdf5.h>

#define IDENTITY_FILE "identity.json"

uint64_t identity_hash(const struct completions_identity *id);

/* A copy with its own `sampling`; job_identity_free() frees that. */
struct completions_identity identity_copy(const struct completions_identity *id);
void job_identity_free(struct completions_identity *id);

/* identity.json in the directory, published as files.h does. Reading: fills id. */
int identity_write(const char *directory, const struct completions_identity *id, struct err *e);
int identity_read(const char *directory, struct completions_identity *id, struct err *e);

/* The attributes model_hash, tokenizer_hash, prompts_hash (hexadecimal), units, samples, sampling.
 * put: 0, or -1 with the reason for h5_err(). get: -1 when the file has not all of them. */
int identity_put(hid_t file, const struct completions_identity *id);
int identity_get(hid_t file, struct completions_identity *id);

/* 0 when equal (sampling as JSON, whatever its spacing and order); else -1 and a message: path
 * belongs to another job, which keys of it differ, and what to do. */
int job_identity_check(const char *path, const struct completions_identity *found,
                       const struct completions_identity *wanted, struct err *e);

#endif
