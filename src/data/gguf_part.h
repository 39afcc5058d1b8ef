/* gguf_part.h - one file of a GGUF model: mapped and read. Used by gguf.c only. */
#ifndef TANDEM_DATA_GGUF_PART_H
#define TANDEM_DATA_GGUF_PART_H

#include "data/gguf.h"
#include "data/mapped.h"

/* Stays where it is while it is open. */
struct gguf_part {
    struct mapped file;
    struct gguf_value *values; /* sorted by key */
    size_t n_values;
    struct tensor *tensors; /* in the order of the file */
    size_t n_tensors;
};

/* Fills *p, zeroed before; gguf_part_close() in either case. */
int gguf_part_open(struct gguf_part *p, const char *path, struct err *e);
void gguf_part_close(struct gguf_part *p);

/* The value of a key; NULL: none. */
const struct gguf_value *gguf_part_find(const struct gguf_part *p, const char *key);

#endif
