/* request_format.c - completions with a format, perhaps behind a reasoning that is free. */
#include "base/mem.h"
#include "roles/request_values.h"

#include <stdlib.h>
#include <string.h>

bool request_is_eos(const struct request_context *c, int32_t token)
{
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == token)
            return true;
    return false;
}

void request_format_begin(struct request *r, const struct sequence *q)
{
    const struct request_context *c = r->context;
    r->place.phase = !c->reasoning_end              ? PHASE_FORMAT
                     : request_prompt_reasons(r, q) ? PHASE_REASONING
                     : c->reasoning_begin           ? PHASE_MAY_OPEN
                                                    : PHASE_FORMAT;
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

/* Has the end of the reasoning come with the text from `before` on? */
static bool has_end(const struct request *r, size_t before)
{
    const char *end = r->context->reasoning_end;
    size_t n = strlen(end), from = before > n - 1 ? before - (n - 1) : 0;
    return r->n_text && memmem(r->text + from, r->n_text - from, end, n);
}

/* Moves over one token; r->text has it, from `before` on. True: it is the format's. That begins behind the
 * token that ends the reasoning, so that what else the token spells needs no place in it. */
static bool move(const struct request *r, struct format_place *p, int32_t token, size_t before)
{
    if (p->phase == PHASE_FORMAT)
        return true;
    if (p->phase == PHASE_REASONING) {
        p->phase = has_end(r, before) ? PHASE_FORMAT : PHASE_REASONING;
        return false;
    }
    if (p->phase == PHASE_MAY_OPEN && token != r->think_begin.tokens[0]) {
        p->phase = PHASE_FORMAT;
        return true;
    }
    p->opened++; /* the marker's tokens follow each other */
    p->phase = p->opened < r->think_begin.n ? PHASE_OPENING : PHASE_REASONING;
    return false;
}

void request_format_see(struct request *r, int32_t token, size_t before)
{
    bool reasoned = r->place.phase == PHASE_REASONING;
    if (move(r, &r->place, token, before))
        feed(r, token);
    else if (reasoned && r->place.phase == PHASE_FORMAT)
        r->format_from = r->n_text;
}

/* The guesses' bytes, as far as they are the format's, behind each other. */
struct told {
    char *bytes;
    size_t n, *ends;
    int count;
};

static void tell(const struct request *r, struct told *t, int32_t token)
{
    char *text = NULL;
    size_t n = 0;
    tokenizer_decode(r->context->tokenizer, &token, 1, true, &text, &n);
    t->bytes = mem_resize(t->bytes, t->n + n + 1, 1);
    memcpy(t->bytes + t->n, text, n);
    t->n += n;
    t->ends[t->count++] = t->n;
    free(text);
}

void request_guess(struct request *r, const struct sequence *q, int n)
{
    if (!r->follow)
        return;
    request_see(r, q);
    size_t shown = r->n_text;
    struct told told = {.ends = mem_new((size_t)n, sizeof *told.ends)};
    struct format_place at = r->place;
    if (n > r->room_ahead) {
        r->room_ahead = n;
        r->ahead = mem_resize(r->ahead, (size_t)n, sizeof *r->ahead);
    }
    for (int i = 0; i < n; i++) {
        int32_t token = q->tokens[q->n_tokens + (size_t)i];
        size_t before = r->n_text;
        request_add_text(r, token);
        if (move(r, &at, token, before))
            tell(r, &told, token);
        at.fed = told.count;
        r->ahead[i] = at;
    }
    r->n_text = shown;
    follow_guess(r->follow, told.bytes, told.ends, told.count);
    free(told.bytes);
    free(told.ends);
}

const struct format_place *request_format_place(const struct request *r, const struct sequence *q,
                                                size_t n)
{
    return r->follow && n > q->n_tokens ? &r->ahead[n - q->n_tokens - 1] : &r->place;
}

/* Tokens with which the text can still become whole, and the end when it is. Behind a guess that may not
 * come nothing is drawn that counts. */
void request_format_mask(struct request *r, const struct sequence *q, size_t n, uint32_t *bits,
                         size_t words)
{
    const struct format_place *at = request_format_place(r, q, n);
    struct follow_state s = follow_state(r->follow, at->fed);
    bool early = s.may_go_on && n - q->n_prompt < (size_t)r->min_tokens;
    for (size_t i = 0; i < words; i++)
        bits[i] = (s.mask ? s.mask[i] : UINT32_MAX) & (r->allow ? r->allow[i] : UINT32_MAX);
    for (int i = 0; i < r->context->n_eos && s.may_end && !early; i++)
        bits[r->context->eos[i] / 32] |= 1u << (r->context->eos[i] % 32);
    if (at->phase == PHASE_MAY_OPEN)
        bits[r->think_begin.tokens[0] / 32] |= 1u << (r->think_begin.tokens[0] % 32);
}
