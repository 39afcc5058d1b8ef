/* import.h - prompts from other people's files (records.h) into the HDF5 file jobs read (prompts.h).
 *
 * The first record says what the file is: a field that it lacks is an error, with the fields it has.
 * From then on a record that cannot be used (not JSON, not UTF-8, a NUL, no text, ...) becomes a row
 * with the reason in the dataset `error`: it keeps its place, is decoded as an error row, and nothing
 * else suffers. For the subcommand `import`; one process. The file appears under its name when it is
 * complete.
 */
#ifndef TANDEM_DATA_IMPORT_H
#define TANDEM_DATA_IMPORT_H

#include "base/err.h"
#include "data/records.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Fields may be paths: "body.prompt". Prompts are the tokens of tokens_field when it is given, else
 * the template with the record's fields put in, else text_field. */
struct import_options {
    enum records_format format;
    /* NULL: "messages" (conversations; beside "tools", or both in "body", as OpenAI's batch lines
     * have them), or "text", or "prompt", or the only column of a table. */
    const char *text_field;
    const char *text_template; /* "{problem}\n{context}"; {{ and }} are braces, \n and \t as in C */
    const char *tokens_field;  /* an array of token ids; "body.prompt" in lines of such batches */
    const char *id_field;      /* string or integer; NULL: "id", where the first record has it */
    const char *limit_field;   /* NULL: "max_new_tokens", where a record has it */
    /* Fields with the names of settings.h become those columns, but for what `keep` names; lines of
     * OpenAI's batches have them in "body", some by other names. Fields that are kept in the prompts file (keep.h), with commas between them; "": none. NULL: all that are not
     * used above and have at most 4 KiB in the first record. */
    const char *keep;
    bool strict; /* refuse a record that cannot be used, instead of making it an error row */
    bool force;  /* replace out_path when it exists */
    FILE *notes; /* what the user should know: bad records, ids that occur twice. NULL: nowhere */
};

struct import_result {
    size_t rows, bad, duplicates; /* rows in all, error rows among them, ids seen before */
};

/* in_path "-" is standard input. -1 with file:line: the first record cannot be used, none can, or
 * (strict) any; the file cannot be read; out_path exists and force is not set, or is the source. */
int import_prompts(const char *in_path, const char *out_path, const struct import_options *o,
                   struct import_result *result, struct err *e);

#endif
