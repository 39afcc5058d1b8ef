/* finished.h - reading a finished output: the completions of a file and its siblings, row by row.
 *
 * For `export` and for the merge of an array's outputs. Seals are checked when the files are opened. One
 * thread.
 */
#ifndef TANDEM_OUTPUT_FINISHED_H
#define TANDEM_OUTPUT_FINISHED_H

#include "base/err.h"
#include "data/kept.h"
#include "output/fields.h"
#include "output/identity.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct finished;

/* What is read besides the completions' own row; the other members of a completion stay empty. Trusted:
 * this program has checked the seals already. */
enum finished_parts {
    FINISHED_TOKENS = 1,
    FINISHED_LOGPROBS = 2,
    FINISHED_STEPS = 4,
    FINISHED_TRUSTED = 8,
};

/* wanted: of enum finished_parts, added. -1: not a completions file, or changed since it was sealed; a
 * sibling that is wanted is missing, or another job's. */
int finished_open(struct finished **out, const char *path, int wanted, struct err *e);
void finished_close(struct finished *f); /* NULL: nothing */

size_t finished_rows(const struct finished *f);

/* The prompts' own columns, row for row; NULL: none. */
struct kept *finished_kept(const struct finished *f);

/* Attributes: malloc'd, or NULL; false when there is no such number; all texts. */
char *finished_text(const struct finished *f, const char *attribute);
bool finished_number(const struct finished *f, const char *attribute, uint64_t *value);
void finished_texts(const struct finished *f, struct identity *list);

/* Row i; freed by table_free() whatever happens. */
int finished_row(struct finished *f, size_t row, struct completion *c, struct err *e);

/* With FINISHED_STEPS: rows begin .. begin + n - 1 of the timings. */
size_t finished_timings(const struct finished *f);
int finished_timing(struct finished *f, size_t begin, size_t n, struct timing *rows, struct err *e);

#endif
