/* Reading a request: every value checked, texts turned into tokens. */
#include "roles/request_values.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 4096

static int wrong(const char *name, const char *wanted, const json_t *found, struct err *e)
{
    char *text = found ? json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    err_set(e, "%s: wants %s, found %.80s", name, wanted, text ? text : "nothing");
    free(text);
    return -1;
}

static int read_real(const json_t *values, const char *name, double least, double most, float *out,
                     struct err *e)
{
    const json_t *v = json_object_get(values, name);
    double x = json_number_value(v);
    if (!v)
        return 0;
    if (json_is_number(v) && x >= least && x <= most) {
        *out = (float)x;
        return 0;
    }
    char wanted[80];
    snprintf(wanted, sizeof wanted, "a number from %g to %g", least, most);
    return wrong(name, wanted, v, e);
}

static int read_int(const json_t *values, const char *name, int least, int *out, struct err *e)
{
    const json_t *v = json_object_get(values, name);
    if (!v)
        return 0;
    if (json_is_integer(v) && json_integer_value(v) >= least &&
        json_integer_value(v) <= INT32_MAX) {
        *out = (int)json_integer_value(v);
        return 0;
    }
    char wanted[80];
    snprintf(wanted, sizeof wanted, "an integer from %d to %d", least, INT32_MAX);
    return wrong(name, wanted, v, e);
}

static int read_bool(const json_t *values, const char *name, bool *out, struct err *e)
{
    const json_t *v = json_object_get(values, name);
    if (!v)
        return 0;
    *out = json_is_true(v) || (json_is_integer(v) && json_integer_value(v) == 1);
    if (json_is_boolean(v) || (json_is_integer(v) && json_integer_value(v) >> 1 == 0))
        return 0;
    return wrong(name, "true or false", v, e);
}

static bool is_id(const struct request *r, int64_t id)
{
    return id >= 0 && id < r->context->vocab;
}

/* The tokens of a text; of none it is an error. */
static int encode(const struct request *r, const char *name, const char *text,
                  struct token_run *out, struct err *e)
{
    if (!r->context->tokenizer)
        return err_set(e, "%s: '%.60s' is text, but there is no tokenizer; give token ids", name,
                       text);
    if (tokenizer_encode(r->context->tokenizer, text, strlen(text), &out->tokens, &out->n, e) != 0)
        return err_prefix(e, "%s", name);
    if (out->n > 0)
        return 0;
    free(out->tokens);
    *out = (struct token_run){0};
    return err_set(e, "%s: '%.60s' has no tokens", name, text);
}

/* One token: an id, or a text that is one. */
static int read_token(const struct request *r, const char *name, const json_t *v, int32_t *out,
                      struct err *e)
{
    struct token_run run = {0};
    if (json_is_integer(v) && is_id(r, json_integer_value(v))) {
        *out = (int32_t)json_integer_value(v);
        return 0;
    }
    if (!json_is_string(v))
        return wrong(name, "token ids of the vocabulary, or texts", v, e);
    if (encode(r, name, json_string_value(v), &run, e) != 0)
        return -1;
    size_t n = run.n;
    *out = run.tokens[0];
    free(run.tokens);
    return n == 1 ? 0
                  : err_set(e, "%s: '%.60s' is %zu tokens of the vocabulary, not one", name,
                            json_string_value(v), n);
}

/* A list, or nothing (null). */
static int read_list(const json_t *values, const char *name, const json_t **out, struct err *e)
{
    *out = json_object_get(values, name);
    if (*out && !json_is_null(*out) && (!json_is_array(*out) || json_array_size(*out) > LIST_MAX))
        return wrong(name, "a list of at most 4096", *out, e);
    return 0;
}

static void add_stop_id(struct request *r, int32_t id)
{
    r->stop_ids = mem_resize(r->stop_ids, (size_t)r->n_stop_ids + 1, sizeof *r->stop_ids);
    r->stop_ids[r->n_stop_ids++] = id;
}

/* A special token is meant as the token; all else is text, wherever its tokens are cut. */
static int read_stop(struct request *r, const json_t *v, struct err *e)
{
    const char *text = json_string_value(v);
    int32_t id = text && r->context->tokenizer ? tokenizer_id(r->context->tokenizer, text) : -1;
    if (json_is_integer(v) && is_id(r, json_integer_value(v)))
        add_stop_id(r, (int32_t)json_integer_value(v));
    else if (id >= 0 && tokenizer_is_special(r->context->tokenizer, id))
        add_stop_id(r, id);
    else if (!text || !*text)
        return wrong("stop", "token ids of the vocabulary, or texts", v, e);
    else if (!r->context->tokenizer)
        return err_set(e, "stop: '%.60s' is text, but there is no tokenizer; give token ids", text);
    else {
        r->stops = mem_resize(r->stops, (size_t)r->n_stops + 1, sizeof *r->stops);
        r->stops[r->n_stops++].text = mem_string(text);
    }
    return 0;
}

static int read_stops(struct request *r, const json_t *values, struct err *e)
{
    bool ignore_eos = false;
    const json_t *list = json_object_get(values, "stop"), *item;
    size_t i;
    if (read_bool(values, "ignore_eos", &ignore_eos, e) != 0 ||
        read_bool(values, "include_stop", &r->include_stop, e) != 0)
        return -1;
    for (int k = 0; k < r->context->n_eos && !ignore_eos; k++)
        add_stop_id(r, r->context->eos[k]);
    if (json_is_string(list))
        return read_stop(r, list, e);
    if (read_list(values, "stop", &list, e) != 0)
        return -1;
    json_array_foreach(list, i, item) if (read_stop(r, item, e) != 0) return -1;
    return 0;
}

static void add_bias(struct request *r, int32_t token, float value)
{
    r->biases = mem_resize(r->biases, (size_t)r->n_biases + 1, sizeof *r->biases);
    r->biases[r->n_biases++] = (struct token_bias){token, value};
}

/* {"5": 1.5, " noun": -2}: keys are ids or texts of one token. */
static int read_biases(struct request *r, const json_t *values, struct err *e)
{
    const json_t *map = json_object_get(values, "logit_bias");
    const char *key;
    json_t *value;
    if (!map || json_is_null(map))
        return 0;
    if (!json_is_object(map))
        return wrong("logit_bias", "a mapping of tokens to numbers", map, e);
    json_object_foreach((json_t *)(uintptr_t)map, key, value)
    {
        char *end;
        int32_t token;
        long long id = strtoll(key, &end, 10);
        json_t *name = *key && !*end ? json_integer(id) : json_string(key);
        int status = read_token(r, "logit_bias", name, &token, e);
        json_decref(name);
        if (status != 0)
            return -1;
        double bias = json_number_value(value);
        if (!json_is_number(value) || !(fabs(bias) <= 1e6))
            return wrong("logit_bias", "numbers", value, e);
        add_bias(r, token, (float)bias);
    }
    return 0;
}

static void add_ban(struct request *r, struct token_run run)
{
    if (run.n == 1) {
        add_bias(r, run.tokens[0], -INFINITY);
        free(run.tokens);
        return;
    }
    r->bans = mem_resize(r->bans, (size_t)r->n_bans + 1, sizeof *r->bans);
    r->bans[r->n_bans++] = run;
}

/* A text is banned as it begins a line and as it follows a space, where that is one token run of the
 * same length that begins differently. */
static int read_ban(struct request *r, const json_t *v, struct err *e)
{
    struct token_run run = {0}, spaced = {0};
    if (!json_is_string(v)) {
        int32_t token;
        if (read_token(r, "ban", v, &token, e) != 0)
            return -1;
        add_bias(r, token, -INFINITY);
        return 0;
    }
    const char *text = json_string_value(v) + strspn(json_string_value(v), " ");
    char *with_space = mem_new(strlen(text) + 2, 1);
    sprintf(with_space, " %s", text);
    int status = encode(r, "ban", text, &run, e);
    if (status == 0)
        status = encode(r, "ban", with_space, &spaced, e);
    free(with_space);
    if (status != 0) {
        free(run.tokens);
        return -1;
    }
    bool both = spaced.n == run.n && spaced.tokens[0] != run.tokens[0];
    add_ban(r, run);
    if (both)
        add_ban(r, spaced);
    else
        free(spaced.tokens);
    return 0;
}

static int read_sets(struct request *r, const json_t *values, struct err *e)
{
    const json_t *ban, *allow, *item;
    size_t i;
    if (read_list(values, "ban", &ban, e) != 0 || read_list(values, "allow", &allow, e) != 0)
        return -1;
    json_array_foreach(ban, i, item) if (read_ban(r, item, e) != 0) return -1;
    if (!allow || json_is_null(allow))
        return 0;
    if (json_array_size(allow) == 0)
        return wrong("allow", "at least one token", allow, e);
    r->allow = mem_zeroed(((size_t)r->context->vocab + 31) / 32, sizeof *r->allow);
    json_array_foreach(allow, i, item)
    {
        int32_t token;
        if (read_token(r, "allow", item, &token, e) != 0)
            return -1;
        r->allow[token / 32] |= 1u << (token % 32);
    }
    return 0;
}

/* 64 bits do not fit a number of JSON: a text of digits will do. */
static int read_seed(struct request *r, const json_t *values, struct err *e)
{
    const json_t *seed = json_object_get(values, "seed"),
                 *from = json_object_get(values, "seed_from");
    const char *text = json_string_value(seed), *name = json_string_value(from);
    char *end = NULL;
    r->seed = text ? strtoull(text, &end, 10) : (uint64_t)json_integer_value(seed);
    bool is_number = text ? *text && !*end : json_is_integer(seed) && json_integer_value(seed) >= 0;
    if (seed && !is_number)
        return wrong("seed", "an integer of 0 or more", seed, e);
    r->by_prompt = name && strcmp(name, "prompt") == 0;
    if (from && !r->by_prompt && (!name || strcmp(name, "row") != 0))
        return wrong("seed_from", "row or prompt", from, e);
    return 0;
}

/* A row's null says nothing. */
static const json_t *thinking_end(const struct request *r, const json_t *values)
{
    const json_t *end = json_object_get(values, "thinking_end");
    return end && !json_is_null(end) ? end : json_object_get(r->context->defaults, "thinking_end");
}

static int read_thinking(struct request *r, const json_t *values, struct err *e)
{
    const json_t *end = thinking_end(r, values);
    if (read_int(values, "thinking_tokens", -1, &r->thinking_tokens, e) != 0)
        return -1;
    if (r->thinking_tokens < 0)
        return 0;
    if (!end || json_is_null(end))
        return err_set(
            e, "thinking_tokens: neither the vocabulary nor the chat template knows " THINKING_END
               "; say with thinking_end what ends the reasoning of this model");
    if (!json_is_string(end))
        return wrong("thinking_end", "a text", end, e);
    return encode(r, "thinking_end", json_string_value(end), &r->think_end, e);
}

static int read_format(struct request *r, const json_t *values, struct err *e)
{
    const json_t *format = json_object_get(values, "format");
    if (!format || json_is_null(format))
        return 0;
    if (!json_is_object(format))
        return wrong("format", "{regex: text}, {choice: list} or {json_schema: schema}", format, e);
    if (!r->context->formats)
        return err_set(e, "format: there is no tokenizer");
    const char *begin = r->context->reasoning_begin, *end = r->context->reasoning_end,
               *forced = json_string_value(thinking_end(r, values));
    if (r->thinking_tokens >= 0 && (!end || !strstr(forced, end)))
        return err_set(e, "format: thinking_tokens would force an end of the reasoning into it; "
                          "output.reasoning.end, as part of thinking_end, says where it ends");
    if (begin && encode(r, "output.reasoning.begin", begin, &r->think_begin, e) != 0)
        return -1;
    bool ends = false;
    for (int i = 0; i < r->n_stop_ids && r->context->n_eos > 0; i++)
        ends = ends || r->stop_ids[i] == r->context->eos[0];
    if (!ends)
        return err_set(e, "format: wants an end token%s",
                       r->context->n_eos ? "; ignore_eos takes it away" : " of the model");
    r->follow = follow_new(r->context->formats, format, e);
    return r->follow ? 0 : err_prefix(e, "format");
}

/* How many likeliest tokens; of the prompt also false, and true, which is 0. */
static int read_scores(struct request *r, const json_t *values, struct err *e)
{
    const json_t *prompt = json_object_get(values, "prompt_logprobs");
    if (read_int(values, "logprobs", 0, &r->logprobs, e) != 0)
        return -1;
    if (r->logprobs > SCORE_MOST)
        return wrong("logprobs", "an integer from 0 to 64", json_object_get(values, "logprobs"), e);
    if (json_is_boolean(prompt))
        r->prompt_logprobs = json_is_true(prompt) ? 0 : -1;
    else if (read_int(values, "prompt_logprobs", -1, &r->prompt_logprobs, e) != 0)
        return -1;
    return r->prompt_logprobs <= SCORE_MOST
               ? 0
               : wrong("prompt_logprobs", "true, false or an integer from 0 to 64", prompt, e);
}

const char *const request_truncations[3] = {
    [TRUNCATE_NO] = "no", [TRUNCATE_LEFT] = "left", [TRUNCATE_RIGHT] = "right"};

static int read_truncate(struct request *r, const json_t *values, struct err *e)
{
    const json_t *v = json_object_get(values, "truncate_prompt");
    for (int i = 0; json_is_string(v) && i < 3; i++)
        if (strcmp(json_string_value(v), request_truncations[i]) == 0) {
            r->truncate = (enum job_truncate)i;
            return 0;
        }
    return v ? wrong("truncate_prompt", "no, left or right", v, e) : 0;
}

int request_read(struct request *r, const json_t *v, struct err *e)
{
    if (read_real(v, "temperature", 0, 1000, &r->temperature, e) != 0 ||
        read_int(v, "top_k", 0, &r->top_k, e) != 0 ||
        read_real(v, "top_p", 1e-6, 1, &r->top_p, e) != 0 ||
        read_real(v, "min_p", 0, 1, &r->min_p, e) != 0 ||
        read_int(v, "max_new_tokens", 0, &r->max_new_tokens, e) != 0 ||
        read_int(v, "min_tokens", 0, &r->min_tokens, e) != 0 || read_scores(r, v, e) != 0 ||
        read_truncate(r, v, e) != 0 ||
        read_int(v, "repetition_stop", 0, &r->repetition_stop, e) != 0 ||
        read_real(v, "repetition_penalty", 0.01, 100, &r->repetition, e) != 0 ||
        read_real(v, "presence_penalty", -100, 100, &r->presence, e) != 0 ||
        read_real(v, "frequency_penalty", -100, 100, &r->frequency, e) != 0)
        return -1;
    if (read_seed(r, v, e) != 0 || read_stops(r, v, e) != 0 || read_biases(r, v, e) != 0 ||
        read_sets(r, v, e) != 0)
        return -1;
    if (r->repetition_stop > 0 && (r->repetition_stop < 8 || r->repetition_stop > 65536))
        return wrong("repetition_stop", "0, or an integer from 8 to 65536",
                     json_object_get(v, "repetition_stop"), e);
    r->same = mem_zeroed((size_t)r->repetition_stop / 4, sizeof *r->same);
    if (read_thinking(r, v, e) != 0)
        return -1;
    return read_format(r, v, e);
}
