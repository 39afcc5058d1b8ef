/* import_row.c - what the first record says about a file, and reading its records. */
#include "data/import_row.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define KEEP_BYTES 4096 /* of a field that is kept unasked */

/* ---- what the first record says ------------------------------------------------------------- */

/* Without a word from the user: text, prompt, or the only column there is. */
static const char *find_text_field(const struct import *m, json_t *first)
{
    if (m->o->text_field)
        return m->o->text_field;
    if (m->messages)
        return m->batch ? "body.messages" : "messages";
    if (m->batch)
        return "body.prompt";
    if (records_member(first, "text"))
        return "text";
    if (records_member(first, "prompt"))
        return "prompt";
    return json_object_size(first) == 1 ? json_object_iter_key(json_object_iter(first)) : "text";
}

/* Conversations: a field of messages. Or a line of OpenAI's batch format, which has them, or a prompt, in
 * `body`. */
static void find_messages(struct import *m, json_t *first)
{
    const char *field = m->o->text_field;
    if (m->o->text_template)
        return;
    bool tokens = m->o->tokens_field != NULL,
         conversation = !tokens && json_is_array(records_member(first, "body.messages"));
    m->batch = !field && (conversation || import_batch_has_prompt(m, first));
    m->messages = m->batch
                      ? conversation
                      : !tokens && json_is_array(records_member(first, field ? field : "messages"));
    if (!m->messages && !m->batch)
        return;
    m->tools_field = m->batch ? "body.tools" : "tools";
    if (!m->o->id_field && !records_member(first, "id") && records_member(first, "custom_id"))
        m->id_field = "custom_id";
    if (m->batch && !m->o->limit_field)
        m->limit_field = "body.max_completion_tokens";
}

/* Is the field read as something else already? */
static bool is_used(const struct import *m, const char *name)
{
    const char *prompt = m->o->tokens_field ? m->o->tokens_field : m->text_field;
    if ((m->messages && strcmp(name, "tools") == 0) || (m->batch && strcmp(name, "body") == 0))
        return true;
    return strcmp(name, m->id_field) == 0 || strcmp(name, m->limit_field) == 0 ||
           (!m->o->text_template && strcmp(name, prompt) == 0);
}

/* Is it on the list of --keep? */
static bool is_listed(const char *keep, const char *name)
{
    size_t n = strlen(name);
    for (; keep && *keep; keep += *keep == ',') {
        if (strcspn(keep, ",") == n && strncmp(keep, name, n) == 0)
            return true;
        keep += strcspn(keep, ",");
    }
    return false;
}

/* Does the field go before the job's sampling section? */
static bool is_setting(const struct import *m, const char *name)
{
    size_t i = 0;
    while (settings_name(i) && strcmp(settings_name(i), name) != 0)
        i++;
    return settings_name(i) && !is_used(m, name) && !is_listed(m->o->keep, name);
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

bool import_is_kept(const struct import *m, const char *name)
{
    if (m->o->keep)
        return is_listed(m->o->keep, name);
    return !is_used(m, name) && !is_setting(m, name) && !json_object_get(m->large, name);
}

void import_begin(struct import *m, json_t *first)
{
    find_messages(m, first);
    m->text_field = mem_string(find_text_field(m, first));
    m->want_id = m->o->id_field || records_member(first, m->id_field);
    m->all_integers = m->want_id;
    note_large(m, first);
}

/* ---- settings ------------------------------------------------------------------------------- */

json_t *import_setting(const struct import *m, json_t *record, const char *name)
{
    json_t *value = is_setting(m, name) ? json_object_get(record, name) : NULL;
    bool empty =
        json_is_string(value) && !*json_string_value(value) && records_kind(m->in) != RECORDS_JSON;
    if (value && !json_is_null(value) && !empty)
        return json_incref(value);
    value = m->batch ? import_batch_setting(json_object_get(record, "body"), name) : NULL;
    if (!json_is_null(value))
        return value;
    json_decref(value);
    return NULL;
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
        if (json_is_array(value) && json_is_integer(json_array_get(value, 0)))
            return err_set(
                e,
                "wanted \"%s\" as a string, found an array of integers; if they are token ids, "
                "say --tokens %s",
                m->text_field, m->text_field);
        return err_set(e,
                       "wanted \"%s\" as a string, found %s; the record has %s (--text names a "
                       "field, --template joins several)",
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
    const char *field = m->limit_field;
    json_t *limit = records_member(record, field);
    if (m->batch && !m->o->limit_field && (!limit || json_is_null(limit))) {
        field = "body.max_tokens"; /* the older name; lines may differ */
        limit = records_member(record, field);
    }
    bool cell = json_is_string(limit) && records_kind(m->in) != RECORDS_JSON;
    const char *text = cell ? json_string_value(limit) : "";
    char *end = NULL;
    int64_t value = json_is_integer(limit) ? json_integer_value(limit)
                    : cell                 ? strtoll(text, &end, 10)
                                           : 0;
    if (!limit || json_is_null(limit) || (cell && !*text))
        return 0;
    if (value < 1 || value > INT32_MAX || (end && *end))
        return err_set(e, "wanted \"%s\" as an integer from 1 to %d, found %s", field, INT32_MAX,
                       json_is_integer(limit) ? "one out of range" : records_type(limit));
    row->limit = (int32_t)value;
    return 0;
}

/* It follows the prompt as text. */
static int check_continuation(const struct import *m, json_t *record, struct err *e)
{
    json_t *value = import_setting(m, record, "continuation");
    int status = value && !json_is_string(value) ? wrong("continuation", "a string", value, e) : 0;
    if (value && status == 0 && strlen(json_string_value(value)) != json_string_length(value))
        status = err_set(e, "a NUL character in the continuation");
    json_decref(value);
    return status;
}

int import_read_row(struct import *m, json_t *record, struct row *row, struct err *e)
{
    int status = m->o->tokens_field ? read_tokens(m, record, row, e)
                 : m->messages      ? read_messages(m, record, row, e)
                                    : read_text(m, record, row, e);
    if (status == 0)
        status = read_limit(m, record, row, e);
    if (status == 0)
        status = check_continuation(m, record, e);
    struct err why;
    if (read_id(m, record, row, status == 0 ? e : &why) != 0)
        status = -1;
    return status;
}
