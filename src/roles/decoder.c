#include "roles/decoder.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/philox.h"
#include "output/journal.h"

#include <stdlib.h>
#include <string.h>

void decoder_open(struct decoder *d, const struct job *job, const struct prompting *prompting,
                  struct prompts *prompts, const struct schedule_limits *limits, int rank,
                  struct bytes *finished)
{
    *d = (struct decoder){
        .job = job,
        .prompting = prompting,
        .prompts = prompts,
        .schedule = schedule_new(limits),
        .limits = *limits,
        .rank = rank,
        .finished = finished,
    };
}

void decoder_close(struct decoder *d)
{
    schedule_free(d->schedule);
    *d = (struct decoder){0};
}

static uint64_t prompt_of(const struct decoder *d, uint64_t unit)
{
    return d->job->prompts.first + unit / (uint64_t)d->job->sampling.samples;
}

static char *id_of(const struct decoder *d, uint64_t unit)
{
    char *id = prompts_id(d->prompts, (size_t)prompt_of(d, unit));
    if (!id)
        die("the id of prompt %llu cannot be read", (unsigned long long)prompt_of(d, unit));
    return id;
}

/* Takes over what the completion points to. */
static void file_completion(struct decoder *d, struct completion *c)
{
    c->prompt = (int64_t)prompt_of(d, c->unit);
    c->sample = (int32_t)(c->unit % (uint64_t)d->job->sampling.samples);
    c->rank = d->rank;
    journal_put(d->finished, RECORD_COMPLETION, c->unit, &completion_table, c, 1);
    d->n_finished++;
    d->n_tokens += c->n_tokens;
    table_free(&completion_table, c);
}

static void file_error(struct decoder *d, uint64_t unit, size_t n_prompt, const struct err *e)
{
    struct completion c = {
        .unit = unit,
        .id = id_of(d, unit),
        .finish = FINISH_ERROR,
        .error = mem_string(e->text),
        .n_prompt_tokens = (uint32_t)n_prompt,
        .admitted = clock_wall(),
    };
    file_completion(d, &c);
}

/* Most tokens the sequence may come to; -1 when not even one new token fits. */
static int find_limit(const struct decoder *d, const struct prompt *prompt, size_t n, size_t *limit,
                      struct err *e)
{
    size_t context = d->limits.max_context;
    int wanted =
        prompt->max_new_tokens > 0 ? prompt->max_new_tokens : d->job->sampling.max_new_tokens;
    if (n >= context)
        return err_set(e, "the prompt has %zu tokens, but at most %zu fit the context of %zu", n,
                       context - 1, context);
    *limit = (size_t)wanted < context - n ? n + (size_t)wanted : context;
    return 0;
}

/* The unit's tokens and limit; the caller frees *tokens. */
static int read_unit(struct decoder *d, uint64_t unit, int32_t **tokens, size_t *n, size_t *limit,
                     struct err *e)
{
    struct prompt prompt;
    if (prompts_read(d->prompts, (size_t)prompt_of(d, unit), &prompt, e) != 0) {
        if (prompts_fault(d->prompts) != 0)
            die("%s", e->text); /* says nothing about the prompt: no error row */
        return -1;
    }
    int status = prompting_encode(d->prompting, &prompt, tokens, n, e);
    if (status == 0)
        status = find_limit(d, &prompt, *n, limit, e);
    prompt_free(&prompt);
    return status;
}

/* Appends what is known of the completion. More than the limit allows cannot come from this job. */
static void take_up(struct sequence *q, const struct piece *begun)
{
    if (q->n_prompt + begun->n_tokens >= q->limit)
        die("unit %llu: %u tokens were sampled before, but at most %zu can be",
            (unsigned long long)q->unit, begun->n_tokens, q->limit - q->n_prompt);
    memcpy(q->tokens + q->n_prompt, begun->tokens, begun->n_tokens * sizeof *q->tokens);
    memcpy(q->logprobs, begun->logprobs, begun->n_tokens * sizeof *q->logprobs);
    q->n_tokens = q->n_prompt + begun->n_tokens;
    q->saved = begun->n_tokens;
    q->admitted = begun->admitted;
    q->first_token = begun->first_token;
}

void decoder_accept(struct decoder *d, uint64_t unit, const struct piece *begun)
{
    int32_t *tokens = NULL;
    size_t n = 0, limit = 0;
    struct err e = {{0}};
    if (read_unit(d, unit, &tokens, &n, &limit, &e) != 0) {
        file_error(d, unit, n, &e);
        free(tokens);
        return;
    }
    struct sequence *q = mem_zeroed(1, sizeof *q);
    q->unit = unit;
    q->id = id_of(d, unit);
    q->tokens = mem_resize(tokens, limit, sizeof *tokens);
    q->logprobs = mem_new(limit - n, sizeof *q->logprobs);
    q->n_prompt = q->n_tokens = n;
    q->limit = limit;
    q->admitted = clock_wall();
    if (begun)
        take_up(q, begun);
    schedule_submit(d->schedule, q);
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
    };
    journal_put(d->finished, RECORD_PIECE, q->unit, &piece_table, &p, 1);
    q->saved += n;
}

void decoder_save(struct decoder *d)
{
    schedule_visit(d->schedule, save, d);
}

void decoder_params(const struct decoder *d, const struct micro_batch *batch,
                    struct sample_params *params)
{
    const struct job *job = d->job;
    uint64_t samples = (uint64_t)job->sampling.samples;
    for (int i = 0; i < batch->n_sampled; i++) {
        const struct sequence *q = schedule_sequence(d->schedule, batch->sampled_slot[i]);
        params[i] = (struct sample_params){
            .temperature = (float)job->sampling.temperature,
            .top_p = (float)job->sampling.top_p,
            .top_k = job->sampling.top_k,
            .uniform = philox_uniform(job->sampling.seed, prompt_of(d, q->unit),
                                      (uint32_t)(q->unit % samples), (uint32_t)q->n_tokens),
        };
    }
}

static void finish(struct decoder *d, int slot, enum finish how)
{
    struct sequence *q = schedule_finish(d->schedule, slot);
    size_t n = q->n_tokens - q->n_prompt, shown = how == FINISH_STOP ? n - 1 : n;
    struct completion c = {
        .unit = q->unit,
        .id = q->id,
        .finish = how,
        .text = prompting_decode(d->prompting, q->tokens + q->n_prompt, shown),
        .tokens = mem_new(n, sizeof(int32_t)),
        .logprobs = q->logprobs,
        .n_tokens = (uint32_t)n,
        .n_prompt_tokens = (uint32_t)q->n_prompt,
        .admitted = q->admitted,
        .first_token = q->first_token,
        .last_token = clock_wall(),
    };
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
    err_set(&e,
            "the model's logits for token %zu are not numbers (NaN); "
            "check the weights, or try precision.activations: f32",
            q->n_tokens);
    file_error(d, q->unit, q->n_prompt, &e);
    sequence_free(q);
}

void decoder_take(struct decoder *d, const struct micro_batch *batch, const int32_t *tokens,
                  const float *logprobs)
{
    for (int i = 0; i < batch->n_sampled; i++) {
        int slot = batch->sampled_slot[i];
        struct sequence *q = schedule_sequence(d->schedule, slot);
        if (tokens[i] < 0) {
            finish_broken(d, slot);
            continue;
        }
        if (q->n_tokens == q->n_prompt)
            q->first_token = clock_wall();
        q->logprobs[q->n_tokens - q->n_prompt] = logprobs[i];
        q->tokens[q->n_tokens++] = tokens[i];
        if (prompting_is_stop(d->prompting, tokens[i]))
            finish(d, slot, FINISH_STOP);
        else if (q->n_tokens == q->limit)
            finish(d, slot, FINISH_LENGTH);
    }
}
