#include "roles/bench.h"

#include "base/clock.h"
#include "base/files.h"
#include "base/median.h"
#include "base/mem.h"
#include "data/gguf.h"
#include "roles/lengths.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS       5
#define SLOTS        256
#define LIMIT_PIECE  0.01 /* seconds of each limit beside a step */
#define MACHINE_TIME 0.3  /* of each limit, at first */

/* What a model without a job is thought to be given. */
#define MADE_PROMPTS    1024
#define MADE_PROMPT     512
#define MADE_COMPLETION 128

struct run {
    struct stepper s;
    struct lengths lengths;
    struct limits limits;
    struct roofs roofs;
    struct bench_result result;
    double *active; /* [layers] */
    double end;     /* clock_now() when all is over */
};

/* ---- decode steps --------------------------------------------------------------------------- */

/* Experts that rows of one step choose, in every layer. */
static void count_active(struct run *r)
{
    const struct model *m = &r->s.in.model;
    size_t n = m->layers * m->most.experts;
    uint64_t *before = mem_zeroed(n + 1, sizeof *before), *after = mem_zeroed(n + 1, sizeof *after);
    attention_chosen(r->s.engine.attention, before);
    stepper_run(&r->s);
    attention_chosen(r->s.engine.attention, after);
    for (size_t l = 0; l < m->layers; l++) {
        r->active[l] = 0;
        for (size_t e = 0; e < m->most.experts; e++)
            r->active[l] += after[l * m->most.experts + e] > before[l * m->most.experts + e];
    }
    free(before);
    free(after);
}

/* One round of the step that is filled in: limits, steps, limits. */
struct round {
    struct step_times times;
    double seconds, share;
    struct roof roof;
};

static struct round run_round(struct run *r, const struct bench_step *b, double seconds)
{
    enum { MOST = 40 };
    double a[MOST], f[MOST], d[MOST], all[MOST];
    double bandwidth = limits_bandwidth(&r->limits, LIMIT_PIECE),
           peak = limits_peak(&r->limits, LIMIT_PIECE), start = clock_now();
    int n = 0;
    for (; n < MOST && (n == 0 || clock_now() - start < seconds); n++) {
        struct step_times t = stepper_run(&r->s);
        a[n] = t.attention;
        f[n] = t.ffn;
        d[n] = t.sample;
        all[n] = t.attention + t.ffn + t.sample;
    }
    bandwidth = (bandwidth + limits_bandwidth(&r->limits, LIMIT_PIECE)) / 2;
    peak = (peak + limits_peak(&r->limits, LIMIT_PIECE)) / 2;
    struct round o = {.times = {median(a, n), median(f, n), median(d, n)},
                      .seconds = median(all, n)};
    o.roof = roofs_step(&r->roofs, bandwidth * r->result.faster_memory, peak, b->batch, b->context,
                        r->active);
    o.share = (o.roof.attention + o.roof.ffn + o.roof.head) / o.seconds;
    return o;
}

static void measure_step(struct run *r, struct bench_step *b, double seconds)
{
    double all[ROUNDS], share[ROUNDS], a[ROUNDS], f[ROUNDS], h[ROUNDS];
    stepper_fill(&r->s, b->batch, b->context);
    stepper_run(&r->s); /* wakes threads, fills caches */
    count_active(r);
    for (int i = 0; i < ROUNDS; i++) {
        struct round o = run_round(r, b, seconds / ROUNDS - 4 * LIMIT_PIECE);
        all[i] = o.seconds;
        share[i] = o.share;
        a[i] = o.roof.attention / o.times.attention;
        f[i] = o.roof.ffn / o.times.ffn;
        h[i] = o.roof.head / o.times.sample;
    }
    b->seconds = median(all, ROUNDS);
    b->low = all[0]; /* sorted */
    b->high = all[ROUNDS - 1];
    b->share = median(share, ROUNDS);
    b->part = (struct roof){median(a, ROUNDS), median(f, ROUNDS), median(h, ROUNDS)};
}

/* Twice the time of a step of the same context that had a quarter of the rows, or of the same batch with
 * less context: no more is to be expected. */
static bool has_time(const struct bench_result *r, const struct bench_step *next, double end)
{
    for (size_t i = 0; i < r->steps; i++) {
        const struct bench_step *b = &r->step[i];
        double more = (double)next->batch / b->batch * next->context / b->context;
        if ((b->batch * 4 == next->batch && b->context == next->context) ||
            (b->batch == next->batch && b->context < next->context))
            if (b->seconds == 0 || clock_now() + (ROUNDS + 2) * b->seconds * fmin(more, 4) > end)
                return false;
    }
    return true;
}

static void measure_steps(struct run *r, double seconds)
{
    struct bench_result *o = &r->result;
    const size_t longest = r->s.engine.limits.max_context;
    double end = clock_now() + seconds, each = seconds / (BENCH_ROWS * BENCH_CONTEXTS);
    for (int c = 0; c < BENCH_CONTEXTS; c++)
        for (int i = 0; i < BENCH_ROWS; i++) {
            struct bench_step b = {.batch = bench_rows[i], .context = bench_contexts[c]};
            if (c == 0 && (size_t)b.context > longest)
                b.context = (int)longest;
            if (!stepper_fits(&r->s, b.batch, b.context))
                continue;
            if (has_time(o, &b, end))
                measure_step(r, &b, each);
            o->step[o->steps++] = b;
        }
}

/* ---- the layout ----------------------------------------------------------------------------- */

static int choose_layout(struct run *r, struct forecast_job *job, double seconds, struct err *e)
{
    struct forecast_times times;
    double start = clock_now(), points = 12;
    job->prompt = r->lengths.prompt;
    job->completion = r->lengths.completion;
    job->n = r->lengths.n;
    if (stepper_times(&r->s, r->lengths.context, seconds / points, start + seconds * 0.8, &times,
                      e) != 0)
        return -1;
    r->result.layouts = layouts_forecast(&r->s.in, &times, job, r->s.threads, r->result.layout);
    return 0;
}

/* ---- open and close ------------------------------------------------------------------------- */

static bool is_model(const char *path)
{
    return files_is_directory(path) || gguf_is_path(path);
}

/* Of a model alone, contexts that are not measured need no memory. */
static int open_model(struct run *r, const struct bench_options *o, struct err *e)
{
    struct inputs *in = &r->s.in;
    if (inputs_open_model(in, o->what, o->overrides, o->n_overrides, e) != 0)
        return -1;
    size_t most = (size_t)bench_contexts[BENCH_CONTEXTS - 1];
    in->max_context = in->max_context < most ? in->max_context : most;
    size_t room = in->max_context, prompt = MADE_PROMPT, completion = MADE_COMPLETION;
    if (prompt + completion > room) {
        completion = room > 4 ? room / 4 : 1;
        prompt = room > completion ? room - completion : 1;
    }
    lengths_make(&r->lengths, MADE_PROMPTS, (uint32_t)prompt, (uint32_t)completion);
    return 0;
}

static int open_job(struct run *r, const struct bench_options *o, struct err *e)
{
    if (inputs_open_alone(&r->s.in, o->what, o->overrides, o->n_overrides, NULL, e) != 0)
        return -1;
    return lengths_read(&r->lengths, &r->s.in, 0, e);
}

static void describe(struct run *r, const struct bench_options *o)
{
    struct bench_result *b = &r->result;
    b->what = o->what;
    b->backend = r->s.engine.backend->name;
    b->threads = r->s.threads;
    b->weights = (double)r->s.engine.memory.weights;
    for (size_t i = 0; i < r->lengths.n; i++) {
        b->prompt += r->lengths.prompt[i] / (double)r->lengths.n;
        b->completion += r->lengths.completion[i] / (double)r->lengths.n;
    }
    b->unit = r->limits.unit;
    b->bandwidth = limits_bandwidth(&r->limits, MACHINE_TIME);
    b->peak = limits_peak(&r->limits, MACHINE_TIME);
}

static int measure_all(struct run *r, struct forecast_job *job, const struct bench_options *o,
                       struct err *e)
{
    limits_open(&r->limits, r->s.engine.backend->name, r->s.threads, LIMITS_BYTES);
    roofs_open(&r->roofs, &r->s.engine);
    r->active = mem_zeroed(r->roofs.n, sizeof *r->active);
    describe(r, o);
    bench_operations(&r->s, &r->limits, 0.3 * o->seconds, &r->result);
    measure_steps(r, 0.4 * o->seconds);
    int status = choose_layout(r, job, 0.25 * o->seconds, e);
    r->result.cores = limits_cores(&r->limits);
    limits_close(&r->limits);
    roofs_close(&r->roofs);
    free(r->active);
    return status;
}

int bench_run(const struct bench_options *o, FILE *out, struct err *e)
{
    struct run *r = mem_zeroed(1, sizeof *r);
    bool model = is_model(o->what);
    int status = model ? open_model(r, o, e) : open_job(r, o, e);
    struct forecast_job job = {.slots = r->s.in.job.schedule.slots,
                               .chunk = r->s.in.job.schedule.prefill_chunk};
    if (status == 0)
        status = stepper_open(&r->s, SLOTS, e);
    if (status == 0)
        status = measure_all(r, &job, o, e);
    if (status == 0 && o->json)
        status = bench_print_json(&r->result, out, e);
    else if (status == 0)
        bench_print(&r->result, out);
    lengths_free(&r->lengths);
    stepper_close(&r->s);
    free(r);
    return status;
}
