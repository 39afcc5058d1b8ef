/* checkpoint.h - a Hugging Face checkpoint directory: its tensors, mapped, not read.
 *
 * Opens `model.safetensors`, or the files named by `model.safetensors.index.json`, maps them
 * read-only and checks their headers completely: every tensor's dtype, shape and byte range, no
 * overlap, no gap beyond the file, no file outside the directory. Pages are read when touched, so a
 * rank holds only the tensors it takes. Any rank may open one; the mapping lives until close.
 */
#ifndef TANDEM_DATA_CHECKPOINT_H
#define TANDEM_DATA_CHECKPOINT_H

#include "base/dtype.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define TENSOR_MAX_DIMS 8

struct tensor {
    const char *name;
    const char *file;       /* path, for messages */
    enum dtype dtype;       /* F32, BF16, F8_E4M3 (others: listed, see `known`) */
    bool known;             /* false: a dtype this program does not read; dtype_text says which */
    const char *dtype_text; /* as written in the file: "BF16" */
    int dims;
    size_t shape[TENSOR_MAX_DIMS];
    const void *data; /* aligned to the element */
    size_t bytes;
};

struct checkpoint;

int checkpoint_open(struct checkpoint **out, const char *directory, struct err *e);
void checkpoint_close(struct checkpoint *c);

const char *checkpoint_directory(const struct checkpoint *c);

/* The tensor of that name, or NULL. Valid until close. */
const struct tensor *checkpoint_find(const struct checkpoint *c, const char *name);

/* All tensors, in the order of the files; i in 0 .. checkpoint_count() - 1. */
size_t checkpoint_count(const struct checkpoint *c);
const struct tensor *checkpoint_at(const struct checkpoint *c, size_t i);

/* Hints to the kernel: this range will be read soon, in order / will not be needed any more. */
void checkpoint_prefetch(const void *data, size_t bytes);
void checkpoint_release(const void *data, size_t bytes);

/* A hash of names, dtypes, shapes and of sampled contents (the first and last 4 KiB of every
 * tensor): says whether a continued job still has the model it began with. */
uint64_t checkpoint_hash(const struct checkpoint *c);

#endif
