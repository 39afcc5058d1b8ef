/* kept.h - reading the columns that people's prompts brought along (keep.h).
 *
 * Prompts files and completions files have them alike: in the group `columns`, one dataset a column, a
 * value a row. What import wrote is strings, as text or as JSON (attribute `encoding`); columns that
 * others wrote may also be integers or reals. Links that lead out of the file are refused. One thread.
 */
#ifndef TANDEM_DATA_KEPT_H
#define TANDEM_DATA_KEPT_H

#include "base/err.h"
#include "data/column.h"

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct kept;

/* The columns of an open file, which must stay open longer; *out is NULL when it has none. rows: how
 * many each must have. path: for messages. -1: a member of the group is no such column. */
int kept_open(struct kept **out, hid_t file, const char *path, size_t rows, struct err *e);
void kept_close(struct kept *k); /* NULL: nothing */

/* In the order of their datasets' names. NULL: 0. */
size_t kept_count(const struct kept *k);
const char *kept_name(const struct kept *k, size_t i);    /* as the source spelled it */
const char *kept_dataset(const struct kept *k, size_t i); /* "columns/..." */
bool kept_is_json(const struct kept *k, size_t i);
struct column *kept_column(const struct kept *k, size_t i);

/* Reads a row of every column and forgets it. -1: one cannot be read; column_fault() says why. */
int kept_try(struct kept *k, size_t row, struct err *e);

/* errno of the last read that failed; 0: the row itself is bad. */
int kept_fault(const struct kept *k);

#endif
