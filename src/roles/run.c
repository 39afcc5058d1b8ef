#include "roles/run.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "roles/cores.h"
#include "roles/identity.h"
#include "roles/steps.h"
#include "roles/stop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef TANDEM_VERSION
#define TANDEM_VERSION "development"
#endif

/* Everything of a run on this rank. */
struct run {
    struct comm *comm;
    struct inputs in;
    struct engine engine;
    struct identity identity;
    struct completions *out; /* writer */
    struct units units;
    struct decoder decoder;
    struct parcel finished;
    struct trace trace;
    struct report report;
    struct progress progress;
    double started, loaded;
};

/* ---- before decoding ------------------------------------------------------------------------ */

static bool open_inputs(struct run *r, const struct run_options *o)
{
    struct err e = {{0}};
    struct comm *c = r->comm;
    int status = inputs_read_job(&r->in, o->job, o->overrides, o->n_overrides, &e);
    if (status == 0 && o->wrong) {
        e = *o->wrong;
        status = -1;
    }
    r->in.probe = o->probe;
    if (!comm_agree(c, status == 0, &e) || !identity_same_job(c, TANDEM_VERSION, &r->in.job))
        return false;
    status = comm_split(c, &r->in.job.layout, o->role, &e);
    if (!comm_agree(c, status == 0, &e) || !identity_agree_kernels(c, &r->in))
        return false;
    status = inputs_open(&r->in, c->place.attention, &e);
    return comm_agree(c, status == 0, &e) && identity_agree(c, &r->in, &r->identity);
}

/* The sum of all ranks that use the same memory as this one. */
static struct engine_tenant all_tenants(const struct comm *c, const struct engine *g)
{
    struct engine_tenant mine = engine_tenant(g), sum = {.memory = mine.memory};
    struct engine_tenant *all = mem_new((size_t)c->world.size, sizeof *all);
    comm_allgather(&c->world, &mine, sizeof mine, all);
    for (int i = 0; i < c->world.size; i++)
        if (all[i].memory == mine.memory && c->peers[i].host == c->peers[c->world.rank].host) {
            sum.bytes += all[i].bytes;
            sum.caches += all[i].caches;
        }
    free(all);
    return sum;
}

static bool plan_engine(struct run *r)
{
    struct err e = {{0}};
    struct comm *c = r->comm;
    struct cores cores = cores_find(c);
    r->in.job.micro_batches = engine_micro_batches(&r->in.job, cores.shared_by_roles);
    int threads = r->in.job.threads > 0 ? r->in.job.threads : cores.threads;
    const struct exchange_ops *transport = engine_transport(&r->in.job, c->one_host, &e);
    int status =
        transport ? engine_plan(&r->engine, &r->in, &c->place, threads, transport, &e) : -1;
    if (!comm_agree(c, status == 0, &e))
        return false;
    struct engine_tenant all = all_tenants(c, &r->engine);
    return comm_agree(c, engine_plan_kv(&r->engine, &all, &e) == 0, &e);
}

static uint64_t hash_of(const struct run *r, const char *name)
{
    const char *hex = identity_value(&r->identity, name);
    return strtoull(hex ? hex : "", NULL, 16);
}

static struct completions_identity output_identity(const struct run *r)
{
    return (struct completions_identity){
        .model_hash = hash_of(r, "weights"),
        .tokenizer_hash = hash_of(r, "tokenizer"),
        .prompts_hash = hash_of(r, "prompts"),
        .first_prompt = r->in.job.prompts.first,
        .units = r->in.units,
        .samples = (uint64_t)r->in.job.sampling.samples,
        .sampling = identity_json(&r->identity),
    };
}

/* The writer opens the output; everybody learns what is done already. *finished: all of it. */
static bool open_output(struct run *r, bool *finished)
{
    struct err e = {{0}};
    int status = 0, complete = 0;
    if (comm_is_writer(r->comm)) {
        struct completions_identity id = output_identity(r);
        status = completions_open(&r->out, r->in.job.output.file, &id, finished, &e);
        free(id.sampling);
        complete = *finished;
    }
    if (!comm_agree(r->comm, status == 0, &e))
        return false;
    comm_broadcast(&r->comm->world, 0, &complete, sizeof complete);
    *finished = complete != 0;
    if (complete)
        return true;
    size_t bytes = units_bitmap_bytes(r->in.units);
    uint8_t *done = mem_zeroed(bytes, 1);
    if (comm_is_writer(r->comm))
        memcpy(done, completions_done(r->out), (size_t)((r->in.units + 7) / 8));
    comm_broadcast(&r->comm->world, 0, done, bytes);
    units_init(&r->units, r->in.units, done);
    free(done);
    return true;
}

/* When progress was last shown, and whether at all: a model that loads at once needs no lines. */
struct loading {
    double last;
    bool shown;
};

static void show_loading(void *context, size_t done, size_t total)
{
    struct loading *l = context;
    double now = clock_now();
    if (now - l->last < 2 && !(l->shown && done == total))
        return;
    fprintf(stderr, "tandem: attention rank 0 has loaded %.1f of %.1f GiB\n", (double)done / 0x1p30,
            (double)total / 0x1p30);
    *l = (struct loading){now, true};
}

static bool load(struct run *r)
{
    struct comm *c = r->comm;
    struct loading loading = {.last = clock_now()};
    engine_load(&r->engine, c->cell.mpi, comm_is_writer(r->comm) ? show_loading : NULL, &loading);
    struct err e = {{0}};
    if (!comm_agree(c, inputs_unchanged(&r->in, &e) == 0, &e))
        return false;
    stop_gently();
    comm_barrier(&c->cell);
    r->loaded = clock_now();
    if (comm_is_writer(r->comm)) {
        printf("loaded in %.1f s; %llu of %llu completions to do\n", r->loaded - r->started,
               (unsigned long long)r->units.left, (unsigned long long)r->units.total);
        fflush(stdout);
    }
    return true;
}

/* ---- decoding ------------------------------------------------------------------------------- */

static enum exit_status decode(struct run *r)
{
    struct steps s = {
        .comm = r->comm,
        .in = &r->in,
        .engine = &r->engine,
        .units = &r->units,
        .finished = &r->finished,
        .trace = &r->trace,
        .started = r->started,
    };
    if (r->comm->place.attention) {
        decoder_open(&r->decoder, &r->in.job, &r->in.prompting, r->in.prompts, &r->engine.limits,
                     r->comm->place.index, &r->finished);
        s.decoder = &r->decoder;
    }
    if (comm_is_writer(r->comm)) {
        progress_start(&r->progress, r->units.total, r->units.total - r->units.left);
        s.out = r->out;
        s.report = &r->report;
        s.progress = &r->progress;
    }
    enum exit_status status = steps_run(&s);
    r->report.steps = (uint64_t)s.step;
    r->report.replayed = s.replayed;
    if (s.decoder)
        r->report.schedule = schedule_usage(s.decoder->schedule);
    if (comm_is_writer(r->comm)) {
        progress_end(&r->progress);
        if (status == EXIT_RUN)
            fprintf(stderr, "tandem: %s\n", s.seal_error.text);
    }
    return status;
}

/* ---- after decoding ------------------------------------------------------------------------- */

static int merge(struct run *r, const char *ranks, struct err *e)
{
    char *job = job_yaml(&r->in.job), seed[32];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)r->in.job.sampling.seed);
    const struct attribute attributes[] = {
        {"tandem_version", TANDEM_VERSION},
        {"job", job},
        {"ranks", ranks},
        {"seed", seed},
        {"model", r->in.job.model},
        {"exchange", r->engine.exchange_ops->name},
        {"kernels", r->engine.backend->name},
    };
    int status = completions_merge(r->out, r->in.prompts, attributes,
                                   sizeof attributes / sizeof *attributes, e);
    free(job);
    return status;
}

static enum exit_status finish(struct run *r, enum exit_status status)
{
    struct err e = {{0}};
    double seconds = clock_now() - r->loaded;
    int merged = 0;
    char *ranks = report_rank_table(r->comm, &r->engine);
    if (comm_is_writer(r->comm) && status == EXIT_DONE)
        merged = merge(r, ranks, &e);
    free(ranks);
    if (!comm_agree(r->comm, merged == 0, &e))
        return EXIT_RUN;
    if (r->in.job.trace) {
        merged = trace_write(&r->trace, r->comm, r->in.job.trace, &e);
        if (!comm_agree(r->comm, merged == 0, &e))
            return EXIT_RUN;
    }
    if (status != EXIT_RUN)
        report_summary(&r->report, r->comm, &r->trace, seconds, r->in.job.output.file,
                       status == EXIT_DONE);
    return status;
}

static enum exit_status run_opened(struct run *r)
{
    bool finished = false;
    if (!plan_engine(r) || !open_output(r, &finished))
        return EXIT_INPUT;
    if (finished) {
        if (comm_is_writer(r->comm))
            printf("%s is finished already\n", r->in.job.output.file);
        return EXIT_DONE;
    }
    report_ranks(r->comm, &r->engine);
    if (!load(r))
        return EXIT_INPUT;
    return finish(r, decode(r));
}

static void close_run(struct run *r)
{
    decoder_close(&r->decoder);
    engine_close(&r->engine);
    completions_close(r->out);
    identity_free(&r->identity);
    units_free(&r->units);
    parcel_free(&r->finished);
    trace_close(&r->trace);
    report_free(&r->report);
    inputs_close(&r->in);
}

enum exit_status run_job(struct comm *c, const struct run_options *o)
{
    struct run r = {.comm = c, .started = clock_now()};
    if (!open_inputs(&r, o)) {
        identity_free(&r.identity);
        inputs_close(&r.in);
        return EXIT_INPUT;
    }
    trace_open(&r.trace, r.in.job.trace != NULL);
    enum exit_status status = run_opened(&r);
    close_run(&r);
    return status;
}
