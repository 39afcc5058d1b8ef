/* bench_decode JOB.yaml BATCH:CONTEXT... [prompt:TOKENS...] [--steps N] [--json FILE]
 * [--set KEY=VALUE]... [--colocated] - one decode step end to end, under mpirun, with the job's model and layout,
 * and no prompts; or a step that reads in the first TOKENS tokens of one prompt (one attention rank, one micro-batch).
 *
 * BATCH sequences in all, each with CONTEXT tokens in the cache, decode one token: the plan of a
 * step is made by hand, so nothing has to be prefilled; the cache is full of numbers by chance. A case
 * is measured as limits, steps, limits, ROUNDS times, and each round is held against its own limits; these are
 * those of all cores together, while no rank works. A last line says how much of the cores the threads of these
 * limits really got: less than 98 % means that others were at work, and that the figures say little.
 *
 * --colocated: the first rank holds the same model once more, as a single colocated rank with all cores, and
 * takes its steps in turns with the job's layout, while the other ranks sleep: what one is over the other is
 * the median of pairs that are a second apart, and holds on a machine whose speed changes. What is printed:
 *
 *   tokens/s  median over the steps, and (spread) the slowest and the fastest round's
 *   roof      what the operations of the step need at least, one after the other, on all cores
 *             together (each the larger of bytes / bandwidth and flops / peak; experts that no row
 *             chose are not read), over the step's time. Of a prompt: its operations at the peak,
 *             whatever has to be read
 *   A wait    share of the step in which an attention rank waited for the FFN ranks
 *   F wait    the same the other way round
 *   send      share of the step spent posting rows and partial sums
 *   sample    drawing the step's tokens by temperature and top_p, measured alone, over the step's time
 *   over      the colocated rank's time over this one's, and the quarters of the pairs
 */
#include "base/clock.h"
#include "base/median.h"
#include "base/mem.h"
#include "base/philox.h"
#include "roles/cores.h"
#include "roles/kv_fill.h"
#include "roles/roofs.h"
#include "kernels/cpu/limits.h"
#include "tests/bench/hand.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 8, CASES_MAX = 64, STEPS_MAX = 1000, SET_MAX = 64 };

struct arguments {
    const char *job, *json;
    const char *set[SET_MAX + 1]; /* one is added */
    size_t n_set;
    int batch[CASES_MAX], context[CASES_MAX], cases, steps; /* batch 0: a prompt */
    bool colocated;
};

/* What the layouts that are measured in turns share. */
struct machine {
    struct limits limits; /* of the first rank */
    FILE *json;
};

/* The steps of a case. */
struct taken {
    double total;                     /* seconds of all */
    double *active;                   /* [layers] experts that some row has chosen */
    double times[ROUNDS * STEPS_MAX]; /* seconds */
    double round[ROUNDS];             /* medians of them */
    double roofs[ROUNDS];             /* shares; of the writer */
};

struct bench {
    struct machine *machine;
    struct hand hand;
    struct roofs roofs; /* of the writer */
    struct taken taken;
};

static void stop(const char *text)
{
    fprintf(stderr, "bench_decode: %s\n", text);
    exit(1);
}

static void read_arguments(struct arguments *a, int argc, char **argv)
{
    *a = (struct arguments){.steps = 10};
    for (int i = 1; i < argc; i++) {
        int b = 0, c = 0;
        if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc)
            a->steps = atoi(argv[++i]);
        else if (strcmp(argv[i], "--json") == 0 && i + 1 < argc)
            a->json = argv[++i];
        else if (strcmp(argv[i], "--set") == 0 && i + 1 < argc && a->n_set < SET_MAX)
            a->set[a->n_set++] = argv[++i];
        else if (strcmp(argv[i], "--colocated") == 0)
            a->colocated = true;
        else if (sscanf(argv[i], "prompt:%d", &c) == 1 && c > 0 && a->cases < CASES_MAX)
            a->context[a->cases++] = c;
        else if (sscanf(argv[i], "%d:%d", &b, &c) == 2 && b > 0 && c > 0 && a->cases < CASES_MAX) {
            a->batch[a->cases] = b;
            a->context[a->cases++] = c;
        } else if (!a->job)
            a->job = argv[i];
        else
            stop("usage: bench_decode JOB.yaml BATCH:CONTEXT... [prompt:TOKENS...] [--steps N] "
                 "[--json FILE] [--set KEY=VALUE]... [--colocated]");
    }
    if (!a->job || a->cases == 0 || a->steps < 1 || a->steps > STEPS_MAX)
        stop("a job file and at least one BATCH:CONTEXT are wanted");
}

/* ---- the engine, as a run makes it ---------------------------------------------------------- */

/* b's first rank alone, once b's engine is open: the threads are the same, on the same cores. */
static struct comm comm_alone(const struct bench *b, const struct layout *l)
{
    struct comm c = b->hand.comm;
    c.world = c.cell = (struct group){0, 1, MPI_COMM_SELF};
    c.place = place_of(l, 0);
    c.place.host = b->hand.comm.place.host;
    c.place.shared_cores = b->hand.comm.place.shared_cores;
    c.place.host_ranks = 1;
    return c;
}

static void open_engine(struct bench *b)
{
    struct err e = {{0}};
    struct comm *c = &b->hand.comm;
    struct cores cores = cores_find(c);
    b->hand.in.job.micro_batches =
        engine_micro_batches(&b->hand.in.job, cores.shared_by_roles, true);
    c->place.shared_cores |= cores.shared_here;
    b->hand.in.job.graphs = TRI_FALSE; /* every step is enqueued here, with the rows that it has */
    int threads = b->hand.in.job.threads > 0 ? b->hand.in.job.threads : cores.threads;
    const struct exchange_ops *transport = engine_transport(&b->hand.in.job, c->one_host, &e);
    if (!transport ||
        engine_plan(&b->hand.engine, &b->hand.in, &c->place, threads, transport, &e) != 0)
        die("%s", e.text);
    struct engine_tenant all = engine_tenant(&b->hand.engine);
    all.bytes *= (size_t)c->place.host_ranks;
    all.caches = c->place.host_ranks;
    if (engine_plan_kv(&b->hand.engine, &all, &e) != 0)
        die("%s", e.text);
    engine_load(&b->hand.engine, &c->cell, NULL, NULL);
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
    kv_fill(&b->hand.engine, most, &none);
}

/* ---- measuring ------------------------------------------------------------------------------ */

struct speeds {
    double bandwidth, peak;
};

/* Limits by the first rank while the others wait, asleep, at the barrier. */
static struct speeds measure_limits(const struct bench *b)
{
    struct speeds now = {0};
    comm_barrier(&b->hand.comm.cell);
    if (comm_is_writer(&b->hand.comm)) {
        now.bandwidth = limits_bandwidth(&b->machine->limits, 0.05);
        now.peak = limits_peak(&b->machine->limits, 0.05);
    }
    comm_barrier(&b->hand.comm.cell);
    return now;
}

/* Drawing so many tokens, apart from any step. */
static double sample_seconds(const struct bench *b, int n)
{
    enum { TIMES = 5 };
    const struct engine *g = &b->hand.engine;
    const struct device_ops *dev = g->backend->device;
    size_t vocab = b->hand.in.model.vocab, rows = (size_t)n, count = mem_mul(rows, vocab);
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
static double least_seconds(const struct bench *b, struct speeds s, int batch, int context)
{
    const double *active = b->taken.active;
    struct roof r;
    if (batch > 0) {
        r = roofs_step(&b->roofs, s.bandwidth, s.peak, batch, context, active);
        return r.attention + r.ffn + r.head;
    }
    /* Token i sees i + 1; one row has logits. */
    r = roofs_step(&b->roofs, INFINITY, s.peak, context, (context + 1) / 2.0, active);
    return r.attention + r.ffn + roofs_step(&b->roofs, INFINITY, s.peak, 1, 1, active).head;
}

/* A case's first step, which touches all memory and says which experts are chosen. */
static void begin_case(struct bench *b, int batch, int context)
{
    const struct layout *l = &b->hand.in.job.layout;
    size_t experts = b->hand.in.model.most.experts, choices = b->hand.in.model.layers * experts;
    struct taken *t = &b->taken;
    hand_plan(&b->hand, batch, context);
    memset(b->hand.chosen, 0, choices);
    hand_step(&b->hand);
    comm_broadcast(&b->hand.comm.cell, l->colocated ? 0 : l->attention, b->hand.chosen, choices);
    memset(t->active, 0, b->hand.in.model.layers * sizeof *t->active);
    for (size_t i = 0; i < choices; i++)
        t->active[i / experts] += b->hand.chosen[i];
    trace_reset(&b->hand.trace);
    t->total = 0;
}

static void run_round(struct bench *b, int round, int steps)
{
    struct taken *t = &b->taken;
    double sorted[STEPS_MAX];
    for (int i = 0; i < steps; i++) {
        double start = clock_now();
        hand_step(&b->hand);
        sorted[i] = t->times[round * steps + i] = clock_now() - start;
        t->total += sorted[i];
    }
    t->round[round] = median(sorted, (size_t)steps);
}

/* What is said of a case: medians, and quarters of the rounds. */
struct said {
    double seconds, slowest, fastest, roof;
    double wait[2], send, sample; /* wait: of attention and of FFN ranks */
    double over[3];               /* quarter, median, quarter; 0 where there is nothing beside it */
};

/* What a rank says of the case: its role and the seconds it waited, sent and ran. */
struct shares {
    double wait, send, total;
    int32_t attention, ffn;
};

static void add_shares(const struct bench *b, struct said *s)
{
    int n[2] = {0}, size = b->hand.comm.cell.size;
    struct shares mine = {b->hand.trace.total[TRACE_WAIT], b->hand.trace.total[TRACE_SEND],
                          b->taken.total, b->hand.comm.place.attention, b->hand.comm.place.ffn};
    struct shares *all = mem_new((size_t)size, sizeof *all);
    comm_allgather(&b->hand.comm.cell, &mine, sizeof mine, all);
    for (int i = 0; i < size; i++) {
        int role = all[i].attention ? 0 : 1;
        s->wait[role] += all[i].wait / all[i].total;
        n[role]++;
        s->send += all[i].send / all[i].total / size;
    }
    for (int role = 0; role < 2; role++)
        s->wait[role] = n[role] ? s->wait[role] / n[role] : 0;
    free(all);
}

/* beside: the layout that took turns with b, or NULL. */
static struct said end_case(struct bench *b, const struct bench *beside, int batch, int steps)
{
    struct said s = {0};
    struct taken *t = &b->taken;
    double over[ROUNDS];
    for (int round = 0; beside && round < ROUNDS; round++)
        over[round] = beside->taken.round[round] / t->round[round];
    add_shares(b, &s);
    s.seconds = median(t->times, (size_t)(ROUNDS * steps));
    median(t->round, ROUNDS); /* sorts them */
    s.fastest = t->round[0];
    s.slowest = t->round[ROUNDS - 1];
    s.roof = median(t->roofs, ROUNDS);
    if (beside) {
        s.over[1] = median(over, ROUNDS);
        s.over[0] = over[ROUNDS / 4];
        s.over[2] = over[ROUNDS - 1 - ROUNDS / 4];
    }
    int ranks = b->hand.in.job.layout.attention;
    if (batch > 0 && comm_is_writer(&b->hand.comm))
        s.sample = sample_seconds(b, (batch + ranks - 1) / ranks) / s.seconds;
    return s;
}

/* ---- printing ------------------------------------------------------------------------------- */

static void layout_text(const struct layout *l, char *text, size_t size)
{
    if (l->colocated)
        snprintf(text, size, "%d colocated", l->attention);
    else
        snprintf(text, size, "%dA%dF %dx%d", l->attention, layout_ffn_ranks(l), l->expert,
                 l->tensor);
}

static void print_prompt(const struct bench *b, int tokens, const struct said *s)
{
    printf("a prompt of %d tokens: %.1f ms, %.1f tokens/s (%.1f-%.1f), %.1f %% of the peak\n",
           tokens, 1e3 * s->seconds, tokens / s->seconds, tokens / s->slowest, tokens / s->fastest,
           100 * s->roof);
    fflush(stdout);
    if (b->machine->json)
        fprintf(b->machine->json,
                "{\"prompt\": %d, \"step_ms\": %.4f, \"tokens_per_second\": %.2f, \"slowest\": "
                "%.2f, \"fastest\": %.2f, \"cores\": %.3f, \"peak\": %.4f}\n",
                tokens, 1e3 * s->seconds, tokens / s->seconds, tokens / s->slowest,
                tokens / s->fastest, limits_cores(&b->machine->limits), s->roof);
}

static void print_step(const struct bench *b, int batch, int context, const struct said *s)
{
    FILE *json = b->machine->json;
    char layout[64];
    layout_text(&b->hand.in.job.layout, layout, sizeof layout);
    printf("%-12s %2d %6d %8d %10.1f %10.1f %8.1f-%-8.1f %7.1f %% %7.1f %% %7.1f %% %6.1f %% %6.2f "
           "%%",
           layout, b->hand.in.job.micro_batches, batch, context, 1e3 * s->seconds,
           batch / s->seconds, batch / s->slowest, batch / s->fastest, 100 * s->roof,
           100 * s->wait[0], 100 * s->wait[1], 100 * s->send, 100 * s->sample);
    if (s->over[1] > 0)
        printf(" %6.3f (%.3f-%.3f)", s->over[1], s->over[0], s->over[2]);
    printf("\n");
    fflush(stdout);
    if (!json)
        return;
    fprintf(json,
            "{\"layout\": \"%s\", \"micro_batches\": %d, \"batch\": %d, \"context\": %d, "
            "\"step_ms\": %.4f, \"tokens_per_second\": %.2f, \"slowest\": %.2f, \"fastest\": %.2f, "
            "\"cores\": %.3f, \"roof\": %.4f, \"attention_wait\": %.4f, \"ffn_wait\": %.4f, "
            "\"send\": %.4f, \"sample\": %.5f, \"over\": [%.4f, %.4f, %.4f]}\n",
            layout, b->hand.in.job.micro_batches, batch, context, 1e3 * s->seconds,
            batch / s->seconds, batch / s->slowest, batch / s->fastest,
            limits_cores(&b->machine->limits), s->roof, s->wait[0], s->wait[1], s->send, s->sample,
            s->over[0], s->over[1], s->over[2]);
}

static void report(struct bench *b, const struct bench *beside, int batch, int context, int steps)
{
    struct said s = end_case(b, beside, batch, steps);
    if (!comm_is_writer(&b->hand.comm))
        return;
    if (batch > 0)
        print_step(b, batch, context, &s);
    else
        print_prompt(b, context, &s);
}

/* ---- cases ---------------------------------------------------------------------------------- */

/* All ranks are here and awake: a first barrier ends for the last one while others still sleep. */
static void settle(const struct bench *b)
{
    comm_barrier(&b->hand.comm.cell);
    comm_barrier(&b->hand.comm.cell);
}

static void add_roof(struct bench *b, int round, struct speeds s, int batch, int context)
{
    if (comm_is_writer(&b->hand.comm))
        b->taken.roofs[round] = least_seconds(b, s, batch, context) / b->taken.round[round];
}

/* beside: on the first rank, or NULL; the one that was last goes first in the next round. */
static void run_case(struct bench *b, struct bench *beside, int batch, int context, int steps)
{
    begin_case(b, batch, context);
    if (beside)
        begin_case(beside, batch, context);
    for (int round = 0; round < ROUNDS; round++) {
        struct speeds before = measure_limits(b);
        for (int turn = 0; turn < 2; turn++) {
            settle(b);
            if (turn == round % 2)
                run_round(b, round, steps);
            else if (beside)
                run_round(beside, round, steps);
        }
        struct speeds s = measure_limits(b);
        s = (struct speeds){(before.bandwidth + s.bandwidth) / 2, (before.peak + s.peak) / 2};
        add_roof(b, round, s, batch, context);
        if (beside)
            add_roof(beside, round, s, batch, context);
    }
    report(b, beside, batch, context, steps);
    if (beside)
        report(beside, NULL, batch, context, steps);
}

static void open_bench(struct bench *b, struct machine *machine, const struct arguments *a)
{
    b->machine = machine;
    trace_open(&b->hand.trace, false, 0, 0);
    open_engine(b);
    hand_open(&b->hand);
    if (b->hand.comm.place.attention)
        fill_caches(b, a);
    b->taken.active = mem_new(b->hand.in.model.layers, sizeof(double));
    if (comm_is_writer(&b->hand.comm))
        roofs_open(&b->roofs, &b->hand.engine);
}

static void open_machine(struct machine *m, const struct arguments *a, const char *backend)
{
    cpu_set_t mask;
    cores_mask(&mask);
    limits_open(&m->limits, backend, cores_count(&mask), LIMITS_BYTES);
    m->json = a->json ? fopen(a->json, "a") : NULL;
    printf("%-12s %2s %6s %8s %10s %10s %17s %9s %9s %9s %8s %8s %22s\n", "layout", "mb", "batch",
           "context", "step ms", "tokens/s", "(spread)", "roof", "A wait", "F wait", "send",
           "sample", a->colocated ? "over 1 colocated" : "");
}

static void open_inputs(struct bench *b, const struct arguments *a)
{
    struct err e = {{0}};
    if (inputs_open_alone(&b->hand.in, a->job, a->set, a->n_set, NULL, &e) != 0)
        die("%s", e.text);
}

int main(int argc, char **argv)
{
    static struct bench b, alone;
    static struct machine machine;
    struct bench *beside = NULL;
    struct arguments a;
    struct err e = {{0}};
    comm_start(&b.hand.comm, &argc, &argv);
    read_arguments(&a, argc, argv);
    open_inputs(&b, &a);
    if (comm_split(&b.hand.comm, &b.hand.in.job.layout, 1, ROLE_ANY, &e) != 0)
        die("%s", e.text);
    if (comm_is_writer(&b.hand.comm))
        open_machine(&machine, &a, b.hand.in.backend->name);
    open_bench(&b, &machine, &a);
    if (a.colocated && comm_is_writer(&b.hand.comm)) {
        beside = &alone;
        a.set[a.n_set++] = "layout.colocated=true";
        open_inputs(beside, &a);
        beside->hand.comm = comm_alone(&b, &beside->hand.in.job.layout);
        open_bench(beside, &machine, &a);
    }
    for (int i = 0; i < a.cases; i++)
        run_case(&b, beside, a.batch[i], a.context[i], a.steps);
    if (comm_is_writer(&b.hand.comm))
        limits_tell(&machine.limits, stdout);
    if (machine.json)
        fclose(machine.json);
    if (beside)
        engine_close(&beside->hand.engine);
    engine_close(&b.hand.engine);
    comm_finish(&b.hand.comm);
    return 0;
}
