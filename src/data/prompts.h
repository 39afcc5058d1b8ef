/* prompts.h - the input: prompts of a job, from HDF5.
 *
 * Schema (README "Prompts"). Either `messages`: strings [n], JSON; or `text`: strings [n], variable- or fixed-length, UTF-8 or ASCII;
 * or token ids: `tokens` integer [total] and `offsets` integer [n + 1], row i being
 * tokens[offsets[i]
 * .. offsets[i+1]); or `tokens` as lists (h5py's vlen), or of two dimensions with the integers `lengths` [n] of
 * how many of a row count. Optional `id`: strings or integers [n]. Optional `max_new_tokens`: integer [n].
 * Optional `continuation`: strings [n], text that follows the prompt.
 * Optional: columns that go before the job's sampling section (overrides.h).
 * Optional `error`: strings [n], why a row cannot be decoded, "" for the others (import.h). The group
 * `columns` (keep.h) is copied into the output.
 * Opened by every attention rank and by the dry run; rows are read one at a time. Errors in a row
 * are the row's own (the job goes on), errors of the file end the job. One thread.
 */
#ifndef TANDEM_DATA_PROMPTS_H
#define TANDEM_DATA_PROMPTS_H

#include "base/err.h"
#include "data/kept.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct prompts;

/* One row; free with prompt_free(). Either text (not NULL) or tokens. */
struct prompt {
    bool messages; /* text is JSON: a list of messages, or {"messages": [...], "tools": [...]} */
    char *text;    /* bytes as in the file, NUL-terminated, perhaps not valid UTF-8 */
    size_t text_bytes;
    char *continuation; /* text that follows, as the file has it; NULL: there are none */
    size_t continuation_bytes;
    int32_t *tokens;
    size_t n_tokens;
    int32_t max_new_tokens; /* 0: as in the job */
    json_t *
        overrides; /* an object: values of the row's own for keys of the sampling section, or NULL */
};

/* text: another dataset's name for the prompts, a path such as "train/prompt": strings, or lists of token
 * ids; NULL: as above. */
int prompts_open(struct prompts **out, const char *path, struct err *e);
int prompts_open_as(struct prompts **out, const char *path, const char *text, struct err *e);
void prompts_close(struct prompts *p);

/* Rows of more bytes of text, or of more tokens, cannot fit the context: from now on they are errors
 * of their own, before memory is taken for them. */
void prompts_limit(struct prompts *p, size_t bytes, size_t tokens);

size_t prompts_count(const struct prompts *p);
bool prompts_are_tokens(const struct prompts *p);
bool prompts_are_messages(const struct prompts *p);

/* Do rows have values of their own for the key of the sampling section? */
bool prompts_override(const struct prompts *p, const char *name);

/* Ids that were integers where they came from: they are integers, or import said so. */
bool prompts_ids_are_integers(const struct prompts *p);

/* Columns of the prompts' own; NULL: none. Nobody reads them before the output is made, but to see
 * that they can be read: rows first .. first + n - 1. */
const struct kept *prompts_kept(const struct prompts *p);
int prompts_try_kept(struct prompts *p, size_t first, size_t n, struct err *e);

/* Reads row i. -1: this row is malformed (message in e); others may be fine. But when
 * prompts_fault() is not 0 (an errno), the file system failed: that says nothing about the row, which
 * may be read later. */
int prompts_read(struct prompts *p, size_t i, struct prompt *out, struct err *e);
int prompts_fault(const struct prompts *p);
void prompt_free(struct prompt *p);

/* The row's id as text, malloc'd; its number in decimal when the file has no ids, or none that can be
 * read. NULL: the file system failed (prompts_fault()). */
char *prompts_id(struct prompts *p, size_t i);

/* A hash of rows as they are decoded (text or tokens, limit, id): a continued job must have the same.
 * It begins with prompts_hash_start() and goes on with rows first .. first + n - 1. A row that cannot
 * be read, or is longer than anybody's context (64 MiB, 2^24 tokens), counts as bad. -1: the file
 * system failed. */
uint64_t prompts_hash_start(const struct prompts *p);
int prompts_hash(struct prompts *p, size_t first, size_t n, uint64_t *hash, struct err *e);

#endif
