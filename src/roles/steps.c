#include "roles/steps.h"

#include "base/clock.h"
#include "base/mem.h"
#include "roles/stop.h"
#include "schedule/admission.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ---- the step contract ---------------------------------------------------------------------- */

static bool is_writer(const struct steps *s)
{
    return s->comm->rank == s->comm->writer;
}

static uint64_t finished_everywhere(const struct steps *s)
{
    uint64_t n = 0;
    for (int i = 0; i < s->comm->size; i++)
        n += (uint64_t)s->all[i].finished;
    return n;
}

static int64_t tokens_everywhere(const struct steps *s)
{
    int64_t n = 0;
    for (int i = 0; i < s->comm->size; i++)
        n += s->all[i].tokens;
    return n;
}

/* The writer asks for a commit when it is time and there is something to seal. */
static bool wants_commit(const struct steps *s)
{
    return is_writer(s) && finished_everywhere(s) > s->sealed &&
           clock_now() - s->last_commit >= s->in->job.output.commit_seconds;
}

static bool over_time(const struct steps *s)
{
    double limit = s->in->job.schedule.time_limit;
    return limit > 0 && clock_now() - s->started >= limit;
}

static void agree_on_step(struct steps *s)
{
    struct contract mine = {0};
    double start = clock_now();
    if (s->decoder) {
        s->plan = schedule_plan(s->decoder->schedule);
        for (int m = 0; m < s->in->job.micro_batches; m++)
            mine.rows[m] = s->plan[m].rows;
        mine.room = schedule_room(s->decoder->schedule);
        mine.busy = !schedule_idle(s->decoder->schedule);
        mine.running = schedule_running(s->decoder->schedule);
        mine.finished = s->decoder->n_finished;
        mine.tokens = s->decoder->n_tokens;
    }
    mine.stop = stop_wanted() || over_time(s);
    mine.commit = wants_commit(s);
    mine.fail = s->seal_failed;
    comm_contract(s->comm, &mine, s->all);
    trace_add(s->trace, TRACE_CONTRACT, s->step, -1, -1, start);
}

/* Does any rank say so? */
static bool anyone(const struct steps *s, size_t field)
{
    for (int i = 0; i < s->comm->size; i++) {
        int32_t value;
        memcpy(&value, (const char *)&s->all[i] + field, sizeof value);
        if (value)
            return true;
    }
    return false;
}

#define ANYONE(s, field) anyone(s, offsetof(struct contract, field))

/* ---- admission ------------------------------------------------------------------------------ */

/* Deals the next units to the attention ranks; this rank takes its own. They enter the next step.
 */
static void admit(struct steps *s)
{
    int n = s->in->job.layout.attention, total = 0, *room = mem_new((size_t)n, sizeof *room);
    for (int a = 0; a < n; a++) {
        room[a] = s->all[s->comm->world_of_attention[a]].room;
        total += room[a];
    }
    size_t most = s->units->left < (uint64_t)total ? (size_t)s->units->left : (size_t)total;
    int *owner = mem_new(most, sizeof *owner);
    size_t dealt = admission_deal(room, n, most, owner);
    for (size_t i = 0; i < dealt; i++) {
        uint64_t unit = units_take(s->units);
        if (s->decoder && owner[i] == s->comm->index)
            decoder_accept(s->decoder, unit);
    }
    free(owner);
    free(room);
}

/* ---- the layers ----------------------------------------------------------------------------- */

static void attention_layer(struct steps *s, int layer, int m)
{
    struct forward *f = s->engine->forward;
    if (s->plan[m].rows == 0)
        return;
    double t = clock_now();
    forward_collect(f, m, layer);
    t = trace_add(s->trace, TRACE_WAIT, s->step, layer, m, t);
    forward_attention(f, m, layer);
    t = trace_add(s->trace, TRACE_ATTENTION, s->step, layer, m, t);
    forward_dispatch(f, m, layer);
    trace_add(s->trace, TRACE_SEND, s->step, layer, m, t);
}

static void ffn_layer(struct steps *s, int layer, int m)
{
    struct forward *f = s->engine->forward;
    double t = clock_now();
    if (!forward_receive(f, m, layer))
        return;
    t = trace_add(s->trace, TRACE_WAIT, s->step, layer, m, t);
    forward_ffn(f, m, layer);
    t = trace_add(s->trace, TRACE_FFN, s->step, layer, m, t);
    forward_reply(f, m, layer);
    trace_add(s->trace, TRACE_SEND, s->step, layer, m, t);
}

/* While attention works on micro-batch m + 1, the FFN ranks work on m. A colocated rank does the
 * one after the other. */
static void all_layers(struct steps *s)
{
    int layers = (int)s->in->model.layers, micro_batches = s->in->job.micro_batches;
    for (int layer = 0; layer < layers; layer++)
        for (int m = 0; m < micro_batches; m++) {
            if (s->decoder)
                attention_layer(s, layer, m);
            if (s->engine->role.ffn)
                ffn_layer(s, layer, m);
        }
}

/* What the sampler returns for one micro-batch. */
struct sampled {
    struct sample_params *params;
    int32_t *tokens;
    float *logprobs;
};

static struct sampled sampled_new(const struct schedule_limits *limits)
{
    size_t n = (size_t)schedule_most_sampled(limits);
    return (struct sampled){mem_new(n, sizeof(struct sample_params)), mem_new(n, sizeof(int32_t)),
                            mem_new(n, sizeof(float))};
}

static void sampled_free(struct sampled *x)
{
    free(x->params);
    free(x->tokens);
    free(x->logprobs);
}

/* One micro-batch's tokens: the rows of the last layer come in, and the next tokens come out. */
static void sample(struct steps *s, int m, struct sampled *out)
{
    struct forward *f = s->engine->forward;
    const struct micro_batch *batch = &s->plan[m];
    if (batch->rows == 0)
        return;
    double t = clock_now();
    forward_collect(f, m, (int)s->in->model.layers);
    t = trace_add(s->trace, TRACE_WAIT, s->step, -1, m, t);
    decoder_params(s->decoder, batch, out->params);
    forward_sample(f, m, out->params, out->tokens, out->logprobs, NULL);
    trace_add(s->trace, TRACE_SAMPLE, s->step, -1, m, t);
}

static int count_rows(const struct steps *s, int *rows)
{
    int n = s->in->job.layout.attention, micro_batches = s->in->job.micro_batches, total = 0;
    for (int a = 0; a < n; a++)
        for (int m = 0; m < micro_batches; m++) {
            int r = s->all[s->comm->world_of_attention[a]].rows[m];
            rows[a * micro_batches + m] = r;
            total += r;
        }
    return total;
}

static void record_step(struct steps *s, const double *before, double start, int rows)
{
    const double *now = s->trace->total;
    struct step_timing t = {
        .step = (uint32_t)s->step,
        .rank = s->comm->rank,
        .rows = rows,
        .attention = (float)(now[TRACE_ATTENTION] - before[TRACE_ATTENTION] + now[TRACE_SAMPLE] -
                             before[TRACE_SAMPLE]),
        .ffn = (float)(now[TRACE_FFN] - before[TRACE_FFN]),
        .exchange = (float)(now[TRACE_SEND] - before[TRACE_SEND]),
        .wait = (float)(now[TRACE_WAIT] - before[TRACE_WAIT]),
        .total = (float)(clock_now() - start),
    };
    parcel_add_step(s->finished, &t);
}

/* Attention: rows of this rank; FFN: of all. */
static int own_rows(const struct steps *s, int total)
{
    int n = 0;
    if (!s->decoder)
        return total;
    for (int m = 0; m < s->in->job.micro_batches; m++)
        n += s->plan[m].rows;
    return n;
}

static void decode(struct steps *s, const int *rows, struct sampled *sampled)
{
    int micro_batches = s->in->job.micro_batches;
    struct engine *g = s->engine;
    g->exchange_ops->begin(g->exchange, rows);
    for (int m = 0; s->decoder && m < micro_batches; m++)
        forward_begin(g->forward, m, &s->plan[m]);
    all_layers(s);
    for (int m = 0; s->decoder && m < micro_batches; m++)
        sample(s, m, &sampled[m]);
    g->exchange_ops->end(g->exchange);
    if (!s->decoder)
        return;
    schedule_advance(s->decoder->schedule);
    for (int m = 0; m < micro_batches; m++)
        decoder_take(s->decoder, &s->plan[m], sampled[m].tokens, sampled[m].logprobs);
}

/* ---- commit --------------------------------------------------------------------------------- */

/* Collective: everything finished goes to the writer and is sealed. What could not be sealed stays
 * with the writer. */
static void commit(struct steps *s)
{
    size_t bytes, total;
    void *mine = parcel_pack(s->finished, &bytes), *all;
    double start = clock_now();
    comm_gather(s->comm, s->comm->writer, mine, bytes, &all, &total, NULL);
    free(mine);
    parcel_clear(s->finished);
    if (is_writer(s)) {
        parcel_unpack(s->finished, all, total);
        const struct parcel *p = s->finished;
        s->seal_failed =
            completions_seal(s->out, p->rows, p->n, p->steps, p->m, &s->seal_error) != 0;
        if (!s->seal_failed) {
            report_completions(s->report, p->rows, p->n);
            s->sealed += p->n;
            parcel_clear(s->finished);
        }
        s->last_commit = clock_now();
    }
    free(all);
    trace_add(s->trace, TRACE_COMMIT, s->step, -1, -1, start);
}

/* The last commit; the status all ranks leave with. */
static enum exit_status leave(struct steps *s, enum exit_status status)
{
    commit(s);
    int failed = s->seal_failed;
    comm_broadcast(s->comm, s->comm->writer, &failed, sizeof failed);
    return failed ? EXIT_RUN : status;
}

/* ---- the loop ------------------------------------------------------------------------------- */

static enum exit_status loop(struct steps *s, int *rows, struct sampled *sampled)
{
    double before[TRACE_KINDS];
    for (s->step = 0;; s->step++) {
        double start = clock_now();
        die_context_step(s->step);
        memcpy(before, s->trace->total, sizeof before);
        agree_on_step(s);
        if (s->progress)
            progress_update(s->progress, finished_everywhere(s), tokens_everywhere(s));
        if (ANYONE(s, fail))
            return EXIT_RUN;
        if (s->units->left == 0 && !ANYONE(s, busy))
            return leave(s, EXIT_DONE);
        if (ANYONE(s, stop))
            return leave(s, EXIT_UNFINISHED);
        if (ANYONE(s, commit))
            commit(s);
        admit(s);
        int total = count_rows(s, rows);
        if (total == 0)
            continue;
        decode(s, rows, sampled);
        record_step(s, before, start, own_rows(s, total));
    }
}

enum exit_status steps_run(struct steps *s)
{
    const struct job *job = &s->in->job;
    size_t table = mem_mul((size_t)job->layout.attention, MICRO_BATCHES_MAX);
    int *rows = mem_zeroed(table, sizeof *rows);
    struct sampled sampled[MICRO_BATCHES_MAX] = {{0}};
    s->all = mem_zeroed((size_t)s->comm->size, sizeof *s->all);
    s->last_commit = clock_now();
    for (int m = 0; s->decoder && m < job->micro_batches; m++)
        sampled[m] = sampled_new(&s->engine->limits);
    enum exit_status status = loop(s, rows, sampled);
    die_context_step(-1);
    for (int m = 0; s->decoder && m < job->micro_batches; m++)
        sampled_free(&sampled[m]);
    free(rows);
    free(s->all);
    s->all = NULL;
    return status;
}
