/* append.h - writing a one-dimensional dataset from its first element to its last.
 *
 * Gathers elements and hands HDF5 whole chunks, so that each is compressed and written once. One
 * thread. The file must stay open longer. After an error the appender can only be closed.
 */
#ifndef TANDEM_DATA_APPEND_H
#define TANDEM_DATA_APPEND_H

#include "base/err.h"
#include "data/h5.h"

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>

#define APPEND_GROWS SIZE_MAX

struct append_spec {
    const char *name;
    hid_t type;   /* in the file and in memory; copied */
    bool strings; /* type is h5_string_type(): elements are const char * */
    size_t total; /* elements there will be, or APPEND_GROWS */
    bool flat;    /* contiguous and not compressed (total known); else chunked, shuffle + gzip */
    const char *unit;        /* attribute "unit", and */
    const char *description; /* attribute "description"; NULL: none */
};

struct append;

/* where: the file, or a group of it. -1: it cannot be created, or the file can no longer be
 * written. */
int append_open(struct append **out, const struct h5_output *output, hid_t where,
                const struct append_spec *spec, struct err *e);

/* n elements; strings one at a time (copied; UTF-8 is the caller's duty). */
int append_put(struct append *a, const void *elements, size_t n, struct err *e);
int append_string(struct append *a, const char *text, struct err *e);

/* Writes what is still held and frees. -1 when that fails. A total that was not reached is an error
 * of the program: die(). NULL: 0. */
int append_close(struct append *a, struct err *e);

/* Frees without writing: after another error. NULL: nothing. */
void append_drop(struct append *a);

#endif
