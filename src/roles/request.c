#include "roles/request.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/philox.h"
#include "roles/request_values.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- resolving ------------------------------------------------------------------------------ */

struct request *request_new(const struct request_context *c, const json_t *overrides,
                            uint64_t prompt, uint32_t sample, struct err *e)
{
    struct request *r = mem_zeroed(1, sizeof *r);
    json_t *all = json_object();
    json_object_update(all, (json_t *)(uintptr_t)c->defaults);
    if (overrides)
        json_object_update(all, (json_t *)(uintptr_t)overrides);
    r->context = c;
    r->top_p = r->repetition = 1;
    r->max_new_tokens = 1;
    r->thinking_tokens = r->prompt_logprobs = -1;
    r->prompt = prompt;
    r->sample = sample;
    int status = request_read(r, all, e);
    json_decref(all);
    if (status == 0)
        return r;
    request_free(r);
    return NULL;
}

void request_free(void *request)
{
    struct request *r = request;
    if (!r)
        return;
    for (int i = 0; i < r->n_stops; i++)
        free(r->stops[i].text);
    for (int i = 0; i < r->n_bans; i++)
        free(r->bans[i].tokens);
    free(r->stops);
    free(r->bans);
    free(r->stop_ids);
    free(r->biases);
    free(r->allow);
    free(r->think_begin.tokens);
    free(r->think_end.tokens);
    follow_free(r->follow);
    free(r->ahead);
    free(r->counts);
    free(r->same);
    free(r->text);
    free(r);
}

int request_max_new_tokens(const struct request *r)
{
    return r->max_new_tokens;
}

int request_logprobs(const struct request *r)
{
    return r->logprobs;
}

int request_prompt_logprobs(const struct request *r)
{
    return r->prompt_logprobs;
}

enum job_truncate request_truncate(const struct request *r)
{
    return r->truncate;
}

bool request_has_penalties(const struct request *r)
{
    return r->repetition != 1 || r->presence != 0 || r->frequency != 0;
}

bool request_changes(const struct request *r)
{
    return request_has_penalties(r) || r->n_biases > 0 || r->n_bans > 0 || r->allow ||
           r->min_tokens > 0 || r->thinking_tokens >= 0 || r->follow;
}

/* ---- drawing -------------------------------------------------------------------------------- */

float request_temperature(double asked)
{
    return (float)asked >= FLT_MIN ? (float)asked : 0;
}

struct sample_params request_params(struct request *r, const struct sequence *q, size_t at)
{
    if (r->by_prompt && !r->hashed) {
        r->prompt = hash_bytes(HASH_START, q->tokens, q->n_prompt * sizeof *q->tokens);
        r->hashed = true;
    }
    float temperature = request_temperature(r->temperature);
    float within = r->min_p > 0 ? fmaxf(-temperature * logf(r->min_p), FLT_MIN) : 0;
    return (struct sample_params){
        .temperature = temperature,
        .top_p = r->top_p,
        .top_k = r->top_k,
        .within = within,
        .uniform = philox_uniform(r->seed, r->prompt, r->sample, (uint32_t)at),
    };
}

/* ---- ending --------------------------------------------------------------------------------- */

static bool is_stop_id(const struct request *r, int32_t token)
{
    for (int i = 0; i < r->n_stop_ids; i++)
        if (r->stop_ids[i] == token)
            return true;
    return false;
}

/* A stop text that the last token completed: the first in the text, of several there the longest. */
static bool find_stop_text(struct request *r, size_t from)
{
    bool found = false;
    for (int i = 0; i < r->n_stops; i++) {
        size_t n = strlen(r->stops[i].text);
        size_t start = from > n - 1 ? from - (n - 1) : 0;
        if (start < r->text_from)
            start = r->text_from;
        const char *hit = start + n <= r->n_text
                              ? memmem(r->text + start, r->n_text - start, r->stops[i].text, n)
                              : NULL;
        size_t at = hit ? (size_t)(hit - r->text) : 0;
        if (hit && (!found || at < r->cut || (at == r->cut && n > r->cut_length))) {
            r->cut = at;
            r->cut_length = n;
            found = true;
        }
    }
    return found;
}

enum request_end request_ends(struct request *r, const struct sequence *q)
{
    size_t before = r->n_text;
    if (r->n_stops > 0 || r->repetition_stop > 0 || r->follow)
        request_see(r, q);
    bool whole = r->follow && request_is_eos(r->context, q->tokens[q->n_tokens - 1]);
    if (!whole && q->n_tokens - q->n_prompt <= (size_t)r->min_tokens)
        return REQUEST_GOES_ON;
    r->by_token = is_stop_id(r, q->tokens[q->n_tokens - 1]);
    r->by_text = !r->by_token && r->n_stops > 0 && find_stop_text(r, before);
    if (r->by_token || r->by_text)
        return REQUEST_STOPS;
    return r->repetition_stop > 0 && r->repeats ? REQUEST_REPEATS : REQUEST_GOES_ON;
}
