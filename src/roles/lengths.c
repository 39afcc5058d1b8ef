#include "roles/lengths.h"

#include "base/mem.h"
#include "roles/feeder.h"

#include <stdlib.h>

struct reading {
    const struct inputs *in;
    double tokens;
    struct lengths *l;
};

/* Samples of a prompt find its full blocks in the cache. */
static void add_row(void *context, const struct fed *fed)
{
    struct reading *r = context;
    struct lengths *l = r->l;
    uint64_t samples = job_decoded(&r->in->job);
    if (fed->error)
        return;
    size_t room = fed->prompt_only ? 0 : fed->limit - fed->n;
    size_t tokens = r->tokens > 0 && r->tokens < (double)room ? (size_t)r->tokens : room;
    for (uint64_t i = 0; i < samples; i++, l->n++) {
        bool shared = i > 0 && r->in->job.schedule.share;
        l->prompt[l->n] = (uint32_t)(shared ? (fed->n - 1) % KV_BLOCK + 1 : fed->n);
        l->completion[l->n] = (uint32_t)tokens;
        l->context += (double)fed->n + (double)tokens / 2;
    }
}

int lengths_read(struct lengths *l, const struct inputs *in, double tokens, struct err *e)
{
    const struct feeder_job job = {.job = &in->job,
                                   .prompting = &in->prompting,
                                   .prompts = in->prompts,
                                   .file = &in->prompts_file,
                                   .max_context = in->max_context};
    struct reading r = {in, tokens, l};
    *l = (struct lengths){.prompt = mem_new((size_t)in->units, sizeof *l->prompt),
                          .completion = mem_new((size_t)in->units, sizeof *l->completion)};
    if (feeder_survey(&job, in->n_prompts, add_row, &r, e) != FEEDER_FINE)
        return -1;
    if (l->n == 0)
        return err_set(e, "%s: no prompt of %s can be decoded", in->job.path, in->job.prompts.file);
    l->context /= (double)l->n;
    return 0;
}

void lengths_make(struct lengths *l, size_t n, uint32_t prompt, uint32_t completion)
{
    *l = (struct lengths){.prompt = mem_new(n, sizeof *l->prompt),
                          .completion = mem_new(n, sizeof *l->completion),
                          .n = n,
                          .context = prompt + completion / 2.0};
    for (size_t i = 0; i < n; i++) {
        l->prompt[i] = prompt;
        l->completion[i] = completion;
    }
}

void lengths_free(struct lengths *l)
{
    free(l->prompt);
    free(l->completion);
    *l = (struct lengths){0};
}
