#include "roles/run_output.h"

#include "base/clock.h"
#include "base/file_cache.h"
#include "base/hash.h"
#include "base/mem.h"
#include "roles/cores.h"
#include "roles/ranks.h"
#include "roles/selftest.h"
#include "roles/stop.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef TANDEM_VERSION
#define TANDEM_VERSION "development"
#endif

/* ---- before decoding ------------------------------------------------------------------------ */

typedef int (*run_reads)(struct run *r, const struct run_options *o, struct err *e);

static int read_job(struct run *r, const struct run_options *o, struct err *e)
{
    int status = inputs_read_job(&r->in, o->job, o->overrides, o->n_overrides, e);
    if (status == 0 && o->wrong) {
        *e = *o->wrong;
        status = -1;
    }
    return status;
}

static int read_inputs(struct run *r, const struct run_options *o, struct err *e)
{
    (void)o;
    if (comm_is_first(r->comm) && !r->selftest && inputs_may_write(&r->in.job, e) != 0)
        return -1;
    return inputs_open(&r->in, r->comm->place.attention, e);
}

/* The first rank's to all others. */
static void share_files(const struct group *world)
{
    size_t bytes = 0;
    void *packed = world->rank == 0 ? file_cache_pack(&bytes) : NULL;
    uint64_t n = bytes;
    comm_broadcast(world, 0, &n, sizeof n);
    if (!packed)
        packed = mem_new((size_t)n, 1);
    comm_broadcast(world, 0, packed, (size_t)n);
    if (world->rank != 0)
        file_cache_unpack(packed, (size_t)n);
    free(packed);
}

/* The first rank reads. What it has read, or what is wrong, goes to the others, which read the same from
 * memory. False: the message was printed. */
static bool read_in_turn(struct run *r, run_reads what, const struct run_options *o)
{
    struct err e = {{0}};
    struct comm *c = r->comm;
    bool first = comm_is_first(c);
    int32_t status = first ? what(r, o, &e) : 0;
    comm_broadcast(&c->world, 0, &status, sizeof status);
    comm_broadcast(&c->world, 0, &e, sizeof e);
    if (status == 0) {
        share_files(&c->world);
        status = first ? 0 : what(r, o, &e);
    }
    return comm_agree(c, status == 0, &e);
}

static bool open_inputs(struct run *r, const struct run_options *o)
{
    struct err e = {{0}};
    struct comm *c = r->comm;
    if (!read_in_turn(r, read_job, o) || !identity_same_job(c, TANDEM_VERSION, &r->in.job))
        return false;
    r->in.probe = o->probe;
    r->retry_errors = o->retry_errors;
    r->selftest = o->selftest;
    int status = comm_split(c, &r->in.job.layout, r->in.job.cells, o->role, &e);
    if (!comm_agree(c, status == 0, &e) || !identity_agree_kernels(c, &r->in))
        return false;
    return read_in_turn(r, read_inputs, o) && identity_agree(c, &r->in, &r->identity);
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
    r->in.job.micro_batches = engine_micro_batches(&r->in.job, cores.shared_by_roles, c->one_host);
    c->place.shared_cores = cores.shared_here;
    if (r->in.job.graphs == TRI_AUTO)
        r->in.job.graphs = c->one_host ? TRI_TRUE : TRI_FALSE;
    int threads = r->in.job.threads > 0 ? r->in.job.threads : cores.threads;
    const struct exchange_ops *transport = engine_transport(&r->in.job, c->one_host, &e);
    int status =
        transport ? engine_plan(&r->engine, &r->in, &c->place, threads, transport, &e) : -1;
    if (!comm_agree(c, status == 0, &e))
        return false;
    struct engine_tenant all = all_tenants(c, &r->engine);
    return comm_agree(c, engine_plan_kv(&r->engine, &all, &e) == 0, &e);
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
    bool small = total < (size_t)1 << 30;
    double unit = small ? 0x1p20 : 0x1p30;
    fprintf(stderr, "tandem: attention rank 0 has loaded %.1f of %.1f %s\n", (double)done / unit,
            (double)total / unit, small ? "MiB" : "GiB");
    *l = (struct loading){now, true};
}

/* A GPU's wires are measured: what is slow for no reason would else go unseen. */
static bool measure_exchange(struct run *r, bool tested)
{
    char *said = NULL;
    if (!r->engine.backend->device->sort)
        return true;
    bool good = selftest_exchange_of(r->comm, &r->engine, TANDEM_VERSION, tested, &said);
    if (said)
        identity_add(&r->attributes, "exchange_measured", said);
    free(said);
    return good;
}

/* tested: the kernels were, just now. */
static enum exit_status load(struct run *r, bool tested)
{
    struct comm *c = r->comm;
    struct loading loading = {.last = clock_now()};
    struct fingerprint *f = identity_fingerprint(&r->in, r->engine.config.threads);
    r->engine.fingerprint = f;
    engine_load(&r->engine, &c->cell, comm_is_first(c) ? show_loading : NULL, &loading);
    struct err e = {{0}};
    bool same = comm_agree(c, inputs_same_weights(&r->in, &e) == 0, &e) &&
                identity_agree_weights(c, f, &r->identity);
    r->engine.fingerprint = NULL;
    fingerprint_free(f);
    if (same && !measure_exchange(r, tested))
        return EXIT_RUN;
    if (!same || !run_start_output(r, identity_value(&r->identity, OUTPUT_WEIGHTS)))
        return EXIT_INPUT;
    if (comm_is_first(c))
        stop_aloud();
    stop_gently();
    comm_barrier(&c->cell);
    r->loaded = clock_now();
    if (comm_is_first(c)) {
        printf("loaded in %.1f s; %llu of %llu completions to do\n", r->loaded - r->started,
               (unsigned long long)r->units.undone, (unsigned long long)r->units.total);
        fflush(stdout);
    }
    return EXIT_DONE;
}

/* ---- decoding ------------------------------------------------------------------------------- */

/* Of all cells, by the same order as within one. */
static enum exit_status worst(struct comm *c, enum exit_status status)
{
    enum exit_status *all = mem_new((size_t)c->world.size, sizeof *all);
    comm_allgather(&c->world, &status, sizeof status, all);
    for (int i = 0; i < c->world.size; i++)
        if (all[i] != EXIT_DONE && (status == EXIT_DONE || all[i] < status))
            status = all[i];
    free(all);
    return status;
}

static enum exit_status decode(struct run *r)
{
    struct steps s = {
        .comm = r->comm,
        .in = &r->in,
        .engine = &r->engine,
        .units = &r->units,
        .claims = claims_open(r->comm),
        .begun = &r->begun,
        .finished = &r->finished,
        .timings = &r->timings,
        .trace = &r->trace,
        .started = r->started,
    };
    if (r->comm->place.attention) {
        int rank = r->comm->cell_index * r->in.job.layout.attention + r->comm->place.index;
        decoder_open(&r->decoder, &r->in, &r->engine.limits, rank, &r->finished);
        s.decoder = &r->decoder;
    }
    if (comm_is_writer(r->comm)) {
        s.out = r->out;
        s.report = &r->report;
    }
    if (comm_is_first(r->comm)) {
        progress_start(&r->progress, r->units.total, r->units.total - r->units.undone);
        s.progress = &r->progress;
    }
    enum exit_status status = steps_run(&s);
    claims_close(s.claims, r->comm);
    r->report.steps = (uint64_t)s.step;
    r->report.replayed = s.replayed;
    if (s.decoder) {
        r->report.schedule = schedule_usage(s.decoder->schedule);
        r->report.guessing = s.pace.balance;
        r->report.counts.drawn = (uint64_t)s.decoder->drawn;
    }
    if (comm_is_first(r->comm))
        progress_end(&r->progress);
    if (comm_is_writer(r->comm) && (s.written == OUTPUT_LATER || s.written == OUTPUT_BROKEN))
        fprintf(stderr, "tandem: %s\n", s.write_error.text);
    comm_agree(r->comm, !s.read_error.text[0], &s.read_error); /* says it */
    return worst(r->comm, status);
}

/* ---- after decoding ------------------------------------------------------------------------- */

static void summarize(struct run *r, double seconds, bool finished, bool all_failed)
{
    char now[32];
    struct report_end end = {.path = r->in.job.output.file,
                             .summary = r->in.job.output.summary,
                             .version = TANDEM_VERSION,
                             .time = progress_time(now),
                             .seconds = seconds,
                             .finished = finished,
                             .all_failed = all_failed,
                             .units = r->in.units,
                             .ranks = r->comm->world.size};
    if (comm_is_first(r->comm))
        end.completions = output_done_count(r->out);
    report_summary(&r->report, r->comm, &r->trace, &end);
}

static enum exit_status finish(struct run *r, enum exit_status status)
{
    struct err e = {{0}};
    double seconds = clock_now() - r->loaded;
    if (status == EXIT_DONE && !comm_agree(r->comm, inputs_same_prompts(&r->in, &e) == 0, &e))
        status = EXIT_INPUT;
    if (status == EXIT_DONE)
        status = run_merge(r);
    bool worthless = status == EXIT_DONE && run_nothing_but_errors(r);
    if (status != EXIT_RUN && status != EXIT_INPUT)
        summarize(r, seconds, status == EXIT_DONE, worthless);
    if (r->in.job.trace &&
        trace_write(&r->trace, r->comm, (int)r->in.model.layers, r->in.job.trace, &e) != 0)
        fprintf(stderr, "tandem: warning: %s\n", e.text);
    return worthless ? EXIT_INPUT : status;
}

/* `tandem selftest JOB`: no weights, no output. */
static enum exit_status test_alone(struct run *r)
{
    bool tested;
    char *said = NULL;
    ranks_print(r->comm, &r->engine);
    if (!selftest_kernels_of(r->comm, &r->engine, TANDEM_VERSION, true, &tested))
        return EXIT_RUN;
    engine_connect(&r->engine, r->comm->cell.mpi);
    bool good = selftest_exchange_of(r->comm, &r->engine, TANDEM_VERSION, true, &said);
    free(said);
    if (!good)
        return EXIT_RUN;
    if (comm_is_first(r->comm))
        printf("kernels and exchange have passed on all ranks\n");
    return EXIT_DONE;
}

/* What decoding has freed in small pieces is trimmed: it would stay beside what the merge needs. */
static void close_model(struct run *r)
{
    decoder_close(&r->decoder);
    engine_close(&r->engine);
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static enum exit_status run_opened(struct run *r)
{
    bool finished = false, tested = false;
    if (!plan_engine(r))
        return EXIT_INPUT;
    if (r->selftest)
        return test_alone(r);
    if (!run_open_output(r, &finished))
        return EXIT_INPUT;
    if (finished) {
        if (comm_is_first(r->comm))
            printf("%s is finished already\n", r->in.job.output.file);
        return EXIT_DONE;
    }
    ranks_print(r->comm, &r->engine);
    if (r->units.undone == 0) { /* the model is not needed */
        stop_gently();
        r->loaded = clock_now();
        return run_start_output(r, NULL) ? finish(r, EXIT_DONE) : EXIT_INPUT;
    }
    if (!selftest_kernels_of(r->comm, &r->engine, TANDEM_VERSION, false, &tested))
        return EXIT_RUN;
    enum exit_status status = load(r, tested);
    if (status != EXIT_DONE)
        return status;
    status = decode(r);
    if (status == EXIT_DONE)
        close_model(r); /* its memory is for whoever writes the finished file, and for other jobs */
    return finish(r, status);
}

static void close_run(struct run *r)
{
    close_model(r);
    output_close(r->out);
    identity_free(&r->identity);
    identity_free(&r->attributes);
    units_free(&r->units);
    begun_free(&r->begun);
    free(r->finished.data);
    timing_free(&r->timings);
    trace_close(&r->trace);
    report_free(&r->report);
    inputs_close(&r->in);
}

/* What this process was started with; as much as is shown. */
static void print_command(void)
{
    char text[400];
    FILE *f = fopen("/proc/self/cmdline", "r");
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    for (size_t i = 0; i + 1 < n; i++)
        if ((unsigned char)text[i] < ' ')
            text[i] = ' ';
    printf("command     %.*s%s\n", (int)(n ? n - 1 : 0), text, n == sizeof text ? "..." : "");
    if (f)
        fclose(f);
}

/* What a log begins with: two runs of one job have the same number. */
static void print_header(struct run *r)
{
    char now[32];
    const struct comm *c = r->comm;
    int hosts = 0;
    for (int i = 0; i < c->world.size; i++)
        hosts += c->peers[i].host == c->peers[i].rank;
    char *identity = identity_json(&r->identity);
    printf("tandem %s, %s, %d rank%s on %s", TANDEM_VERSION, progress_time(now), c->world.size,
           c->world.size == 1 ? "" : "s", c->peers[0].name);
    if (hosts > 1)
        printf(" and %d more host%s", hosts - 1, hosts == 2 ? "" : "s");
    printf("\n");
    print_command();
    printf("job         %s (%016llx)\n", r->in.job.path,
           (unsigned long long)hash_string(HASH_START, identity));
    fflush(stdout);
    free(identity);
}

/* A job that is started again and again, and only loads its model, must not go on for ever. */
static enum exit_status guard_restarts(const struct run *r, int most, enum exit_status status)
{
    int restarts = stop_restarts();
    if (status != EXIT_UNFINISHED || most < 0)
        return status;
    const struct report_counts *c = &r->report.counts;
    uint64_t gained =
        c->drawn + c->done + c->failed; /* steps that only read prompts again gain nothing */
    comm_sum(&r->comm->world, &gained, 1);
    bool nothing = restarts > 0 && gained == 0;
    if (restarts < most && !nothing)
        return status;
    if (comm_is_first(r->comm))
        fprintf(stderr,
                "tandem: Slurm has restarted this job %d times%s; it ends with status %d, to be "
                "submitted again by hand (--max-restarts)\n",
                restarts, nothing ? ", and this run brought not one token" : "", EXIT_RUN);
    return EXIT_RUN;
}

const char *run_version(void)
{
    return TANDEM_VERSION;
}

enum exit_status run_job(struct comm *c, const struct run_options *o)
{
    struct run r = {.comm = c, .version = TANDEM_VERSION, .started = clock_now()};
    bool opened = open_inputs(&r, o);
    file_cache_close();
    if (!opened) {
        identity_free(&r.identity);
        inputs_close(&r.in);
        return EXIT_INPUT;
    }
    if (comm_is_first(c))
        print_header(&r);
    comm_limit(c, r.in.job.schedule.step_timeout);
    trace_open(&r.trace, r.in.job.trace != NULL, r.in.job.trace_first, r.in.job.trace_last);
    r.timings = (struct timings){.every_step = r.in.job.trace != NULL, .rank = c->world.rank};
    enum exit_status status = guard_restarts(&r, o->max_restarts, run_opened(&r));
    close_run(&r);
    return status;
}
