/* writer.h - writes a checkpoint directory: which tensor goes to which safetensors file, and where.
 *
 * The caller lists its tensors, has them planned, creates one file after the other and writes the
 * contents itself, in any order and from any thread, at the offsets given here; so a checkpoint
 * larger than memory can be written. Used by one process.
 */
#ifndef TANDEM_MODEL_WRITER_H
#define TANDEM_MODEL_WRITER_H

#include "base/dtype.h"
#include "base/err.h"
#include "model/family.h"

#include <stdbool.h>
#include <stddef.h>

struct writer_tensor {
    char name[FAMILY_NAME_MAX + 32];
    enum dtype dtype; /* f32, bf16 or f8e4m3; DTYPE_COUNT: another */
    const char *type; /* as the file names it */
    size_t width;     /* bytes of an element */
    int dims;
    size_t shape[3];
    size_t inner;  /* above 0: the last dimension stands in the file as two, the second this long */
    bool joined;   /* stands in the file of the tensor before it */
    size_t bytes;  /* by writer_add() */
    size_t file;   /* by writer_plan() */
    size_t offset; /* bytes into the file's data; from the file's start after writer_create() */
};

struct writer {
    const char *directory; /* borrowed */
    struct writer_tensor *tensors;
    size_t count, files;
};

/* An empty list; writer_free() returns what it holds. */
void writer_init(struct writer *s, const char *directory);
void writer_free(struct writer *s);

void writer_add(struct writer *s, const char *name, enum dtype dtype, int dims, const size_t *shape,
                bool joined);

/* Of elements that are no dtype: "I32", of 4 bytes. type lives as long as the list. */
void writer_add_other(struct writer *s, const char *name, const char *type, size_t width, int dims,
                      const size_t *shape, bool joined);

/* Fills files in the order of the list, a new one when the next tensor would make it larger than
 * file_bytes (0: one file for everything). In a file wider elements come first, so that all are
 * aligned. */
void writer_plan(struct writer *s, size_t file_bytes);

size_t writer_bytes(const struct writer *s);

/* Creates file `file`, writes its header and moves the offsets of its tensors to their places in
 * the file. Returns its descriptor, which the caller closes, or -1. */
int writer_create(struct writer *s, size_t file, struct err *e);

/* Writes model.safetensors.index.json; nothing when there is only one file. */
int writer_write_index(const struct writer *s, struct err *e);

/* All `bytes` at `offset`, or -1 with the reason. `what` is named in the message. */
int writer_write(int fd, const void *data, size_t bytes, size_t offset, const char *what,
                 struct err *e);

#endif
