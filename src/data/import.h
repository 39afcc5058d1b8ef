/* import.h - prompts from JSON Lines or plain text into the HDF5 file jobs read (prompts.h).
 *
 * For the subcommand `import`; one process. The file appears under its name when it is complete.
 */
#ifndef TANDEM_DATA_IMPORT_H
#define TANDEM_DATA_IMPORT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum import_format {
    IMPORT_GUESS, /* JSON Lines when the name ends in .jsonl, .ndjson or .json, else text */
    IMPORT_JSON,  /* one JSON object a line */
    IMPORT_TEXT,  /* one prompt a line; its id is the line's number */
};

/* Fields of the JSON objects. Either text or tokens are read: tokens when tokens_field is given. */
struct import_options {
    enum import_format format;
    const char *text_field;   /* NULL: "text" */
    const char *tokens_field; /* an array of token ids; NULL: read text */
    const char *id_field; /* string or integer, in every object; NULL: "id", if the first has it */
    const char *limit_field; /* NULL: "max_new_tokens", where an object has it */
    bool force;              /* replace out_path when it exists */
    size_t *rows;            /* receives how many were written; NULL: nothing does */
};

/* in_path "-" is standard input. Empty lines are left out. -1 with file:line (and column) of the
 * first line that is not right: not JSON, not UTF-8, a NUL, a field that is missing or of the wrong
 * type; or out_path exists and force is not set. */
int import_prompts(const char *in_path, const char *out_path, const struct import_options *o,
                   struct err *e);

#endif
