#include "roles/stepper.h"

#include "base/clock.h"
#include "base/median.h"
#include "base/mem.h"
#include "base/philox.h"
#include "roles/cores.h"
#include "roles/handover.h"
#include "roles/request.h"

#include <stdlib.h>

#define MOST_ROWS   1024
#define POINT_STEPS 40

/* ---- one step, part by part ----------------------------------------------------------------- */

bool stepper_fits(const struct stepper *s, int sequences, int context)
{
    const struct schedule_limits *l = &s->engine.limits;
    size_t n = (size_t)sequences, end = (size_t)context;
    if (sequences > schedule_most_segments(l) || end > l->max_context)
        return false;
    for (int i = 0; i < l->pools; i++) {
        size_t first = pool_first(&l->pool[i], end - 1);
        if (n * (blocks_for(end) - first) > l->pool[i].blocks)
            return false;
    }
    return true;
}

void stepper_fill(struct stepper *s, int n, int context)
{
    const struct schedule_limits *l = &s->engine.limits;
    struct micro_batch *p = &s->batch;
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
                (int32_t)(philox_uniform(1, 2, 3, (uint32_t)row) * (float)s->in.model.vocab);
            p->row_seg[row] = i;
            p->row_pos[row] = p->seg_pos[i] + row - first;
        }
        batch_deal_blocks(p, i, (size_t)p->seg_pos[i], (size_t)p->max_context, next);
    }
    for (int i = 0; i < p->n_sampled; i++)
        p->sampled_row[i] = i;
    p->seg_row[segments] = n;
    kv_fill(&s->engine, (size_t)segments * blocks_for((size_t)p->max_context), &s->filled);
}

struct step_times stepper_run(struct stepper *s)
{
    struct engine *g = &s->engine;
    struct step_times took = {0};
    const int rows[MICRO_BATCHES_MAX] = {s->batch.rows};
    double t = clock_now(), now;
    g->exchange_ops->begin(g->exchange, rows);
    attention_plan(g->attention, 0, &s->batch, s->params);
    attention_begin(g->attention, 0);
    for (int layer = 0; layer < (int)s->in.model.layers; layer++) {
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
    attention_collect(g->attention, 0, (int)s->in.model.layers);
    attention_sample(g->attention, 0, NULL);
    g->backend->device->stream_sync(g->device, g->stream);
    g->exchange_ops->end(g->exchange);
    took.sample = clock_now() - t;
    return took;
}

struct step_times stepper_measure(struct stepper *s, int rows, int context, double seconds)
{
    double a[POINT_STEPS], f[POINT_STEPS], d[POINT_STEPS];
    int n = 0;
    stepper_fill(s, rows, context);
    stepper_run(s);
    for (double start = clock_now(); n < POINT_STEPS && (n < 3 || clock_now() - start < seconds);
         n++) {
        struct step_times p = stepper_run(s);
        a[n] = p.attention;
        f[n] = p.ffn;
        d[n] = p.sample;
    }
    return (struct step_times){median(a, n), median(f, n), median(d, n)};
}

/* Whether a point of twice the rows, 4 steps at least, can be measured by then; two are needed. */
static bool has_time(const struct step_times *last, int points, double seconds, double end)
{
    double next = 8 * (last->attention + last->ffn + last->sample);
    return points < 2 || clock_now() + (next > seconds ? next : seconds) < end;
}

int stepper_times(struct stepper *s, double mean_context, double seconds, double end,
                  struct forecast_times *t, struct err *e)
{
    int most = schedule_most_rows(&s->engine.limits);
    size_t longest = s->in.max_context;
    int context = (int)(mean_context < (double)longest ? mean_context : (double)longest);
    context = context < 1 ? 1 : context;
    *t = (struct forecast_times){.layers = (int)s->in.model.layers, .context = context};
    most = most < MOST_ROWS ? most : MOST_ROWS;
    for (int rows = 1; t->n < FORECAST_POINTS; rows = rows * 2 < most ? rows * 2 : most) {
        struct step_times p = stepper_measure(s, rows, context, seconds);
        t->rows[t->n] = rows;
        t->attention[t->n] = p.attention;
        t->ffn[t->n] = p.ffn;
        /* Of a long step only as many rows are sampled as there are sequences. */
        t->sample[t->n] = p.sample * rows / s->batch.n_sampled;
        t->n++;
        if (rows == most || !has_time(&p, t->n, seconds, end))
            break;
    }
    int rows = t->rows[t->n < 5 ? t->n - 1 : 4], far = context * 2 + 256;
    far = (size_t)far < longest ? far : (int)longest;
    if (far > context) {
        double more = stepper_measure(s, rows, far, seconds).attention -
                      stepper_measure(s, rows, context, seconds).attention;
        t->row_context = more > 0 ? more / rows / (far - context) : 0;
    }
    return handover_measure(&t->handover, e);
}

/* ---- open and close ------------------------------------------------------------------------- */

int stepper_open(struct stepper *s, int slots, struct err *e)
{
    struct job *job = &s->in.job;
    struct err ignored;
    cpu_set_t cores;
    cores_mask(&cores);
    if (s->in.backend->device->count)
        return err_set(e, "%s: times are measured on device: cpu only", job->path);
    s->threads = cores_count(&cores);
    job->layout = (struct layout){1, 1, 1, .colocated = true, .granule = job->layout.granule};
    job->micro_batches = 1;
    job->exchange = EXCHANGE_AUTO;
    job->schedule.slots = slots;
    job->speculate.draft = SPECULATE_OFF;
    job->graphs = TRI_FALSE;
    struct place place = place_of(&job->layout, 0);
    const struct exchange_ops *transport = engine_transport(job, true, &ignored);
    if (engine_plan(&s->engine, &s->in, &place, s->threads, transport, e) != 0)
        return -1;
    struct engine_tenant alone = engine_tenant(&s->engine);
    if (engine_plan_kv(&s->engine, &alone, e) != 0)
        return -1;
    engine_load(&s->engine, &(const struct group){.mpi = MPI_COMM_NULL}, NULL, NULL);
    const struct schedule_limits *l = &s->engine.limits;
    int sampled = schedule_most_sampled(l);
    schedule_batch_init(l, &s->batch);
    s->params = mem_zeroed((size_t)sampled, sizeof *s->params);
    for (int i = 0; i < sampled; i++)
        s->params[i] =
            (struct sample_params){.temperature = request_temperature(job->sampling.temperature),
                                   .top_p = (float)job->sampling.top_p,
                                   .top_k = job->sampling.top_k,
                                   .uniform = 0.5f};
    return 0;
}

void stepper_close(struct stepper *s)
{
    batch_free(&s->batch);
    free(s->params);
    engine_close(&s->engine);
    inputs_close(&s->in);
}
