#include "data/import_row.h"

#include "base/files.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOTES_MAX 5 /* bad records that are named */

/* ---- datasets ------------------------------------------------------------------------------- */

static int open_append(struct import *m, struct append **out, const char *name, hid_t type,
                       struct err *e)
{
    const struct append_spec spec = {
        .name = name, .type = type, .strings = type == m->string_type, .total = APPEND_GROWS};
    return append_open(out, &m->output, m->output.file, &spec, e);
}

/* A dataset that few files need begins with the first row that does; the rows before get `filler`. */
static int open_late(struct import *m, struct append **out, const char *name, bool strings,
                     struct err *e)
{
    int32_t zero = 0;
    if (*out)
        return 0;
    int status = open_append(m, out, name, strings ? m->string_type : H5T_NATIVE_INT32, e);
    for (size_t i = 0; status == 0 && i < m->result.rows; i++)
        status = strings ? append_string(*out, "", e) : append_put(*out, &zero, 1, e);
    return status;
}

static int begin_rows(struct import *m, json_t *first, struct err *e)
{
    int64_t zero = 0;
    import_begin(m, first);
    if (m->want_id && open_append(m, &m->id, "id", m->string_type, e) != 0)
        return -1;
    if (m->o->keep == NULL || *m->o->keep)
        if (keep_open(&m->keep, &m->output, m->string_type, e) != 0)
            return -1;
    if (!m->o->tokens_field)
        return open_append(m, &m->text, m->messages ? "messages" : "text", m->string_type, e);
    if (open_append(m, &m->tokens, "tokens", H5T_NATIVE_INT32, e) != 0 ||
        open_append(m, &m->offsets, "offsets", H5T_NATIVE_INT64, e) != 0)
        return -1;
    return append_put(m->offsets, &zero, 1, e);
}

/* ---- writing one row ------------------------------------------------------------------------ */

/* As the source wrote it: a number of JSON (long ones come as strings), or a cell that reads as one. */
static bool is_integer(const struct import *m, const struct row *row, const char *id)
{
    const char *digits = id + (*id == '-');
    size_t n = strlen(digits);
    if (row->id_text && records_kind(m->in) == RECORDS_JSON && n <= 18)
        return false;
    return n > 0 && strspn(digits, "0123456789") == n && (*digits != '0' || n == 1);
}

static int put_id(struct import *m, const struct row *row, size_t line, struct err *e)
{
    const char *id = row->id_text ? row->id_text : row->id;
    if (!m->want_id)
        return 0;
    m->all_integers &= is_integer(m, row, id);
    if (*id && seen_before(&m->seen, id)) {
        if (m->result.duplicates++ == 0 && m->o->notes)
            fprintf(m->o->notes,
                    "tandem: %s:%zu: id \"%s\" was there before; rows are told apart by their "
                    "place, but joins by id will not be\n",
                    records_name(m->in), line, id);
    }
    return append_string(m->id, id, e);
}

static int put_tokens(struct import *m, const json_t *tokens, struct err *e)
{
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        int32_t value = (int32_t)json_integer_value(json_array_get(tokens, i));
        if (append_put(m->tokens, &value, 1, e) != 0)
            return -1;
    }
    m->n_tokens += (int64_t)json_array_size(tokens);
    return append_put(m->offsets, &m->n_tokens, 1, e);
}

static int put_kept(struct import *m, json_t *record, struct err *e)
{
    const char *name;
    json_t *value;
    if (!m->keep)
        return 0;
    json_object_foreach(record, name, value) if (import_is_kept(m, name) &&
                                                 keep_put(m->keep, name, value, e) != 0) return -1;
    return keep_end_row(m->keep, e);
}

/* A field that was not one of the user's own until now is named. */
static int put_settings(struct import *m, json_t *record, struct err *e)
{
    bool table = records_kind(m->in) != RECORDS_JSON;
    for (size_t i = 0; settings_name(i); i++) {
        const char *name = settings_name(i);
        bool had = settings_has(m->settings, i), is_text = strcmp(name, "continuation") == 0;
        json_t *value = record ? import_setting(m, record, name) : NULL;
        int status = settings_put(m->settings, i, m->result.rows, value, table || is_text, e);
        json_decref(value);
        if (status != 0)
            return -1;
        if (m->o->notes && !m->batch && !is_text && !had && settings_has(m->settings, i))
            fprintf(m->o->notes,
                    "tandem: field \"%s\" goes before the job's sampling section, row by row "
                    "(--keep %s: it is a column of your own)\n",
                    name, name);
    }
    return 0;
}

static int put_row(struct import *m, json_t *record, const struct row *row, const char *problem,
                   size_t line, struct err *e)
{
    int status = 0;
    if (problem)
        status = open_late(m, &m->errors, "error", true, e);
    if (status == 0 && row->limit)
        status = open_late(m, &m->limits, "max_new_tokens", false, e);
    if (status == 0)
        status = m->o->tokens_field ? put_tokens(m, problem ? NULL : row->tokens, e)
                                    : append_string(m->text, problem ? "" : row->text, e);
    if (status == 0)
        status = put_id(m, row, line, e);
    if (status == 0 && m->errors)
        status = append_string(m->errors, problem ? problem : "", e);
    if (status == 0 && m->limits)
        status = append_put(m->limits, &row->limit, 1, e);
    if (status == 0)
        status = put_settings(m, problem ? NULL : record, e);
    if (status == 0)
        status = put_kept(m, record, e);
    m->result.rows += status == 0;
    return status;
}

static void note_bad(struct import *m, size_t line, const char *problem)
{
    if (m->result.bad++ < NOTES_MAX && m->o->notes)
        fprintf(m->o->notes, "tandem: %s:%zu: %s; it will be an error row\n", records_name(m->in),
                line, problem);
}

/* The rows that came before anything was known. */
static int put_early(struct import *m, struct err *e)
{
    const struct row none = {0};
    int status = 0;
    for (size_t i = 0; status == 0 && i < m->n_early; i++)
        status = put_row(m, NULL, &none, m->early[i].problem, m->early[i].line, e);
    return status;
}

/* The first object that has no prompt is a wrong command, not a bad row. */
static int one_record(struct import *m, const struct record *record, struct err *e)
{
    struct err why = {{0}};
    struct row row = {0};
    const char *problem = record->problem;
    bool first = !m->text_field;
    if (first && record->fields && (begin_rows(m, record->fields, e) != 0 || put_early(m, e) != 0))
        return -1;
    if (m->batch && record->fields)
        import_batch_count(m, record->fields);
    if (!problem && import_read_row(m, record->fields, &row, &why) != 0)
        problem = why.text;
    int status = 0;
    if (problem && (m->o->strict || (first && record->fields)))
        status = err_set(e, "%s:%zu: %s", records_name(m->in), record->line, problem);
    else if (problem)
        note_bad(m, record->line, problem);
    if (status == 0 && !m->text_field) {
        m->early = mem_resize(m->early, m->n_early + 1, sizeof *m->early);
        m->early[m->n_early++] = (struct early){record->line, mem_string(problem)};
    } else if (status == 0) {
        status = put_row(m, record->fields, &row, problem, record->line, e);
    }
    free(row.text);
    return status;
}

static int all_records(struct import *m, struct err *e)
{
    struct record record;
    int status;
    while ((status = records_next(m->in, &record, e)) > 0)
        if (one_record(m, &record, e) != 0)
            return -1;
    if (status != 0)
        return -1;
    if (m->result.rows == 0 && m->n_early > 0)
        return err_set(e, "%s:%zu: %s; none of its %zu records can be used; does --format fit?",
                       records_name(m->in), m->early[0].line, m->early[0].problem, m->n_early);
    if (m->result.rows == 0)
        return err_set(e, "%s: has no prompts (%zu lines, all empty)", records_name(m->in),
                       records_lines(m->in));
    return 0;
}

/* ---- the file ------------------------------------------------------------------------------- */

static int note_integers(struct import *m, struct err *e)
{
    if (!m->want_id || !m->all_integers)
        return 0;
    hid_t id = H5Dopen2(m->output.file, "id", H5P_DEFAULT);
    int status = id >= 0 && h5_put_u64(id, "integers", 1) == 0 ? 0 : h5_err(e, "dataset \"id\"");
    h5_close(id);
    return status;
}

/* Names of --keep that no record has: more likely a slip than a wish. */
static void name_missing(const struct import *m)
{
    const char *name = m->o->keep;
    while (m->keep && name && *name) {
        size_t n = strcspn(name, ",");
        char *one = mem_new(n + 1, 1);
        memcpy(one, name, n);
        one[n] = 0;
        if (!keep_has(m->keep, one))
            fprintf(stderr, "tandem: --keep %s: no record has that field%s\n", one,
                    strchr(one, '.') ? "; name the field at the top that holds it" : "");
        free(one);
        name += n + (name[n] == ',');
    }
}

/* Closes the datasets and the file, whatever happens. */
static int finish(struct import *m, const char *tmp, bool keep, struct err *e)
{
    struct append *all[] = {m->text, m->id, m->tokens, m->offsets, m->limits, m->errors};
    int rc = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (keep && rc == 0)
            rc = append_close(all[i], e);
        else
            append_drop(all[i]);
    }
    if (keep && rc == 0)
        rc = settings_close(m->settings, e);
    else
        settings_drop(m->settings);
    if (keep && rc == 0)
        name_missing(m);
    if (keep && rc == 0)
        import_batch_note(m);
    if (keep && rc == 0)
        rc = keep_close(m->keep, e);
    else
        keep_drop(m->keep);
    if (keep && rc == 0)
        rc = note_integers(m, e);
    if (rc != 0)
        err_prefix(e, "%s", tmp);
    if (keep && rc == 0)
        return h5_finish(&m->output, tmp, e);
    h5_abandon(&m->output);
    return rc;
}

static int write_file(struct import *m, const char *tmp, struct err *e)
{
    if (h5_create(&m->output, tmp, e) != 0)
        return -1;
    m->string_type = h5_string_type();
    m->settings = settings_new(&m->output, m->string_type);
    int rc = all_records(m, e);
    if (finish(m, tmp, rc == 0, e) != 0)
        rc = -1;
    h5_close(m->string_type);
    return rc;
}

static int refuse_target(const struct import *m, const char *path, struct err *e)
{
    if (records_is_file(m->in, path))
        return err_set(e, "%s: is the file that is read; name another one to write", path);
    if (!m->o->force && files_exist(path))
        return err_set(
            e, "%s: exists already; name another file, or ask for it to be replaced (--force)",
            path);
    return 0;
}

static int write_beside(struct import *m, const char *out_path, struct err *e)
{
    size_t room = strlen(out_path) + 40;
    char *tmp = mem_new(room, 1);
    snprintf(tmp, room, "%s.%ld.tmp", out_path, (long)getpid());
    int rc = write_file(m, tmp, e);
    if (rc == 0)
        rc = refuse_target(m, out_path, e);
    if (rc == 0)
        rc = files_publish(tmp, out_path, e);
    if (rc != 0)
        unlink(tmp);
    free(tmp);
    return rc;
}

int import_prompts(const char *in_path, const char *out_path, const struct import_options *o,
                   struct import_result *result, struct err *e)
{
    struct import m = {.o = o,
                       .id_field = o->id_field ? o->id_field : "id",
                       .limit_field = o->limit_field ? o->limit_field : "max_new_tokens",
                       .output.file = -1};
    if (records_open(&m.in, in_path, o->format, e) != 0)
        return -1;
    int rc = 0;
    if (records_kind(m.in) != RECORDS_JSON && o->tokens_field)
        rc = err_set(e, "%s: token ids are read from JSON Lines only", records_name(m.in));
    if (rc == 0)
        rc = refuse_target(&m, out_path, e);
    if (rc == 0)
        rc = write_beside(&m, out_path, e);
    if (rc == 0 && result)
        *result = m.result;
    for (size_t i = 0; i < m.n_early; i++)
        free(m.early[i].problem);
    free(m.early);
    free(m.text_field);
    seen_free(&m.seen);
    json_decref(m.large);
    json_decref(m.unused);
    records_close(m.in);
    return rc;
}
