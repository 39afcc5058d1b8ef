#include "output/openai.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static json_t *text_of(const char *text)
{
    char *valid;
    size_t n;
    utf8_lossy(text ? text : "", text ? strlen(text) : 0, &valid, &n);
    json_t *value = json_stringn(valid, n);
    free(valid);
    return value;
}

static void begin(struct openai *o, const struct completion *c)
{
    char number[48];
    snprintf(number, sizeof number, "%" PRId64, c->prompt);
    json_t *body =
        json_pack("{s:s, s:s, s:I, s:s, s:[], s:{s:I, s:I, s:I}}", "id", number, "object",
                  o->texts ? "text_completion" : "chat.completion", "created",
                  (json_int_t)c->last_token, "model", o->model ? o->model : "", "choices", "usage",
                  "prompt_tokens", (json_int_t)c->n_prompt_tokens, "completion_tokens",
                  (json_int_t)0, "total_tokens", (json_int_t)c->n_prompt_tokens);
    o->line =
        json_pack("{s:s, s:o, s:{s:i, s:s, s:o}, s:n}", "id", number, "custom_id", text_of(c->id),
                  "response", "status_code", 200, "request_id", number, "body", body, "error");
    o->prompt = c->prompt;
}

static void add_tokens(json_t *usage, const char *name, uint32_t n)
{
    json_t *value = json_object_get(usage, name);
    json_integer_set(value, json_integer_value(value) + (json_int_t)n);
}

static void add_choice(json_t *body, const struct completion *c, bool texts)
{
    json_t *choices = json_object_get(body, "choices"), *usage = json_object_get(body, "usage");
    json_t *choice = json_pack("{s:i, s:n, s:s}", "index", (int)c->sample, "logprobs",
                               "finish_reason", c->finish == FINISH_STOP ? "stop" : "length");
    json_t *said = choice; /* what holds the text */
    if (!texts) {
        said = json_pack("{s:s}", "role", "assistant");
        json_object_set_new(choice, "message", said);
    }
    json_object_set_new(said, texts ? "text" : "content", text_of(c->text));
    if (c->reasoning && *c->reasoning)
        json_object_set_new(said, "reasoning_content", text_of(c->reasoning));
    json_array_append_new(choices, choice);
    add_tokens(usage, "completion_tokens", c->n_tokens);
    add_tokens(usage, "total_tokens", c->n_tokens);
}

void openai_put(struct openai *o, const struct completion *c)
{
    if (o->line && o->prompt != c->prompt)
        openai_end(o);
    if (!o->line)
        begin(o, c);
    if (c->finish == FINISH_ERROR) {
        json_object_set_new(o->line, "response", json_null());
        json_object_set_new(
            o->line, "error",
            json_pack("{s:s, s:o}", "code", "prompt", "message", text_of(c->error)));
    } else if (json_is_null(json_object_get(o->line, "error"))) {
        add_choice(json_object_get(json_object_get(o->line, "response"), "body"), c, o->texts);
    }
}

void openai_end(struct openai *o)
{
    if (!o->line)
        return;
    json_dumpf(o->line, o->out, 0);
    putc('\n', o->out);
    json_decref(o->line);
    o->line = NULL;
}
