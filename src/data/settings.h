/* settings.h - writing the columns of a prompts file that overrides.h reads, and `continuation`.
 *
 * Strings, one a row: JSON, or a cell of a table as it stands; "" where a row says nothing. A column
 * begins with the first row that has a value. One thread; closed (or dropped) before the file.
 */
#ifndef TANDEM_DATA_SETTINGS_H
#define TANDEM_DATA_SETTINGS_H

#include "base/err.h"
#include "data/h5.h"

#include <jansson.h>
#include <stdbool.h>

struct settings;

struct settings *settings_new(struct h5_output *output, hid_t string_type);

/* The names, NULL behind the last. */
const char *settings_name(size_t i);

/* The value of column i in row `row`: rows come in their order, and in each every column once. NULL: it
 * says nothing. text: a string is written as it is, not as JSON. */
int settings_put(struct settings *s, size_t i, size_t row, const json_t *value, bool text,
                 struct err *e);

/* Has the column begun? */
bool settings_has(const struct settings *s, size_t i);

/* Writes what is still held, and frees; without writing after another error. NULL: 0, nothing. */
int settings_close(struct settings *s, struct err *e);
void settings_drop(struct settings *s);

#endif
