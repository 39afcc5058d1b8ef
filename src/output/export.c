#include "output/export.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "data/column.h"
#include "base/files.h"
#include "data/h5.h"
#include "output/beside.h"
#include "output/best.h"
#include "output/finished.h"
#include "output/openai.h"
#include "output/output.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* Nine digits give the same float again, seventeen the same double. Always with a point or an exponent, so that readers make a
 * float of it ("-0" would be an integer, and lose its sign). */
static void put_real(FILE *out, double value, int digits)
{
    char text[32];
    if (!isfinite(value)) {
        fputs("null", out);
        return;
    }
    snprintf(text, sizeof text, "%.*g", digits, value);
    fputs(text, out);
    if (!strpbrk(text, ".e"))
        fputs(".0", out);
}

/* ---- a line --------------------------------------------------------------------------------- */

/* each: they are put in lists of so many; 0: in one. */
static void put_ragged(FILE *out, const struct field *f, const void *values, uint32_t n,
                       uint32_t each)
{
    putc('[', out);
    for (uint32_t i = 0; i < n; i++) {
        bool begins = each && i % each == 0;
        fprintf(out, "%s%s", i == 0 ? "" : begins ? "], " : ", ", begins ? "[" : "");
        if (f->type == FIELD_INT32)
            fprintf(out, "%" PRId32, ((const int32_t *)values)[i]);
        else
            put_real(out, (double)((const float *)values)[i], 9);
    }
    fputs(each && n ? "]]" : "]", out);
}

/* What all lines of an output have in common. */
struct line {
    FILE *out;
    const struct export_options *options;
    struct kept *columns; /* the prompts' own; NULL: none */
    bool integer_ids;
    struct openai *openai; /* NULL: lines of our own */
};

static bool is_integer(const char *text)
{
    text += *text == '-';
    size_t n = strlen(text);
    return n > 0 && strspn(text, "0123456789") == n && (*text != '0' || n == 1);
}

/* Elements of a ragged value that belong to one token; 0: one does. */
static uint32_t each_of(const struct field *f, const struct completion *c)
{
    if (f->count == offsetof(struct completion, n_top))
        return c->n_tokens ? c->n_top / c->n_tokens : 0;
    if (f->count == offsetof(struct completion, n_prompt_top))
        return c->n_scored ? c->n_prompt_top / c->n_scored : 0;
    return 0;
}

static void put_value(const struct line *l, const struct field *f, const struct completion *c)
{
    FILE *out = l->out;
    const void *value = (const char *)c + f->offset;
    const char *text = f->type == FIELD_FINISH ? finish_name(*(const int32_t *)value) : NULL;
    if (f->type == FIELD_STRING)
        text = *(char *const *)value;
    if (f->ragged)
        put_ragged(out, f, *(void *const *)value, field_count(f, c), each_of(f, c));
    else if (f->type == FIELD_FLOAT64)
        put_real(out, *(const double *)value, 17);
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

/* ---- a line of a table ---------------------------------------------------------------------- */

/* Quoted where it must be. */
static void put_csv(FILE *out, const char *text, size_t n)
{
    char *valid = NULL;
    if (utf8_check(text, n, NULL) != 0) {
        utf8_lossy(text, n, &valid, &n);
        text = valid;
    }
    bool quoted = n > 0 && (strcspn(text, ",\"\r\n") < n || *text == ' ' || text[n - 1] == ' ');
    if (quoted)
        putc('"', out);
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '"')
            putc('"', out);
        putc(text[i], out);
    }
    if (quoted)
        putc('"', out);
    free(valid);
}

/* What the lines of JSON say, as it stands in a cell: null is nothing, a text without its quotes. */
static void put_json_cell(FILE *out, const char *json, size_t n)
{
    json_t *text =
        *json == '"' ? json_loadb(json, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
    if (text)
        put_csv(out, json_string_value(text), json_string_length(text));
    else if (strcmp(json, "null") != 0)
        put_csv(out, json, n);
    json_decref(text);
}

static void put_names(const struct line *l)
{
    const char *before = "";
    for (size_t i = 0; i < completion_table.n; i++) {
        const struct field *f = &completion_table.fields[i];
        if (!wanted(f, l->options))
            continue;
        fprintf(l->out, "%s%s", before, f->name);
        before = ",";
    }
    for (size_t i = 0; i < kept_count(l->columns); i++) {
        const char *name = kept_name(l->columns, i);
        size_t room = strlen(name) + 16;
        char *full = mem_new(room, 1);
        snprintf(full, room, "columns.%s", name);
        fputs(before, l->out);
        put_csv(l->out, full, strlen(full));
        free(full);
    }
    putc('\n', l->out);
}

static int put_cells(const struct line *l, const struct completion *c, size_t row, struct err *e)
{
    size_t fields = completion_table.n, n = fields + kept_count(l->columns);
    const char *before = "";
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct field *f = i < fields ? &completion_table.fields[i] : NULL;
        char *json = NULL;
        size_t bytes = 0;
        uint32_t some = 1;
        if (f && !wanted(f, l->options))
            continue;
        if (f && f->when)
            memcpy(&some, (const char *)c + f->when, sizeof some);
        struct line cell = *l;
        cell.out = open_memstream(&json, &bytes);
        if (!cell.out)
            die("out of memory");
        if (!f)
            rc = put_cell(cell.out, l->columns, i - fields, row, e);
        else if (some)
            put_value(&cell, f, c);
        if (fclose(cell.out) != 0)
            die("out of memory");
        fputs(before, l->out);
        put_json_cell(l->out, json, bytes);
        before = ",";
        free(json);
    }
    putc('\n', l->out);
    return rc;
}

/* ---- lines ---------------------------------------------------------------------------------- */

/* row: of the columns of its own. */
static int put_line(const struct line *l, const struct completion *c, size_t row, struct err *e)
{
    const char *before = "{";
    if (l->options->format == EXPORT_CSV)
        return put_cells(l, c, row, e);
    if (l->openai) {
        openai_put(l->openai, c);
        return 0;
    }
    for (size_t i = 0; i < completion_table.n; i++) {
        const struct field *f = &completion_table.fields[i];
        uint32_t some = 1;
        if (f->when)
            memcpy(&some, (const char *)c + f->when, sizeof some);
        if (some == 0 || !wanted(f, l->options))
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

/* Outputs of earlier versions do not say what their prompts were. */
static bool were_texts(const char *kind)
{
    return kind && strcmp(kind, OUTPUT_PROMPTS_MESSAGES) != 0;
}

static int export_finished(const char *path, FILE *out, const struct export_options *o,
                           size_t *rows, struct err *e)
{
    struct finished *f;
    if (finished_open(&f, path,
                      (o->tokens ? FINISHED_TOKENS : 0) | (o->logprobs ? FINISHED_LOGPROBS : 0),
                      e) != 0)
        return -1;
    char *ids = finished_text(f, OUTPUT_IDS), *model = finished_text(f, "model");
    char *kind = finished_text(f, OUTPUT_PROMPTS);
    struct openai openai = {.out = out, .model = model, .texts = were_texts(kind)};
    const struct line line = {.out = out,
                              .options = o,
                              .openai = o->format == EXPORT_OPENAI ? &openai : NULL,
                              .columns = finished_kept(f),
                              .integer_ids = ids && strcmp(ids, OUTPUT_IDS_INTEGERS) == 0};
    free(kind);
    free(ids);
    int rc = 0;
    size_t n = finished_rows(f);
    if (o->format == EXPORT_CSV)
        put_names(&line);
    for (size_t i = 0; i < n && rc == 0 && !ferror(out); i++) {
        struct completion c;
        rc = finished_row(f, i, &c, e);
        if (rc == 0)
            rc = put_line(&line, &c, i, e);
        if (rc != 0)
            err_prefix(e, "%s: row %zu", path, i);
        table_free(&completion_table, &c);
        *rows += rc == 0;
    }
    openai_end(&openai);
    free(model);
    finished_close(f);
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
    struct openai openai = {.out = out,
                            .model = identity_value(&attributes, "model"),
                            .texts = were_texts(identity_value(&attributes, OUTPUT_PROMPTS))};
    const struct line line = {.out = out,
                              .options = o,
                              .openai = o->format == EXPORT_OPENAI ? &openai : NULL,
                              .columns = prompts.columns,
                              .integer_ids = ids && strcmp(ids, OUTPUT_IDS_INTEGERS) == 0};
    struct best best;
    best_open(&best, &js);
    if (rc == 0 && o->format == EXPORT_CSV)
        put_names(&line);
    for (uint64_t row = 0; row < best_rows(&best) && rc == 0 && !ferror(out); row++) {
        struct completion c;
        int found = best_completion(&best, row, &c, e);
        if (found <= 0) {
            rc = found;
            continue;
        }
        rc = put_line(&line, &c, (size_t)c.prompt, e);
        table_free(&completion_table, &c);
        *rows += rc == 0;
    }
    openai_end(&openai);
    identity_free(&attributes);
    beside_source_close(&prompts);
    best_close(&best);
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
