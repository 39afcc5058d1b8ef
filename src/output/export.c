#include "output/export.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "data/column.h"
#include "base/files.h"
#include "data/h5.h"
#include "output/beside.h"
#include "output/merge.h"
#include "output/output.h"
#include "output/seal.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 32

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

/* ---- a line --------------------------------------------------------------------------------- */

static void put_ragged(FILE *out, const struct field *f, const void *values, uint32_t n)
{
    putc('[', out);
    for (uint32_t i = 0; i < n; i++) {
        fputs(i ? ", " : "", out);
        if (f->type == FIELD_INT32)
            fprintf(out, "%" PRId32, ((const int32_t *)values)[i]);
        else
            put_float(out, ((const float *)values)[i]);
    }
    putc(']', out);
}

/* What all lines of an output have in common. */
struct line {
    FILE *out;
    const struct export_options *options;
    struct kept *columns; /* the prompts' own; NULL: none */
    bool integer_ids;
};

static bool is_integer(const char *text)
{
    text += *text == '-';
    size_t n = strlen(text);
    return n > 0 && strspn(text, "0123456789") == n && (*text != '0' || n == 1);
}

static void put_value(const struct line *l, const struct field *f, const struct completion *c)
{
    FILE *out = l->out;
    const void *value = (const char *)c + f->offset;
    const char *text = f->type == FIELD_FINISH ? finish_name(*(const int32_t *)value) : NULL;
    if (f->type == FIELD_STRING)
        text = *(char *const *)value;
    if (f->ragged)
        put_ragged(out, f, *(void *const *)value, c->n_tokens);
    else if (f->type == FIELD_INT32)
        fprintf(out, "%" PRId32, *(const int32_t *)value);
    else if (f->type == FIELD_INT64)
        fprintf(out, "%" PRId64, *(const int64_t *)value);
    else if (value == &c->error && c->finish != FINISH_ERROR)
        fputs("null", out);
    else if (value == &c->id && l->integer_ids && is_integer(text))
        fputs(text, out);
    else
        put_string(out, text ? text : "", text ? strlen(text) : 0);
}

/* JSON that came from somebody's file: as it is when it is JSON and has no line ends, else a string. */
static void put_json(FILE *out, const char *text, size_t n)
{
    json_t *value = json_loadb(text, n, JSON_DECODE_ANY, NULL);
    char *line = value && strpbrk(text, "\r\n") ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    if (value)
        fputs(line ? line : text, out);
    else
        put_string(out, text, n);
    free(line);
    json_decref(value);
}

static int put_cell(FILE *out, struct kept *k, size_t i, size_t row, struct err *e)
{
    struct column *c = kept_column(k, i);
    char number[32], *text = NULL;
    size_t n;
    double real;
    if (column_kind(c) == COLUMN_INTEGERS) {
        if (column_decimal(c, row, number, e) != 0)
            return -1;
        fputs(number, out);
    } else if (column_kind(c) == COLUMN_REALS) {
        if (column_reals(c, row, 1, &real, e) != 0)
            return -1;
        snprintf(number, sizeof number, "%.17g", real);
        fputs(isfinite(real) ? number : "null", out);
    } else {
        if (column_string(c, row, &text, &n, e) != 0)
            return -1;
        kept_is_json(k, i) ? put_json(out, text, n) : put_string(out, text, n);
        free(text);
    }
    return 0;
}

static int put_columns(const struct line *l, size_t row, struct err *e)
{
    int rc = 0;
    fputs(", \"columns\": ", l->out);
    for (size_t i = 0; i < kept_count(l->columns) && rc == 0; i++) {
        fputs(i ? ", " : "{", l->out);
        put_string(l->out, kept_name(l->columns, i), strlen(kept_name(l->columns, i)));
        fputs(": ", l->out);
        rc = put_cell(l->out, l->columns, i, row, e);
    }
    fputs("}", l->out);
    return rc;
}

static bool wanted(const struct field *f, const struct export_options *o)
{
    bool tokens = f->offset == offsetof(struct completion, tokens);
    return f->exported && (!f->ragged || (tokens ? o->tokens : o->logprobs));
}

/* row: of the columns of its own. */
static int put_line(const struct line *l, const struct completion *c, size_t row, struct err *e)
{
    const char *before = "{";
    for (size_t i = 0; i < completion_table.n; i++) {
        const struct field *f = &completion_table.fields[i];
        if (!wanted(f, l->options))
            continue;
        fprintf(l->out, "%s\"%s\": ", before, f->name);
        put_value(l, f, c);
        before = ", ";
    }
    int rc = l->columns ? put_columns(l, row, e) : 0;
    fputs("}\n", l->out);
    return rc;
}

/* ---- the finished files --------------------------------------------------------------------- */

struct source {
    struct h5_output main, tokens;
    struct column *columns[COLUMNS_MAX]; /* of the fields that are read */
    const struct export_options *options;
};

static enum column_kind kind_of(const struct field *f)
{
    switch (f->type) {
    case FIELD_STRING:
    case FIELD_FINISH:
        return COLUMN_STRINGS;
    case FIELD_INT32:
    case FIELD_INT64:
        return COLUMN_INTEGERS;
    default:
        return COLUMN_REALS;
    }
}

static int open_column(struct column **out, hid_t file, const char *path, const struct field *f,
                       struct err *e)
{
    if (column_open(out, file, path, f->name, e) != 0)
        return -1;
    if (column_kind(*out) != kind_of(f))
        return err_set(e, "%s: dataset \"%s\" has %s; the file is not a completions file", path,
                       f->name, column_describe(*out));
    return 0;
}

/* Opens a file and its columns, all of one length. */
static int open_file(struct source *s, struct h5_output *file, const char *path, bool ragged,
                     struct err *e)
{
    size_t n = SIZE_MAX;
    if (seal_check(path, NULL, e) != 0 || h5_read_output(file, path, e) != 0)
        return -1;
    char *format = h5_get_string(file->file, "format");
    bool ours = format && strcmp(format, MERGE_FORMAT) == 0;
    free(format);
    if (!ours)
        return err_set(e,
                       "%s: wanted a completions file (attribute format = \"" MERGE_FORMAT
                       "\"), found another HDF5 file",
                       path);
    for (size_t i = 0; i < completion_table.n; i++) {
        const struct field *f = &completion_table.fields[i];
        if (f->ragged != ragged || (ragged && !wanted(f, s->options)))
            continue;
        if (open_column(&s->columns[i], file->file, path, f, e) != 0)
            return -1;
        if (n != SIZE_MAX && column_count(s->columns[i]) != n)
            return err_set(e, "%s: its datasets have different lengths; the file is damaged", path);
        n = column_count(s->columns[i]);
    }
    return 0;
}

/* The ragged file has the name that goes with the main file's, or the one it had when both were
 * written; and it must be of the same output: the name may be another job's by now. */
static int open_ragged(struct source *s, const char *path, struct err *e)
{
    char *tokens = merge_sibling(path, "tokens"), *directory = files_directory(path);
    char *name = h5_get_string(s->main.file, "ragged");
    if (!files_exist(tokens) && name && !strchr(name, '/')) {
        free(tokens);
        tokens = files_join(directory, name);
    }
    int rc = open_file(s, &s->tokens, tokens, true, e);
    if (rc == 0) {
        char *mine = h5_get_string(s->main.file, "output");
        char *other = h5_get_string(s->tokens.file, "output");
        if (!mine || !other || strcmp(mine, other) != 0)
            rc = err_set(e, "%s: belongs to another output than %s; were files renamed?", tokens,
                         path);
        free(mine);
        free(other);
    }
    free(tokens);
    free(name);
    free(directory);
    return rc;
}

static void close_source(struct source *s)
{
    for (size_t i = 0; i < COLUMNS_MAX; i++)
        column_close(s->columns[i]);
    h5_abandon(&s->tokens);
    h5_abandon(&s->main);
}

static int read_numbers(struct column *column, const struct field *f, size_t at, size_t n, void *to,
                        struct err *e)
{
    int64_t *wide = mem_new(n, sizeof *wide);
    double *real = mem_new(n, sizeof *real);
    bool integer = kind_of(f) == COLUMN_INTEGERS;
    int rc = at > column_count(column) || n > column_count(column) - at
                 ? err_set(e, "elements %zu to %zu of \"%s\" are not there", at, at + n, f->name)
             : integer ? column_integers(column, at, n, wide, e)
                       : column_reals(column, at, n, real, e);
    for (size_t i = 0; i < n && rc == 0; i++) {
        if (f->type == FIELD_INT32)
            ((int32_t *)to)[i] = (int32_t)wide[i];
        else if (f->type == FIELD_INT64)
            ((int64_t *)to)[i] = wide[i];
        else if (f->type == FIELD_FLOAT32)
            ((float *)to)[i] = (float)real[i];
        else
            ((double *)to)[i] = real[i];
    }
    free(wide);
    free(real);
    return rc;
}

static int read_text(struct column *column, const struct field *f, size_t row, void *to,
                     struct err *e)
{
    char *text = NULL;
    size_t bytes;
    if (column_string(column, row, &text, &bytes, e) != 0)
        return -1;
    if (f->type == FIELD_STRING) {
        memcpy(to, &text, sizeof text);
        return 0;
    }
    int32_t finish = finish_number(text);
    memcpy(to, &finish, sizeof finish);
    int rc = finish < 0 ? err_set(e, "finish is \"%.20s\"", text) : 0;
    free(text);
    return rc;
}

/* Row i; freed by table_free() whatever happens. Ragged fields stand behind the others. */
static int read_row(struct source *s, size_t row, struct completion *c, struct err *e)
{
    int rc = 0;
    *c = (struct completion){0};
    for (size_t i = 0; i < completion_table.n && rc == 0; i++) {
        const struct field *f = &completion_table.fields[i];
        char *to = (char *)c + f->offset;
        if (!s->columns[i])
            continue;
        if (f->ragged) {
            void *values = mem_new(c->n_tokens, sizeof(double));
            memcpy(to, &values, sizeof values);
            rc = read_numbers(s->columns[i], f, (size_t)c->token_start, c->n_tokens, values, e);
        } else if (kind_of(f) == COLUMN_STRINGS) {
            rc = read_text(s->columns[i], f, row, to, e);
        } else {
            rc = read_numbers(s->columns[i], f, row, 1, to, e);
        }
    }
    return rc;
}

static int export_finished(const char *path, FILE *out, const struct export_options *o,
                           size_t *rows, struct err *e)
{
    struct source s = {.main.file = -1, .tokens.file = -1, .options = o};
    int rc = open_file(&s, &s.main, path, false, e);
    if (rc == 0 && (o->tokens || o->logprobs))
        rc = open_ragged(&s, path, e);
    size_t n = rc == 0 ? column_count(s.columns[0]) : 0;
    struct line line = {.out = out, .options = o};
    if (rc == 0)
        rc = kept_open(&line.columns, s.main.file, path, n, e);
    char *ids = rc == 0 ? h5_get_string(s.main.file, OUTPUT_IDS) : NULL;
    line.integer_ids = ids && strcmp(ids, OUTPUT_IDS_INTEGERS) == 0;
    free(ids);
    for (size_t i = 0; i < n && rc == 0 && !ferror(out); i++) {
        struct completion c;
        rc = read_row(&s, i, &c, e);
        if (rc == 0)
            rc = put_line(&line, &c, i, e);
        if (rc != 0)
            err_prefix(e, "%s: row %zu", path, i);
        table_free(&completion_table, &c);
        *rows += rc == 0;
    }
    kept_close(line.columns);
    close_source(&s);
    return rc;
}

/* ---- the journals of a job that is not finished, and may be running --------------------------- */

static int export_partial(const char *directory, FILE *out, const struct export_options *o,
                          size_t *rows, struct err *e)
{
    struct journals js;
    if (journals_open(&js, directory, 0, NULL, NULL, e) != 0)
        return -1;
    struct identity attributes = {0};
    struct beside_source prompts;
    int rc = beside_source_open(&prompts, js.header.attributes, e);
    if (js.header.attributes && identity_add_json(&attributes, js.header.attributes) != 0 &&
        rc == 0)
        rc = err_set(e, "%s: its attributes are no JSON", directory);
    const char *ids = identity_value(&attributes, OUTPUT_IDS);
    const struct line line = {.out = out,
                              .options = o,
                              .columns = prompts.columns,
                              .integer_ids = ids && strcmp(ids, OUTPUT_IDS_INTEGERS) == 0};
    for (uint64_t unit = 0; unit < js.units && rc == 0 && !ferror(out); unit++) {
        struct completion c;
        if (!js.places[unit])
            continue;
        rc = journals_completion(&js, unit, &c, e);
        if (rc != 0)
            break;
        rc = put_line(&line, &c, (size_t)c.prompt, e);
        table_free(&completion_table, &c);
        *rows += rc == 0;
    }
    identity_free(&attributes);
    beside_source_close(&prompts);
    journals_close(&js);
    return rc;
}

int export_completions(const char *path, FILE *out, const struct export_options *o, struct err *e)
{
    size_t written = 0;
    char *directory = output_directory(path);
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
