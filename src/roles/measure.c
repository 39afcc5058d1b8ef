#include "roles/measure.h"

#include "base/clock.h"
#include "base/host_memory.h"
#include "base/median.h"
#include "base/mem.h"
#include "base/philox.h"
#include "plan/forecast.h"
#include "roles/cores.h"
#include "roles/engine.h"
#include "roles/feeder.h"
#include "roles/handover.h"

#include <stdlib.h>
#include <string.h>

#define MOST_SLOTS    256
#define MOST_ROWS     1024
#define POINT_SECONDS 0.6
#define POINT_STEPS   40
#define SHOWN         5
#define LAYOUTS       64

/* ---- one step, part by part ----------------------------------------------------------------- */

struct parts {
    double attention, ffn, sample;
};

struct rig {
    struct inputs in;
    struct engine engine;
    struct micro_batch batch;
    struct sample_params *params;
};

/* n rows at this context, of as many sequences or of as many as there may be, each with some tokens
 * more; the cache's blocks are dealt in turns. */
static void fill_batch(struct rig *r, int n, int context)
{
    const struct schedule_limits *l = &r->engine.limits;
    struct micro_batch *p = &r->batch;
    int most = schedule_most_segments(l), segments = n < most ? n : most,
        sampled = schedule_most_sampled(l);
    batch_clear(p);
    p->rows = n;
    p->segments = segments;
    p->n_sampled = n < sampled ? n : sampled;
    p->max_rows = (n + segments - 1) / segments;
    p->max_context = context > p->max_rows ? context : p->max_rows;
    size_t next[KV_POOLS_MAX] = {0};
    for (int i = 0, row = 0; i < segments; i++) {
        int first = row, count = (int)((long)n * (i + 1) / segments - (long)n * i / segments);
        p->seg_row[i] = first;
        p->seg_pos[i] = p->max_context - count;
        for (; row < first + count; row++) {
            p->token[row] =
                (int32_t)(philox_uniform(1, 2, 3, (uint32_t)row) * (float)r->in.model.vocab);
            p->row_seg[row] = i;
            p->row_pos[row] = p->seg_pos[i] + row - first;
        }
        batch_deal_blocks(p, i, (size_t)p->seg_pos[i], (size_t)p->max_context, next);
    }
    for (int i = 0; i < p->n_sampled; i++)
        p->sampled_row[i] = i;
    p->seg_row[segments] = n;
}

static struct parts run_step(struct rig *r)
{
    struct engine *g = &r->engine;
    struct parts took = {0};
    const int rows[MICRO_BATCHES_MAX] = {r->batch.rows};
    double t = clock_now(), now;
    g->exchange_ops->begin(g->exchange, rows);
    attention_plan(g->attention, 0, &r->batch, r->params);
    attention_begin(g->attention, 0);
    for (int layer = 0; layer < (int)r->in.model.layers; layer++) {
        attention_collect(g->attention, 0, layer);
        attention_layer(g->attention, 0, layer);
        attention_dispatch(g->attention, 0, layer);
        now = clock_now();
        took.attention += now - t;
        t = now;
        if (ffn_receive(g->ffn, 0, layer)) {
            ffn_layer(g->ffn, 0, layer);
            ffn_reply(g->ffn, 0, layer);
        }
        now = clock_now();
        took.ffn += now - t;
        t = now;
    }
    attention_collect(g->attention, 0, (int)r->in.model.layers);
    attention_sample(g->attention, 0, NULL);
    g->backend->device->stream_sync(g->device, g->stream);
    g->exchange_ops->end(g->exchange);
    took.sample = clock_now() - t;
    return took;
}

/* Medians over steps; the first, which wakes threads and fills caches, does not count. */
static struct parts measure(struct rig *r, int rows, int context)
{
    double a[POINT_STEPS], f[POINT_STEPS], s[POINT_STEPS];
    int n = 0;
    fill_batch(r, rows, context);
    run_step(r);
    for (double start = clock_now();
         n < POINT_STEPS && (n < 3 || clock_now() - start < POINT_SECONDS); n++) {
        struct parts p = run_step(r);
        a[n] = p.attention;
        f[n] = p.ffn;
        s[n] = p.sample;
    }
    return (struct parts){median(a, n), median(f, n), median(s, n)};
}

static void measure_all(struct rig *r, double mean_context, struct forecast_times *t)
{
    int most = schedule_most_rows(&r->engine.limits);
    size_t longest = r->in.max_context;
    int context = (int)(mean_context < (double)longest ? mean_context : (double)longest);
    context = context < 1 ? 1 : context;
    *t = (struct forecast_times){.layers = (int)r->in.model.layers, .context = context};
    most = most < MOST_ROWS ? most : MOST_ROWS;
    for (int rows = 1; t->n < FORECAST_POINTS; rows = rows * 2 < most ? rows * 2 : most) {
        struct parts p = measure(r, rows, context);
        t->rows[t->n] = rows;
        t->attention[t->n] = p.attention;
        t->ffn[t->n] = p.ffn;
        /* Of a long step only as many rows are sampled as there are sequences. */
        t->sample[t->n] = p.sample * rows / r->batch.n_sampled;
        t->n++;
        if (rows == most)
            break;
    }
    int rows = most < 16 ? most : 16, far = context * 2 + 256;
    far = (size_t)far < longest ? far : (int)longest;
    if (far > context) {
        double more = measure(r, rows, far).attention - measure(r, rows, context).attention;
        t->row_context = more > 0 ? more / rows / (far - context) : 0;
    }
    t->handover = handover_seconds();
}

/* ---- the rig -------------------------------------------------------------------------------- */

static int open_engine(struct rig *r, struct err *e)
{
    struct job *job = &r->in.job;
    struct err ignored;
    cpu_set_t cores;
    cores_mask(&cores);
    job->layout = (struct layout){1, 1, 1, .colocated = true, .granule = job->layout.granule};
    job->micro_batches = 1;
    job->exchange = EXCHANGE_AUTO;
    job->schedule.slots =
        job->schedule.slots < MOST_SLOTS / 4 ? job->schedule.slots * 4 : MOST_SLOTS;
    job->speculate.draft = SPECULATE_OFF;
    struct place place = place_of(&job->layout, 0);
    const struct exchange_ops *transport = engine_transport(job, true, &ignored);
    if (engine_plan(&r->engine, &r->in, &place, cores_count(&cores), transport, e) != 0)
        return -1;
    struct engine_tenant alone = engine_tenant(&r->engine);
    if (engine_plan_kv(&r->engine, &alone, e) != 0)
        return -1;
    engine_load(&r->engine, MPI_COMM_NULL, NULL, NULL);
    const struct schedule_limits *l = &r->engine.limits;
    int sampled = schedule_most_sampled(l);
    schedule_batch_init(l, &r->batch);
    r->params = mem_zeroed((size_t)sampled, sizeof *r->params);
    for (int i = 0; i < sampled; i++)
        r->params[i] = (struct sample_params){.temperature = (float)job->sampling.temperature,
                                              .top_p = (float)job->sampling.top_p,
                                              .top_k = job->sampling.top_k,
                                              .uniform = 0.5f};
    return 0;
}

static void close_rig(struct rig *r)
{
    batch_free(&r->batch);
    free(r->params);
    engine_close(&r->engine);
    inputs_close(&r->in);
}

/* ---- the prompts ---------------------------------------------------------------------------- */

struct lengths {
    const struct inputs *in;
    double tokens;
    uint32_t *prompt, *completion;
    size_t n;
    double context; /* mean of a token's */
};

/* Samples of a prompt find its full blocks in the cache. */
static void add_row(void *context, const struct fed *fed)
{
    struct lengths *l = context;
    uint64_t samples = job_decoded(&l->in->job);
    if (fed->error)
        return;
    size_t room = fed->prompt_only ? 0 : fed->limit - fed->n;
    size_t tokens = l->tokens > 0 && l->tokens < (double)room ? (size_t)l->tokens : room;
    for (uint64_t i = 0; i < samples; i++, l->n++) {
        bool shared = i > 0 && l->in->job.schedule.share;
        l->prompt[l->n] = (uint32_t)(shared ? (fed->n - 1) % KV_BLOCK + 1 : fed->n);
        l->completion[l->n] = (uint32_t)tokens;
        l->context += (double)fed->n + (double)tokens / 2;
    }
}

static int read_prompts(struct lengths *l, struct err *e)
{
    const struct inputs *in = l->in;
    const struct feeder_job job = {.job = &in->job,
                                   .prompting = &in->prompting,
                                   .prompts = in->prompts,
                                   .file = &in->prompts_file,
                                   .max_context = in->max_context};
    l->prompt = mem_new((size_t)in->units, sizeof *l->prompt);
    l->completion = mem_new((size_t)in->units, sizeof *l->completion);
    if (feeder_survey(&job, in->n_prompts, add_row, l, e) != FEEDER_FINE)
        return -1;
    if (l->n == 0)
        return err_set(e, "%s: no prompt of %s can be decoded", in->job.path, in->job.prompts.file);
    l->context /= (double)l->n;
    return 0;
}

/* ---- layouts -------------------------------------------------------------------------------- */

/* Would they fit into this machine's memory, with some room for KV caches? */
static bool fits(struct inputs *in, const struct layout *layout)
{
    const struct layout before = in->job.layout;
    const enum exchange_kind exchange = in->job.exchange;
    struct err ignored;
    size_t bytes = 0;
    bool good = true;
    in->job.layout = *layout;
    in->job.exchange = EXCHANGE_AUTO;
    const struct exchange_ops *transport = engine_transport(&in->job, true, &ignored);
    for (int rank = 0; rank < layout_ranks(layout) && good; rank++) {
        struct engine g;
        struct place place = place_of(layout, rank);
        good = transport && engine_plan(&g, in, &place, 1, transport, &ignored) == 0;
        if (good)
            bytes += engine_tenant(&g).bytes;
        if (good)
            engine_close(&g);
    }
    in->job.layout = before;
    in->job.exchange = exchange;
    return good && (double)bytes < 0.9 * (double)host_memory_free("");
}

static void name_layout(const struct layout *l, char *text, size_t size)
{
    if (l->colocated)
        snprintf(text, size, "%d colocated", l->attention);
    else
        snprintf(text, size, "%dA%dF", l->attention, layout_ffn_ranks(l));
}

/* Layouts of up to as many ranks of a role as there are cores, in powers of 2. */
static size_t list_layouts(const struct inputs *in, int cores, struct layout *all)
{
    size_t n = 0, experts = in->model.most.experts;
    for (int a = 1; a <= cores && n < LAYOUTS - 8; a *= 2) {
        all[n++] = (struct layout){a, 1, 1, true, in->job.layout.granule};
        for (int f = 1; f <= cores && n < LAYOUTS - 1; f *= 2)
            all[n++] = (size_t)f <= experts
                           ? (struct layout){a, f, 1, false, in->job.layout.granule}
                           : (struct layout){a, 1, f, false, in->job.layout.granule};
    }
    return n;
}

/* Of equal ones the smaller layout. */
static int by_speed(const void *x, const void *y)
{
    const struct forecast *a = x, *b = y;
    int order = (a->tokens_per_second < b->tokens_per_second) -
                (a->tokens_per_second > b->tokens_per_second);
    return order ? order : layout_ranks(&a->layout) - layout_ranks(&b->layout);
}

/* ---- what is printed ------------------------------------------------------------------------ */

static void print_times(const struct forecast_times *t, int cores, FILE *out)
{
    fprintf(out, "\nA decode step on %d core%s, all layers, at a context of %.0f, in ms\n", cores,
            cores == 1 ? "" : "s", t->context);
    fprintf(out, "  %6s %10s %10s %10s %12s\n", "rows", "attention", "FFN", "sampling", "tokens/s");
    for (int i = 0; i < t->n; i++) {
        double all = t->attention[i] + t->ffn[i] + t->sample[i];
        fprintf(out, "  %6d %10.3f %10.3f %10.3f %12.1f\n", t->rows[i], t->attention[i] * 1e3,
                t->ffn[i] * 1e3, t->sample[i] * 1e3, t->rows[i] / all);
    }
    fprintf(out, "  a word from rank to rank: %.1f us\n", t->handover * 1e6);
}

static void print_forecast(const struct forecast *f, const char *mark, FILE *out)
{
    char name[32];
    name_layout(&f->layout, name, sizeof name);
    fprintf(out, "  %-14s %6d %10.1f %10.2f %12.1f %10.1f%s\n", name, layout_ranks(&f->layout),
            f->rows, f->step * 1e3, f->tokens_per_second, f->seconds, mark);
}

static void print_layouts(struct inputs *in, const struct layout *own,
                          const struct forecast_times *t, const struct forecast_job *job, int cores,
                          FILE *out)
{
    struct layout all[LAYOUTS];
    struct forecast f[LAYOUTS];
    size_t n = list_layouts(in, cores, all), kept = 0;
    for (size_t i = 0; i < n; i++)
        if (fits(in, &all[i]))
            f[kept++] = forecast_run(t, job, &all[i]);
    qsort(f, kept, sizeof *f, by_speed);
    fprintf(out, "\n  %-14s %6s %10s %10s %12s %10s\n", "layout", "ranks", "rows", "step, ms",
            "tokens/s", "seconds");
    struct forecast mine = forecast_run(t, job, own);
    print_forecast(&mine, "  this job", out);
    for (size_t i = 0; i < kept && i < SHOWN; i++)
        print_forecast(&f[i], i == 0 ? "  best" : "", out);
}

int measure_job(const struct measure_options *o, FILE *out, struct err *e)
{
    struct rig r = {.params = NULL};
    struct lengths l = {.in = &r.in, .tokens = o->tokens};
    struct forecast_times times;
    cpu_set_t cores;
    cores_mask(&cores);
    if (inputs_open_alone(&r.in, o->job, o->overrides, o->n_overrides, NULL, e) != 0)
        return -1;
    const struct layout own = r.in.job.layout;
    const struct forecast_job job = {.slots = r.in.job.schedule.slots,
                                     .chunk = r.in.job.schedule.prefill_chunk};
    int status = r.in.backend->device->count
                     ? err_set(e, "%s: --measure is for device: cpu", o->job)
                     : read_prompts(&l, e);
    if (status == 0)
        status = open_engine(&r, e);
    if (status == 0) {
        struct forecast_job played = job;
        played.prompt = l.prompt;
        played.completion = l.completion;
        played.n = l.n;
        measure_all(&r, l.context, &times);
        print_times(&times, cores_count(&cores), out);
        print_layouts(&r.in, &own, &times, &played, cores_count(&cores), out);
    }
    free(l.prompt);
    free(l.completion);
    close_rig(&r);
    return status;
}
