/* perplexity JOB.yaml [--set KEY=VALUE]... - how well the model predicts texts, in the job's
 * precision.
 *
 * Every row of the job's prompts file is a text (with the job's template and bos); each of its
 * tokens is predicted from those before it, through the same operations as a run uses, and the end
 * token after the last. Prints tokens, mean negative log likelihood in nats, and perplexity.
 * Colocated, one rank.
 */
#include "base/mem.h"
#include "roles/engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct score {
    struct inputs in;
    struct engine g;
    struct micro_batch plan;
    struct sample_params *params;
    float *logits;
    double nats;
    size_t n;
};

static void open_score(struct score *s, const char *job, const char *const *set, size_t n)
{
    struct err e = {{0}};
    if (inputs_open_alone(&s->in, job, set, n, &e) != 0)
        die("%s", e.text);
    struct place place = place_of(&s->in.job.layout, 0);
    int threads = s->in.job.threads > 0 ? s->in.job.threads : 1;
    place.ffn = true;
    s->in.job.micro_batches = engine_micro_batches(&s->in.job, false);
    if (engine_plan(&s->g, &s->in, &place, threads, exchange_find("local"), &e) != 0)
        die("%s", e.text);
    struct engine_tenant all = engine_tenant(&s->g);
    if (engine_plan_kv(&s->g, &all, &e) != 0)
        die("%s", e.text);
    engine_load(&s->g, MPI_COMM_NULL, NULL, NULL);
    size_t rows = (size_t)schedule_most_sampled(&s->g.limits);
    s->params = mem_zeroed(rows, sizeof *s->params);
    s->logits = mem_new(mem_mul(rows, s->in.model.vocab), sizeof *s->logits);
}

/* All n tokens of one text as one segment whose every row is sampled. */
static void make_plan(struct score *s, int32_t *tokens, int n)
{
    static int32_t seg_row[2], seg_pos[1];
    struct micro_batch *p = &s->plan;
    *p = (struct micro_batch){.rows = n, .segments = 1, .max_rows = n, .max_context = n};
    p->n_sampled = n;
    p->token = tokens;
    p->seg_row = seg_row;
    p->seg_pos = seg_pos;
    p->seg_row[1] = n;
    p->row_seg = mem_zeroed((size_t)n, sizeof(int32_t));
    p->row_pos = mem_new((size_t)n, sizeof(int32_t));
    p->sampled_row = mem_new((size_t)n, sizeof(int32_t));
    int stride = schedule_blocks_stride(&s->g.limits);
    p->blocks = mem_zeroed((size_t)stride, sizeof(int32_t));
    for (int i = 0; i < n; i++)
        p->row_pos[i] = p->sampled_row[i] = i;
    for (int i = 0; i < stride; i++)
        p->blocks[i] = i;
}

static void run_plan(struct score *s)
{
    struct engine *g = &s->g;
    int layers = (int)s->in.model.layers;
    g->exchange_ops->begin(g->exchange, &s->plan.rows);
    attention_plan(g->attention, 0, &s->plan, s->params);
    attention_begin(g->attention, 0);
    for (int layer = 0; layer < layers; layer++) {
        attention_collect(g->attention, 0, layer);
        attention_layer(g->attention, 0, layer);
        attention_dispatch(g->attention, 0, layer);
        if (ffn_receive(g->ffn, 0, layer)) {
            ffn_layer(g->ffn, 0, layer);
            ffn_reply(g->ffn, 0, layer);
        }
    }
    attention_collect(g->attention, 0, layers);
    attention_sample(g->attention, 0, s->logits);
    g->exchange_ops->end(g->exchange);
    free(s->plan.row_seg);
    free(s->plan.row_pos);
    free(s->plan.sampled_row);
    free(s->plan.blocks);
}

/* -log softmax(logits)[token], in double. */
static double nats_of(const float *logits, size_t vocab, int32_t token)
{
    double most = logits[0], sum = 0;
    for (size_t i = 1; i < vocab; i++)
        most = logits[i] > most ? logits[i] : most;
    for (size_t i = 0; i < vocab; i++)
        sum += exp(logits[i] - most);
    return log(sum) + most - logits[token];
}

static void score_row(struct score *s, size_t row)
{
    struct prompt prompt;
    struct err e;
    int32_t *tokens;
    size_t n, vocab = s->in.model.vocab;
    if (prompts_read(s->in.prompts, row, &prompt, &e) != 0 ||
        prompting_encode(&s->in.prompting, &prompt, &tokens, &n, &e) != 0)
        die("row %zu: %s", row, e.text);
    prompt_free(&prompt);
    if (n > (size_t)schedule_most_sampled(&s->g.limits))
        die("row %zu has %zu tokens; schedule.slots must be at least as many", row, n);
    make_plan(s, tokens, (int)n);
    run_plan(s);
    for (size_t i = 0; i < n; i++) {
        int32_t next = i + 1 < n ? tokens[i + 1] : s->in.model.eos[0];
        s->nats += nats_of(s->logits + i * vocab, vocab, next);
    }
    s->n += n;
    free(tokens);
}

int main(int argc, char **argv)
{
    static struct score s;
    const char **set = mem_new((size_t)argc, sizeof *set);
    const char *job = NULL;
    size_t n = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--set") == 0 && i + 1 < argc)
            set[n++] = argv[++i];
        else
            job = argv[i];
    }
    if (!job)
        die("usage: perplexity JOB.yaml [--set KEY=VALUE]...");
    open_score(&s, job, set, n);
    for (uint64_t row = 0; row < s.in.n_prompts; row++)
        score_row(&s, (size_t)(s.in.job.prompts.first + row));
    printf("%zu tokens, %.5f nats per token, perplexity %.4f\n", s.n, s.nats / (double)s.n,
           exp(s.nats / (double)s.n));
    engine_close(&s.g);
    inputs_close(&s.in);
    free(set);
    return 0;
}
