#include "data/import.h"

#include "base/mem.h"
#include "data/append.h"
#include "data/files.h"
#include "data/h5.h"
#include "base/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

struct import {
    const char *in_path;
    FILE *in;
    enum import_format format;
    const char *text_field, *tokens_field, *id_field, *limit_field;
    bool want_id; /* every row has one */
    struct h5_output output;
    hid_t string_type;
    struct append *text, *id, *tokens, *offsets, *limits;
    size_t line, rows;
    int64_t n_tokens;
};

static int at_line(const struct import *m, struct err *e)
{
    return err_prefix(e, "%s:%zu", m->in_path, m->line);
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

static struct import prepare(const char *in_path, const struct import_options *o)
{
    bool json = ends_with(in_path, ".jsonl") || ends_with(in_path, ".ndjson") ||
                ends_with(in_path, ".json");
    return (struct import){
        .in_path = strcmp(in_path, "-") == 0 ? "standard input" : in_path,
        .format = o->format != IMPORT_GUESS ? o->format
                  : json                    ? IMPORT_JSON
                                            : IMPORT_TEXT,
        .text_field = o->text_field ? o->text_field : "text",
        .tokens_field = o->tokens_field,
        .id_field = o->id_field ? o->id_field : "id",
        .limit_field = o->limit_field ? o->limit_field : "max_new_tokens",
        .want_id = o->id_field != NULL,
        .output.file = -1,
    };
}

static int open_append(struct import *m, struct append **out, const char *name, hid_t type,
                       struct err *e)
{
    const struct append_spec spec = {
        .name = name, .type = type, .strings = type == m->string_type, .total = APPEND_GROWS};
    return append_open(out, &m->output, m->output.file, &spec, e);
}

/* The datasets of the first row; what later rows lack is an error. */
static int begin_rows(struct import *m, const json_t *first, struct err *e)
{
    if (m->format == IMPORT_TEXT || json_object_get(first, m->id_field))
        m->want_id = true;
    if (m->want_id && open_append(m, &m->id, "id", m->string_type, e) != 0)
        return -1;
    if (!m->tokens_field)
        return open_append(m, &m->text, "text", m->string_type, e);
    int64_t zero = 0;
    if (open_append(m, &m->tokens, "tokens", H5T_NATIVE_INT32, e) != 0 ||
        open_append(m, &m->offsets, "offsets", H5T_NATIVE_INT64, e) != 0)
        return -1;
    return append_put(m->offsets, &zero, 1, e);
}

static const char *json_type_name(const json_t *v)
{
    static const char *const names[] = {"an object",  "an array", "a string", "an integer",
                                        "a fraction", "true",     "false",    "null"};
    return v ? names[json_typeof(v)] : "nothing";
}

static int put_id(struct import *m, const json_t *id, struct err *e)
{
    char number[32];
    if (!m->want_id && !id)
        return 0;
    if (!m->want_id)
        return err_set(e, "field \"%s\" appears here, but the lines before have none", m->id_field);
    if (json_is_string(id))
        return append_string(m->id, json_string_value(id), e);
    if (!json_is_integer(id))
        return err_set(e, "wanted \"%s\" as a string or integer, found %s", m->id_field,
                       json_type_name(id));
    snprintf(number, sizeof number, "%" PRId64, (int64_t)json_integer_value(id));
    return append_string(m->id, number, e);
}

static int put_tokens(struct import *m, const json_t *tokens, struct err *e)
{
    if (!json_is_array(tokens))
        return err_set(e, "wanted \"%s\" as an array of token ids, found %s", m->tokens_field,
                       json_type_name(tokens));
    size_t n = json_array_size(tokens);
    for (size_t i = 0; i < n; i++) {
        const json_t *token = json_array_get(tokens, i);
        if (!json_is_integer(token) || json_integer_value(token) < 0 ||
            json_integer_value(token) > INT32_MAX)
            return err_set(e, "\"%s\"[%zu] is %s, not a token id (0 to %d)", m->tokens_field, i,
                           json_is_integer(token) ? "out of range" : json_type_name(token),
                           INT32_MAX);
        int32_t value = (int32_t)json_integer_value(token);
        if (append_put(m->tokens, &value, 1, e) != 0)
            return -1;
    }
    m->n_tokens += (int64_t)n;
    return append_put(m->offsets, &m->n_tokens, 1, e);
}

/* The dataset begins with the first row that has a limit; the rows before get 0, the job's value.
 */
static int put_limit(struct import *m, const json_t *limit, struct err *e)
{
    int32_t value = 0;
    if (!limit && !m->limits)
        return 0;
    if (limit) {
        if (!json_is_integer(limit) || json_integer_value(limit) < 1 ||
            json_integer_value(limit) > INT32_MAX)
            return err_set(e, "wanted \"%s\" as an integer of 1 or more, found %s", m->limit_field,
                           json_is_integer(limit) ? "one out of range" : json_type_name(limit));
        value = (int32_t)json_integer_value(limit);
    }
    if (!m->limits) {
        int32_t zero = 0;
        if (open_append(m, &m->limits, "max_new_tokens", H5T_NATIVE_INT32, e) != 0)
            return -1;
        for (size_t i = 0; i < m->rows; i++)
            if (append_put(m->limits, &zero, 1, e) != 0)
                return -1;
    }
    return append_put(m->limits, &value, 1, e);
}

static int put_object(struct import *m, const json_t *object, struct err *e)
{
    if (m->rows == 0 && begin_rows(m, object, e) != 0)
        return -1;
    if (m->tokens_field) {
        if (put_tokens(m, json_object_get(object, m->tokens_field), e) != 0)
            return -1;
    } else {
        const json_t *text = json_object_get(object, m->text_field);
        if (!json_is_string(text))
            return err_set(e, "wanted \"%s\" as a string, found %s", m->text_field,
                           json_type_name(text));
        if (append_string(m->text, json_string_value(text), e) != 0)
            return -1;
    }
    if (put_id(m, json_object_get(object, m->id_field), e) != 0)
        return -1;
    return put_limit(m, json_object_get(object, m->limit_field), e);
}

static int put_json_line(struct import *m, const char *line, size_t n, struct err *e)
{
    json_error_t why;
    json_t *object = json_loadb(line, n, JSON_REJECT_DUPLICATES, &why);
    if (!object) { /* column 0 or less: jansson does not know */
        int column = why.column > 0 ? why.column : 1;
        return err_set(e, "%s:%zu:%d: not valid JSON: %s", m->in_path, m->line, column, why.text);
    }
    int rc = 0;
    if (!json_is_object(object))
        rc = err_set(e, "wanted one JSON object a line, found %s", json_type_name(object));
    else
        rc = put_object(m, object, e);
    json_decref(object);
    return rc == 0 ? 0 : at_line(m, e);
}

static int put_text_line(struct import *m, const char *line, size_t n, struct err *e)
{
    size_t bad;
    char number[32];
    int rc = 0;
    if (utf8_check(line, n, &bad) != 0)
        rc = err_set(e, "wanted UTF-8, found byte 0x%02x in column %zu; convert the file (iconv)",
                     (unsigned char)line[bad], bad + 1);
    else if (memchr(line, 0, n))
        rc = err_set(e, "a NUL byte in column %zu; is this a text file?",
                     (size_t)((const char *)memchr(line, 0, n) - line) + 1);
    if (rc == 0 && m->rows == 0)
        rc = begin_rows(m, NULL, e);
    snprintf(number, sizeof number, "%zu", m->line);
    if (rc == 0)
        rc = append_string(m->text, line, e);
    if (rc == 0)
        rc = append_string(m->id, number, e);
    return rc == 0 ? 0 : at_line(m, e);
}

static int put_lines(struct import *m, struct err *e)
{
    char *line = NULL;
    size_t room = 0;
    int rc = 0;
    for (ssize_t got; rc == 0 && (got = getline(&line, &room, m->in)) >= 0;) {
        char *text = line;
        size_t n = (size_t)got;
        m->line++;
        if (m->line == 1 && n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* byte order mark */
            text += 3;
            n -= 3;
        }
        if (n && text[n - 1] == '\n')
            n--;
        if (n && text[n - 1] == '\r')
            n--;
        text[n] = 0;
        if (strspn(text, " \t") == n)
            continue;
        rc = m->format == IMPORT_JSON ? put_json_line(m, text, n, e) : put_text_line(m, text, n, e);
        m->rows += rc == 0;
    }
    if (rc == 0 && ferror(m->in))
        rc = err_set(e, "%s: cannot be read: %s", m->in_path, strerror(errno));
    free(line);
    if (rc == 0 && m->rows == 0)
        rc = err_set(e, "%s: has no prompts (%zu lines, all empty)", m->in_path, m->line);
    return rc;
}

/* Closes the datasets and the file, whatever happens. */
static int finish(struct import *m, const char *tmp, bool keep, struct err *e)
{
    struct append *all[] = {m->text, m->id, m->tokens, m->offsets, m->limits};
    int rc = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (keep && rc == 0)
            rc = append_close(all[i], e);
        else
            append_drop(all[i]);
    }
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
    int rc = put_lines(m, e);
    if (finish(m, tmp, rc == 0, e) != 0)
        rc = -1;
    h5_close(m->string_type);
    return rc;
}

static int refuse_existing(const char *path, bool force, struct err *e)
{
    if (!force && files_exist(path))
        return err_set(
            e, "%s: exists already; name another file, or ask for it to be replaced (--force)",
            path);
    return 0;
}

int import_prompts(const char *in_path, const char *out_path, const struct import_options *o,
                   struct err *e)
{
    struct import m = prepare(in_path, o);
    if (m.format == IMPORT_TEXT && o->tokens_field)
        return err_set(e, "%s: token ids are read from JSON Lines, not from plain text", m.in_path);
    if (refuse_existing(out_path, o->force, e) != 0)
        return -1;
    m.in = strcmp(in_path, "-") == 0 ? stdin : fopen(in_path, "re");
    if (!m.in)
        return err_set(e, "%s: cannot be opened: %s", in_path, strerror(errno));
    size_t room = strlen(out_path) + 40;
    char *tmp = mem_new(room, 1);
    snprintf(tmp, room, "%s.%ld.tmp", out_path, (long)getpid());
    int rc = write_file(&m, tmp, e);
    if (m.in != stdin)
        fclose(m.in);
    if (rc == 0)
        rc = refuse_existing(out_path, o->force, e);
    if (rc == 0)
        rc = files_publish(tmp, out_path, e);
    if (rc != 0)
        unlink(tmp);
    else if (o->rows)
        *o->rows = m.rows;
    free(tmp);
    return rc;
}
