#include "output/merge.h"

#include "base/disk.h"
#include "base/hash.h"
#include "base/mem.h"
#include "data/append.h"
#include "base/files.h"
#include "data/h5.h"
#include "output/beside.h"
#include "output/best.h"
#include "output/identity.h"
#include "output/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <zlib.h>

#define COLUMNS_MAX 32

/* One of the three files. */
struct target {
    const struct table *table;
    bool ragged; /* the table's ragged values; else the others */
    char *path, *tmp;
    struct h5_output out;
    struct append *columns[COLUMNS_MAX]; /* of the fields that are its own */
    uint64_t sums[COLUMNS_MAX];
};

enum { TOKENS, STEPS, MAIN, TARGETS }; /* in the order in which they get their names */

struct merge {
    const struct merge_source *from;
    struct merge_progress *progress;
    int64_t token_start, top_start, score_start, prompt_top_start;
    hid_t string_type;
    struct target targets[TARGETS];
    struct beside *beside; /* the prompts' own columns in the main file */
};

char *merge_sibling(const char *path, const char *what)
{
    size_t n = strlen(path), room = n + strlen(what) + 8;
    if (n > 3 && strcmp(path + n - 3, ".h5") == 0)
        n -= 3;
    else if (n > 5 && strcmp(path + n - 5, ".hdf5") == 0)
        n -= 5;
    char *result = mem_new(room, 1);
    snprintf(result, room, "%.*s.%s.h5", (int)n, path, what);
    return result;
}

/* ---- columns -------------------------------------------------------------------------------- */

static bool is_text(const struct field *f)
{
    return f->type == FIELD_STRING || f->type == FIELD_FINISH;
}

static hid_t type_of(const struct merge *m, const struct field *f)
{
    switch (f->type) {
    case FIELD_STRING:
    case FIELD_FINISH:
        return m->string_type;
    case FIELD_INT32:
        return H5T_NATIVE_INT32;
    case FIELD_INT64:
        return H5T_NATIVE_INT64;
    case FIELD_FLOAT32:
        return H5T_NATIVE_FLOAT;
    case FIELD_FLOAT64:
        return H5T_NATIVE_DOUBLE;
    }
    die("field \"%s\" has type %d", f->name, (int)f->type);
}

/* The target's own values of one row. */
static int put_row(struct target *t, const void *row, struct err *e)
{
    const char *bytes = row;
    int rc = 0;
    for (size_t i = 0; i < t->table->n && rc == 0; i++) {
        const struct field *f = &t->table->fields[i];
        const void *value = bytes + f->offset;
        if (!t->columns[i])
            continue;
        if (f->type == FIELD_FINISH)
            rc = append_string(t->columns[i], finish_name(*(const int32_t *)value), e);
        else if (f->type == FIELD_STRING)
            rc = append_text(t->columns[i], *(char *const *)value, e);
        else if (f->ragged)
            rc = append_put(t->columns[i], *(void *const *)value, field_count(f, row), e);
        else
            rc = append_put(t->columns[i], value, 1, e);
    }
    return rc;
}

/* ---- one file ------------------------------------------------------------------------------- */

static int open_columns(struct merge *m, struct target *t, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < t->table->n && rc == 0; i++) {
        const struct field *f = &t->table->fields[i];
        const struct append_spec spec = {
            .name = f->name,
            .type = type_of(m, f),
            .strings = is_text(f),
            .total = t == &m->targets[MAIN] ? (size_t)m->from->rows : APPEND_GROWS,
            .unit = f->unit,
            .description = f->description,
        };
        if (f->ragged == t->ragged)
            rc = append_open(&t->columns[i], &t->out, t->out.file, &spec, e);
    }
    return rc;
}

static void drop_columns(struct target *t)
{
    for (size_t i = 0; i < COLUMNS_MAX; i++) {
        append_drop(t->columns[i]);
        t->columns[i] = NULL;
    }
}

/* Writes what the columns hold, and closes the file. beside: more columns of this file, or NULL. */
static int close_target(struct target *t, struct beside *beside, struct err *e)
{
    int rc = beside_flush(beside, e);
    for (size_t i = 0; i < COLUMNS_MAX && rc == 0; i++)
        if (t->columns[i])
            rc = append_flush(t->columns[i], e);
    if (rc == 0)
        rc = append_settle(&t->out, e);
    for (size_t i = 0; i < COLUMNS_MAX && rc == 0; i++)
        if (t->columns[i])
            t->sums[i] = append_sum(t->columns[i]);
    drop_columns(t);
    if (rc == 0)
        rc = beside_end(beside, e);
    if (rc == 0)
        rc = h5_finish(&t->out, t->tmp, e);
    return rc;
}

static void abandon(struct target *t)
{
    drop_columns(t);
    h5_abandon(&t->out);
}

/* Forces the file to disk, and forgets what memory has of it. */
static int sync_file(const char *path, struct err *e)
{
    int fd = disk_open(path, O_RDWR, e);
    if (fd < 0)
        return fd == -2 ? err_set(e, "%s: is gone", path) : -1;
    int rc = disk_sync(fd, path, e), why = errno;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    errno = why;
    return rc;
}

static int read_back(const struct target *t, const struct beside *beside, struct err *e)
{
    struct h5_output in;
    if (h5_read_output(&in, t->tmp, e) != 0)
        return -1;
    int rc = 0;
    for (size_t i = 0; i < t->table->n && rc == 0; i++) {
        const struct field *f = &t->table->fields[i];
        if (f->ragged == t->ragged)
            rc = append_verify(in.file, f->name, is_text(f), t->sums[i], e);
    }
    if (rc == 0)
        rc = beside_verify(beside, in.file, e);
    if (rc != 0)
        err_prefix(e, "%s", t->tmp);
    h5_abandon(&in);
    return rc;
}

/* ---- attributes ----------------------------------------------------------------------------- */

static int put_all(hid_t file, const char *json)
{
    struct identity list = {0};
    int rc = identity_add_json(&list, json);
    for (size_t i = 0; i < list.n && rc == 0; i++)
        if (H5Aexists(file, list.entries[i].name) <= 0)
            rc = h5_put_string(file, list.entries[i].name, list.entries[i].value);
    identity_free(&list);
    return rc;
}

static int put_attributes(struct merge *m, struct target *t, const char *output, struct err *e)
{
    const struct journal_header *h = m->from->header;
    hid_t file = t->out.file;
    struct {
        const char *name, *value;
    } texts[] = {
        {"format", MERGE_FORMAT},
        {"output", output},
        {"main", files_name(m->targets[MAIN].path)},
        {"ragged", files_name(m->targets[TOKENS].path)},
        {"timings", files_name(m->targets[STEPS].path)},
        {"identity", h->identity},
    };
    struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"first_prompt", (uint64_t)h->first_prompt},
        {"samples", (uint64_t)h->kept},
        {"units", m->from->units},
        {"finished", m->from->rows},
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && rc == 0; i++)
        rc = h5_put_string(file, texts[i].name, texts[i].value);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && rc == 0; i++)
        rc = h5_put_u64(file, numbers[i].name, numbers[i].value);
    if (rc == 0)
        rc = put_all(file, h->attributes);
    return rc == 0 ? 0 : h5_err(e, "the attributes of %s cannot be written", t->tmp);
}

/* ---- the rows ------------------------------------------------------------------------------- */

static int put_completion(struct merge *m, struct merge_row *row, struct err *e)
{
    struct completion *c = &row->completion;
    c->token_start = m->token_start;
    m->token_start += c->n_tokens;
    c->top_start = m->top_start;
    m->top_start += c->n_top;
    c->score_start = m->score_start;
    m->score_start += c->n_scored;
    c->prompt_top_start = m->prompt_top_start;
    m->prompt_top_start += c->n_prompt_top;
    c->text_crc32 = (int64_t)crc32(0, (const unsigned char *)c->text, (unsigned)strlen(c->text));
    int rc = put_row(&m->targets[MAIN], c, e);
    if (rc == 0)
        rc = put_row(&m->targets[TOKENS], c, e);
    return rc == 0 ? beside_put(m->beside, row->columns, row->row, e) : -1;
}

static int put_completions(struct merge *m, struct err *e)
{
    const struct merge_source *from = m->from;
    for (uint64_t unit = 0; unit < from->units; unit++) {
        struct merge_row row;
        if (m->progress->stop) {
            errno = ECANCELED;
            return err_set(e, "stopped");
        }
        int found = from->completion(from->context, unit, &row, e);
        if (found < 0)
            return -1;
        if (found == 0 && !from->partial)
            die("merge: unit %" PRIu64 " is missing", unit);
        if (found == 0)
            continue;
        int rc = put_completion(m, &row, e);
        table_free(&completion_table, &row.completion);
        if (rc != 0)
            return rc;
        m->progress->rows++;
    }
    return 0;
}

static int put_timings(struct merge *m, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; i < m->from->n_timings && rc == 0; i++) {
        struct timing *rows;
        size_t n;
        if (m->from->timings(m->from->context, i, &rows, &n, e) != 0)
            return -1;
        for (size_t k = 0; k < n && rc == 0; k++)
            rc = put_row(&m->targets[STEPS], &rows[k], e);
        free(rows);
    }
    return rc;
}

static int write_targets(struct merge *m, const char *output, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < TARGETS && rc == 0; i++) {
        struct target *t = &m->targets[i];
        rc = h5_create(&t->out, t->tmp, e);
        if (rc == 0)
            rc = put_attributes(m, t, output, e);
        if (rc == 0)
            rc = open_columns(m, t, e);
    }
    if (rc == 0)
        rc = beside_open(&m->beside, m->from->columns, &m->targets[MAIN].out, (size_t)m->from->rows,
                         e);
    if (rc == 0)
        rc = put_completions(m, e);
    if (rc == 0)
        rc = put_timings(m, e);
    for (int i = 0; i < TARGETS && rc == 0; i++)
        rc = close_target(&m->targets[i], i == MAIN ? m->beside : NULL, e);
    for (int i = 0; i < TARGETS && rc == 0; i++) {
        rc = sync_file(m->targets[i].tmp, e);
        if (rc == 0)
            rc = read_back(&m->targets[i], i == MAIN ? m->beside : NULL, e);
        if (rc == 0)
            rc = seal_put(m->targets[i].tmp, e);
    }
    return rc;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static int publish(struct merge *m, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < TARGETS && rc == 0; i++) {
        char *parent = files_directory(m->targets[i].path);
        rc = disk_rename(m->targets[i].tmp, m->targets[i].path, e);
        if (rc == 0)
            rc = disk_sync_directory(parent, e);
        free(parent);
    }
    return rc;
}

static void prepare(struct merge *m, const char *path, const char *directory)
{
    static const char *const names[TARGETS] = {"tokens", "steps", ""};
    for (int i = 0; i < TARGETS; i++) {
        struct target *t = &m->targets[i];
        char name[64];
        snprintf(name, sizeof name, "merge-%ld-%d.tmp", (long)getpid(), i);
        t->tmp = files_join(directory, name);
        t->path = i == MAIN ? mem_string(path) : merge_sibling(path, names[i]);
        t->table = i == STEPS ? &timing_table : &completion_table;
        t->ragged = i == TOKENS;
        t->out.file = -1;
    }
}

int merge_from(const char *path, const char *directory, const struct merge_source *source,
               struct merge_progress *progress, struct err *e)
{
    struct merge m = {.from = source, .progress = progress};
    uint64_t number = 0;
    char output[32];
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        number = (uint64_t)getpid();
    snprintf(output, sizeof output, "%016" PRIx64, number);
    progress->rows = 0;
    progress->of = source->rows;
    h5_quiet();
    m.string_type = h5_string_type();
    prepare(&m, path, directory);
    errno = 0;
    int rc = write_targets(&m, output, e), why = errno;
    beside_close(m.beside);
    errno = why;
    for (int i = 0; i < TARGETS; i++) {
        if (rc != 0 && m.targets[i].out.state.failure)
            errno = m.targets[i].out.state.failure;
        why = errno;
        abandon(&m.targets[i]);
        errno = why;
    }
    if (rc == 0)
        rc = publish(&m, e);
    why = errno;
    if (rc != 0)
        err_prefix(e, "%s", path);
    for (int i = 0; i < TARGETS; i++) {
        if (rc != 0)
            unlink(m.targets[i].tmp);
        free(m.targets[i].tmp);
        free(m.targets[i].path);
    }
    h5_close(m.string_type);
    errno = why;
    return rc;
}

/* ---- journals ------------------------------------------------------------------------------- */

struct from_journals {
    struct journals *js;
    struct best best;
    struct beside_source prompts;
};

static int journals_row(void *context, uint64_t unit, struct merge_row *row, struct err *e)
{
    struct from_journals *from = context;
    *row = (struct merge_row){.columns = from->prompts.columns};
    int found = best_completion(&from->best, unit, &row->completion, e);
    row->row = (size_t)row->completion.prompt;
    return found;
}

static int journals_rows(void *context, size_t i, struct timing **rows, size_t *n, struct err *e)
{
    struct from_journals *from = context;
    return journals_timings(from->js, i, rows, n, e);
}

int merge_write(const char *path, const char *directory, struct journals *js, bool partial,
                struct merge_progress *progress, struct err *e)
{
    struct from_journals from = {.js = js};
    int rc = beside_source_open(&from.prompts, js->header.attributes, e);
    best_open(&from.best, js);
    const struct merge_source source = {
        .context = &from,
        .header = &js->header,
        .units = best_rows(&from.best),
        .rows = best_count(&from.best),
        .partial = partial,
        .columns = from.prompts.columns,
        .n_timings = js->n_timings,
        .completion = journals_row,
        .timings = journals_rows,
    };
    if (rc == 0)
        rc = merge_from(path, directory, &source, progress, e);
    int why = from.prompts.file.state.failure ? from.prompts.file.state.failure : errno;
    beside_source_close(&from.prompts);
    best_close(&from.best);
    errno = why;
    return rc;
}
