/* append.h - writing a one-dimensional dataset from its first element to its last, and reading it
 * back to see whether it is there.
 *
 * Gathers elements into chunks. A full chunk waits until there are as many as threads, over all
 * datasets of the file; then all are compressed at once (shuffle, gzip, and fletcher32, a checksum
 * that readers check) and written past HDF5's own filters. Strings cannot go this way: HDF5 keeps
 * their text elsewhere in the file, uncompressed and without a checksum of its own. The caller is one thread. The
 * file must stay open longer. After an error the appender can only be closed.
 */
#ifndef TANDEM_DATA_APPEND_H
#define TANDEM_DATA_APPEND_H

#include "base/err.h"
#include "data/h5.h"

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define APPEND_GROWS SIZE_MAX

struct append_spec {
    const char *name;
    hid_t type;              /* in the file and in memory; copied */
    bool strings;            /* type is h5_string_type(): elements are const char * */
    size_t total;            /* elements there will be, or APPEND_GROWS */
    const char *unit;        /* attribute "unit", and */
    const char *description; /* attribute "description"; NULL: none */
};

struct append;

/* where: the file, or a group of it. -1: it cannot be created, or the file can no longer be
 * written. */
int append_open(struct append **out, struct h5_output *output, hid_t where,
                const struct append_spec *spec, struct err *e);

/* n elements; strings one at a time (copied; UTF-8 is the caller's duty). */
int append_put(struct append *a, const void *elements, size_t n, struct err *e);
int append_string(struct append *a, const char *text, struct err *e);

/* The same of text that may be anything: NULL is "", bytes that are no character are U+FFFD. */
int append_text(struct append *a, const char *text, struct err *e);

/* Writes what is still held and frees. -1 when that fails. A total that was not reached is an error
 * of the program: die(). NULL: 0. */
int append_close(struct append *a, struct err *e);

/* Frees without writing: after another error. NULL: nothing. */
void append_drop(struct append *a);

/* For several datasets that end together: append_flush() for each lets go of what it holds (a total
 * that was not reached is die()), append_settle() writes all that waits; then append_sum() is what
 * was written, as one number: of the strings, or of the compressed chunks; then append_drop(). */
int append_flush(struct append *a, struct err *e);
int append_settle(struct h5_output *output, struct err *e);
uint64_t append_sum(const struct append *a);

/* Reads the dataset of an open file and compares. -1: it is not what was written. */
int append_verify(hid_t file, const char *name, bool strings, uint64_t sum, struct err *e);

/* The chunks of a file that wait; NULL: nothing. For h5.c. */
struct append_pool;
void append_pool_free(struct append_pool *pool);

#endif
