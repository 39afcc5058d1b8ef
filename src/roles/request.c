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
    r->thinking_tokens = -1;
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
    free(r->think_end.tokens);
    follow_free(r->follow);
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

static bool has_penalties(const struct request *r)
{
    return r->repetition != 1 || r->presence != 0 || r->frequency != 0;
}

bool request_changes(const struct request *r)
{
    return has_penalties(r) || r->n_biases > 0 || r->n_bans > 0 || r->allow || r->min_tokens > 0 ||
           r->thinking_tokens >= 0 || r->follow;
}

/* ---- what was seen -------------------------------------------------------------------------- */

static struct token_count *find_count(const struct request *r, int32_t token)
{
    size_t i = (size_t)hash_u64(HASH_START, (uint64_t)token) & (r->room_counts - 1);
    while (r->counts[i].used && r->counts[i].token != token)
        i = (i + 1) & (r->room_counts - 1);
    return &r->counts[i];
}

static struct token_count *count_of(struct request *r, int32_t token)
{
    if (2 * r->n_counts >= r->room_counts) {
        struct request wide = *r;
        wide.room_counts = r->room_counts ? 2 * r->room_counts : 64;
        wide.counts = mem_zeroed(wide.room_counts, sizeof *wide.counts);
        for (size_t i = 0; i < r->room_counts; i++)
            if (r->counts[i].used)
                *find_count(&wide, r->counts[i].token) = r->counts[i];
        free(r->counts);
        *r = wide;
    }
    struct token_count *count = find_count(r, token);
    if (!count->used) {
        *count = (struct token_count){.used = true, .token = token};
        r->n_counts++;
    }
    return count;
}

/* What stands around the reasoning is looked for in the text, also where it is a special token. */
static bool is_marker(const struct request_context *c, int32_t token)
{
    const char *text = tokenizer_token(c->tokenizer, token);
    return text && c->reasoning_end &&
           (strcmp(text, c->reasoning_end) == 0 ||
            (c->reasoning_begin && strcmp(text, c->reasoning_begin) == 0));
}

static void add_text(struct request *r, int32_t token)
{
    char *text = NULL;
    size_t n = 0;
    bool skip = !r->context->special && !is_marker(r->context, token);
    tokenizer_decode(r->context->tokenizer, &token, 1, skip, &text, &n);
    r->text = mem_resize(r->text, r->n_text + n + 1, 1);
    memcpy(r->text + r->n_text, text, n);
    r->n_text += n;
    free(text);
}

/* Does the completion, whose last token so far is `at`, end in a run over and over? */
static void count_same(struct request *r, const struct sequence *q, size_t at)
{
    r->repeats = false;
    for (int i = 0; i < r->repetition_stop / 4; i++) {
        size_t apart = (size_t)i + 1;
        bool same = at >= q->n_prompt + apart && q->tokens[at] == q->tokens[at - apart];
        r->same[i] = same ? r->same[i] + 1 : 0;
        r->repeats = r->repeats || r->same[i] + i + 1 >= r->repetition_stop;
    }
}

/* What the format sees: special tokens are nothing to it. */
static void feed(struct request *r, int32_t token)
{
    char *text = NULL;
    size_t n = 0;
    tokenizer_decode(r->context->tokenizer, &token, 1, true, &text, &n);
    follow_feed(r->follow, text, n);
    free(text);
}

/* Takes notice of the tokens of q that are new to it. */
static void see(struct request *r, const struct sequence *q)
{
    for (; r->seen < q->n_tokens; r->seen++) {
        bool completion = r->seen >= q->n_prompt;
        int32_t token = q->tokens[r->seen];
        if (has_penalties(r) && (completion || r->repetition != 1)) {
            struct token_count *count = count_of(r, token);
            count->completion += completion;
        }
        if (completion && r->context->tokenizer)
            add_text(r, token);
        if (completion && r->follow)
            feed(r, token);
        if (completion)
            count_same(r, q, r->seen);
        if (completion && r->seen + 1 - q->n_prompt == (size_t)r->min_tokens)
            r->text_from = r->n_text; /* a stop may begin behind what min_tokens asked for */
    }
}

/* ---- before a token is drawn ---------------------------------------------------------------- */

struct sample_params request_params(struct request *r, const struct sequence *q, size_t at)
{
    if (r->by_prompt && !r->hashed) {
        r->prompt = hash_bytes(HASH_START, q->tokens, q->n_prompt * sizeof *q->tokens);
        r->hashed = true;
    }
    float within = r->min_p > 0 ? fmaxf(-r->temperature * logf(r->min_p), FLT_MIN) : 0;
    return (struct sample_params){
        .temperature = r->temperature,
        .top_p = r->top_p,
        .top_k = r->top_k,
        .within = within,
        .uniform = philox_uniform(r->seed, r->prompt, r->sample, (uint32_t)at),
    };
}

static struct logit_edit *append_edit(struct logit_changes *out, int row, int32_t token)
{
    if (out->n_edits == out->room_edits) {
        out->room_edits = out->room_edits ? 2 * out->room_edits : 64;
        out->edits = mem_resize(out->edits, (size_t)out->room_edits, sizeof *out->edits);
    }
    out->edits[out->n_edits] = (struct logit_edit){row, token, 0, 1, 0};
    return &out->edits[out->n_edits++];
}

/* The edit of a token that may have one already, among those from `first` on. */
static struct logit_edit *edit_of(struct logit_changes *out, int first, int row, int32_t token)
{
    for (int i = first; i < out->n_edits; i++)
        if (out->edits[i].token == token)
            return &out->edits[i];
    return append_edit(out, row, token);
}

/* Every token that has a penalty is there once; what follows looks it up among the row's edits. */
static void add_penalties(struct request *r, int row, struct logit_changes *out)
{
    for (size_t i = 0; i < r->room_counts; i++) {
        const struct token_count *count = &r->counts[i];
        if (!count->used)
            continue;
        struct logit_edit *edit = append_edit(out, row, count->token);
        edit->repeat = r->repetition;
        if (count->completion)
            edit->less = r->frequency * (float)count->completion + r->presence;
    }
}

/* Do the tokens of the run but the last stand at the end of the completion? */
static bool comes_next(const struct token_run *run, const struct sequence *q)
{
    size_t before = run->n - 1;
    return q->n_tokens - q->n_prompt >= before &&
           memcmp(q->tokens + q->n_tokens - before, run->tokens, before * sizeof *run->tokens) == 0;
}

static uint32_t *add_mask(struct logit_changes *out, int row, size_t words)
{
    if (out->n_masks == out->room_masks) {
        out->room_masks = out->room_masks ? 2 * out->room_masks : 4;
        out->rows = mem_resize(out->rows, (size_t)out->room_masks, sizeof *out->rows);
        out->bits = mem_resize(out->bits, mem_mul((size_t)out->room_masks, words), 4);
    }
    out->words = words;
    out->rows[out->n_masks] = row;
    uint32_t *bits = out->bits + (size_t)out->n_masks++ * words;
    memset(bits, 0, words * sizeof *bits);
    return bits;
}

/* The token that the end of the reasoning needs now, or -1. */
static int32_t forced(const struct request *r, const struct sequence *q)
{
    size_t n = q->n_tokens - q->n_prompt, budget = (size_t)r->thinking_tokens;
    const struct token_run *end = &r->think_end;
    if (r->thinking_tokens < 0 || n < budget || n - budget >= end->n)
        return -1;
    const int32_t *completion = q->tokens + q->n_prompt;
    for (size_t i = 0; i + end->n <= budget; i++)
        if (memcmp(completion + i, end->tokens, end->n * sizeof *completion) == 0)
            return -1; /* it has ended */
    return end->tokens[n - budget];
}

static bool is_eos(const struct request_context *c, int32_t token)
{
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == token)
            return true;
    return false;
}

/* Tokens with which the text can still become whole, and the end when it is. */
static void mask_format(struct request *r, const struct sequence *q, uint32_t *bits, size_t words)
{
    struct follow_state s = follow_state(r->follow);
    bool early = s.may_go_on && q->n_tokens - q->n_prompt < (size_t)r->min_tokens;
    for (size_t i = 0; i < words; i++)
        bits[i] = s.mask[i] & (r->allow ? r->allow[i] : UINT32_MAX);
    for (int i = 0; i < r->context->n_eos && s.may_end && !early; i++)
        bits[r->context->eos[i] / 32] |= 1u << (r->context->eos[i] % 32);
}

void request_change(struct request *r, const struct sequence *q, int row, struct logit_changes *out)
{
    int first = out->n_edits;
    size_t words = ((size_t)r->context->vocab + 31) / 32;
    if (!request_changes(r))
        return;
    see(r, q);
    int32_t token = forced(r, q);
    if (token >= 0) {
        add_mask(out, row, words)[token / 32] = 1u << (token % 32);
        return;
    }
    if (has_penalties(r))
        add_penalties(r, row, out);
    for (int i = 0; i < r->n_biases; i++)
        edit_of(out, first, row, r->biases[i].token)->bias += r->biases[i].value;
    for (int i = 0; i < r->n_bans; i++)
        if (comes_next(&r->bans[i], q))
            edit_of(out, first, row, r->bans[i].tokens[r->bans[i].n - 1])->bias = -INFINITY;
    if (!r->follow && q->n_tokens - q->n_prompt < (size_t)r->min_tokens)
        for (int i = 0; i < r->n_stop_ids; i++)
            edit_of(out, first, row, r->stop_ids[i])->bias = -INFINITY;
    if (r->follow)
        mask_format(r, q, add_mask(out, row, words), words);
    else if (r->allow)
        memcpy(add_mask(out, row, words), r->allow, words * sizeof *r->allow);
}

void logit_changes_free(struct logit_changes *c)
{
    free(c->edits);
    free(c->rows);
    free(c->bits);
    *c = (struct logit_changes){0};
}

/* ---- after it was drawn --------------------------------------------------------------------- */

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
        see(r, q);
    bool whole = r->follow && is_eos(r->context, q->tokens[q->n_tokens - 1]);
    if (!whole && q->n_tokens - q->n_prompt <= (size_t)r->min_tokens)
        return REQUEST_GOES_ON;
    r->by_token = is_stop_id(r, q->tokens[q->n_tokens - 1]);
    r->by_text = !r->by_token && r->n_stops > 0 && find_stop_text(r, before);
    if (r->by_token || r->by_text)
        return REQUEST_STOPS;
    return r->repetition_stop > 0 && r->repeats ? REQUEST_REPEATS : REQUEST_GOES_ON;
}

static size_t spaces(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n && strchr(" \t\r\n", text[i]) && text[i])
        i++;
    return i;
}

/* Has the prompt begun the reasoning, as many chat templates do? Looked for in its last tokens. */
static bool prompt_begins(const struct request *r, const struct sequence *q)
{
    const char *begin = r->context->reasoning_begin;
    char *text = NULL;
    size_t n = 0, length = begin ? strlen(begin) : 0, few = length + 8;
    few = few < q->n_prompt ? few : q->n_prompt;
    if (!begin)
        return true;
    tokenizer_decode(r->context->tokenizer, q->tokens + q->n_prompt - few, few, false, &text, &n);
    while (n > 0 && spaces(text + n - 1, 1))
        n--;
    bool begins = n >= length && memcmp(text + n - length, begin, length) == 0;
    free(text);
    return begins;
}

/* Cuts n bytes of text in two: *from .. *to is the reasoning. False: there is none. */
static bool find_reasoning(const struct request *r, const struct sequence *q, size_t n,
                           size_t *from, size_t *to)
{
    const char *begin = r->context->reasoning_begin, *end = r->context->reasoning_end;
    if (!end || !r->context->tokenizer || n == 0)
        return false;
    size_t at = spaces(r->text, n), length = begin ? strlen(begin) : 0;
    bool begins = length && n - at >= length && memcmp(r->text + at, begin, length) == 0;
    const char *hit = memmem(r->text, n, end, strlen(end));
    *from = begins ? at + length : 0;
    *to = hit ? (size_t)(hit - r->text) : n;
    if (*to < *from) /* it ends before it begins */
        *from = 0;
    return hit || begins || prompt_begins(r, q);
}

/* HDF5's strings end at a NUL, so one that a model writes becomes U+FFFD. */
static char *without_nul(char *text, size_t bytes)
{
    static const char instead[] = "\xef\xbf\xbd";
    size_t nul = 0, used = 0;
    for (size_t i = 0; i < bytes; i++)
        nul += text[i] == 0;
    if (nul == 0)
        return text;
    char *result = mem_new(bytes + 2 * nul + 1, 1);
    for (size_t i = 0; i < bytes; i++) {
        size_t n = text[i] ? 1 : 3;
        memcpy(result + used, text[i] ? text + i : instead, n);
        used += n;
    }
    result[used] = 0;
    free(text);
    return result;
}

static char *valid_text(const char *text, size_t n)
{
    char *out = NULL;
    size_t bytes = 0;
    tokenizer_utf8_lossy(text ? text : "", n, &out, &bytes);
    return without_nul(out, bytes);
}

void request_text(struct request *r, const struct sequence *q, bool ended, char **text,
                  char **reasoning)
{
    size_t n, from, to;
    see(r, q);
    n = r->n_text;
    if (ended && r->by_text) {
        n = r->cut + (r->include_stop ? r->cut_length : 0);
    } else if (ended && !r->include_stop && r->context->tokenizer) {
        char *last = NULL; /* a stop token is no text, whatever it spells */
        size_t length = 0;
        tokenizer_decode(r->context->tokenizer, q->tokens + q->n_tokens - 1, 1,
                         !r->context->special, &last, &length);
        n -= length;
        free(last);
    }
    *reasoning = NULL;
    if (!find_reasoning(r, q, n, &from, &to)) {
        *text = valid_text(r->text, n);
        return;
    }
    size_t behind = to < n ? to + strlen(r->context->reasoning_end) : n;
    *reasoning = valid_text(r->text + from, to - from);
    *text = valid_text(r->text + behind, n - behind);
}
