/* request_format.c - completions with a format, perhaps behind a reasoning that is free. */
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
    r->phase = !c->reasoning_end              ? PHASE_FORMAT
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

/* Has the end of the reasoning come with the text from `before` on? The format begins behind the
 * token, so that what else the token spells needs no place in it. */
static void find_end(struct request *r, size_t before)
{
    const char *end = r->context->reasoning_end;
    size_t n = strlen(end), from = before > n - 1 ? before - (n - 1) : 0;
    if (!r->n_text || !memmem(r->text + from, r->n_text - from, end, n))
        return;
    r->phase = PHASE_FORMAT;
    r->format_from = r->n_text;
}

void request_format_see(struct request *r, int32_t token, size_t before)
{
    if (r->phase == PHASE_FORMAT) {
        feed(r, token);
    } else if (r->phase == PHASE_REASONING) {
        find_end(r, before);
    } else if (r->phase == PHASE_MAY_OPEN && token != r->think_begin.tokens[0]) {
        r->phase = PHASE_FORMAT;
        feed(r, token);
    } else { /* the marker's tokens follow each other */
        r->opened++;
        r->phase = r->opened < r->think_begin.n ? PHASE_OPENING : PHASE_REASONING;
    }
}

/* Tokens with which the text can still become whole, and the end when it is. */
void request_format_mask(struct request *r, const struct sequence *q, uint32_t *bits, size_t words)
{
    struct follow_state s = follow_state(r->follow);
    bool early = s.may_go_on && q->n_tokens - q->n_prompt < (size_t)r->min_tokens;
    for (size_t i = 0; i < words; i++)
        bits[i] = s.mask[i] & (r->allow ? r->allow[i] : UINT32_MAX);
    for (int i = 0; i < r->context->n_eos && s.may_end && !early; i++)
        bits[r->context->eos[i] / 32] |= 1u << (r->context->eos[i] % 32);
    if (r->phase == PHASE_MAY_OPEN)
        bits[r->think_begin.tokens[0] / 32] |= 1u << (r->think_begin.tokens[0] % 32);
}
