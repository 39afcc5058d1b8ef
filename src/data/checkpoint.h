/* checkpoint.h - a Hugging Face checkpoint directory, or a GGUF file: its tensors, mapped, not read.
 *
 * A path that ends in .gguf is a GGUF model, and its tensors have the names and shapes that they
 * have in a directory (gguf_view.h). Of a directory:
 *
 * Opens `model.safetensors`, or the files named by `model.safetensors.index.json`, maps them
 * read-only and checks their headers completely: every tensor's dtype, shape and byte range, no
 * overlap, no hole, no name twice, no file outside the directory. Pages are read when touched, so a
 * rank holds only the tensors it takes. Any rank may open one; the mapping lives until close.
 */
#ifndef TANDEM_DATA_CHECKPOINT_H
#define TANDEM_DATA_CHECKPOINT_H

#include "base/dtype.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TENSOR_MAX_DIMS 8

/* All pointers belong to the checkpoint. */
struct tensor {
    const char *name;
    const char *file; /* path, for messages */
    enum dtype dtype; /* of numbers that lie one by one; DTYPE_COUNT: packed, or not known */
    const struct codec *codec; /* reads it (kernels/weights/codec.h); NULL: it is no weight */
    bool known;             /* false: a dtype this program does not read; dtype_text says which */
    const char *dtype_text; /* as written in the file: "BF16" */
    int dims;               /* 0: a scalar, of one element */
    size_t shape[TENSOR_MAX_DIMS];
    const void *data; /* aligned to the element where known */
    size_t bytes;     /* = elements x dtype_size(dtype) where known */
};

struct codec;
struct checkpoint;

/* -1 and a message naming file and tensor: no such directory, no safetensors in it, a malformed or
 * cut off file, a tensor in two files, an index that names a file outside the directory, a missing
 * file, or a tensor that its file does not have. Where both are there, `model.safetensors` is taken
 * and not the index, as transformers does. A tensor in a file of the index that the index does not
 * list is listed here all the same. */
int checkpoint_open(struct checkpoint **out, const char *directory, struct err *e);
void checkpoint_close(struct checkpoint *c); /* NULL: nothing */

/* What was repaired while it was opened, for the user; empty: nothing. */
const char *checkpoint_note(const struct checkpoint *c);

const char *checkpoint_directory(const struct checkpoint *c);

/* The tensor of that name, or NULL. Valid until close. */
const struct tensor *checkpoint_find(const struct checkpoint *c, const char *name);

/* All tensors, in the order of the files; i in 0 .. checkpoint_count() - 1. */
size_t checkpoint_count(const struct checkpoint *c);
const struct tensor *checkpoint_at(const struct checkpoint *c, size_t i);

/* Hints to the kernel about bytes of a tensor: this range will be read soon / will not be needed
 * any more (its whole pages leave this process; reading them again is right, only slow). */
void checkpoint_prefetch(const void *data, size_t bytes);
void checkpoint_release(const void *data, size_t bytes);

/* A hash of names, dtypes, shapes and contents: says whether two hosts have copies of one checkpoint,
 * before one is loaded (what is loaded has a fingerprint.h). All bytes up to 256 MiB; of larger
 * checkpoints 4 KiB at both ends of every tensor and every 16 MiB between. The same however the tensors
 * are spread over files. */
uint64_t checkpoint_hash(const struct checkpoint *c);

#endif
