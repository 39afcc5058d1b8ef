/* column.h - one dataset of a table, read row by row: strings, integers, reals, or lists of integers.
 *
 * For files other people write (prompts) and for our own output: any integer or float width,
 * strings of variable or fixed length, contiguous, chunked or compressed. Rows read in rising order
 * cost far less than one HDF5 call each; any order works. One thread.
 *
 * Only the file itself is read: datasets that would lead into other files (external links, external
 * storage, virtual datasets) are refused.
 */
#ifndef TANDEM_DATA_COLUMN_H
#define TANDEM_DATA_COLUMN_H

#include "base/err.h"

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum column_kind {
    COLUMN_STRINGS,
    COLUMN_INTEGERS,
    COLUMN_REALS,
    COLUMN_LISTS, /* of integers: h5py's vlen, or the rows of two dimensions */
};

struct column;

/* Opens dataset `name` of an open file, which must stay open longer. path: for messages. -1: not
 * there, in other files, not one-dimensional, of none of these kinds, or compressed by a filter
 * that this HDF5 library lacks. */
int column_open(struct column **out, hid_t file, const char *path, const char *name, struct err *e);
void column_close(struct column *c); /* NULL: nothing */

enum column_kind column_kind(const struct column *c);
size_t column_count(const struct column *c);
bool column_is_unsigned(const struct column *c); /* of integers */

/* "integers of 32 bits": for messages. */
const char *column_describe(const struct column *c);

/* Strings of more bytes are from now on errors of their rows ("row 3 has 900 bytes, at most 512 WHY"),
 * before memory is taken for them. `why` lives as long as the column. */
void column_limit(struct column *c, size_t bytes, const char *why);

/* After a row could not be read: errno when the file system failed, which says nothing about the
 * row; 0 when the row itself is bad. */
int column_fault(const struct column *c);

/* Row i of a column of strings, malloc'd, a NUL behind it that is not counted. Padding is removed
 * as the type says: NULs, or spaces. -1: the file does not give the row (message names dataset and
 * row). */
int column_string(struct column *c, size_t i, char **text, size_t *bytes, struct err *e);

/* Rows begin .. begin + n - 1; they must exist. Unsigned integers above 2^63 - 1 read as that. */
int column_integers(struct column *c, size_t begin, size_t n, int64_t *out, struct err *e);
int column_reals(struct column *c, size_t begin, size_t n, double *out, struct err *e);

/* Row i of a column of lists: *values is malloc'd, [*n]. */
int column_list(struct column *c, size_t i, int64_t **values, size_t *n, struct err *e);

/* Row i of a column of integers in decimal: exact, also above 2^63. */
int column_decimal(struct column *c, size_t i, char text[24], struct err *e);

#endif
