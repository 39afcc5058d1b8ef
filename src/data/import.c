#include "data/import.h"

#include "base/mem.h"
#include "data/append.h"
#include "base/files.h"
#include "data/h5.h"
#include "data/keep.h"
#include "data/seen.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEEP_BYTES 4096 /* of a field that is kept unasked */
#define NOTES_MAX  5    /* bad records that are named */

/* A record before the first that can be used: what the file is, is not known yet. */
struct early {
    size_t line;
    char *problem;
};

struct import {
    const struct import_options *o;
    struct records *in;
    char *text_field;
    const char *id_field, *limit_field;
    struct early *early;
    size_t n_early;
    json_t *large;           /* fields of the first record that are not kept unasked */
    bool messages;           /* text_field holds conversations */
    const char *tools_field; /* beside it; NULL */
    bool want_id, all_integers;
    struct h5_output output;
    hid_t string_type;
    struct append *text, *id, *tokens, *offsets, *limits, *errors;
    struct keep *keep;
    struct seen seen;
    struct import_result result;
    int64_t n_tokens;
};

/* One row, ready to be written; what it points to lives as long as its record. */
struct row {
    char *text; /* malloc'd */
    json_t *tokens;
    char id[32];
    const char *id_text;
    int32_t limit;
};

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

/* ---- what the first record says ------------------------------------------------------------- */

/* Without a word from the user: text, prompt, or the only column there is. */
static const char *find_text_field(const struct import *m, json_t *first)
{
    if (m->o->text_field)
        return m->o->text_field;
    if (m->messages)
        return json_is_array(records_member(first, "messages")) ? "messages" : "body.messages";
    if (records_member(first, "text"))
        return "text";
    if (records_member(first, "prompt"))
        return "prompt";
    return json_object_size(first) == 1 ? json_object_iter_key(json_object_iter(first)) : "text";
}

/* What a line of the batch format asks for and does not get is said, not swallowed. */
static void note_unused(const struct import *m, json_t *body)
{
    static const char *const read[] = {"messages", "tools", "max_tokens", "max_completion_tokens",
                                       "model"};
    const char *name;
    json_t *value;
    json_object_foreach(body, name, value)
    {
        size_t i = 0;
        while (i < sizeof read / sizeof *read && strcmp(name, read[i]) != 0)
            i++;
        if (i == sizeof read / sizeof *read && m->o->notes)
            fprintf(m->o->notes,
                    "tandem: field \"body.%s\" is not used; the job's sampling section sets it\n",
                    name);
    }
}

/* Conversations: a field of messages, or a line of OpenAI's batch format, which has them in `body`. */
static void find_messages(struct import *m, json_t *first)
{
    const char *field = m->o->text_field;
    bool asked = m->o->text_template || m->o->tokens_field;
    bool batch = !field && json_is_array(records_member(first, "body.messages"));
    m->messages =
        !asked && (batch || json_is_array(records_member(first, field ? field : "messages")));
    if (!m->messages)
        return;
    m->tools_field = batch ? "body.tools" : "tools";
    if (!m->o->id_field && !records_member(first, "id") && records_member(first, "custom_id"))
        m->id_field = "custom_id";
    if (batch)
        note_unused(m, json_object_get(first, "body"));
    if (batch && !m->o->limit_field)
        m->limit_field = records_member(first, "body.max_completion_tokens")
                             ? "body.max_completion_tokens"
                             : "body.max_tokens";
}

/* Is the field read as something else already? */
static bool is_used(const struct import *m, const char *name)
{
    const char *prompt = m->o->tokens_field ? m->o->tokens_field : m->text_field;
    if (m->messages && (strcmp(name, "tools") == 0 || strcmp(name, "body") == 0))
        return true;
    return strcmp(name, m->id_field) == 0 || strcmp(name, m->limit_field) == 0 ||
           (!m->o->text_template && strcmp(name, prompt) == 0);
}

static void note_large(struct import *m, json_t *first)
{
    const char *name;
    json_t *value;
    m->large = json_object();
    if (m->o->keep)
        return;
    json_object_foreach(first, name, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        if (!is_used(m, name) && text && strlen(text) > KEEP_BYTES) {
            json_object_set_new(m->large, name, json_true());
            if (m->o->notes)
                fprintf(m->o->notes,
                        "tandem: field \"%s\" is large and is not kept; "
                        "--keep names what does\n",
                        name);
        }
        free(text);
    }
}

static int begin_rows(struct import *m, json_t *first, struct err *e)
{
    int64_t zero = 0;
    find_messages(m, first);
    m->text_field = mem_string(find_text_field(m, first));
    m->want_id = m->o->id_field || records_member(first, m->id_field);
    m->all_integers = m->want_id;
    note_large(m, first);
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

/* ---- reading one record --------------------------------------------------------------------- */

static int wrong(const char *field, const char *wanted, const json_t *found, struct err *e)
{
    return err_set(e, "wanted \"%s\" as %s, found %s", field, wanted, records_type(found));
}

/* The text of a field: strings as they are, numbers and the like as JSON. malloc'd, or NULL. */
static char *field_text(json_t *value, size_t *n)
{
    char *text = json_is_string(value)
                     ? mem_string_n(json_string_value(value), json_string_length(value))
                 : value && !json_is_null(value) ? json_dumps(value, JSON_ENCODE_ANY)
                                                 : NULL;
    *n = json_is_string(value) ? json_string_length(value) : text ? strlen(text) : 0;
    return text;
}

static void add(char **text, size_t *n, const char *more, size_t bytes)
{
    *text = mem_resize(*text, *n + bytes + 1, 1);
    memcpy(*text + *n, more, bytes);
    *n += bytes;
    (*text)[*n] = 0;
}

/* One field of a template: c stands behind its brace; where it goes on, or NULL. */
static const char *put_field(json_t *record, const char *c, char **text, size_t *n, struct err *e)
{
    const char *end = strchr(c, '}');
    char *field = mem_string_n(c, end ? (size_t)(end - c) : strlen(c)), *value = NULL;
    size_t bytes = 0;
    if (!end)
        err_set(e, "the template has '{' without '}'");
    else if (!(value = field_text(records_member(record, field), &bytes)))
        err_set(e, "the template wants \"%s\", found nothing", field);
    else
        add(text, n, value, bytes);
    free(field);
    free(value);
    return value ? end + 1 : NULL;
}

static int fill_template(const char *c, json_t *record, char **text, size_t *n, struct err *e)
{
    add(text, n, "", 0);
    while (*c) {
        if (*c == '\\' && (c[1] == 'n' || c[1] == 't' || c[1] == '\\')) {
            add(text, n, c[1] == 'n' ? "\n" : c[1] == 't' ? "\t" : "\\", 1);
            c += 2;
        } else if (*c == '{' && c[1] != '{') {
            if ((c = put_field(record, c + 1, text, n, e)) == NULL)
                return -1;
        } else {
            add(text, n, c, 1);
            c += (*c == '{' || *c == '}') && c[1] == *c ? 2 : 1;
        }
    }
    return 0;
}

/* A row of messages: the list, or with tools an object of both. */
static int read_messages(struct import *m, json_t *record, struct row *row, struct err *e)
{
    json_t *messages = records_member(record, m->text_field);
    json_t *tools = records_member(record, m->tools_field);
    if (!json_is_array(messages))
        return wrong(m->text_field, "a list of messages", messages, e);
    json_t *both = json_is_array(tools)
                       ? json_pack("{s:O, s:O}", "messages", messages, "tools", tools)
                       : json_incref(messages);
    row->text = json_dumps(both, JSON_COMPACT);
    json_decref(both);
    return row->text ? 0 : err_set(e, "\"%s\" is not UTF-8", m->text_field);
}

static int read_text(struct import *m, json_t *record, struct row *row, struct err *e)
{
    size_t n = 0;
    json_t *value = records_member(record, m->text_field);
    if (m->o->text_template) {
        if (fill_template(m->o->text_template, record, &row->text, &n, e) != 0)
            return -1;
    } else if (json_is_string(value)) {
        row->text = field_text(value, &n);
    } else {
        char fields[256];
        records_names(record, fields, sizeof fields);
        return err_set(
            e, "wanted \"%s\" as a string, found %s; the record has %s (--text names a field)",
            m->text_field, records_type(value), *fields ? fields : "no fields");
    }
    if (strlen(row->text) != n)
        return err_set(e, "a NUL character in the text");
    return 0;
}

static int read_tokens(struct import *m, json_t *record, struct row *row, struct err *e)
{
    row->tokens = records_member(record, m->o->tokens_field);
    if (!json_is_array(row->tokens))
        return wrong(m->o->tokens_field, "an array of token ids", row->tokens, e);
    for (size_t i = 0; i < json_array_size(row->tokens); i++) {
        const json_t *token = json_array_get(row->tokens, i);
        if (!json_is_integer(token) || json_integer_value(token) < 0 ||
            json_integer_value(token) > INT32_MAX)
            return err_set(e, "\"%s\"[%zu] is %s, not a token id (0 to %d)", m->o->tokens_field, i,
                           json_is_integer(token) ? "out of range" : records_type(token),
                           INT32_MAX);
    }
    return 0;
}

static int read_id(struct import *m, json_t *record, struct row *row, struct err *e)
{
    json_t *id = records_member(record, m->id_field);
    if (!m->want_id)
        return id ? err_set(e, "field \"%s\" appears here, but the first record has none",
                            m->id_field)
                  : 0;
    if (json_is_string(id) && strlen(json_string_value(id)) == json_string_length(id))
        row->id_text = json_string_value(id);
    else if (json_is_integer(id))
        snprintf(row->id, sizeof row->id, "%" PRId64, (int64_t)json_integer_value(id));
    else
        return wrong(m->id_field, "a string or integer", id, e);
    return 0;
}

/* A cell of a table is a string; an empty one says nothing. */
static int read_limit(struct import *m, json_t *record, struct row *row, struct err *e)
{
    json_t *limit = records_member(record, m->limit_field);
    bool cell = json_is_string(limit) && records_kind(m->in) != RECORDS_JSON;
    const char *text = cell ? json_string_value(limit) : "";
    char *end = NULL;
    int64_t value = json_is_integer(limit) ? json_integer_value(limit)
                    : cell                 ? strtoll(text, &end, 10)
                                           : 0;
    if (!limit || json_is_null(limit) || (cell && !*text))
        return 0;
    if (value < 1 || value > INT32_MAX || (end && *end))
        return err_set(e, "wanted \"%s\" as an integer from 1 to %d, found %s", m->limit_field,
                       INT32_MAX,
                       json_is_integer(limit) ? "one out of range" : records_type(limit));
    row->limit = (int32_t)value;
    return 0;
}

static int read_row(struct import *m, json_t *record, struct row *row, struct err *e)
{
    int status = m->o->tokens_field ? read_tokens(m, record, row, e)
                 : m->messages      ? read_messages(m, record, row, e)
                                    : read_text(m, record, row, e);
    if (status == 0)
        status = read_limit(m, record, row, e);
    /* Even a row that is wrong has its id. */
    struct err why;
    if (read_id(m, record, row, status == 0 ? e : &why) != 0)
        status = -1;
    return status;
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

/* Is this field one that travels? */
static bool is_kept(const struct import *m, const char *name)
{
    const char *keep = m->o->keep;
    size_t n = strlen(name);
    if (!keep)
        return !is_used(m, name) && !json_object_get(m->large, name);
    for (; *keep; keep += *keep == ',') {
        if (strcspn(keep, ",") == n && strncmp(keep, name, n) == 0)
            return true;
        keep += strcspn(keep, ",");
    }
    return false;
}

static int put_kept(struct import *m, json_t *record, struct err *e)
{
    const char *name;
    json_t *value;
    if (!m->keep)
        return 0;
    json_object_foreach(record, name, value) if (is_kept(m, name) &&
                                                 keep_put(m->keep, name, value, e) != 0) return -1;
    return keep_end_row(m->keep, e);
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
    if (!problem && read_row(m, record->fields, &row, &why) != 0)
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
    records_close(m.in);
    return rc;
}
