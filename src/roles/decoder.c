#include "roles/decoder.h"

#include "base/clock.h"
#include "base/mem.h"
#include "output/journal.h"
#include "roles/scoring.h"
#include "schedule/bucket.h"
#include "schedule/draft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void decoder_open(struct decoder *d, const struct inputs *in, const struct schedule_limits *limits,
                  int rank, struct bytes *finished)
{
    const struct feeder_job job = {
        .job = &in->job,
        .prompting = &in->prompting,
        .prompts = in->prompts,
        .file = &in->prompts_file,
        .max_context = limits->max_context,
    };
    *d = (struct decoder){
        .job = &in->job,
        .prompting = &in->prompting,
        .feeder = feeder_open(&job),
        .schedule = schedule_new(limits),
        .rank = rank,
        .finished = finished,
        .drafts = limits->draft_rows > 0 ? in->job.speculate.tokens : 0,
        .planned = clock_now(),
    };
}

void decoder_close(struct decoder *d)
{
    feeder_close(d->feeder);
    schedule_free(d->schedule);
    *d = (struct decoder){0};
}

static uint64_t prompt_of(const struct decoder *d, uint64_t unit)
{
    return d->job->prompts.first + unit / job_decoded(d->job);
}

/* Takes over what the completion points to. */
static void file_completion(struct decoder *d, struct completion *c)
{
    c->prompt = (int64_t)prompt_of(d, c->unit);
    c->sample = (int32_t)(c->unit % job_decoded(d->job));
    c->rank = d->rank;
    journal_put(d->finished, RECORD_COMPLETION, c->unit, &completion_table, c, 1);
    d->n_finished++;
    d->n_tokens += c->n_tokens;
    table_free(&completion_table, c);
}

/* Takes over id and text of the error. */
static void file_error(struct decoder *d, uint64_t unit, char *id, size_t n_prompt, char *error)
{
    struct completion c = {
        .unit = unit,
        .id = id,
        .finish = FINISH_ERROR,
        .error = error,
        .n_prompt_tokens = (uint32_t)n_prompt,
        .admitted = clock_wall(),
    };
    file_completion(d, &c);
}

/* Appends what is known of the completion. More than the limit allows cannot come from this job. */
static void take_up(struct sequence *q, const struct piece *begun)
{
    if (q->n_prompt + begun->n_tokens >= q->limit)
        die("unit %llu: %u tokens were sampled before, but at most %zu can be",
            (unsigned long long)q->unit, begun->n_tokens, q->limit - q->n_prompt);
    memcpy(q->tokens + q->n_prompt, begun->tokens, begun->n_tokens * sizeof *q->tokens);
    memcpy(q->logprobs, begun->logprobs, begun->n_tokens * sizeof *q->logprobs);
    if (begun->n_top != begun->n_tokens * (uint32_t)q->top)
        die("unit %llu: %u likeliest tokens were kept of %u", (unsigned long long)q->unit,
            begun->n_top, begun->n_tokens);
    if (begun->n_top) {
        memcpy(q->top_tokens, begun->top_tokens, begun->n_top * sizeof *q->top_tokens);
        memcpy(q->top_logprobs, begun->top_logprobs, begun->n_top * sizeof *q->top_logprobs);
    }
    q->n_tokens = q->n_prompt + begun->n_tokens;
    q->saved = begun->n_tokens;
    q->admitted = begun->admitted;
    q->first_token = begun->first_token;
}

void decoder_accept(struct decoder *d, uint64_t unit, const struct piece *begun)
{
    feeder_put(d->feeder, unit, begun);
}

/* Do steps with the sequence do more than those of others? */
static bool differs(const struct sequence *q)
{
    return request_changes(q->request) || q->top > 0 || q->score_from > 0;
}

static void submit(struct decoder *d, const struct fed *fed)
{
    struct sequence *q = mem_zeroed(1, sizeof *q);
    q->unit = fed->unit;
    q->id = fed->id;
    q->tokens = mem_resize(fed->tokens, fed->limit, sizeof *fed->tokens);
    q->logprobs = mem_new(fed->limit - fed->n, sizeof *q->logprobs);
    q->n_prompt = q->n_tokens = fed->n;
    q->limit = fed->limit;
    q->prompt_only = fed->prompt_only;
    q->request = fed->request;
    q->free_request = request_free;
    scoring_open(q, fed->score_from);
    d->changing += differs(q);
    q->admitted = clock_wall();
    if (fed->with)
        take_up(q, fed->with);
    schedule_submit(d->schedule, q);
}

int decoder_feed(struct decoder *d)
{
    struct fed fed;
    while (feeder_take(d->feeder, &fed)) {
        if (fed.error)
            file_error(d, fed.unit, fed.id, fed.n, fed.error);
        else
            submit(d, &fed);
    }
    return feeder_coming(d->feeder);
}

static void save(void *context, struct sequence *q)
{
    struct decoder *d = context;
    size_t n = q->n_tokens - q->n_prompt - q->saved;
    if (n == 0)
        return;
    const struct piece p = {
        .unit = q->unit,
        .begin = (uint32_t)q->saved,
        .n_tokens = (uint32_t)n,
        .admitted = q->admitted,
        .first_token = q->first_token,
        .tokens = q->tokens + q->n_prompt + q->saved,
        .logprobs = q->logprobs + q->saved,
        .n_top = (uint32_t)(n * (size_t)q->top),
        .top_tokens = q->top_tokens + q->saved * (size_t)q->top,
        .top_logprobs = q->top_logprobs + q->saved * (size_t)q->top,
    };
    journal_put(d->finished, RECORD_PIECE, q->unit, &piece_table, &p, 1);
    q->saved += n;
}

void decoder_save(struct decoder *d)
{
    schedule_visit(d->schedule, save, d);
}

/* Of a sequence's tokens, those that MTP layers need not have seen. */
#define HOLES 8

/* Tokens that can be no others go before what was guessed, and are guessed behind. */
static void draft(void *context, struct sequence *q)
{
    struct decoder *d = context;
    int32_t list[FOLLOW_FORCED], *next = q->tokens + q->n_tokens;
    q->n_drafts = 0;
    if (d->drafts == 0 || q->computed + 1 != q->n_tokens || q->prompt_only)
        return;
    int most = draft_room(q, d->drafts), sure;
    int n = request_forced(q->request, q, list, most < FOLLOW_FORCED ? most : FOLLOW_FORCED, &sure);
    size_t forced = (size_t)(d->guesses != DRAFT_NONE ? n : sure), guessed = 0;
    if (d->guesses == DRAFT_MTP && HOLES * q->holes <= q->n_tokens) {
        guessed = q->n_guessed;
        d->filled++;
    }
    if (memcmp(next, list, (forced < guessed ? forced : guessed) * sizeof *next) != 0)
        guessed = 0;
    memcpy(next, list, forced * sizeof *next);
    q->n_drafts = guessed > forced ? guessed : forced;
    if (d->guesses == DRAFT_GRAM)
        draft_from_grams(q, most);
}

/* Masks behind the guesses that are in the step are worked out beside it. */
static void tell_guesses(struct decoder *d, const struct micro_batch *batch)
{
    for (int i = 0, end; i < batch->n_sampled; i = end) {
        int slot = batch->sampled_slot[i], guesses = -1;
        struct sequence *q = schedule_sequence(d->schedule, slot);
        for (end = i; end < batch->n_sampled && batch->sampled_slot[end] == slot; end++)
            guesses += batch_next(batch, end) >= q->n_prompt;
        if (guesses > 0)
            request_guess(q->request, q, guesses);
    }
}

/* Of the time of a step, for what formats leave no choice for; and at most, in seconds, as a step may have been
 * held up by a disk or by another rank. */
#define WAIT_SHARE 0.05
#define WAIT_MOST  0.02

const struct micro_batch *decoder_plan(struct decoder *d, enum draft_kind guesses)
{
    double before = d->planned;
    d->planned = clock_now();
    d->guesses = guesses;
    d->filled = 0;
    if (d->drafts > 0 && guesses != DRAFT_NONE && d->prompting->formats && d->changing > 0)
        formats_wait(d->prompting->formats, fmin(WAIT_SHARE * (d->planned - before), WAIT_MOST));
    schedule_visit(d->schedule, draft, d);
    const struct micro_batch *plan = schedule_plan(d->schedule);
    for (int m = 0; d->drafts > 0 && d->changing > 0 && m < d->job->micro_batches; m++)
        tell_guesses(d, &plan[m]);
    return plan;
}

void decoder_changes(const struct decoder *d, const struct micro_batch *batch,
                     struct logit_changes *changes)
{
    changes->n_edits = changes->n_masks = 0;
    for (int i = 0; d->changing && i < batch->n_sampled; i++) {
        const struct sequence *q = schedule_sequence(d->schedule, batch->sampled_slot[i]);
        size_t next = batch_next(batch, i);
        if (next >= q->n_prompt)
            request_change(q->request, q, next, i, changes);
    }
}

void decoder_scores(const struct decoder *d, const struct micro_batch *batch,
                    struct score_wanted *wanted)
{
    wanted->any = false;
    wanted->k = 0;
    for (int i = 0; d->changing && i < batch->n_sampled; i++)
        scoring_want(schedule_sequence(d->schedule, batch->sampled_slot[i]), batch_next(batch, i),
                     i, wanted);
}

void decoder_guess_params(const struct decoder *d, const struct micro_batch *batch, int i,
                          struct sample_params *params)
{
    for (int j = 0; j < batch->n_sampled; j++) {
        const struct sequence *q = schedule_sequence(d->schedule, batch->sampled_slot[j]);
        params[j] = request_params(q->request, q, batch_next(batch, j) + 1 + (size_t)i);
    }
}

void decoder_params(const struct decoder *d, const struct micro_batch *batch,
                    struct sample_params *params)
{
    for (int i = 0; i < batch->n_sampled; i++) {
        const struct sequence *q = schedule_sequence(d->schedule, batch->sampled_slot[i]);
        size_t next = batch_next(batch, i);
        params[i] =
            next < q->n_prompt ? (struct sample_params){0} : request_params(q->request, q, next);
    }
}

static void finish(struct decoder *d, int slot, enum finish how)
{
    struct sequence *q = schedule_finish(d->schedule, slot);
    size_t n = q->n_tokens - q->n_prompt;
    d->changing -= differs(q);
    struct completion c = {
        .unit = q->unit,
        .id = q->id,
        .finish = how,
        .tokens = mem_new(n, sizeof(int32_t)),
        .logprobs = q->logprobs,
        .n_tokens = (uint32_t)n,
        .n_prompt_tokens = (uint32_t)q->n_prompt,
        .admitted = q->admitted,
        .first_token = q->first_token,
        .last_token = clock_wall(),
    };
    scoring_hand_over(q, &c);
    request_text(q->request, q, how == FINISH_STOP, &c.text, &c.reasoning);
    memcpy(c.tokens, q->tokens + q->n_prompt, n * sizeof *c.tokens);
    q->logprobs = NULL; /* the completion has them now */
    q->id = NULL;
    file_completion(d, &c);
    sequence_free(q);
}

/* The model gave no number: the sequence ends as an error row, the job goes on. */
static void finish_broken(struct decoder *d, int slot)
{
    struct sequence *q = schedule_finish(d->schedule, slot);
    struct err e;
    d->changing -= differs(q);
    if (request_changes(q->request))
        err_set(
            &e,
            "no token is left to draw for token %zu (ban, allow, format), or the model's logits "
            "are not numbers",
            q->n_tokens);
    else
        err_set(&e,
                "the model's logits for token %zu are not numbers (NaN); "
                "check the weights, or try precision.activations: f32",
                q->n_tokens);
    file_error(d, q->unit, q->id, q->n_prompt, mem_string(e.text));
    q->id = NULL;
    sequence_free(q);
}

/* The sequence in `slot` has drawn a token. True: it goes on. */
static bool take(struct decoder *d, int slot, int32_t token, float logprob)
{
    struct sequence *q = schedule_sequence(d->schedule, slot);
    if (token < 0 || (q->n_tokens == q->n_prompt && scoring_is_broken(q))) {
        finish_broken(d, slot);
        return false;
    }
    if (q->n_tokens == q->n_prompt)
        q->first_token = clock_wall();
    if (q->prompt_only) {
        finish(d, slot, FINISH_LENGTH);
        return false;
    }
    q->logprobs[q->n_tokens - q->n_prompt] = logprob;
    q->tokens[q->n_tokens++] = token;
    d->drawn++;
    enum request_end end = request_ends(q->request, q);
    if (end != REQUEST_GOES_ON)
        finish(d, slot, end == REQUEST_STOPS ? FINISH_STOP : FINISH_REPETITION);
    else if (q->n_tokens == q->limit)
        finish(d, slot, FINISH_LENGTH);
    else
        return true;
    return false;
}

/* What was guessed behind sampled row i, the last one whose draw counts. */
static void keep_guesses(struct sequence *q, const struct micro_batch *batch, int i,
                         const int32_t *guesses)
{
    size_t room = q->limit - 1 - q->n_tokens;
    q->n_guessed = 0;
    for (int x = 0; guesses && x < batch->depth && q->n_guessed < room; x++) {
        int32_t token = guesses[x * bucket_of(batch).sampled + i];
        if (token < 0)
            return;
        q->tokens[q->n_tokens + q->n_guessed++] = token;
    }
}

/* Rows of one slot stand together: of its prompt those before scored tokens, that of its last known
 * token, then the guesses behind it. A guess's row is worth something when the row before has drawn just
 * that. */
void decoder_take(struct decoder *d, const struct micro_batch *batch, const int32_t *tokens,
                  const float *logprobs, const struct scores *scores, const int32_t *guesses)
{
    for (int i = 0, end; i < batch->n_sampled; i = end) {
        int slot = batch->sampled_slot[i];
        for (end = i + 1; end < batch->n_sampled && batch->sampled_slot[end] == slot; end++)
            ;
        for (; i < end; i++) {
            struct sequence *q = schedule_sequence(d->schedule, slot);
            size_t next = batch_next(batch, i);
            if (next < q->n_prompt) {
                scoring_take_known(q, next, scores, i);
                continue;
            }
            bool guessed = i + 1 < end && q->tokens[q->n_tokens] == tokens[i];
            if (guessed)
                schedule_accept(d->schedule, slot);
            scoring_take_drawn(q, scores, i);
            if (!take(d, slot, tokens[i], logprobs[i]))
                break;
            if (!guessed) {
                keep_guesses(q, batch, i, guesses);
                break;
            }
        }
    }
}
