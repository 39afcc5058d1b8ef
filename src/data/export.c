#include "data/export.h"

#include "base/mem.h"
#include "data/column.h"
#include "data/completions.h"
#include "data/files.h"
#include "data/h5.h"
#include "data/identity.h"
#include "data/merge.h"
#include "data/prompts.h"
#include "data/shards.h"
#include "base/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a line is made of. */
struct line {
    const char *id; /* NULL: no field */
    uint64_t prompt, sample;
    const char *text, *finish, *error;
    size_t text_bytes;
    int64_t prompt_tokens;
    const int32_t *tokens; /* [n]; NULL: no field */
    const float *logprobs; /* [n]; NULL: no field */
    size_t n;
};

static void put_string(FILE *out, const char *s, size_t n)
{
    char *valid = NULL;
    if (utf8_check(s, n, NULL) != 0) {
        utf8_lossy(s, n, &valid, &n);
        s = valid;
    }
    putc('"', out);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", out);
        else if (c == '\t')
            fputs("\\t", out);
        else if (c == '\r')
            fputs("\\r", out);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else
            putc(c, out);
    }
    putc('"', out);
    free(valid);
}

/* Nine digits give the same float again. Always with a point or an exponent, so that readers make a
 * float of it ("-0" would be an integer, and lose its sign). */
static void put_float(FILE *out, float value)
{
    char text[32];
    if (!isfinite(value)) {
        fputs("null", out);
        return;
    }
    snprintf(text, sizeof text, "%.9g", (double)value);
    fputs(text, out);
    if (!strpbrk(text, ".e"))
        fputs(".0", out);
}

static void put_line(FILE *out, const struct line *l)
{
    putc('{', out);
    if (l->id) {
        fputs("\"id\": ", out);
        put_string(out, l->id, strlen(l->id));
        fputs(", ", out);
    }
    fprintf(out, "\"prompt\": %" PRIu64 ", \"sample\": %" PRIu64 ", \"text\": ", l->prompt,
            l->sample);
    put_string(out, l->text, l->text_bytes);
    fputs(", \"finish\": ", out);
    put_string(out, l->finish, strlen(l->finish));
    fputs(", \"error\": ", out);
    if (strcmp(l->finish, "error") == 0)
        put_string(out, l->error, strlen(l->error));
    else
        fputs("null", out);
    fprintf(out, ", \"prompt_tokens\": %" PRId64, l->prompt_tokens);
    if (l->tokens) {
        fputs(", \"tokens\": [", out);
        for (size_t i = 0; i < l->n; i++)
            fprintf(out, "%s%" PRId32, i ? ", " : "", l->tokens[i]);
        putc(']', out);
    }
    if (l->logprobs) {
        fputs(", \"logprobs\": [", out);
        for (size_t i = 0; i < l->n; i++) {
            fputs(i ? ", " : "", out);
            put_float(out, l->logprobs[i]);
        }
        putc(']', out);
    }
    fputs("}\n", out);
}

/* The finished file. */

enum { TEXT, ID, FINISH, ERROR, PROMPT, SAMPLE, PROMPT_TOKENS, TOKEN_START, TOKEN_COUNT, COLUMNS };

static const struct {
    const char *name;
    enum column_kind kind;
} columns[COLUMNS] = {
    [TEXT] = {"text", COLUMN_STRINGS},
    [ID] = {"id", COLUMN_STRINGS},
    [FINISH] = {"finish", COLUMN_STRINGS},
    [ERROR] = {"error", COLUMN_STRINGS},
    [PROMPT] = {"prompt", COLUMN_INTEGERS},
    [SAMPLE] = {"sample", COLUMN_INTEGERS},
    [PROMPT_TOKENS] = {"prompt_tokens", COLUMN_INTEGERS},
    [TOKEN_START] = {"token_start", COLUMN_INTEGERS},
    [TOKEN_COUNT] = {"token_count", COLUMN_INTEGERS},
};

struct source {
    hid_t main_file, tokens_file;
    struct column *columns[COLUMNS], *tokens, *logprobs;
    const struct export_options *options;
};

static int open_column(struct column **out, hid_t file, const char *path, const char *name,
                       enum column_kind kind, struct err *e)
{
    if (column_open(out, file, path, name, e) != 0)
        return -1;
    if (column_kind(*out) != kind)
        return err_set(e, "%s: dataset \"%s\" has %s; the file is not a completions file", path,
                       name, column_describe(*out));
    return 0;
}

static int open_ragged(struct source *s, const char *path, struct err *e)
{
    char *name = h5_get_string(s->main_file, "ragged"), *directory = files_directory(path);
    int rc = 0;
    if (!name || strchr(name, '/'))
        rc = err_set(e, "%s: does not say where its tokens are (attribute \"ragged\")", path);
    char *tokens = rc == 0 ? files_join(directory, name) : NULL;
    if (rc == 0)
        rc = h5_open(&s->tokens_file, tokens, e);
    if (rc == 0 && s->options->tokens)
        rc = open_column(&s->tokens, s->tokens_file, tokens, "tokens", COLUMN_INTEGERS, e);
    if (rc == 0 && s->options->logprobs)
        rc = open_column(&s->logprobs, s->tokens_file, tokens, "logprobs", COLUMN_REALS, e);
    free(tokens);
    free(name);
    free(directory);
    return rc;
}

static int open_source(struct source *s, const char *path, struct err *e)
{
    if (h5_open(&s->main_file, path, e) != 0)
        return -1;
    char *format = h5_get_string(s->main_file, "format");
    bool ours = format && strcmp(format, MERGE_FORMAT) == 0;
    free(format);
    if (!ours)
        return err_set(e,
                       "%s: wanted a completions file (attribute format = \"" MERGE_FORMAT
                       "\"), found another HDF5 file",
                       path);
    for (int i = 0; i < COLUMNS; i++) {
        if (open_column(&s->columns[i], s->main_file, path, columns[i].name, columns[i].kind, e) !=
            0)
            return -1;
        if (column_count(s->columns[i]) != column_count(s->columns[0]))
            return err_set(e, "%s: its datasets have different lengths; the file is damaged", path);
    }
    return s->options->tokens || s->options->logprobs ? open_ragged(s, path, e) : 0;
}

static void close_source(struct source *s)
{
    for (int i = 0; i < COLUMNS; i++)
        column_close(s->columns[i]);
    column_close(s->tokens);
    column_close(s->logprobs);
    h5_close(s->tokens_file);
    h5_close(s->main_file);
}

/* Fills the arrays asked for; they stay the caller's to free. */
static int read_ragged(struct source *s, int64_t start, int64_t count, int32_t **tokens,
                       float **logprobs, struct err *e)
{
    struct column *some = s->tokens ? s->tokens : s->logprobs;
    if (!some)
        return 0;
    if (start < 0 || count < 0 || (uint64_t)start + (uint64_t)count > column_count(some))
        return err_set(e, "tokens %" PRId64 " to %" PRId64 " are not in the ragged file", start,
                       start + count);
    size_t n = (size_t)count;
    int64_t *wide = mem_new(n, sizeof *wide);
    double *real = mem_new(n, sizeof *real);
    int rc = 0;
    if (s->tokens) {
        rc = column_integers(s->tokens, (size_t)start, n, wide, e);
        *tokens = mem_new(n, sizeof **tokens);
        for (size_t i = 0; i < n && rc == 0; i++)
            (*tokens)[i] = (int32_t)wide[i];
    }
    if (s->logprobs && rc == 0) {
        rc = column_reals(s->logprobs, (size_t)start, n, real, e);
        *logprobs = mem_new(n, sizeof **logprobs);
        for (size_t i = 0; i < n && rc == 0; i++)
            (*logprobs)[i] = (float)real[i];
    }
    free(wide);
    free(real);
    return rc;
}

static int put_finished_row(struct source *s, size_t i, FILE *out, struct err *e)
{
    char *text[COLUMNS] = {NULL};
    size_t bytes[COLUMNS] = {0};
    int64_t number[COLUMNS] = {0};
    int32_t *tokens = NULL;
    float *logprobs = NULL;
    int rc = 0;
    for (int k = 0; k < COLUMNS && rc == 0; k++)
        rc = columns[k].kind == COLUMN_STRINGS
                 ? column_string(s->columns[k], i, &text[k], &bytes[k], e)
                 : column_integers(s->columns[k], i, 1, &number[k], e);
    if (rc == 0)
        rc = read_ragged(s, number[TOKEN_START], number[TOKEN_COUNT], &tokens, &logprobs, e);
    if (rc == 0)
        put_line(out, &(struct line){
                          .id = text[ID],
                          .prompt = (uint64_t)number[PROMPT],
                          .sample = (uint64_t)number[SAMPLE],
                          .text = text[TEXT],
                          .text_bytes = bytes[TEXT],
                          .finish = text[FINISH],
                          .error = text[ERROR],
                          .prompt_tokens = number[PROMPT_TOKENS],
                          .tokens = tokens,
                          .logprobs = logprobs,
                          .n = (size_t)number[TOKEN_COUNT],
                      });
    for (int k = 0; k < COLUMNS; k++)
        free(text[k]);
    free(tokens);
    free(logprobs);
    return rc;
}

static int export_finished(const char *path, FILE *out, const struct export_options *o,
                           size_t *rows, struct err *e)
{
    struct source s = {.main_file = -1, .tokens_file = -1, .options = o};
    int rc = open_source(&s, path, e);
    size_t n = rc == 0 ? column_count(s.columns[TEXT]) : 0;
    for (size_t i = 0; i < n && rc == 0 && !ferror(out); i++) {
        rc = put_finished_row(&s, i, out, e);
        if (rc != 0)
            err_prefix(e, "%s: row %zu", path, i);
        *rows += rc == 0;
    }
    close_source(&s);
    return rc;
}

/* The shards of a job that is not finished, and may be running. */

static void put_completion(FILE *out, const struct completion *c,
                           const struct completions_identity *id, struct prompts *prompts,
                           const struct export_options *o)
{
    uint64_t prompt = id->first_prompt + c->unit / id->samples;
    char *name =
        prompts && prompt < prompts_count(prompts) ? prompts_id(prompts, (size_t)prompt) : NULL;
    put_line(out, &(struct line){
                      .id = name,
                      .prompt = prompt,
                      .sample = c->unit % id->samples,
                      .text = c->text,
                      .text_bytes = strlen(c->text),
                      .finish = finish_name(c->finish),
                      .error = c->error,
                      .prompt_tokens = c->n_prompt_tokens,
                      .tokens = o->tokens ? c->tokens : NULL,
                      .logprobs = o->logprobs ? c->logprobs : NULL,
                      .n = c->n_tokens,
                  });
    free(name);
}

/* All shards, opened. A running job may replace shards by a larger one between listing and opening:
 * then the list is read again. Once open, a file can be read though its name is gone. */
static int open_walk(struct shards_walk **walk, const char *directory, uint64_t job, struct err *e)
{
    for (int tries = 0;; tries++) {
        struct shards s;
        if (shards_list(&s, directory, job, false, e) != 0)
            return -1;
        int rc = shards_walk_open(walk, &s, 0, s.count, e);
        bool gone = false;
        for (size_t i = 0; i < s.count && rc != 0; i++) {
            char *path = shards_path(&s, i);
            gone = gone || !files_exist(path);
            free(path);
        }
        shards_free(&s);
        if (rc == 0 || !gone || tries == 20)
            return rc;
    }
}

static int export_shards(const char *directory, FILE *out, const struct export_options *o,
                         struct prompts *prompts, size_t *rows, struct err *e)
{
    struct completions_identity id;
    if (identity_read(directory, &id, e) != 0)
        return -1;
    struct shards_walk *walk = NULL;
    int rc = id.samples == 0 ? err_set(e, "%s: " IDENTITY_FILE " has no samples", directory)
                             : open_walk(&walk, directory, identity_hash(&id), e);
    while (rc == 0 && !ferror(out)) {
        uint64_t unit;
        struct completion c;
        rc = shards_walk_next(walk, &unit, &c, e);
        if (rc != 0 || unit == UINT64_MAX)
            break;
        put_completion(out, &c, &id, prompts, o);
        completion_free(&c);
        ++*rows;
    }
    shards_walk_close(walk);
    job_identity_free(&id);
    return rc;
}

static int export_partial(const char *directory, FILE *out, const struct export_options *o,
                          size_t *rows, struct err *e)
{
    struct prompts *prompts = NULL;
    if (o->prompts && prompts_open(&prompts, o->prompts, e) != 0)
        return -1;
    int rc = export_shards(directory, out, o, prompts, rows, e);
    prompts_close(prompts);
    return rc;
}

int export_completions(const char *path, FILE *out, const struct export_options *o, struct err *e)
{
    size_t room = strlen(path) + sizeof ".partial", written = 0;
    char *directory = mem_new(room, 1);
    snprintf(directory, room, "%s.partial", path);
    bool have_main = files_exist(path), have_partial = files_exist(directory);
    h5_quiet();
    int rc;
    if (have_main)
        rc = export_finished(path, out, o, &written, e);
    else if (have_partial && o->partial)
        rc = export_partial(directory, out, o, &written, e);
    else if (have_partial)
        rc = err_set(e, "%s: the job is not finished; ask for what is there with --partial", path);
    else
        rc = err_set(e, "%s: does not exist, nor does %s", path, directory);
    free(directory);
    if (rc == 0 && (fflush(out) != 0 || ferror(out)))
        rc = err_set(e, "the output cannot be written: %s", strerror(errno));
    if (rc == 0 && o->rows)
        *o->rows = written;
    return rc;
}
