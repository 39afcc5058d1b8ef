#include "roles/conversation.h"

#include "base/hash.h"
#include "base/mem.h"
#include "roles/request.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Is a content what a loop goes through, as in message.content or message['content'] | selectattr(...), but not
 * in messages if m.content? Its last name, before a filter or a condition, says so. */
static bool is_content(const char *c, const char *end)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";
    bool content = false;
    for (size_t n; c < end && *c != '|'; c += n ? n : 1) {
        n = strspn(c, name);
        if (n == 2 && memcmp(c, "if", 2) == 0)
            break;
        if (n > 0 && !isdigit((unsigned char)*c))
            content = n == strlen("content") && memcmp(c, "content", n) == 0;
    }
    return content;
}

/* Has the template a loop over the parts of a content, {% for part in message.content %}? */
static bool goes_through_parts(const char *text)
{
    for (const char *tag = strstr(text, "{%"); tag; tag = strstr(tag + 2, "{%")) {
        const char *word = tag + 2 + strspn(tag + 2, "-+ \t\r\n"), *end = strstr(word, "%}");
        const char *in = strstr(word, " in ");
        if (end && in && in < end && strncmp(word, "for ", 4) == 0 && is_content(in + 4, end))
            return true;
    }
    return false;
}

static int parse(struct conversation *c, const char *text, size_t n, struct err *e)
{
    c->hash = hash_bytes(HASH_START, text, n);
    c->thinks = strstr(text, THINKING_END) != NULL;
    c->parts = goes_through_parts(text);
    if (chat_parse(text, n, &c->chat, e) != 0)
        return err_prefix(e, "%s", c->place);
    return 0;
}

static int open_template(struct conversation *c, const struct job *job,
                         const struct tokenizer_config *config, struct err *e)
{
    size_t n;
    if (!job->chat.template && !config->template)
        return err_set(e,
                       "the prompts are messages, but there is no chat template beside %s: neither "
                       "chat_template.jinja nor chat_template in tokenizer_config.json; name one "
                       "with chat.template",
                       job->tokenizer);
    c->place = mem_string(job->chat.template ? job->chat.template : config->template_path);
    if (!job->chat.template)
        return parse(c, config->template, strlen(config->template), e);
    char *text = tokenizer_config_text(job->chat.template, &n, e);
    if (!text)
        return err_prefix(e, "chat.template");
    int status = parse(c, text, n, e);
    free(text);
    return status;
}

int conversation_open(struct conversation *c, const struct job *job,
                      const struct tokenizer_config *config, struct err *e)
{
    *c = (struct conversation){.system = job->chat.system, .date = job->chat.date};
    c->variables = json_copy(config->tokens);
    json_object_set_new(c->variables, "add_generation_prompt", json_true());
    if (job->chat.kwargs) {
        json_t *more = json_loads(job->chat.kwargs, 0, NULL);
        json_object_update(c->variables, more);
        json_decref(more);
    }
    if (open_template(c, job, config, e) == 0)
        return 0;
    conversation_close(c);
    return -1;
}

int conversation_refuse(const struct job *job, struct err *e)
{
    const struct {
        const char *key, *value;
    } keys[] = {{"template", job->chat.template},
                {"template_kwargs", job->chat.kwargs},
                {"system", job->chat.system},
                {"date", job->chat.date}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].value)
            return err_set(e,
                           "%s: chat.%s is for prompts that are messages, but those of %s are not; "
                           "import records with `messages`, or leave it out",
                           job->path, keys[i].key, job->prompts.file);
    return 0;
}

void conversation_close(struct conversation *c)
{
    chat_free(c->chat);
    json_decref(c->variables);
    free(c->place);
    *c = (struct conversation){0};
}

/* A part is a text by itself, or an object that has one and is of the type of texts, or of none; NULL: something
 * else, whatever its "text". */
static const char *text_of_part(const json_t *part)
{
    const json_t *type = json_object_get(part, "type");
    const char *is = json_string_value(type);
    if (json_is_string(part))
        return json_string_value(part);
    if (is ? strcmp(is, "text") != 0 && strcmp(is, "input_text") != 0 : type && !json_is_null(type))
        return NULL;
    return json_string_value(json_object_get(part, "text"));
}

static int refuse_part(const json_t *part, size_t i, size_t k, struct err *e)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    return err_set(
        e, "message %zu: part %zu of its content is \"%.40s\"%s; only text can be decoded", i + 1,
        k + 1, type ? type : "no text",
        type && strstr(type, "text") && !json_object_get(part, "text") ? " without \"text\"" : "");
}

/* All parts as templates look for them, {"type": "text", "text": ...}. */
static void name_parts(json_t *parts)
{
    for (size_t k = 0; k < json_array_size(parts); k++) {
        json_t *part = json_array_get(parts, k);
        if (json_is_string(part))
            json_array_set_new(parts, k, json_pack("{s:s, s:O}", "type", "text", "text", part));
        else
            json_object_set_new(part, "type", json_string("text"));
    }
}

/* A content in parts must be text; a template that knows only whole texts gets them joined by ends of line. */
static int join_parts(const struct conversation *c, json_t *message, size_t i, struct err *e)
{
    size_t k, n = 0;
    json_t *parts = json_object_get(message, "content"), *part;
    if (!json_is_array(parts))
        return 0;
    json_array_foreach(parts, k, part)
    {
        if (!text_of_part(part))
            return refuse_part(part, i, k, e);
        n += strlen(text_of_part(part)) + 1;
    }
    if (c->parts) {
        name_parts(parts);
        return 0;
    }
    char *whole = mem_zeroed(n + 1, 1);
    n = 0;
    json_array_foreach(parts, k, part)
    {
        if (k > 0)
            whole[n++] = '\n';
        strcpy(whole + n, text_of_part(part));
        n += strlen(whole + n);
    }
    json_object_set_new(message, "content", json_string(whole));
    free(whole);
    return 0;
}

/* Are they messages? Contents become what the template can use. */
static int check_messages(const struct conversation *c, json_t *messages, struct err *e)
{
    size_t i;
    json_t *message;
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return err_set(e, "wanted a list of messages, {\"role\": ..., \"content\": ...}");
    json_array_foreach(messages, i, message)
    {
        if (!json_is_string(json_object_get(message, "role")))
            return err_set(e, "message %zu has no \"role\"", i + 1);
        if (join_parts(c, message, i, e) != 0)
            return -1;
    }
    return 0;
}

/* The job's system message goes before a conversation that has none. */
static json_t *with_system(const struct conversation *c, json_t *messages)
{
    const char *role = json_string_value(json_object_get(json_array_get(messages, 0), "role"));
    if (!c->system || strcmp(role, "system") == 0 || strcmp(role, "developer") == 0)
        return json_incref(messages);
    json_t *out = json_array();
    json_array_append_new(out, json_pack("{s:s, s:s}", "role", "system", "content", c->system));
    json_array_extend(out, messages);
    return out;
}

static json_t *with_variables(const struct conversation *c, const json_t *row)
{
    const json_t *more = json_object_get(row, "chat_template_kwargs");
    json_t *out = json_copy(c->variables);
    if (json_is_object(more))
        json_object_update(out, (json_t *)(uintptr_t)more);
    return out;
}

int conversation_text(const struct conversation *c, const char *json, size_t n, char **text,
                      char **marks, size_t *bytes, struct err *e)
{
    json_error_t why;
    *text = *marks = NULL;
    *bytes = 0;
    json_t *row = json_loadb(json, n, 0, &why);
    if (!row)
        return err_set(e, "the messages are not JSON: column %d: %s", why.column, why.text);
    json_t *messages = json_is_object(row) ? json_object_get(row, "messages") : row;
    int status = check_messages(c, messages, e);
    if (status == 0) {
        json_t *all = with_system(c, messages), *variables = with_variables(c, row);
        struct chat_input input = {.messages = all,
                                   .tools = json_object_get(row, "tools"),
                                   .variables = variables,
                                   .date = c->date};
        status = chat_render(c->chat, &input, text, marks, bytes, e);
        if (status != 0)
            err_prefix(e, "%s", c->place);
        json_decref(all);
        json_decref(variables);
    }
    json_decref(row);
    return status;
}
