/* overrides.h - columns of a prompts file that go before the job's sampling section, row by row.
 *
 * A dataset with the name of a key of that section (temperature, stop, ...; not samples, and not
 * max_new_tokens, which prompts.h reads) has one value a row: an integer, a real (NaN: the job's
 * value), or a string: JSON, or else the text itself ("": the job's value). One thread.
 */
#ifndef TANDEM_DATA_OVERRIDES_H
#define TANDEM_DATA_OVERRIDES_H

#include "base/err.h"

#include <hdf5.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define OVERRIDES 23
extern const char *const overrides_names[OVERRIDES];

struct overrides;

/* Opens what there is in a file whose prompts are `rows`; *out is NULL when there is nothing. -1: a
 * dataset has another number of rows, or none of these types. */
int overrides_open(struct overrides **out, hid_t file, const char *path, size_t rows,
                   struct err *e);
void overrides_close(struct overrides *o); /* NULL: nothing */

/* Is there a column for the key? */
bool overrides_has(const struct overrides *o, const char *name);

/* The values of a row: an object that is the caller's until json_decref(). -1: the row cannot be read
 * (then overrides_fault() is the errno, or 0 when the value is at fault). */
int overrides_read(struct overrides *o, size_t row, json_t **out, struct err *e);
int overrides_fault(const struct overrides *o);

#endif
