/* export.h - completions as JSON Lines or CSV: from the finished output, or from the journals of a job.
 *
 * For the subcommand `export`; one process, beside a running job if wanted: it only reads.
 */
#ifndef TANDEM_OUTPUT_EXPORT_H
#define TANDEM_OUTPUT_EXPORT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum export_format {
    EXPORT_JSON,   /* lines of our own, below */
    EXPORT_CSV,    /* a table of the same, below */
    EXPORT_OPENAI, /* lines of an OpenAI batch (openai.h); without tokens and logprobs */
};

struct export_options {
    bool tokens, logprobs; /* write these arrays too */
    enum export_format format;
    bool partial; /* read `<path>.partial/` when `path` is not there */
    size_t *rows; /* receives how many objects were written; NULL: nothing does */
};

/* One object a line, in the order of prompts and samples:
 *   {"id": "..", "prompt": 0, "sample": 0, "text": "..", "finish": "stop", "error": null,
 *    "prompt_tokens": 5, "tokens": [..], "logprobs": [..], "columns": {..}}
 * An id is a number where the source had numbers. columns, the prompts' own (data/kept.h), is there
 * when they have some: texts, numbers, and JSON as it is.
 * error is a string when finish is "error". logprobs are written so that reading them as float
 * gives the same bits; those that are no numbers are null. Text that is not UTF-8 gets U+FFFD.
 * As CSV (RFC 4180, lines end in \n): first a line of names, own columns as columns.NAME; what has no
 * value is empty, lists and JSON are JSON in a cell, texts are themselves.
 * -1: nothing of that name, not an output, unreadable, or
 * `out` refuses. */
int export_completions(const char *path, FILE *out, const struct export_options *o, struct err *e);

#endif
