/* export.h - completions as JSON Lines: from the finished output, or from the journals of a job.
 *
 * For the subcommand `export`; one process, beside a running job if wanted: it only reads.
 */
#ifndef TANDEM_OUTPUT_EXPORT_H
#define TANDEM_OUTPUT_EXPORT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct export_options {
    bool tokens, logprobs; /* write these arrays too */
    bool openai;           /* lines of an OpenAI batch (openai.h); without these arrays */
    bool partial;          /* read `<path>.partial/` when `path` is not there */
    size_t *rows;          /* receives how many objects were written; NULL: nothing does */
};

/* One object a line, in the order of prompts and samples:
 *   {"id": "..", "prompt": 0, "sample": 0, "text": "..", "finish": "stop", "error": null,
 *    "prompt_tokens": 5, "tokens": [..], "logprobs": [..], "columns": {..}}
 * An id is a number where the source had numbers. columns, the prompts' own (data/kept.h), is there
 * when they have some: texts, numbers, and JSON as it is.
 * error is a string when finish is "error". logprobs are written so that reading them as float
 * gives the same bits; those that are no numbers are null. Text that is not UTF-8 gets U+FFFD.
 * -1: nothing of that name, not an output, unreadable, or
 * `out` refuses. */
int export_completions(const char *path, FILE *out, const struct export_options *o, struct err *e);

#endif
