/* import_row.h - what an import knows while it runs, and reading one record of it. For import*.c only. */
#ifndef TANDEM_DATA_IMPORT_ROW_H
#define TANDEM_DATA_IMPORT_ROW_H

#include "data/append.h"
#include "data/import.h"
#include "data/keep.h"
#include "data/seen.h"
#include "data/settings.h"

/* A record before the first that can be used: what the file is, is not known yet. */
struct early {
    size_t line;
    char *problem;
};

struct import {
    const struct import_options *o;
    struct records *in;
    char *text_field;
    const char *id_field, *limit_field;
    struct early *early;
    size_t n_early;
    json_t *large; /* fields of the first record that are not kept unasked */
    bool messages; /* text_field holds conversations */
    bool batch;    /* messages or the prompt are in `body`, as OpenAI's lines have them */
    /* Lines of `body` read so far; in how many of them a field was that means nothing here, by name;
     * and whether there were more names than are counted. */
    size_t batch_lines;
    json_t *unused;
    bool more_unused;
    const char *tools_field; /* beside text_field; NULL */
    bool want_id, all_integers;
    struct h5_output output;
    hid_t string_type;
    struct append *text, *id, *tokens, *offsets, *limits, *errors;
    struct settings *settings; /* what goes before the job's sampling section */
    struct keep *keep;
    struct seen seen;
    struct import_result result;
    int64_t n_tokens;
};

/* One row, ready to be written; what it points to lives as long as its record. */
struct row {
    char *text; /* malloc'd */
    json_t *tokens;
    char id[32];
    const char *id_text;
    int32_t limit;
};

/* From the first record: which fields the prompts are, and what is not kept. */
void import_begin(struct import *m, json_t *first);

/* Is the field one that travels? */
bool import_is_kept(const struct import *m, const char *name);

/* What a record says about a column of settings.h; NULL: nothing. A new reference. */
json_t *import_setting(const struct import *m, json_t *record, const char *name);

/* ---- lines of the batch format (import_batch.c) ---- */

/* Is the prompt in `body`: a text, or tokens, which --tokens must name? */
bool import_batch_has_prompt(const struct import *m, json_t *first);

/* What `body` says about a column of settings.h; a new reference. */
json_t *import_batch_setting(json_t *body, const char *name);

/* Counts what one line asks for and does not get; at the end the user is told. */
void import_batch_count(struct import *m, json_t *record);
void import_batch_note(const struct import *m);

/* One record; even a row that is wrong has its id. -1: it cannot be used. row->text is the caller's. */
int import_read_row(struct import *m, json_t *record, struct row *row, struct err *e);

#endif
