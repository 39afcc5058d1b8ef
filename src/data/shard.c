#include "data/shard.h"

#include "base/mem.h"
#include "data/append.h"
#include "data/h5.h"
#include "data/window.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (64u << 10)

/* A row of the table, in memory and in the file. No padding: 24 + 24 + 24 bytes. */
struct row {
    uint64_t unit, token_start, byte_start;
    double admitted, first_token, last_token;
    uint32_t n_tokens, n_prompt_tokens, text_bytes, error_bytes;
    int32_t rank, finish;
};

struct shard_writer {
    char *path;
    struct h5_output output;
    struct append *rows, *bytes, *tokens, *logprobs, *steps;
    struct shard_size put;
    uint64_t next_unit; /* least unit that may come */
};

struct shard_reader {
    char *path;
    hid_t file, row_type, step_type;
    hid_t rows_set, bytes_set, tokens_set, logprobs_set, steps_set;
    struct window rows, bytes, tokens, logprobs, steps;
    struct shard_size size;
    size_t next;
};

static hid_t make_row_type(void)
{
    hid_t t = H5Tcreate(H5T_COMPOUND, sizeof(struct row));
    const struct {
        const char *name;
        size_t offset;
        hid_t type;
    } fields[] = {
        {"unit", HOFFSET(struct row, unit), H5T_NATIVE_UINT64},
        {"token_start", HOFFSET(struct row, token_start), H5T_NATIVE_UINT64},
        {"byte_start", HOFFSET(struct row, byte_start), H5T_NATIVE_UINT64},
        {"admitted", HOFFSET(struct row, admitted), H5T_NATIVE_DOUBLE},
        {"first_token", HOFFSET(struct row, first_token), H5T_NATIVE_DOUBLE},
        {"last_token", HOFFSET(struct row, last_token), H5T_NATIVE_DOUBLE},
        {"n_tokens", HOFFSET(struct row, n_tokens), H5T_NATIVE_UINT32},
        {"n_prompt_tokens", HOFFSET(struct row, n_prompt_tokens), H5T_NATIVE_UINT32},
        {"text_bytes", HOFFSET(struct row, text_bytes), H5T_NATIVE_UINT32},
        {"error_bytes", HOFFSET(struct row, error_bytes), H5T_NATIVE_UINT32},
        {"rank", HOFFSET(struct row, rank), H5T_NATIVE_INT32},
        {"finish", HOFFSET(struct row, finish), H5T_NATIVE_INT32},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (H5Tinsert(t, fields[i].name, fields[i].offset, fields[i].type) < 0)
            die("HDF5 cannot make the type of a shard's rows");
    return t;
}

static hid_t make_step_type(void)
{
    hid_t t = H5Tcreate(H5T_COMPOUND, sizeof(struct step_timing));
    const struct {
        const char *name;
        size_t offset;
        hid_t type;
    } fields[] = {
        {"step", HOFFSET(struct step_timing, step), H5T_NATIVE_UINT32},
        {"rank", HOFFSET(struct step_timing, rank), H5T_NATIVE_INT32},
        {"rows", HOFFSET(struct step_timing, rows), H5T_NATIVE_INT32},
        {"attention", HOFFSET(struct step_timing, attention), H5T_NATIVE_FLOAT},
        {"ffn", HOFFSET(struct step_timing, ffn), H5T_NATIVE_FLOAT},
        {"exchange", HOFFSET(struct step_timing, exchange), H5T_NATIVE_FLOAT},
        {"wait", HOFFSET(struct step_timing, wait), H5T_NATIVE_FLOAT},
        {"total", HOFFSET(struct step_timing, total), H5T_NATIVE_FLOAT},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (H5Tinsert(t, fields[i].name, fields[i].offset, fields[i].type) < 0)
            die("HDF5 cannot make the type of step timings");
    return t;
}

static size_t length(const char *s)
{
    return s ? strlen(s) : 0;
}

void shard_measure(struct shard_size *size, const struct completion *c)
{
    size->rows++;
    size->tokens += c->n_tokens;
    size->bytes += length(c->text) + length(c->error);
}

static int open_appends(struct shard_writer *w, struct shard_size size, struct err *e)
{
    hid_t row = make_row_type(), step = make_step_type();
    const struct {
        struct append **out;
        struct append_spec spec;
    } sets[] = {
        {&w->rows, {.name = "rows", .type = row, .total = size.rows, .flat = true}},
        {&w->bytes, {.name = "bytes", .type = H5T_NATIVE_UINT8, .total = size.bytes, .flat = true}},
        {&w->tokens,
         {.name = "tokens", .type = H5T_NATIVE_INT32, .total = size.tokens, .flat = true}},
        {&w->logprobs,
         {.name = "logprobs", .type = H5T_NATIVE_FLOAT, .total = size.tokens, .flat = true}},
        {&w->steps, {.name = "steps", .type = step, .total = size.steps, .flat = true}},
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof sets / sizeof *sets && rc == 0; i++)
        rc = append_open(sets[i].out, &w->output, w->output.file, &sets[i].spec, e);
    h5_close(row);
    h5_close(step);
    return rc;
}

int shard_create(struct shard_writer **out, const char *path, uint64_t job, struct shard_size size,
                 struct err *e)
{
    struct shard_writer *w = mem_zeroed(1, sizeof *w);
    w->path = mem_string(path);
    w->output.file = -1;
    int rc = h5_create(&w->output, path, e);
    if (rc == 0 && h5_put_u64(w->output.file, "job", job) != 0)
        rc = h5_err(e, "the attribute \"job\" cannot be written");
    if (rc == 0)
        rc = open_appends(w, size, e);
    if (rc != 0) {
        if (w->output.file >= 0)
            err_prefix(e, "%s", path);
        shard_abandon(w);
        return -1;
    }
    *out = w;
    return 0;
}

int shard_put(struct shard_writer *w, const struct completion *c, struct err *e)
{
    if (c->unit < w->next_unit)
        die("%s: unit %" PRIu64 " comes after %" PRIu64, w->path, c->unit, w->next_unit - 1);
    size_t text = length(c->text), error = length(c->error);
    if (text > UINT32_MAX || error > UINT32_MAX)
        die("%s: a text of %zu bytes", w->path, text > error ? text : error);
    struct row row = {
        .unit = c->unit,
        .token_start = w->put.tokens,
        .byte_start = w->put.bytes,
        .admitted = c->admitted,
        .first_token = c->first_token,
        .last_token = c->last_token,
        .n_tokens = c->n_tokens,
        .n_prompt_tokens = c->n_prompt_tokens,
        .text_bytes = (uint32_t)text,
        .error_bytes = (uint32_t)error,
        .rank = c->rank,
        .finish = (int32_t)c->finish,
    };
    if (append_put(w->rows, &row, 1, e) != 0 || append_put(w->bytes, c->text, text, e) != 0 ||
        append_put(w->bytes, c->error, error, e) != 0 ||
        append_put(w->tokens, c->tokens, c->n_tokens, e) != 0 ||
        append_put(w->logprobs, c->logprobs, c->n_tokens, e) != 0)
        return err_prefix(e, "%s", w->path);
    shard_measure(&w->put, c);
    w->next_unit = c->unit + 1;
    return 0;
}

int shard_put_steps(struct shard_writer *w, const struct step_timing *steps, size_t n,
                    struct err *e)
{
    return append_put(w->steps, steps, n, e) != 0 ? err_prefix(e, "%s", w->path) : 0;
}

void shard_abandon(struct shard_writer *w)
{
    if (!w)
        return;
    append_drop(w->rows);
    append_drop(w->bytes);
    append_drop(w->tokens);
    append_drop(w->logprobs);
    append_drop(w->steps);
    h5_abandon(&w->output);
    free(w->path);
    free(w);
}

int shard_finish(struct shard_writer *w, struct err *e)
{
    struct append **sets[] = {&w->rows, &w->bytes, &w->tokens, &w->logprobs, &w->steps};
    int rc = 0;
    for (size_t i = 0; i < sizeof sets / sizeof *sets && rc == 0; i++) {
        rc = append_close(*sets[i], e);
        *sets[i] = NULL;
    }
    if (rc != 0)
        err_prefix(e, "%s", w->path);
    else
        rc = h5_finish(&w->output, w->path, e);
    shard_abandon(w);
    return rc;
}

static int open_set(struct shard_reader *r, const char *name, hid_t type, hid_t *set,
                    struct window *window, size_t *total, struct err *e)
{
    *set = H5Dopen2(r->file, name, H5P_DEFAULT);
    if (*set < 0)
        return h5_err(e, "%s: is no shard of completions, or damaged: dataset \"%s\"", r->path,
                      name);
    hid_t space = H5Dget_space(*set);
    hssize_t n = H5Sget_simple_extent_npoints(space);
    h5_close(space);
    *total = n < 0 ? 0 : (size_t)n;
    window_init(window, *set, type, *total, WINDOW_BYTES);
    return 0;
}

static int open_sets(struct shard_reader *r, struct err *e)
{
    size_t logprobs = 0;
    if (open_set(r, "rows", r->row_type, &r->rows_set, &r->rows, &r->size.rows, e) != 0 ||
        open_set(r, "bytes", H5T_NATIVE_UINT8, &r->bytes_set, &r->bytes, &r->size.bytes, e) != 0 ||
        open_set(r, "tokens", H5T_NATIVE_INT32, &r->tokens_set, &r->tokens, &r->size.tokens, e) !=
            0 ||
        open_set(r, "logprobs", H5T_NATIVE_FLOAT, &r->logprobs_set, &r->logprobs, &logprobs, e) !=
            0 ||
        open_set(r, "steps", r->step_type, &r->steps_set, &r->steps, &r->size.steps, e) != 0)
        return -1;
    if (logprobs != r->size.tokens)
        return err_set(e, "%s: is damaged: %zu tokens, but %zu logprobs", r->path, r->size.tokens,
                       logprobs);
    return 0;
}

int shard_open(struct shard_reader **out, const char *path, uint64_t job, struct err *e)
{
    struct shard_reader *r = mem_zeroed(1, sizeof *r);
    r->path = mem_string(path);
    r->file = r->rows_set = r->bytes_set = r->tokens_set = r->logprobs_set = r->steps_set = -1;
    r->row_type = make_row_type();
    r->step_type = make_step_type();
    uint64_t found = 0;
    int rc = h5_open(&r->file, path, e);
    if (rc == 0 && (!h5_get_u64(r->file, "job", &found) || found != job))
        rc = err_set(e, "%s: belongs to another job", path);
    if (rc == 0)
        rc = open_sets(r, e);
    if (rc != 0) {
        shard_close(r);
        return -1;
    }
    *out = r;
    return 0;
}

void shard_close(struct shard_reader *r)
{
    if (!r)
        return;
    struct window *windows[] = {&r->rows, &r->bytes, &r->tokens, &r->logprobs, &r->steps};
    hid_t ids[] = {r->rows_set,  r->bytes_set, r->tokens_set, r->logprobs_set,
                   r->steps_set, r->row_type,  r->step_type,  r->file};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++)
        window_free(windows[i]);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        h5_close(ids[i]);
    free(r->path);
    free(r);
}

struct shard_size shard_size(const struct shard_reader *r)
{
    return r->size;
}

/* Row i, checked against the other datasets; NULL and a message when it is not right. */
static const struct row *get_row(struct shard_reader *r, size_t i, struct err *e)
{
    const struct row *row = window_get(&r->rows, i, 1);
    if (!row) {
        h5_err(e, "%s: row %zu cannot be read", r->path, i);
        return NULL;
    }
    uint64_t bytes = (uint64_t)row->text_bytes + row->error_bytes;
    if (row->token_start > r->size.tokens || row->n_tokens > r->size.tokens - row->token_start ||
        row->byte_start > r->size.bytes || bytes > r->size.bytes - row->byte_start ||
        row->finish < FINISH_STOP || row->finish > FINISH_ERROR) {
        err_set(e, "%s: is damaged: row %zu (unit %" PRIu64 ") refers to what is not in the file",
                r->path, i, row->unit);
        return NULL;
    }
    return row;
}

int shard_peek(struct shard_reader *r, uint64_t *unit, struct err *e)
{
    *unit = UINT64_MAX;
    if (r->next == r->size.rows)
        return 0;
    const struct row *row = get_row(r, r->next, e);
    if (!row)
        return -1;
    *unit = row->unit;
    return 0;
}

int shard_take(struct shard_reader *r, struct completion *out, struct err *e)
{
    const struct row *row = get_row(r, r->next, e);
    if (!row)
        return -1;
    const char *text =
        window_get(&r->bytes, row->byte_start, (size_t)row->text_bytes + row->error_bytes);
    const int32_t *tokens = window_get(&r->tokens, row->token_start, row->n_tokens);
    const float *logprobs = window_get(&r->logprobs, row->token_start, row->n_tokens);
    if (!text || !tokens || !logprobs)
        return h5_err(e, "%s: the contents of row %zu cannot be read", r->path, r->next);
    *out = (struct completion){
        .unit = row->unit,
        .finish = (enum finish)row->finish,
        .n_tokens = row->n_tokens,
        .n_prompt_tokens = row->n_prompt_tokens,
        .admitted = row->admitted,
        .first_token = row->first_token,
        .last_token = row->last_token,
        .rank = row->rank,
    };
    out->text = mem_string_n(text, row->text_bytes);
    if (row->finish == FINISH_ERROR)
        out->error = mem_string_n(text + row->text_bytes, row->error_bytes);
    out->tokens = mem_new(row->n_tokens, sizeof *tokens);
    out->logprobs = mem_new(row->n_tokens, sizeof *logprobs);
    if (row->n_tokens) {
        memcpy(out->tokens, tokens, row->n_tokens * sizeof *tokens);
        memcpy(out->logprobs, logprobs, row->n_tokens * sizeof *logprobs);
    }
    r->next++;
    return 0;
}

int shard_mark(struct shard_reader *r, uint64_t units, uint8_t *bitmap, size_t *count,
               struct err *e)
{
    uint64_t least = 0;
    for (size_t i = 0; i < r->size.rows; i++) {
        const struct row *row = get_row(r, i, e);
        if (!row)
            return -1;
        if (row->unit >= units || row->unit < least)
            return err_set(
                e, "%s: is damaged: row %zu has unit %" PRIu64 ", wanted %" PRIu64 " to %" PRIu64,
                r->path, i, row->unit, least, units - 1);
        uint8_t bit = (uint8_t)(1u << (row->unit & 7));
        if (bitmap[row->unit >> 3] & bit)
            return err_set(e,
                           "%s: unit %" PRIu64 " is in another shard as well; was a file copied "
                           "into the directory?",
                           r->path, row->unit);
        bitmap[row->unit >> 3] |= bit;
        least = row->unit + 1;
        ++*count;
    }
    return 0;
}

int shard_steps(struct shard_reader *r, size_t begin, size_t n, struct step_timing *out,
                struct err *e)
{
    const void *steps = window_get(&r->steps, begin, n);
    if (!steps)
        return h5_err(e, "%s: step timings cannot be read", r->path);
    memcpy(out, steps, n * sizeof *out);
    return 0;
}
