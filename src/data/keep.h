/* keep.h - columns of their own that people's prompts have: kept beside the prompts, unchanged.
 *
 * In the prompts file they are datasets of strings, one a row, in the group `columns`. The first
 * value decides how a column is written: strings as they are (attribute encoding "text"), anything
 * else as JSON (encoding "json"). A column that begins late, or a row without it, has "" or null.
 */
#ifndef TANDEM_DATA_KEEP_H
#define TANDEM_DATA_KEEP_H

#include "base/err.h"
#include "data/h5.h"

#include <jansson.h>

#define KEEP_GROUP   "columns"
#define KEEP_COLUMNS 64 /* most */

struct keep;

/* The group in a file that is being written. Must be closed (or dropped) before the file. */
int keep_open(struct keep **out, struct h5_output *output, hid_t string_type, struct err *e);

/* The value of column `name` in the row that is under way: JSON, borrowed. */
int keep_put(struct keep *k, const char *name, const json_t *value, struct err *e);

/* Has a row had this column yet? */
bool keep_has(const struct keep *k, const char *name);

/* The row is over: columns that were not put get their filler. */
int keep_end_row(struct keep *k, struct err *e);

/* Writes what is still held, and frees; without writing after another error. NULL: 0, nothing. */
int keep_close(struct keep *k, struct err *e);
void keep_drop(struct keep *k);

/* The attributes of a column, once it is written: its name, and its encoding (NULL: it is no string). */
int keep_describe(hid_t where, const char *dataset, const char *name, const char *encoding,
                  struct err *e);

#endif
