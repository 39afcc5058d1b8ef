#include "data/prompts.h"

#include "base/hash.h"
#include "base/mem.h"
#include "data/column.h"
#include "data/h5.h"
#include "data/overrides.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_BYTES ((size_t)1 << 27) /* of a list of tokens, 8 each */

struct prompts {
    char *path;
    hid_t file;
    size_t count;
    size_t most_bytes, most_tokens;
    int fault;                       /* errno of the last prompts_read() */
    bool messages;                   /* text holds messages */
    struct column *text;             /* or */
    struct column *tokens, *offsets; /* these; of lists there are no offsets */
    struct column *lengths;          /* of rows of two dimensions; NULL */
    struct column *id, *limit;       /* NULL when not in the file, */
    struct column *continuation;     /* likewise */
    struct overrides *overrides;     /* NULL when there are none */
    struct column *error;            /* of rows that could not be imported; NULL */
    struct kept *kept;               /* columns of their own, or NULL */
};

static const char *kind_name(enum column_kind kind)
{
    return kind == COLUMN_STRINGS ? "strings" : kind == COLUMN_INTEGERS ? "integers" : "reals";
}

/* rows: how many the dataset must have; SIZE_MAX: any number. */
static int open_column(struct prompts *p, const char *name, enum column_kind kind, size_t rows,
                       struct column **out, struct err *e)
{
    if (column_open(out, p->file, p->path, name, e) != 0)
        return -1;
    if (column_kind(*out) != kind)
        return err_set(e, "%s: dataset \"%s\": wanted %s, found %s", p->path, name, kind_name(kind),
                       column_describe(*out));
    if (rows != SIZE_MAX && column_count(*out) != rows)
        return err_set(e, "%s: dataset \"%s\" has %zu rows, the prompts are %zu", p->path, name,
                       column_count(*out), rows);
    return 0;
}

/* Who forgets the 0 at the beginning, or the end, would silently lose the first or last prompt. */
static int check_offsets(struct prompts *p, struct err *e)
{
    int64_t first, last;
    size_t total = column_count(p->tokens);
    if (column_integers(p->offsets, 0, 1, &first, e) != 0 ||
        column_integers(p->offsets, p->count, 1, &last, e) != 0)
        return -1;
    if (first == 0 && (uint64_t)last == total)
        return 0;
    return err_set(e,
                   "%s: dataset \"offsets\" begins with %" PRId64 " and ends with %" PRId64
                   "; n prompts have n + 1 offsets, the first is 0 and the last the number of "
                   "tokens, %zu",
                   p->path, first, last, total);
}

/* Tokens as lists, or as rows that are filled up. */
static int open_lists(struct prompts *p, const char *name, struct err *e)
{
    p->count = column_count(p->tokens);
    column_limit(p->tokens, LIST_BYTES, "are read");
    if (!h5_has(p->file, "lengths"))
        return column_describe(p->tokens)[0] == 'l' /* lists know theirs */
                   ? 0
                   : err_set(
                         e,
                         "%s: dataset \"%s\" has %s; wanted a dataset \"lengths\" that says how "
                         "many of each row count",
                         p->path, name, column_describe(p->tokens));
    return open_column(p, "lengths", COLUMN_INTEGERS, p->count, &p->lengths, e);
}

static int open_tokens(struct prompts *p, const char *name, struct err *e)
{
    if (column_open(&p->tokens, p->file, p->path, name, e) != 0)
        return -1;
    if (column_kind(p->tokens) == COLUMN_LISTS)
        return open_lists(p, name, e);
    if (column_kind(p->tokens) != COLUMN_INTEGERS)
        return err_set(e, "%s: dataset \"%s\": wanted integers, found %s", p->path, name,
                       column_describe(p->tokens));
    if (open_column(p, "offsets", COLUMN_INTEGERS, SIZE_MAX, &p->offsets, e) != 0)
        return -1;
    if (column_count(p->offsets) == 0)
        return err_set(e, "%s: dataset \"offsets\" is empty; n prompts have n + 1 offsets",
                       p->path);
    p->count = column_count(p->offsets) - 1;
    return check_offsets(p, e);
}

/* The dataset that the job names, whatever else the file has. */
static int open_named(struct prompts *p, const char *name, struct err *e)
{
    struct column *c;
    if (column_open(&c, p->file, p->path, name, e) != 0)
        return err_prefix(e, "prompts.text");
    bool strings = column_kind(c) == COLUMN_STRINGS;
    if (!strings) {
        column_close(c);
        return open_tokens(p, name, e);
    }
    p->text = c;
    p->count = column_count(c);
    return 0;
}

static int open_prompt_columns(struct prompts *p, const char *name, struct err *e)
{
    if (name)
        return open_named(p, name, e);
    p->messages = h5_has(p->file, "messages");
    bool text = h5_has(p->file, "text"), tokens = h5_has(p->file, "tokens");
    if (p->messages && (text || tokens))
        return err_set(e,
                       "%s: has both \"messages\" and \"%s\"; which are the prompts? Remove or "
                       "rename one",
                       p->path, text ? "text" : "tokens");
    if (text && tokens)
        return err_set(
            e,
            "%s: has both \"text\" and \"tokens\"; which are the prompts? Remove or rename "
            "one",
            p->path);
    char found[256];
    if (!text && !tokens && !p->messages)
        return err_set(e,
                       "%s: wanted a dataset \"text\" (strings), \"messages\", or \"tokens\" and "
                       "\"offsets\" (integers), found %s; prompts.text names another dataset, and "
                       "`tandem import` makes such a file from JSON Lines or plain text",
                       p->path, h5_list(p->file, found, sizeof found));
    if (!text && !p->messages)
        return open_tokens(p, "tokens", e);
    if (open_column(p, text ? "text" : "messages", COLUMN_STRINGS, SIZE_MAX, &p->text, e) != 0)
        return -1;
    p->count = column_count(p->text);
    return 0;
}

static int open_columns(struct prompts *p, const char *name, struct err *e)
{
    if (h5_open(&p->file, p->path, e) != 0 || open_prompt_columns(p, name, e) != 0)
        return -1;
    if (h5_has(p->file, "continuation") &&
        open_column(p, "continuation", COLUMN_STRINGS, p->count, &p->continuation, e) != 0)
        return -1;
    if (h5_has(p->file, "max_new_tokens") &&
        open_column(p, "max_new_tokens", COLUMN_INTEGERS, p->count, &p->limit, e) != 0)
        return -1;
    if (overrides_open(&p->overrides, p->file, p->path, p->count, e) != 0)
        return -1;
    if (h5_has(p->file, "error") &&
        open_column(p, "error", COLUMN_STRINGS, p->count, &p->error, e) != 0)
        return -1;
    if (kept_open(&p->kept, p->file, p->path, p->count, e) != 0)
        return -1;
    if (!h5_has(p->file, "id"))
        return 0;
    if (column_open(&p->id, p->file, p->path, "id", e) != 0)
        return -1;
    if (column_kind(p->id) == COLUMN_REALS)
        return err_set(e, "%s: dataset \"id\": wanted strings or integers, found %s", p->path,
                       column_describe(p->id));
    if (column_count(p->id) != p->count)
        return err_set(e, "%s: dataset \"id\" has %zu rows, the prompts are %zu", p->path,
                       column_count(p->id), p->count);
    return 0;
}

int prompts_open(struct prompts **out, const char *path, struct err *e)
{
    return prompts_open_as(out, path, NULL, e);
}

int prompts_open_as(struct prompts **out, const char *path, const char *text, struct err *e)
{
    struct prompts *p = mem_zeroed(1, sizeof *p);
    p->path = mem_string(path);
    p->file = -1;
    p->most_bytes = p->most_tokens = SIZE_MAX;
    if (open_columns(p, text, e) != 0) {
        prompts_close(p);
        return -1;
    }
    *out = p;
    return 0;
}

void prompts_close(struct prompts *p)
{
    if (!p)
        return;
    column_close(p->text);
    column_close(p->tokens);
    column_close(p->offsets);
    column_close(p->lengths);
    column_close(p->id);
    column_close(p->limit);
    column_close(p->continuation);
    column_close(p->error);
    overrides_close(p->overrides);
    kept_close(p->kept);
    if (p->file >= 0)
        H5Fclose(p->file);
    free(p->path);
    free(p);
}

void prompts_limit(struct prompts *p, size_t bytes, size_t tokens)
{
    p->most_bytes = bytes;
    p->most_tokens = tokens;
    if (p->text)
        column_limit(p->text, p->messages && bytes < SIZE_MAX / 8 ? 8 * bytes : bytes,
                     "fit the context"); /* JSON writes a byte in up to six */
}

size_t prompts_count(const struct prompts *p)
{
    return p->count;
}

bool prompts_are_messages(const struct prompts *p)
{
    return p->messages;
}

bool prompts_are_tokens(const struct prompts *p)
{
    return p->tokens != NULL;
}

bool prompts_override(const struct prompts *p, const char *name)
{
    return overrides_has(p->overrides, name);
}

bool prompts_ids_are_integers(const struct prompts *p)
{
    uint64_t integers = 0;
    if (!p->id || column_kind(p->id) == COLUMN_INTEGERS)
        return p->id != NULL;
    hid_t id = H5Dopen2(p->file, "id", H5P_DEFAULT);
    bool said = h5_get_u64(id, "integers", &integers);
    h5_close(id);
    return said && integers == 1;
}

const struct kept *prompts_kept(const struct prompts *p)
{
    return p->kept;
}

int prompts_try_kept(struct prompts *p, size_t first, size_t n, struct err *e)
{
    for (size_t i = first; i < first + n; i++)
        if (kept_try(p->kept, i, e) != 0)
            return -1;
    return 0;
}

/* Token ids of a row, which takes them over. */
static int take_tokens(size_t i, int64_t *wide, size_t n, struct prompt *out, struct err *e)
{
    int rc = 0;
    out->tokens = mem_new(n, sizeof *out->tokens);
    out->n_tokens = n;
    for (size_t k = 0; k < n && rc == 0; k++) {
        if (wide[k] < 0 || wide[k] > INT32_MAX)
            rc = err_set(e, "prompt %zu: token %zu is %" PRId64 ", not a token id", i, k, wide[k]);
        out->tokens[k] = (int32_t)wide[k];
    }
    return rc;
}

static int read_list(struct prompts *p, size_t i, struct prompt *out, struct err *e)
{
    int64_t *wide = NULL, length = INT64_MAX;
    size_t n = 0;
    if (p->lengths && column_integers(p->lengths, i, 1, &length, e) != 0)
        return -1;
    if (column_list(p->tokens, i, &wide, &n, e) != 0)
        return -1;
    int rc = 0;
    if (p->lengths && (length < 0 || (uint64_t)length > n))
        rc =
            err_set(e, "prompt %zu: its length is %" PRId64 ", a row has %zu tokens", i, length, n);
    else if (p->lengths)
        n = (size_t)length;
    if (rc == 0 && n > p->most_tokens)
        rc =
            err_set(e, "the prompt has %zu tokens, at most %zu fit the context", n, p->most_tokens);
    if (rc == 0)
        rc = take_tokens(i, wide, n, out, e);
    free(wide);
    return rc;
}

static int read_tokens(struct prompts *p, size_t i, struct prompt *out, struct err *e)
{
    int64_t range[2];
    if (!p->offsets)
        return read_list(p, i, out, e);
    if (column_integers(p->offsets, i, 2, range, e) != 0)
        return -1;
    size_t total = column_count(p->tokens);
    if (range[0] < 0 || range[1] < range[0] || (uint64_t)range[1] > total)
        return err_set(e,
                       "prompt %zu: its offsets %" PRId64 " to %" PRId64 " are no range of the %zu "
                       "tokens",
                       i, range[0], range[1], total);
    size_t n = (size_t)(range[1] - range[0]);
    if (n > p->most_tokens)
        return err_set(e, "the prompt has %zu tokens, at most %zu fit the context", n,
                       p->most_tokens);
    int64_t *wide = mem_new(n, sizeof *wide);
    int rc = column_integers(p->tokens, (size_t)range[0], n, wide, e);
    if (rc == 0)
        rc = take_tokens(i, wide, n, out, e);
    free(wide);
    return rc;
}

static int read_limit(struct prompts *p, size_t i, struct prompt *out, struct err *e)
{
    int64_t limit;
    if (column_integers(p->limit, i, 1, &limit, e) != 0)
        return -1;
    if (limit < 0 || limit > INT32_MAX)
        return err_set(e,
                       "prompt %zu: max_new_tokens is %" PRId64 "; wanted 1 or more, or 0 for the "
                       "job's value",
                       i, limit);
    out->max_new_tokens = (int32_t)limit;
    return 0;
}

/* errno of the first column whose last read the file system failed. */
static int find_fault(const struct prompts *p)
{
    const struct column *all[] = {p->text,  p->tokens, p->offsets,     p->limit,
                                  p->error, p->id,     p->continuation};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] && column_fault(all[i]))
            return column_fault(all[i]);
    return overrides_fault(p->overrides);
}

int prompts_fault(const struct prompts *p)
{
    return p->fault;
}

/* What import could not read: the row's own error, said again where it is decoded. */
static int refuse_bad_row(struct prompts *p, size_t i, struct err *e)
{
    char *why;
    size_t bytes;
    if (!p->error)
        return 0;
    if (column_string(p->error, i, &why, &bytes, e) != 0)
        return -1;
    int rc = bytes ? err_set(e, "prompt %zu: %s", i, why) : 0;
    free(why);
    return rc;
}

int prompts_read(struct prompts *p, size_t i, struct prompt *out, struct err *e)
{
    *out = (struct prompt){0};
    if (i >= p->count)
        die("prompt %zu of %zu is read", i, p->count);
    h5_quiet(); /* where HDF5 knows threads, it prints in each that has not asked it not to */
    int rc = refuse_bad_row(p, i, e);
    if (rc == 0)
        rc = p->text ? column_string(p->text, i, &out->text, &out->text_bytes, e)
                     : read_tokens(p, i, out, e);
    out->messages = p->messages;
    if (rc == 0 && p->limit)
        rc = read_limit(p, i, out, e);
    if (rc == 0 && p->continuation)
        rc = column_string(p->continuation, i, &out->continuation, &out->continuation_bytes, e);
    if (rc == 0 && p->overrides && overrides_read(p->overrides, i, &out->overrides, e) != 0)
        rc = err_prefix(e, "prompt %zu", i);
    p->fault = rc != 0 ? find_fault(p) : 0;
    if (rc != 0)
        prompt_free(out);
    return rc;
}

void prompt_free(struct prompt *p)
{
    free(p->text);
    free(p->continuation);
    free(p->tokens);
    json_decref(p->overrides);
    *p = (struct prompt){0};
}

char *prompts_id(struct prompts *p, size_t i)
{
    char number[32], *text = number;
    size_t bytes;
    struct err ignored;
    int rc = 0;
    snprintf(number, sizeof number, "%zu", i);
    if (p->id && column_kind(p->id) == COLUMN_STRINGS)
        rc = column_string(p->id, i, &text, &bytes, &ignored);
    else if (p->id)
        rc = column_decimal(p->id, i, number, &ignored);
    p->fault = rc != 0 ? column_fault(p->id) : 0;
    if (p->fault != 0)
        return NULL;
    if (rc != 0)
        snprintf(number, sizeof number, "%zu", i);
    return text == number ? mem_string(number) : text;
}

static uint64_t add_row(uint64_t h, const struct prompt *row)
{
    if (row->text)
        h = hash_bytes(h, row->text, row->text_bytes);
    else
        h = hash_bytes(h, row->tokens, row->n_tokens * sizeof *row->tokens);
    if (row->continuation)
        h = hash_bytes(h, row->continuation, row->continuation_bytes);
    if (row->overrides) {
        char *text = json_dumps(row->overrides, JSON_COMPACT | JSON_SORT_KEYS);
        h = hash_string(h, text);
        free(text);
    }
    return hash_u64(h, (uint64_t)row->max_new_tokens);
}

uint64_t prompts_hash_start(const struct prompts *p)
{
    return hash_u64(HASH_START, prompts_are_tokens(p) + 2u * prompts_are_messages(p));
}

static int add_rows(struct prompts *p, size_t first, size_t n, uint64_t *h, struct err *e)
{
    for (size_t i = first; i < first + n; i++) {
        struct prompt row;
        struct err why;
        if (prompts_read(p, i, &row, &why) == 0)
            *h = add_row(*h, &row);
        else if (p->fault == 0)
            *h = hash_string(*h, "bad");
        else
            return err_set(e, "%s", why.text);
        prompt_free(&row);
        char *id = prompts_id(p, i);
        if (!id)
            return err_set(e, "%s: the id of row %zu cannot be read", p->path, i);
        *h = p->id ? hash_string(*h, id) : *h;
        free(id);
    }
    return 0;
}

int prompts_hash(struct prompts *p, size_t first, size_t n, uint64_t *hash, struct err *e)
{
    /* The same limits in every job: the hash is of the file. */
    size_t bytes = p->most_bytes, tokens = p->most_tokens;
    prompts_limit(p, (size_t)64 << 20, (size_t)1 << 24);
    int status = add_rows(p, first, n, hash, e);
    prompts_limit(p, bytes, tokens);
    return status;
}
