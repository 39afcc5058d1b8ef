/* import_batch.c - lines of the batch format, OpenAI's and vLLM's, which have everything in `body`. */
#include "data/import_row.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

#define UNUSED_MAX 20 /* names of fields that are not used */

/* Names there of columns that are called otherwise here. */
static const struct {
    const char *name, *batch;
} aliases[] = {{"include_stop", "include_stop_str_in_output"},
               {"ban", "bad_words"},
               {"allow", "allowed_token_ids"}};

#define ALIASES (sizeof aliases / sizeof *aliases)

static bool is_setting(const char *name)
{
    for (size_t i = 0; settings_name(i); i++)
        if (strcmp(settings_name(i), name) == 0)
            return true;
    for (size_t i = 0; i < ALIASES; i++)
        if (strcmp(aliases[i].batch, name) == 0)
            return true;
    return false;
}

/* Read, or without a say in what is decoded. */
static bool is_known(const char *name)
{
    static const char *const known[] = {
        "messages",        "prompt",         "tools",
        "model",           "max_tokens",     "max_completion_tokens",
        "response_format", "top_logprobs",   "user",
        "stream",          "stream_options", "metadata",
        "store",           "service_tier"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i]) == 0)
            return true;
    return is_setting(name);
}

/* One answer for a line, the best of one: what it gets unasked. */
static bool is_default(const char *name, const json_t *value)
{
    return (strcmp(name, "n") == 0 || strcmp(name, "best_of") == 0) &&
           json_integer_value(value) == 1;
}

void import_batch_count(struct import *m, json_t *record)
{
    const char *name;
    json_t *value;
    m->batch_lines++;
    json_object_foreach(json_object_get(record, "body"), name, value)
    {
        if (json_is_null(value) || is_known(name) || is_default(name, value))
            continue;
        if (!m->unused)
            m->unused = json_object();
        json_t *count = json_object_get(m->unused, name);
        if (count)
            json_integer_set(count, json_integer_value(count) + 1);
        else if (json_object_size(m->unused) < UNUSED_MAX)
            json_object_set_new(m->unused, name, json_integer(1));
        else
            m->more_unused = true;
    }
}

void import_batch_note(const struct import *m)
{
    const char *name;
    json_t *count;
    if (!m->o->notes)
        return;
    json_object_foreach(m->unused, name, count)
    {
        const char *by = strcmp(name, "n") == 0         ? "samples"
                         : strcmp(name, "best_of") == 0 ? name
                                                        : NULL;
        fprintf(m->o->notes,
                "tandem: field \"body.%s\", in %" PRId64 " of %zu lines, is not used%s%s%s\n", name,
                (int64_t)json_integer_value(count), m->batch_lines,
                by ? "; the job's sampling." : "", by ? by : "", by ? " sets it" : "");
    }
    if (m->more_unused)
        fprintf(m->o->notes, "tandem: more fields than these %d are not used\n", UNUSED_MAX);
}

bool import_batch_has_prompt(const struct import *m, json_t *first)
{
    json_t *prompt = records_member(first, "body.prompt");
    if (m->o->tokens_field)
        return strcmp(m->o->tokens_field, "body.prompt") == 0 && json_is_array(prompt);
    return (json_is_string(prompt) || json_is_integer(json_array_get(prompt, 0))) &&
           !records_member(first, "text") && !records_member(first, "prompt");
}

/* {"type": "json_schema", "json_schema": {"schema": ...}} as a format; what it cannot be is passed on
 * for the message. */
static json_t *format_of(json_t *response)
{
    const char *type = json_string_value(json_object_get(response, "type"));
    json_t *schema = records_member(response, "json_schema.schema");
    if (type && strcmp(type, "text") == 0)
        return NULL;
    if (type && strcmp(type, "json_object") == 0)
        return json_pack("{s:{s:s}}", "json_schema", "type", "object");
    return schema ? json_pack("{s:O}", "json_schema", schema) : json_incref(response);
}

/* `logprobs` is true or false there, and how many has a name of its own. */
json_t *import_batch_setting(json_t *body, const char *name)
{
    json_t *value = json_object_get(body, name);
    if (strcmp(name, "format") == 0 && !value)
        return format_of(json_object_get(body, "response_format"));
    if (strcmp(name, "logprobs") == 0 && json_is_boolean(value))
        value = json_is_true(value) ? json_object_get(body, "top_logprobs") : NULL;
    for (size_t i = 0; i < ALIASES && !value; i++)
        if (strcmp(aliases[i].name, name) == 0)
            value = json_object_get(body, aliases[i].batch);
    return json_incref(value);
}
