#include "roles/request_values.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct logit_edit *append_edit(struct logit_changes *out, int row, int32_t token)
{
    if (out->n_edits == out->room_edits) {
        out->room_edits = out->room_edits ? 2 * out->room_edits : 64;
        out->edits = mem_resize(out->edits, (size_t)out->room_edits, sizeof *out->edits);
    }
    out->edits[out->n_edits] = (struct logit_edit){row, token, 0, 1, 0};
    return &out->edits[out->n_edits++];
}

/* The edit of a token that may have one already, among those from `first` on: of what is counted add_penalties()
 * knows where it is, the others are few. */
static struct logit_edit *edit_of(const struct request *r, struct logit_changes *out, int first,
                                  int row, int32_t token)
{
    int others = first;
    if (request_has_penalties(r) && r->n_counts > 0) {
        const struct token_count *count = request_find_count(r, token);
        if (count->used)
            return &out->edits[count->edit];
        others += (int)r->n_counts;
    }
    for (int i = others; i < out->n_edits; i++)
        if (out->edits[i].token == token)
            return &out->edits[i];
    return append_edit(out, row, token);
}

/* Every token that has a penalty is there once, before all others of the row. */
static void add_penalties(struct request *r, int row, struct logit_changes *out)
{
    for (size_t i = 0; i < r->room_counts; i++) {
        struct token_count *count = &r->counts[i];
        if (!count->used)
            continue;
        count->edit = (uint32_t)out->n_edits;
        struct logit_edit *edit = append_edit(out, row, count->token);
        edit->repeat = r->repetition;
        if (count->completion)
            edit->less = r->frequency * (float)count->completion + r->presence;
    }
}

/* The same of the guesses before the row: as if they had been drawn. */
static void add_guessed(struct request *r, const struct sequence *q, size_t n, int first, int row,
                        struct logit_changes *out)
{
    for (size_t i = q->n_tokens; i < n; i++) {
        int32_t token = q->tokens[i];
        struct logit_edit *edit = edit_of(r, out, first, row, token);
        uint32_t count = request_count(r, token);
        for (size_t j = q->n_tokens; j < n; j++)
            count += q->tokens[j] == token;
        edit->repeat = r->repetition;
        edit->less = r->frequency * (float)count + r->presence;
    }
}

/* Do the tokens of the run but the last stand at the end of the first n tokens? */
static bool comes_next(const struct token_run *run, const struct sequence *q, size_t n)
{
    size_t before = run->n - 1;
    return n - q->n_prompt >= before &&
           memcmp(q->tokens + n - before, run->tokens, before * sizeof *run->tokens) == 0;
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

/* The token that the reasoning's beginning or end needs behind `known` tokens, whose place is `at`, or -1. */
static int32_t forced(const struct request *r, const struct sequence *q, size_t known,
                      const struct format_place *at)
{
    size_t n = known - q->n_prompt, budget = (size_t)r->thinking_tokens;
    const struct token_run *end = &r->think_end;
    if (r->follow && at->phase == PHASE_OPENING)
        return r->think_begin.tokens[at->opened];
    if (r->thinking_tokens < 0 || n < budget || n - budget >= end->n ||
        (r->follow && at->phase != PHASE_REASONING))
        return -1;
    const int32_t *completion = q->tokens + q->n_prompt;
    for (size_t i = 0; i + end->n <= budget; i++)
        if (memcmp(completion + i, end->tokens, end->n * sizeof *completion) == 0)
            return -1; /* it has ended */
    return end->tokens[n - budget];
}

int request_forced(struct request *r, const struct sequence *q, int32_t *tokens, int most,
                   int *sure)
{
    int32_t list[FOLLOW_FORCED];
    int n = 0;
    *sure = 0;
    if (!r->follow && r->thinking_tokens < 0)
        return 0;
    request_see(r, q);
    if (r->follow && r->place.phase == PHASE_FORMAT) {
        n = follow_forced(r->follow, list, sure);
        n = n < most ? n : most;
        memcpy(tokens, list, (size_t)n * sizeof *tokens);
        *sure = *sure < n ? *sure : n;
        return n;
    }
    struct format_place at = r->place;
    for (int32_t token; n < most; n++) {
        if ((token = forced(r, q, q->n_tokens + (size_t)n, &at)) < 0)
            break;
        tokens[n] = token;
        at.opened++;
        if (at.phase == PHASE_OPENING && at.opened == r->think_begin.n)
            break;
    }
    *sure = n;
    return n;
}

void request_change(struct request *r, const struct sequence *q, size_t n, int row,
                    struct logit_changes *out)
{
    int first = out->n_edits;
    size_t words = ((size_t)r->context->vocab + 31) / 32;
    if (!request_changes(r))
        return;
    request_see(r, q);
    int32_t token = forced(r, q, n, request_format_place(r, q, n));
    if (token >= 0) {
        add_mask(out, row, words)[token / 32] = 1u << (token % 32);
        return;
    }
    if (request_has_penalties(r)) {
        add_penalties(r, row, out);
        add_guessed(r, q, n, first, row, out);
    }
    for (int i = 0; i < r->n_biases; i++)
        edit_of(r, out, first, row, r->biases[i].token)->bias += r->biases[i].value;
    for (int i = 0; i < r->n_bans; i++)
        if (comes_next(&r->bans[i], q, n))
            edit_of(r, out, first, row, r->bans[i].tokens[r->bans[i].n - 1])->bias = -INFINITY;
    bool reasons = r->follow && request_format_place(r, q, n)->phase == PHASE_REASONING;
    if (reasons || (!r->follow && n - q->n_prompt < (size_t)r->min_tokens))
        for (int i = 0; i < r->n_stop_ids; i++)
            edit_of(r, out, first, row, r->stop_ids[i])->bias = -INFINITY;
    if (r->follow && !reasons)
        request_format_mask(r, q, n, add_mask(out, row, words), words);
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
