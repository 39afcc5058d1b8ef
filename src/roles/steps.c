#include "roles/steps.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "exchange/call.h"
#include "roles/agreement.h"
#include "roles/pacing.h"
#include "schedule/admission.h"
#include "schedule/bucket.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

bool steps_over_time(const struct job *job, double started)
{
    double limit = job->schedule.time_limit;
    return limit > 0 && clock_now() - started >= limit;
}

/* Does any rank say so? */
static bool anyone(const struct steps *s, size_t field)
{
    for (int i = 0; i < s->comm->cell.size; i++) {
        int32_t value;
        memcpy(&value, (const char *)&s->all[i] + field, sizeof value);
        if (value)
            return true;
    }
    return false;
}

#define ANYONE(s, field) anyone(s, offsetof(struct contract, field))

/* ---- the layers ----------------------------------------------------------------------------- */

/* What the next events are about: rows, and the bytes on the wire of all that travel, dead ones too: out to a
 * layer's FFN, and as partial sums back. An attention rank sends the one and waits for the other, of the layer
 * before. */
static void trace_rows(struct steps *s, bool ffn, int m, int layer)
{
    const struct exchange_shape *shape = &s->engine->shape;
    int rows = ffn ? s->sent_rows[m] : bucket_of(&s->plan[m]).rows;
    struct wire_bytes b = wire_bytes(shape, (size_t)rows);
    bool routed = (size_t)layer < shape->layers && shape->routed[layer];
    size_t out = b.rows + b.scales + (routed ? b.ids + b.weights : 0);
    size_t sums = (size_t)rows * shape->hidden * dtype_size(shape->combine);
    size_t back = ffn         ? sums
                  : layer > 0 ? sums * (size_t)layout_instances(&s->comm->place.layout)
                              : 0;
    s->trace->rows = ffn ? s->all_rows[m] : s->plan[m].rows;
    s->trace->sends = ffn ? back : out;
    s->trace->waits = ffn ? out : back;
}

static void run_attention(struct steps *s, int layer, int m)
{
    struct attention *f = s->engine->attention;
    if (s->plan[m].rows == 0)
        return;
    double t = clock_now();
    trace_rows(s, false, m, layer);
    if (layer < (int)s->in->model.layers)
        attention_collect(f, m, layer);
    t = trace_add(s->trace, TRACE_WAIT, s->step, layer, m, t);
    attention_layer(f, m, layer);
    t = trace_add(s->trace, TRACE_ATTENTION, s->step, layer, m, t);
    attention_dispatch(f, m, layer);
    trace_add(s->trace, TRACE_SEND, s->step, layer, m, t);
}

static void run_ffn(struct steps *s, int layer, int m)
{
    struct ffn *f = s->engine->ffn;
    double t = clock_now();
    trace_rows(s, true, m, layer);
    if (!ffn_receive(f, m, layer))
        return;
    if (!s->engine->backend->device->count)
        work_ffn(&s->work, layer, ffn_received(f, m));
    t = trace_add(s->trace, TRACE_WAIT, s->step, layer, m, t);
    ffn_layer(f, m, layer);
    t = trace_add(s->trace, TRACE_FFN, s->step, layer, m, t);
    ffn_reply(f, m, layer);
    trace_add(s->trace, TRACE_SEND, s->step, layer, m, t);
}

static void run_layer(struct steps *s, int layer, int m)
{
    if (s->decoder)
        run_attention(s, layer, m);
    if (s->engine->place.ffn)
        run_ffn(s, layer, m);
}

/* While attention works on micro-batch m + 1, the FFN ranks work on m. A colocated rank does the
 * one after the other. */
static void all_layers(struct steps *s)
{
    for (int layer = 0; layer < (int)s->in->model.layers; layer++)
        for (int m = 0; m < s->in->job.micro_batches; m++)
            run_layer(s, layer, m);
}

/* The rows of a micro-batch's last layer come in. */
static void finish_layers(struct steps *s, int m)
{
    int layers = (int)s->in->model.layers;
    if (s->plan[m].rows == 0)
        return;
    double t = clock_now();
    trace_rows(s, false, m, layers);
    attention_collect(s->engine->attention, m, layers);
    trace_add(s->trace, TRACE_WAIT, s->step, layers, m, t);
}

/* And its next tokens come out. */
static void sample(struct steps *s, int m)
{
    struct attention *f = s->engine->attention;
    if (s->plan[m].rows == 0)
        return;
    double t = clock_now();
    /* As late as it can be: masks of formats are worked out while the layers run (format/format.h). */
    decoder_changes(s->decoder, &s->plan[m], &s->changes);
    attention_change(f, m, &s->changes);
    attention_sample(f, m, NULL);
    s->trace->rows = s->plan[m].rows;
    trace_add(s->trace, TRACE_SAMPLE, s->step, -1, m, t);
}

/* Before draft i's layer: draft i - 1 is drawn, and x becomes the layer's input. */
static void draft(struct steps *s, int i, int m)
{
    struct attention *f = s->engine->attention;
    int layer = (int)s->in->model.layers + i;
    if (s->plan[m].rows == 0)
        return;
    double t = clock_now();
    trace_rows(s, false, m, layer);
    if (i > 0)
        attention_collect(f, m, layer);
    t = trace_add(s->trace, TRACE_WAIT, s->step, layer, m, t);
    attention_draft(f, m, i, NULL);
    trace_add(s->trace, TRACE_SAMPLE, s->step, -1, m, t);
}

/* Every draft is one more layer; none where the model makes none. */
static void all_drafts(struct steps *s)
{
    int layers = (int)s->in->model.layers, drafts = (int)s->in->model.drafts;
    for (int i = 0; i <= drafts && drafts > 0; i++)
        for (int m = 0; m < s->in->job.micro_batches; m++) {
            if (s->decoder)
                draft(s, i, m);
            if (i < drafts)
                run_layer(s, layers + i, m);
        }
}

static int count_rows(struct steps *s, int *rows)
{
    int n = s->in->job.layout.attention, micro_batches = s->in->job.micro_batches, total = 0;
    memset(s->all_rows, 0, sizeof s->all_rows);
    memset(s->sent_rows, 0, sizeof s->sent_rows);
    for (int a = 0; a < n; a++)
        for (int m = 0; m < micro_batches; m++) {
            int live = s->all[a].rows[m] - s->all[a].dead[m];
            rows[a * micro_batches + m] = s->all[a].rows[m];
            s->all_rows[m] += live;
            s->sent_rows[m] += s->all[a].rows[m];
            total += live;
        }
    return total;
}

static void record_step(struct steps *s, const double *before, double start, int rows)
{
    const double *now = s->trace->total;
    double took = clock_now() - start;
    struct timing t = {
        .rows = rows,
        .attention = (float)(now[TRACE_ATTENTION] - before[TRACE_ATTENTION] + now[TRACE_SAMPLE] -
                             before[TRACE_SAMPLE]),
        .ffn = (float)(now[TRACE_FFN] - before[TRACE_FFN]),
        .exchange = (float)(now[TRACE_SEND] - before[TRACE_SEND]),
        .wait = (float)(now[TRACE_WAIT] - before[TRACE_WAIT]),
        .total = (float)took,
    };
    work_take(&s->work, &t.bytes, &t.operations);
    timing_add(s->timings, clock_wall() - took, &t);
}

/* Attention: rows of this rank; FFN: of all. */
static int own_rows(const struct steps *s, int total)
{
    int n = s->decoder ? 0 : total;
    for (int m = 0; s->decoder && m < s->in->job.micro_batches; m++)
        n += s->plan[m].rows;
    return n;
}

/* Of a GPU all of it, since a step that is launched as a graph passes no layers here. */
static void count_work(struct steps *s)
{
    for (int m = 0; m < s->in->job.micro_batches; m++) {
        const struct wire in = {.n = s->all_rows[m]};
        if (s->decoder)
            work_attention(&s->work, &s->plan[m]);
        for (int layer = 0; s->engine->place.ffn && s->engine->backend->device->count &&
                            layer < (int)s->in->model.layers;
             layer++)
            work_ffn(&s->work, layer, &in);
    }
}

/* Do the tokens wait until the layers are launched? What is done to logits is in no other step; where steps
 * are graphs, one then has the layers alone. */
static bool tokens_apart(const struct steps *s)
{
    return s->engine->limits.fill && ANYONE(s, changing);
}

/* The streams of the exchange are tied to the compute stream from here to leave_exchange(). */
static void enter_exchange(struct steps *s)
{
    if (s->engine->exchange_ops->fork)
        s->engine->exchange_ops->fork(s->engine->exchange);
}

static void leave_exchange(struct steps *s)
{
    if (s->engine->exchange_ops->join)
        s->engine->exchange_ops->join(s->engine->exchange);
}

/* From the last layer to the tokens, and to the guesses behind them. */
static void enqueue_tokens(struct steps *s, bool apart)
{
    for (int m = 0; s->decoder && m < s->in->job.micro_batches; m++) {
        if (!apart)
            finish_layers(s, m);
        sample(s, m);
    }
    double start = clock_now();
    if (s->all[0].mtp) {
        if (apart)
            enter_exchange(s);
        all_drafts(s);
        if (apart)
            leave_exchange(s);
    }
    s->taken.layers = clock_now() - start;
}

/* Everything a device does in a step, from the embeddings; apart: to the end of the layers. */
static void enqueue_step(struct steps *s, bool apart)
{
    int micro_batches = s->in->job.micro_batches;
    enter_exchange(s);
    for (int m = 0; s->decoder && m < micro_batches; m++)
        attention_begin(s->engine->attention, m);
    all_layers(s);
    for (int m = 0; s->decoder && m < micro_batches && apart; m++) {
        finish_layers(s, m);
        attention_finish(s->engine->attention, m);
    }
    if (!apart)
        enqueue_tokens(s, false);
    leave_exchange(s);
}

/* What every rank enqueues in this step: the key of its graph, the same on all ranks. */
static const void *launch_key(struct steps *s, bool apart)
{
    for (int i = 0; i < s->comm->cell.size; i++) {
        struct launches *l = &s->key[i];
        memcpy(l->rows, s->all[i].rows, sizeof l->rows);
        l->shape = hash_u64(s->all[i].shape, apart ? 2 : (uint64_t)s->all[0].mtp);
    }
    return s->key;
}

/* The host waits for the device once in a step, here: it needs the tokens to plan the next one, and
 * an FFN rank must not run ahead of a step that hangs. */
static void wait_for_device(struct steps *s)
{
    struct engine *g = s->engine;
    double t = clock_now();
    mpi_waiting();
    g->backend->device->stream_sync(g->device, g->stream);
    mpi_working();
    g->exchange_ops->end(g->exchange);
    trace_add(s->trace, s->decoder ? TRACE_ATTENTION : TRACE_FFN, s->step, -1, -1, t);
}

/* How the guesses of a micro-batch's sampled rows are drawn. */
static void plan_drafts(struct steps *s, int m)
{
    int drafts = s->all[0].mtp ? (int)s->in->model.drafts : 0;
    for (int i = 0; i < drafts; i++)
        decoder_guess_params(s->decoder, &s->plan[m], i, s->params + i * s->plan[m].n_sampled);
    if (drafts > 0)
        attention_plan_drafts(s->engine->attention, m, &s->plan[m], s->params);
}

static void decode(struct steps *s, const int *rows)
{
    int micro_batches = s->in->job.micro_batches;
    struct engine *g = s->engine;
    double start = clock_now();
    g->exchange_ops->begin(g->exchange, rows);
    for (int m = 0; s->decoder && m < micro_batches; m++) {
        decoder_params(s->decoder, &s->plan[m], s->params);
        attention_plan(g->attention, m, &s->plan[m], s->params);
        decoder_scores(s->decoder, &s->plan[m], &s->scores);
        attention_score(g->attention, m, &s->plan[m], &s->scores);
        plan_drafts(s, m);
    }
    count_work(s);
    bool apart = tokens_apart(s);
    if (replay_begin(s->replay, launch_key(s, apart))) {
        enqueue_step(s, apart);
        replay_end(s->replay);
    }
    if (apart)
        enqueue_tokens(s, true);
    wait_for_device(s);
    if (!s->decoder)
        return;
    int64_t before = s->decoder->drawn;
    if (!s->all[0].mtp)
        schedule_leave_out_mtp(s->decoder->schedule);
    schedule_advance(s->decoder->schedule);
    for (int m = 0; m < micro_batches; m++) {
        struct scores scores = attention_scores(g->attention, m);
        if (s->plan[m].rows > 0)
            decoder_take(s->decoder, &s->plan[m], attention_tokens(g->attention, m),
                         attention_logprobs(g->attention, m), &scores,
                         s->all[0].mtp ? attention_guesses(g->attention, m) : NULL);
    }
    s->taken.seconds += clock_now() - start - replay_made(s->replay);
    if (s->all[0].mtp && g->backend->device->count)
        s->taken.layers = s->taken.seconds * pacing_share(&s->in->model);
    s->taken.filled = s->decoder->filled;
    s->taken.tokens = (int)(s->decoder->drawn - before);
    pacing_took(&s->pace, &s->taken, s->plan, micro_batches);
}

/* ---- commit --------------------------------------------------------------------------------- */

/* Collective: everything finished goes to the writer's thread, which sees to it that it gets to
 * disk; after COMMIT_ALL also what the sequences under way have come to. */
static void commit(struct steps *s, enum commit what, bool leaving)
{
    struct bytes all = {0};
    void *gathered;
    double start = clock_now();
    if (s->decoder && what == COMMIT_ALL)
        decoder_save(s->decoder);
    if (what == COMMIT_ALL)
        chosen_gather(&s->chosen, s->comm, &s->in->model, s->engine->attention, s->timings,
                      leaving);
    timing_take(s->timings, s->finished);
    comm_gather(&s->comm->cell, s->finished->data, s->finished->used, &gathered, &all.used);
    s->finished->used = 0;
    if (s->out) {
        all.data = gathered;
        all.room = all.used;
        report_completions(s->report, &all);
        mpi_waiting(); /* for its disk, when that is slower than the job */
        output_push(s->out, &all);
        mpi_working();
        s->committed = agreement_finished(s);
        s->committed_tokens = agreement_tokens(s);
        s->last_commit = clock_now();
        if (what == COMMIT_ALL)
            s->last_save = s->last_commit;
    }
    trace_add(s->trace, TRACE_COMMIT, s->step, -1, -1, start);
}

/* Other cells learn that this one stops, and what it came to. */
static void take_leave(struct steps *s, enum exit_status status)
{
    struct claims_say say = agreement_say(s, status != EXIT_DONE);
    if (s->claims && comm_is_writer(s->comm))
        claims_settle(s->claims, &say);
}

/* The last commit; the status all ranks of the cell leave with. */
static enum exit_status leave(struct steps *s, enum exit_status status)
{
    take_leave(s, status);
    commit(s, COMMIT_ALL, true);
    if (s->out)
        s->written = output_drain(s->out, &s->write_error);
    int written = s->written;
    comm_broadcast(&s->comm->cell, 0, &written, sizeof written);
    return written == OUTPUT_LATER ? EXIT_UNFINISHED : written == OUTPUT_BROKEN ? EXIT_RUN : status;
}

/* ---- the loop ------------------------------------------------------------------------------- */

static void show_progress(struct steps *s)
{
    if (!s->progress)
        return;
    if (s->claims)
        progress_update(s->progress, (uint64_t)s->heard.finished, s->heard.tokens);
    else
        progress_update(s->progress, agreement_finished(s), agreement_tokens(s));
}

static enum exit_status loop(struct steps *s, int *rows)
{
    double before[TRACE_KINDS];
    for (s->step = 0;; s->step++) {
        double start = clock_now();
        die_context_step(s->step);
        memcpy(before, s->trace->total, sizeof before);
        agreement_make(s);
        show_progress(s);
        if (agreement_failure(s) != EXIT_DONE)
            return leave(s, agreement_failure(s));
        if (s->all_claimed && s->units->left == 0 && !ANYONE(s, busy))
            return leave(s, EXIT_DONE);
        if (ANYONE(s, stop))
            return leave(s, EXIT_UNFINISHED);
        if (s->all[0].commit)
            commit(s, (enum commit)s->all[0].commit, false);
        agreement_hand_out(s);
        int total = count_rows(s, rows);
        if (total == 0) {
            if (s->decoder)
                feeder_wait(s->decoder->feeder);
            continue;
        }
        decode(s, rows);
        record_step(s, before, start, own_rows(s, total));
    }
}

static void open_admission(struct steps *s)
{
    const struct job *job = &s->in->job;
    size_t ranks = (size_t)job->layout.attention;
    size_t places = mem_mul(ranks, (size_t)job->schedule.slots);
    s->admission = admission_new(job->layout.attention, job->schedule.slots, job_decoded(job));
    s->room = mem_new(ranks, sizeof *s->room);
    s->unit = mem_new(places, sizeof *s->unit);
    s->owner = mem_new(places, sizeof *s->owner);
}

static void close_admission(struct steps *s)
{
    admission_free(s->admission);
    free(s->room);
    free(s->unit);
    free(s->owner);
}

enum exit_status steps_run(struct steps *s)
{
    const struct job *job = &s->in->job;
    const struct engine *g = s->engine;
    size_t table = mem_mul((size_t)job->layout.attention, MICRO_BATCHES_MAX);
    size_t size = (size_t)s->comm->cell.size;
    int *rows = mem_zeroed(table, sizeof *rows);
    s->all = mem_zeroed(size, sizeof *s->all);
    open_admission(s);
    s->key = mem_zeroed(size, sizeof *s->key);
    s->replay = replay_open(g->backend->device, g->device, g->stream, job->graphs != TRI_FALSE,
                            mem_mul(size, sizeof *s->key));
    size_t sampled = s->decoder ? (size_t)schedule_most_sampled(&g->limits) : 0;
    s->params = mem_new(mem_mul(sampled, 1 + s->in->model.drafts), sizeof *s->params);
    s->scores.targets = mem_new(sampled, sizeof *s->scores.targets);
    s->last_commit = s->last_save = s->chosen.last = clock_now();
    s->all_claimed = !s->claims;
    s->pace = pacing_open(job->speculate.draft, s->in->model.drafts, &g->limits);
    work_open(&s->work, g);
    enum exit_status status = loop(s, rows);
    work_close(&s->work);
    die_context_step(-1);
    s->replayed = replay_launches(s->replay);
    replay_close(s->replay);
    close_admission(s);
    free(rows);
    free(s->all);
    free(s->key);
    free(s->params);
    free(s->scores.targets);
    logit_changes_free(&s->changes);
    chosen_free(&s->chosen);
    return status;
}
