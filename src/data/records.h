/* records.h - other people's files, one record at a time: JSON Lines, CSV, TSV, plain text; gzip, and
 * zstd, xz and bzip2 by their own programs (unpack.h).
 *
 * Whatever the format, a record is a JSON object: a line of JSON Lines is one already, a line of CSV
 * or TSV has a string for every column of the header, a line of text is {"text": the line, "id": its
 * number}. The format is told from the first bytes, not from the name; only CSV and TSV, which look
 * like text, need a name that says so or the caller's word. Files that cannot be read here (Parquet,
 * Arrow, HDF5, zip, ...) are named, with the command that converts them.
 *
 * A record that is wrong is no error of the file: it comes with its problem, and the next one
 * follows. Numbers that JSON libraries refuse (NaN, Infinity, 1e400, 30 digits) matter only to who
 * asks for them: the first two become null, long ones strings of their digits.
 * For one process and thread.
 */
#ifndef TANDEM_DATA_RECORDS_H
#define TANDEM_DATA_RECORDS_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum records_format {
    RECORDS_GUESS,
    RECORDS_JSON, /* one object a line */
    RECORDS_CSV,  /* RFC 4180, the first line names the columns */
    RECORDS_TSV,  /* the same with tabs */
    RECORDS_TEXT, /* one prompt a line */
};

struct record {
    size_t line;         /* where it begins, from 1 */
    json_t *fields;      /* an object; NULL when there is a problem. Until the next call */
    const char *problem; /* "not valid JSON: ..."; NULL: none. Until the next call */
};

struct records;

/* "jsonl", "csv", "tsv", "text", or -1. */
int records_format(const char *name, enum records_format *format);

/* path "-": standard input. -1: cannot be opened, or is of a kind that is not read here. */
int records_open(struct records **out, const char *path, enum records_format format, struct err *e);
void records_close(struct records *r); /* NULL: nothing */

/* The format that was told or found; the path for messages; lines read so far. */
enum records_format records_kind(const struct records *r);
const char *records_name(const struct records *r);
size_t records_lines(const struct records *r);

/* Is this file the source? (Import onto its own source would lose it.) */
bool records_is_file(const struct records *r, const char *path);

/* The next record; empty lines are left out. 1, 0 at the end, -1 when the file cannot be read on. */
int records_next(struct records *r, struct record *out, struct err *e);

/* The member at a path: "text", or through objects and arrays "body.messages.0.content"; a member
 * whose name has the dots itself comes first. NULL: none. Borrowed. */
json_t *records_member(json_t *object, const char *path);

/* Names of an object's members, for messages: "a", "b". At least 1 byte; cut where it is full. */
void records_names(json_t *object, char *text, size_t size);

/* "an object", "a string", "nothing" ...: for messages. */
const char *records_type(const json_t *value);

#endif
