#include "roles/scoring.h"

#include "base/mem.h"
#include "roles/request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void scoring_open(struct sequence *q, size_t score_from)
{
    size_t top = (size_t)request_logprobs(q->request) * (q->limit - q->n_prompt);
    size_t scored = score_from ? q->n_prompt - score_from : 0;
    q->top = request_logprobs(q->request);
    q->top_tokens = mem_new(top, sizeof *q->top_tokens);
    q->top_logprobs = mem_new(top, sizeof *q->top_logprobs);
    q->score_from = score_from;
    q->scores = mem_new(scored, sizeof *q->scores);
    q->likeliest = mem_new(scored, sizeof *q->likeliest);
    int k = scored ? request_prompt_logprobs(q->request) : 0;
    q->prompt_top = k > 0 ? k : 0;
    q->prompt_tokens = mem_new(mem_mul(scored, (size_t)q->prompt_top), sizeof *q->prompt_tokens);
    q->prompt_logprobs =
        mem_new(mem_mul(scored, (size_t)q->prompt_top), sizeof *q->prompt_logprobs);
}

void scoring_want(const struct sequence *q, size_t next, int i, struct score_wanted *wanted)
{
    bool known = next < q->n_prompt;
    int k = !known ? q->top : q->prompt_top > 1 ? q->prompt_top : 1;
    wanted->targets[i] = known ? q->tokens[next] : -1;
    wanted->any = wanted->any || k > 0;
    wanted->k = k > wanted->k ? k : wanted->k;
}

void scoring_take_known(struct sequence *q, size_t token, const struct scores *s, int i)
{
    size_t at = token - q->score_from, from = (size_t)i * (size_t)s->k, n = (size_t)q->prompt_top;
    q->scores[at] = s->own[i];
    q->likeliest[at] = s->top[from] == q->tokens[token];
    if (n == 0)
        return;
    memcpy(q->prompt_tokens + at * n, s->top + from, n * sizeof *q->prompt_tokens);
    memcpy(q->prompt_logprobs + at * n, s->top_logprobs + from, n * sizeof *q->prompt_logprobs);
}

void scoring_take_drawn(struct sequence *q, const struct scores *s, int i)
{
    size_t at = (q->n_tokens - q->n_prompt) * (size_t)q->top, from = (size_t)i * (size_t)s->k,
           n = (size_t)q->top;
    if (n == 0)
        return;
    memcpy(q->top_tokens + at, s->top + from, n * sizeof *q->top_tokens);
    memcpy(q->top_logprobs + at, s->top_logprobs + from, n * sizeof *q->top_logprobs);
}

bool scoring_is_broken(const struct sequence *q)
{
    for (size_t i = 0; q->score_from && i < q->n_prompt - q->score_from; i++)
        if (isnan(q->scores[i]))
            return true;
    return false;
}

static void sum_scores(const struct sequence *q, struct completion *c)
{
    c->greedy = c->n_scored > 0;
    for (uint32_t i = 0; i < c->n_scored; i++) {
        c->score += (double)q->scores[i];
        c->greedy = c->greedy && q->likeliest[i];
    }
}

void scoring_hand_over(struct sequence *q, struct completion *c)
{
    c->n_top = c->n_tokens * (uint32_t)q->top;
    c->top_tokens = q->top_tokens;
    c->top_logprobs = q->top_logprobs;
    c->n_scored = q->score_from ? (uint32_t)(q->n_prompt - q->score_from) : 0;
    c->prompt_logprobs = q->scores;
    c->n_prompt_top = c->n_scored * (uint32_t)q->prompt_top;
    c->prompt_top_tokens = q->prompt_tokens;
    c->prompt_top_logprobs = q->prompt_logprobs;
    sum_scores(q, c);
    q->top_tokens = q->prompt_tokens = NULL;
    q->top_logprobs = q->scores = q->prompt_logprobs = NULL;
}
