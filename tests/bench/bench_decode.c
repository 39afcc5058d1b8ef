/* bench_decode JOB.yaml BATCH:CONTEXT... [prompt:TOKENS...] [--steps N] [--faster R] [--json FILE]
 * [--set KEY=VALUE]... - one decode step end to end, under mpirun, with the job's model and layout, and no
 * prompts; or a step that reads in the first TOKENS tokens of one prompt (one attention rank, one micro-batch).
 *
 * BATCH sequences in all, each with CONTEXT tokens in the cache, decode one token: the plan of a
 * step is made by hand, so nothing has to be prefilled; the cache is full of numbers by chance. A case
 * is measured as limits, steps, limits, steps, ROUNDS times; the limits are those of all cores together,
 * while no rank works. A last line says how much of the cores the threads of these limits really got: less
 * than 98 % means that others were at work, and that the figures say little. What is printed:
 *
 *   tokens/s  median over the steps, and (spread) the slowest and the fastest round's
 *   roof      what the operations of the step need at least, one after the other, on all cores
 *             together (each the larger of bytes / bandwidth and flops / peak; experts that no row
 *             chose are not read), over the step's time. The bandwidth is the read loop's, times R where
 *             a kernel has read faster (bench_kernels says by how much). Of a prompt: its operations at
 *             the peak, whatever has to be read
 *   A wait    share of the step in which an attention rank waited for the FFN ranks
 *   F wait    the same the other way round
 *   send      share of the step spent posting rows and partial sums
 *   sample    drawing the step's tokens by temperature and top_p, measured alone, over the step's time
 */
#include "base/clock.h"
#include "base/median.h"
#include "base/mem.h"
#include "base/philox.h"
#include "roles/comm.h"
#include "roles/cores.h"
#include "roles/engine.h"
#include "roles/kv_fill.h"
#include "roles/roofs.h"
#include "roles/trace.h"
#include "kernels/cpu/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5, CASES_MAX = 64, STEPS_MAX = 1000 };

struct arguments {
    const char *job, *json;
    const char *set[64];
    size_t n_set;
    int batch[CASES_MAX], context[CASES_MAX], cases, steps; /* batch 0: a prompt */
    double faster;
};

struct bench {
    struct comm comm;
    struct inputs in;
    struct engine engine;
    struct trace trace;
    struct limits limits; /* of the writer, like roofs */
    struct roofs roofs;
    double faster; /* than the read loop memory is */
    struct micro_batch plan[MICRO_BATCHES_MAX];
    FILE *json;
    int *rows;    /* [attention][micro_batches] */
    char *chosen; /* [layers][experts] 1: some row of the last step has chosen the expert */
};

static void stop(const char *text)
{
    fprintf(stderr, "bench_decode: %s\n", text);
    exit(1);
}

static void read_arguments(struct arguments *a, int argc, char **argv)
{
    *a = (struct arguments){.steps = 10, .faster = 1};
    for (int i = 1; i < argc; i++) {
        int b = 0, c = 0;
        if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc)
            a->steps = atoi(argv[++i]);
        else if (strcmp(argv[i], "--faster") == 0 && i + 1 < argc)
            a->faster = atof(argv[++i]);
        else if (strcmp(argv[i], "--json") == 0 && i + 1 < argc)
            a->json = argv[++i];
        else if (strcmp(argv[i], "--set") == 0 && i + 1 < argc && a->n_set < 64)
            a->set[a->n_set++] = argv[++i];
        else if (sscanf(argv[i], "prompt:%d", &c) == 1 && c > 0 && a->cases < CASES_MAX)
            a->context[a->cases++] = c;
        else if (sscanf(argv[i], "%d:%d", &b, &c) == 2 && b > 0 && c > 0 && a->cases < CASES_MAX) {
            a->batch[a->cases] = b;
            a->context[a->cases++] = c;
        } else if (!a->job)
            a->job = argv[i];
        else
            stop("usage: bench_decode JOB.yaml BATCH:CONTEXT... [prompt:TOKENS...] [--steps N] "
                 "[--faster R] [--json FILE] [--set KEY=VALUE]...");
    }
    if (!a->job || a->cases == 0 || a->steps < 1 || a->steps > STEPS_MAX)
        stop("a job file and at least one BATCH:CONTEXT are wanted");
    if (!(a->faster >= 1))
        stop("--faster wants a number from 1 up");
}

/* ---- the engine, as a run makes it ---------------------------------------------------------- */

static void open_engine(struct bench *b)
{
    struct err e = {{0}};
    struct comm *c = &b->comm;
    if (comm_split(c, &b->in.job.layout, 1, ROLE_ANY, &e) != 0)
        die("%s", e.text);
    struct cores cores = cores_find(c);
    b->in.job.micro_batches = engine_micro_batches(&b->in.job, cores.shared_by_roles, true);
    b->in.job.graphs = TRI_FALSE; /* every step is enqueued here, with the rows that it has */
    int threads = b->in.job.threads > 0 ? b->in.job.threads : cores.threads;
    const struct exchange_ops *transport = engine_transport(&b->in.job, c->one_host, &e);
    if (!transport || engine_plan(&b->engine, &b->in, &c->place, threads, transport, &e) != 0)
        die("%s", e.text);
    struct engine_tenant all = engine_tenant(&b->engine);
    all.bytes *= (size_t)c->place.host_ranks;
    all.caches = c->place.host_ranks;
    if (engine_plan_kv(&b->engine, &all, &e) != 0)
        die("%s", e.text);
    engine_load(&b->engine, &c->cell, NULL, NULL);
}

/* The blocks that the largest case reads. */
static void fill_caches(struct bench *b, const struct arguments *a)
{
    struct kv_filled none = {0};
    size_t most = 0;
    for (int i = 0; i < a->cases; i++) {
        int sequences = a->batch[i] > 0 ? a->batch[i] : 1;
        size_t blocks = (size_t)sequences * blocks_for((size_t)a->context[i]);
        most = blocks > most ? blocks : most;
    }
    kv_fill(&b->engine, most, &none);
}

/* ---- a step made by hand -------------------------------------------------------------------- */

static void plan_alloc(struct bench *b)
{
    size_t rows = (size_t)schedule_most_rows(&b->engine.limits);
    const struct schedule_limits *l = &b->engine.limits;
    for (int m = 0; m < MICRO_BATCHES_MAX; m++) {
        struct micro_batch *p = &b->plan[m];
        p->token = mem_new(rows, sizeof(int32_t));
        p->seg_row = mem_new(rows + 1, sizeof(int32_t));
        p->seg_pos = mem_new(rows, sizeof(int32_t));
        p->row_seg = mem_new(rows, sizeof(int32_t));
        p->row_pos = mem_new(rows, sizeof(int32_t));
        for (int i = 0; i < l->pools; i++)
            batch_add_table(p, &l->pool[i], schedule_table_width(l, i), (int)rows);
        p->sampled_row = mem_new(rows, sizeof(int32_t));
    }
}

/* Rows of attention rank `rank` in micro-batch m. */
static int share_of(const struct bench *b, int batch, int rank, int m)
{
    int parts = b->in.job.layout.attention * b->in.job.micro_batches;
    int part = rank * b->in.job.micro_batches + m;
    return (int)((long)batch * (part + 1) / parts - (long)batch * part / parts);
}

/* The first tokens of a prompt; its last row is sampled. */
static void make_prompt(struct bench *b, int tokens)
{
    struct micro_batch *p = &b->plan[0];
    size_t next[KV_POOLS_MAX] = {0};
    if (b->in.job.layout.attention * b->in.job.micro_batches != 1)
        stop("a prompt is for one attention rank and one micro-batch");
    if (tokens > schedule_most_rows(&b->engine.limits))
        stop("schedule.prefill_chunk is shorter than the prompt");
    b->rows[0] = tokens;
    if (!b->comm.place.attention)
        return;
    p->rows = p->max_rows = p->max_context = tokens;
    p->segments = p->n_sampled = 1;
    for (int i = 0; i < tokens; i++) {
        float u = philox_uniform(1, 0, 0, (uint32_t)i);
        p->token[i] = (int32_t)(u * (float)b->in.model.vocab);
        p->row_seg[i] = 0;
        p->row_pos[i] = i;
    }
    p->seg_row[0] = p->seg_pos[0] = 0;
    p->seg_row[1] = tokens;
    p->sampled_row[0] = tokens - 1;
    batch_deal_blocks(p, 0, 0, (size_t)tokens, next);
}

static void make_plan(struct bench *b, int batch, int context)
{
    size_t next[KV_POOLS_MAX] = {0};
    if (batch == 0) {
        make_prompt(b, context);
        return;
    }
    for (int m = 0; b->comm.place.attention && m < b->in.job.micro_batches; m++) {
        struct micro_batch *p = &b->plan[m];
        int n = share_of(b, batch, b->comm.place.index, m);
        p->rows = p->segments = p->n_sampled = n;
        p->max_rows = 1;
        p->max_context = context;
        for (int i = 0; i < n; i++) {
            float u = philox_uniform(1, (uint64_t)b->comm.place.index, (uint32_t)m, (uint32_t)i);
            p->token[i] = (int32_t)(u * (float)b->in.model.vocab);
            p->seg_row[i] = p->row_seg[i] = p->sampled_row[i] = i;
            p->seg_pos[i] = p->row_pos[i] = context - 1;
            batch_deal_blocks(p, i, (size_t)context - 1, (size_t)context, next);
        }
        p->seg_row[n] = n;
    }
    for (int a = 0; a < b->in.job.layout.attention; a++)
        for (int m = 0; m < b->in.job.micro_batches; m++)
            b->rows[a * b->in.job.micro_batches + m] = share_of(b, batch, a, m);
}

static void run_attention(struct bench *b, int layer, int m)
{
    struct attention *f = b->engine.attention;
    if (b->plan[m].rows == 0)
        return;
    double t = clock_now();
    attention_collect(f, m, layer);
    t = trace_add(&b->trace, TRACE_WAIT, 0, layer, m, t);
    attention_layer(f, m, layer);
    t = trace_add(&b->trace, TRACE_ATTENTION, 0, layer, m, t);
    attention_dispatch(f, m, layer);
    trace_add(&b->trace, TRACE_SEND, 0, layer, m, t);
}

static void note_chosen(struct bench *b, int layer, const struct wire *in)
{
    const struct model *m = &b->in.model;
    char *chosen = b->chosen + (size_t)layer * m->most.experts;
    for (int i = 0; m->moe[layer] && i < in->n * (int)m->most.topk; i++)
        chosen[in->ids[i]] = 1;
}

static void run_ffn(struct bench *b, int layer, int m)
{
    struct ffn *f = b->engine.ffn;
    double t = clock_now();
    if (!ffn_receive(f, m, layer))
        return;
    t = trace_add(&b->trace, TRACE_WAIT, 0, layer, m, t);
    note_chosen(b, layer, ffn_received(f, m));
    ffn_layer(f, m, layer);
    t = trace_add(&b->trace, TRACE_FFN, 0, layer, m, t);
    ffn_reply(f, m, layer);
    trace_add(&b->trace, TRACE_SEND, 0, layer, m, t);
}

static void sample(struct bench *b, int m)
{
    double t = clock_now();
    if (b->plan[m].rows == 0)
        return;
    attention_collect(b->engine.attention, m, (int)b->in.model.layers);
    t = trace_add(&b->trace, TRACE_WAIT, 0, -1, m, t);
    attention_sample(b->engine.attention, m, NULL);
    trace_add(&b->trace, TRACE_SAMPLE, 0, -1, m, t);
}

static void step(struct bench *b, const struct sample_params *params)
{
    struct engine *g = &b->engine;
    int micro_batches = b->in.job.micro_batches;
    struct contract mine = {0}, *all = mem_new((size_t)b->comm.cell.size, sizeof *all);
    comm_contract(&b->comm, &mine, all);
    free(all);
    g->exchange_ops->begin(g->exchange, b->rows);
    for (int m = 0; g->place.attention && m < micro_batches; m++) {
        attention_plan(g->attention, m, &b->plan[m], params);
        attention_begin(g->attention, m);
    }
    for (int layer = 0; layer < (int)b->in.model.layers; layer++)
        for (int m = 0; m < micro_batches; m++) {
            if (g->place.attention)
                run_attention(b, layer, m);
            if (g->place.ffn)
                run_ffn(b, layer, m);
        }
    for (int m = 0; g->place.attention && m < micro_batches; m++)
        sample(b, m);
    g->exchange_ops->end(g->exchange);
}

/* Experts of each layer that some row of the last step has chosen; active [layers]. */
static void count_chosen(const struct bench *b, double *active)
{
    size_t most = b->in.model.most.experts;
    for (size_t i = 0; i < b->in.model.layers * most; i++)
        active[i / most] += b->chosen[i];
}

/* ---- measuring ------------------------------------------------------------------------------ */

/* Limits by the writer while the others wait, asleep, at the barrier. */
static void measure_limits(struct bench *b, double *bandwidth, double *peak)
{
    comm_barrier(&b->comm.cell);
    if (comm_is_writer(&b->comm)) {
        *bandwidth = limits_bandwidth(&b->limits, 0.05);
        *peak = limits_peak(&b->limits, 0.05);
    }
    comm_barrier(&b->comm.cell);
}

/* What a rank says of the case: its role and the seconds it waited, sent and ran. */
struct shares {
    double wait, send, total;
    int32_t attention, ffn;
};

/* Drawing so many tokens, apart from any step. */
static double sample_seconds(const struct bench *b, int n)
{
    enum { TIMES = 5 };
    const struct engine *g = &b->engine;
    const struct device_ops *dev = g->backend->device;
    size_t vocab = b->in.model.vocab, rows = (size_t)n, count = mem_mul(rows, vocab);
    struct sample_params *params = mem_new(rows, sizeof *params);
    float *host = mem_new(count, sizeof *host);
    for (size_t i = 0; i < rows; i++)
        params[i] = (struct sample_params){.temperature = 0.8f, .top_p = 0.95f, .uniform = 0.6f};
    for (size_t i = 0; i < count; i++) {
        float u = (float)philox_uniform(1, i, 0, 0);
        host[i] = 16 * u * u;
    }
    struct stream *s = dev->stream_create(g->device);
    float *logits = dev->alloc(g->device, count * sizeof *host);
    float *logprobs = dev->alloc(g->device, rows * sizeof *logprobs);
    int32_t *tokens = dev->alloc(g->device, rows * sizeof *tokens);
    void *on_device = dev->alloc(g->device, rows * sizeof *params);
    dev->upload(g->device, s, logits, host, count * sizeof *host);
    dev->upload(g->device, s, on_device, params, rows * sizeof *params);
    dev->stream_sync(g->device, s);
    double times[TIMES];
    for (int i = 0; i < TIMES; i++) {
        double start = clock_now();
        g->backend->ops->sample(g->device, s, logits, n, (int)vocab, on_device, tokens, logprobs);
        dev->stream_sync(g->device, s);
        times[i] = clock_now() - start;
    }
    void *taken[] = {logits, logprobs, tokens, on_device};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        dev->release(g->device, taken[i]);
    dev->stream_destroy(g->device, s);
    free(host);
    free(params);
    return median(times, TIMES);
}

/* Seconds that a case takes at least. */
static double least_seconds(const struct bench *b, double bandwidth, double peak, int batch,
                            int context, const double *active)
{
    struct roof r;
    if (batch > 0) {
        r = roofs_step(&b->roofs, bandwidth * b->faster, peak, batch, context, active);
        return r.attention + r.ffn + r.head;
    }
    /* Token i sees i + 1; one row has logits. */
    r = roofs_step(&b->roofs, INFINITY, peak, context, (context + 1) / 2.0, active);
    return r.attention + r.ffn + roofs_step(&b->roofs, INFINITY, peak, 1, 1, active).head;
}

static void print_prompt(struct bench *b, int tokens, double seconds, const double *rounds,
                         double share)
{
    printf("a prompt of %d tokens: %.1f ms, %.1f tokens/s (%.1f-%.1f), %.1f %% of the peak\n",
           tokens, 1e3 * seconds, tokens / seconds, tokens / rounds[ROUNDS - 1], tokens / rounds[0],
           100 * share);
    fflush(stdout);
    if (b->json)
        fprintf(b->json,
                "{\"prompt\": %d, \"step_ms\": %.4f, \"tokens_per_second\": %.2f, \"slowest\": "
                "%.2f, \"fastest\": %.2f, \"cores\": %.3f, \"peak\": %.4f}\n",
                tokens, 1e3 * seconds, tokens / seconds, tokens / rounds[ROUNDS - 1],
                tokens / rounds[0], limits_cores(&b->limits), share);
}

/* rounds[ROUNDS]: a step's seconds in each, sorted. */
static void print_case(struct bench *b, int batch, int context, double seconds,
                       const double *rounds, double roof, const struct shares *all)
{
    double wait[2] = {0}, send = 0;
    int n[2] = {0};
    for (int i = 0; i < b->comm.cell.size; i++) {
        int role = all[i].attention ? 0 : 1;
        wait[role] += all[i].wait / all[i].total;
        n[role]++;
        send += all[i].send / all[i].total / b->comm.cell.size;
    }
    for (int role = 0; role < 2; role++)
        wait[role] = n[role] ? 100 * wait[role] / n[role] : 0;
    const struct layout *l = &b->in.job.layout;
    char layout[64];
    if (batch == 0) {
        print_prompt(b, context, seconds, rounds, roof);
        return;
    }
    if (l->colocated)
        snprintf(layout, sizeof layout, "%d colocated", l->attention);
    else
        snprintf(layout, sizeof layout, "%dA%dF %dx%d", l->attention, layout_ffn_ranks(l),
                 l->expert, l->tensor);
    double sampling = sample_seconds(b, (batch + l->attention - 1) / l->attention) / seconds;
    printf("%-12s %2d %6d %8d %10.1f %10.1f %8.1f-%-8.1f %7.1f %% %7.1f %% %7.1f %% %6.1f %% %6.2f "
           "%%\n",
           layout, b->in.job.micro_batches, batch, context, 1e3 * seconds, batch / seconds,
           batch / rounds[ROUNDS - 1], batch / rounds[0], 100 * roof, wait[0], wait[1], 100 * send,
           100 * sampling);
    fflush(stdout);
    if (b->json)
        fprintf(
            b->json,
            "{\"layout\": \"%s\", \"micro_batches\": %d, \"batch\": %d, \"context\": %d, "
            "\"step_ms\": %.4f, \"tokens_per_second\": %.2f, \"slowest\": %.2f, \"fastest\": %.2f, "
            "\"cores\": %.3f, \"roof\": %.4f, \"attention_wait\": %.4f, \"ffn_wait\": %.4f, "
            "\"send\": %.4f, \"sample\": %.5f}\n",
            layout, b->in.job.micro_batches, batch, context, 1e3 * seconds, batch / seconds,
            batch / rounds[ROUNDS - 1], batch / rounds[0], limits_cores(&b->limits), roof,
            wait[0] / 100, wait[1] / 100, send, sampling);
}

static void run_case(struct bench *b, int batch, int context, int steps)
{
    size_t most = (size_t)schedule_most_rows(&b->engine.limits);
    struct sample_params *params = mem_zeroed(most, sizeof *params);
    double times[STEPS_MAX * ROUNDS], roofs[ROUNDS], rounds[ROUNDS], bandwidth = 0, peak = 0;
    size_t choices = b->in.model.layers * b->in.model.most.experts;
    make_plan(b, batch, context);
    memset(b->chosen, 0, choices);
    step(b, params);
    const struct layout *l = &b->in.job.layout;
    comm_broadcast(&b->comm.cell, l->colocated ? 0 : l->attention, b->chosen, choices);
    double *active = mem_zeroed(b->in.model.layers, sizeof *active);
    count_chosen(b, active);
    trace_reset(&b->trace);
    struct shares mine = {.attention = b->comm.place.attention, .ffn = b->comm.place.ffn}, *all;
    for (int round = 0; round < ROUNDS; round++) {
        double before[2] = {0}, after[2] = {0};
        measure_limits(b, &before[0], &before[1]);
        for (int i = 0; i < steps; i++) {
            double start = clock_now();
            step(b, params);
            times[round * steps + i] = clock_now() - start;
            mine.total += clock_now() - start;
        }
        measure_limits(b, &after[0], &after[1]);
        bandwidth = (before[0] + after[0]) / 2;
        peak = (before[1] + after[1]) / 2;
        double copy[STEPS_MAX];
        memcpy(copy, times + round * steps, (size_t)steps * sizeof *copy);
        if (comm_is_writer(&b->comm))
            roofs[round] =
                least_seconds(b, bandwidth, peak, batch, context, active) / median(copy, steps);
    }
    mine.wait = b->trace.total[TRACE_WAIT];
    mine.send = b->trace.total[TRACE_SEND];
    void *gathered;
    size_t total;
    comm_gather(&b->comm.cell, &mine, sizeof mine, &gathered, &total);
    all = gathered;
    if (all) {
        for (int round = 0; round < ROUNDS; round++)
            rounds[round] = median(times + round * steps, steps);
        median(rounds, ROUNDS); /* sorts them */
        print_case(b, batch, context, median(times, ROUNDS * steps), rounds, median(roofs, ROUNDS),
                   all);
    }
    free(gathered);
    free(active);
    free(params);
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct arguments a;
    struct err e = {{0}};
    comm_start(&b.comm, &argc, &argv);
    read_arguments(&a, argc, argv);
    if (inputs_open_alone(&b.in, a.job, a.set, a.n_set, NULL, &e) != 0)
        die("%s", e.text);
    b.faster = a.faster;
    trace_open(&b.trace, false, 0, 0);
    open_engine(&b);
    plan_alloc(&b);
    if (b.comm.place.attention)
        fill_caches(&b, &a);
    b.rows = mem_new((size_t)b.in.job.layout.attention * MICRO_BATCHES_MAX, sizeof *b.rows);
    b.chosen = mem_zeroed(b.in.model.layers, b.in.model.most.experts + 1);
    if (comm_is_writer(&b.comm)) {
        cpu_set_t mask;
        cores_mask(&mask);
        roofs_open(&b.roofs, &b.engine);
        limits_open(&b.limits, b.engine.backend->name, cores_count(&mask), LIMITS_BYTES);
        b.json = a.json ? fopen(a.json, "a") : NULL;
        printf("%-12s %2s %6s %8s %10s %10s %17s %9s %9s %9s %8s %8s\n", "layout", "mb", "batch",
               "context", "step ms", "tokens/s", "(spread)", "roof", "A wait", "F wait", "send",
               "sample");
    }
    for (int i = 0; i < a.cases; i++)
        run_case(&b, a.batch[i], a.context[i], a.steps);
    if (comm_is_writer(&b.comm))
        limits_tell(&b.limits, stdout);
    if (b.json)
        fclose(b.json);
    engine_close(&b.engine);
    comm_finish(&b.comm);
    return 0;
}
