#include "roles/request_values.h"

#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct token_count *request_find_count(const struct request *r, int32_t token)
{
    size_t i = (size_t)hash_u64(HASH_START, (uint64_t)token) & (r->room_counts - 1);
    while (r->counts[i].used && r->counts[i].token != token)
        i = (i + 1) & (r->room_counts - 1);
    return &r->counts[i];
}

uint32_t request_count(const struct request *r, int32_t token)
{
    const struct token_count *count = r->room_counts ? request_find_count(r, token) : NULL;
    return count && count->used ? count->completion : 0;
}

static struct token_count *count_of(struct request *r, int32_t token)
{
    if (2 * r->n_counts >= r->room_counts) {
        struct request wide = *r;
        wide.room_counts = r->room_counts ? 2 * r->room_counts : 64;
        wide.counts = mem_zeroed(wide.room_counts, sizeof *wide.counts);
        for (size_t i = 0; i < r->room_counts; i++)
            if (r->counts[i].used)
                *request_find_count(&wide, r->counts[i].token) = r->counts[i];
        free(r->counts);
        *r = wide;
    }
    struct token_count *count = request_find_count(r, token);
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

void request_add_text(struct request *r, int32_t token)
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

void request_see(struct request *r, const struct sequence *q)
{
    if (r->follow && r->place.phase == PHASE_UNKNOWN)
        request_format_begin(r, q);
    for (; r->seen < q->n_tokens; r->seen++) {
        bool completion = r->seen >= q->n_prompt;
        int32_t token = q->tokens[r->seen];
        size_t before = r->n_text;
        if (request_has_penalties(r) && (completion || r->repetition != 1)) {
            struct token_count *count = count_of(r, token);
            count->completion += completion;
        }
        if (completion && r->context->tokenizer)
            request_add_text(r, token);
        if (completion && r->follow)
            request_format_see(r, token, before);
        if (completion)
            count_same(r, q, r->seen);
        if (completion && r->seen + 1 - q->n_prompt == (size_t)r->min_tokens)
            r->text_from = r->n_text; /* a stop may begin behind what min_tokens asked for */
    }
}
