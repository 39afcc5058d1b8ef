#include "output/finished.h"

#include "base/files.h"
#include "base/mem.h"
#include "data/column.h"
#include "data/h5.h"
#include "output/merge.h"
#include "output/seal.h"

#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 32

enum { MAIN, TOKENS, STEPS, FILES };

struct finished {
    char *path;
    int wanted; /* enum finished_parts */
    struct h5_output files[FILES];
    struct column *columns[COLUMNS_MAX]; /* of the completion's fields that are read */
    struct column *timings[COLUMNS_MAX];
    struct kept *kept;
};

/* ---- opening -------------------------------------------------------------------------------- */

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

/* Whether a ragged field is to be read. */
static bool is_wanted(const struct finished *f, const struct field *field)
{
    bool tokens = field->offset == offsetof(struct completion, tokens);
    return f->wanted & (tokens ? FINISHED_TOKENS : FINISHED_LOGPROBS);
}

static int check_format(const struct h5_output *file, const char *path, struct err *e)
{
    char *format = h5_get_string(file->file, "format");
    bool ours = format && strcmp(format, MERGE_FORMAT) == 0;
    free(format);
    return ours ? 0
                : err_set(e,
                          "%s: wanted a completions file (attribute format = \"" MERGE_FORMAT
                          "\"), found another HDF5 file",
                          path);
}

/* Opens a file and its columns, of one length all that have as many elements a row. */
static int open_file(struct finished *f, int which, const char *path, struct err *e)
{
    size_t n = SIZE_MAX, count = 0;
    const struct table *t = which == STEPS ? &timing_table : &completion_table;
    struct column **columns = which == STEPS ? f->timings : f->columns;
    struct h5_output *file = &f->files[which];
    if (!(f->wanted & FINISHED_TRUSTED) && seal_check(path, NULL, e) != 0)
        return -1;
    if (h5_read_output(file, path, e) != 0 || check_format(file, path, e) != 0)
        return -1;
    for (size_t i = 0; i < t->n; i++) {
        const struct field *field = &t->fields[i];
        bool ragged = which == TOKENS;
        if (field->ragged != ragged || (ragged && !is_wanted(f, field)))
            continue;
        if (open_column(&columns[i], file->file, path, field, e) != 0)
            return -1;
        bool alike = n != SIZE_MAX && field->count == count;
        if (alike && column_count(columns[i]) != n)
            return err_set(e, "%s: its datasets have different lengths; the file is damaged", path);
        n = column_count(columns[i]);
        count = field->count;
    }
    return 0;
}

/* A sibling has the name that goes with the main file's, or the one it had when both were written; and
 * it must be of the same output: the name may be another job's by now. */
static int open_sibling(struct finished *f, int which, struct err *e)
{
    char *sibling = merge_sibling(f->path, which == TOKENS ? "tokens" : "steps");
    char *directory = files_directory(f->path);
    char *name = h5_get_string(f->files[MAIN].file, which == TOKENS ? "ragged" : "timings");
    if (!files_exist(sibling) && name && !strchr(name, '/')) {
        free(sibling);
        sibling = files_join(directory, name);
    }
    int rc = open_file(f, which, sibling, e);
    if (rc == 0) {
        char *mine = finished_text(f, "output");
        char *other = h5_get_string(f->files[which].file, "output");
        if (!mine || !other || strcmp(mine, other) != 0)
            rc = err_set(e, "%s: belongs to another output than %s; were files renamed?", sibling,
                         f->path);
        free(mine);
        free(other);
    }
    free(sibling);
    free(name);
    free(directory);
    return rc;
}

int finished_open(struct finished **out, const char *path, int wanted, struct err *e)
{
    struct finished *f = *out = mem_zeroed(1, sizeof *f);
    f->path = mem_string(path);
    f->wanted = wanted;
    for (int i = 0; i < FILES; i++)
        f->files[i].file = -1;
    int rc = open_file(f, MAIN, path, e);
    if (rc == 0 && wanted & (FINISHED_TOKENS | FINISHED_LOGPROBS))
        rc = open_sibling(f, TOKENS, e);
    if (rc == 0 && wanted & FINISHED_STEPS)
        rc = open_sibling(f, STEPS, e);
    if (rc == 0)
        rc = kept_open(&f->kept, f->files[MAIN].file, path, finished_rows(f), e);
    if (rc != 0) {
        finished_close(f);
        *out = NULL;
    }
    return rc;
}

void finished_close(struct finished *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < COLUMNS_MAX; i++) {
        column_close(f->columns[i]);
        column_close(f->timings[i]);
    }
    kept_close(f->kept);
    for (int i = FILES; i-- > 0;)
        h5_abandon(&f->files[i]);
    free(f->path);
    free(f);
}

/* ---- what it says --------------------------------------------------------------------------- */

size_t finished_rows(const struct finished *f)
{
    return column_count(f->columns[0]);
}

struct kept *finished_kept(const struct finished *f)
{
    return f->kept;
}

char *finished_text(const struct finished *f, const char *attribute)
{
    return h5_get_string(f->files[MAIN].file, attribute);
}

bool finished_number(const struct finished *f, const char *attribute, uint64_t *value)
{
    return h5_get_u64(f->files[MAIN].file, attribute, value);
}

static herr_t add_text(hid_t file, const char *name, const H5A_info_t *info, void *list)
{
    (void)info;
    char *text = h5_get_string(file, name);
    if (text)
        identity_add(list, name, text);
    free(text);
    return 0;
}

void finished_texts(const struct finished *f, struct identity *list)
{
    H5Aiterate2(f->files[MAIN].file, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, add_text, list);
}

/* ---- rows ----------------------------------------------------------------------------------- */

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

/* Ragged fields stand behind the others in the table. */
int finished_row(struct finished *f, size_t row, struct completion *c, struct err *e)
{
    int rc = 0;
    *c = (struct completion){0};
    for (size_t i = 0; i < completion_table.n && rc == 0; i++) {
        const struct field *field = &completion_table.fields[i];
        char *to = (char *)c + field->offset;
        if (!f->columns[i])
            continue;
        if (field->ragged) {
            uint32_t n = field_count(field, c);
            int64_t start;
            void *values = mem_new(n, sizeof(double));
            memcpy(&start, (const char *)c + field->start, sizeof start);
            memcpy(to, &values, sizeof values);
            rc = read_numbers(f->columns[i], field, (size_t)start, n, values, e);
        } else if (kind_of(field) == COLUMN_STRINGS) {
            rc = read_text(f->columns[i], field, row, to, e);
        } else {
            rc = read_numbers(f->columns[i], field, row, 1, to, e);
        }
    }
    return rc;
}

size_t finished_timings(const struct finished *f)
{
    return f->timings[0] ? column_count(f->timings[0]) : 0;
}

/* Column by column, as they are read. */
int finished_timing(struct finished *f, size_t begin, size_t n, struct timing *rows, struct err *e)
{
    int rc = 0;
    char *values = mem_new(n, 8);
    for (size_t i = 0; i < timing_table.n && rc == 0; i++) {
        const struct field *field = &timing_table.fields[i];
        size_t bytes = field->type == FIELD_INT64 || field->type == FIELD_FLOAT64 ? 8 : 4;
        rc = read_numbers(f->timings[i], field, begin, n, values, e);
        for (size_t k = 0; k < n && rc == 0; k++)
            memcpy((char *)&rows[k] + field->offset, values + k * bytes, bytes);
    }
    free(values);
    return rc;
}
