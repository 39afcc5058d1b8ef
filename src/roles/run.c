#include "roles/run.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/patience.h"
#include "output/beside.h"
#include "roles/cores.h"
#include "roles/identity.h"
#include "roles/ranks.h"
#include "roles/steps.h"
#include "roles/stop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef TANDEM_VERSION
#define TANDEM_VERSION "development"
#endif

/* Everything of a run on this rank. */
struct run {
    struct comm *comm;
    struct inputs in;
    struct engine engine;
    bool retry_errors;
    struct identity identity;
    struct identity attributes; /* writer */
    struct output *out;         /* writer */
    struct units units;
    struct begun_list begun;
    struct decoder decoder;
    struct bytes finished;
    struct timings timings;
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
    r->retry_errors = o->retry_errors;
    if (!comm_agree(c, status == 0, &e) || !identity_same_job(c, TANDEM_VERSION, &r->in.job))
        return false;
    status = comm_split(c, &r->in.job.layout, r->in.job.cells, o->role, &e);
    if (!comm_agree(c, status == 0, &e) || !identity_agree_kernels(c, &r->in))
        return false;
    if (comm_is_first(c))
        status = inputs_may_write(&r->in.job, &e);
    if (status == 0)
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
    r->in.job.micro_batches = engine_micro_batches(&r->in.job, cores.shared_by_roles, c->one_host);
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

/* The prompts file, for whoever reads the output: what of it travels, and whether another output's is the
 * same one. */
static void describe_prompts(struct run *r)
{
    char text[64];
    const struct stamp *stamp = &r->in.prompts_file.stamps[0];
    snprintf(text, sizeof text, "%zu", prompts_count(r->in.prompts));
    identity_add(&r->attributes, BESIDE_ROWS, text);
    snprintf(text, sizeof text, "%llu bytes of %lld.%09lld", (unsigned long long)stamp->bytes,
             (long long)stamp->seconds, (long long)stamp->nanoseconds);
    identity_add(&r->attributes, "prompts_stamp", text);
    if (prompts_ids_are_integers(r->in.prompts))
        identity_add(&r->attributes, OUTPUT_IDS, OUTPUT_IDS_INTEGERS);
    char *prompts = prompts_kept(r->in.prompts) ? realpath(r->in.job.prompts.file, NULL) : NULL;
    if (prompts)
        identity_add(&r->attributes, BESIDE_ATTRIBUTE, prompts);
    free(prompts);
}

/* What the finished files say of the job, besides its identity. ranks: ranks_table(). */
static void describe(struct run *r, const char *ranks)
{
    char *job = job_yaml(&r->in.job), *stamp = identity_weights_stamp(&r->in), seed[32];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)r->in.job.sampling.seed);
    identity_add(&r->attributes, "tandem_version", TANDEM_VERSION);
    identity_add(&r->attributes, "job", job);
    identity_add(&r->attributes, "ranks", ranks);
    identity_add(&r->attributes, "seed", seed);
    identity_add(&r->attributes, "model", r->in.job.model);
    identity_add(&r->attributes, "exchange", r->engine.exchange_ops->name);
    identity_add(&r->attributes, "kernels", r->engine.backend->name);
    identity_add(&r->attributes, OUTPUT_WEIGHTS_STAMP, stamp);
    describe_prompts(r);
    free(stamp);
    free(job);
}

static int shorter_identity(void *context, uint64_t units, struct identity *id, struct err *e)
{
    const struct run *r = context;
    return identity_shorter(&r->in, &r->identity, units, id, e);
}

/* A finished output was made with weight files of another time or place. */
static void read_weights(void *context)
{
    struct run *r = context;
    fprintf(stderr, "tandem: %s: reads %s to see whether it is the model of this output\n",
            r->in.job.output.file, r->in.job.model);
    identity_read_weights(&r->in, r->engine.config.threads, &r->identity);
}

static struct output_job output_job(struct run *r)
{
    return (struct output_job){
        .path = r->in.job.output.file,
        .identity = &r->identity,
        .attributes = &r->attributes,
        .first_prompt = r->in.job.prompts.first,
        .samples = job_decoded(&r->in.job),
        .kept = (uint64_t)r->in.job.sampling.samples,
        .units = r->in.units,
        .retry_errors = r->retry_errors,
        .shorter = shorter_identity,
        .read_weights = read_weights,
        .context = r,
    };
}

static int open_as_owner(struct run *r, const char *ranks, bool *finished, struct bytes *begun,
                         struct err *e)
{
    describe(r, ranks);
    const struct output_job job = output_job(r);
    if (output_open(&r->out, &job, finished, e) != 0)
        return -1;
    if (*finished)
        return 0;
    return output_begun(r->out, begun, e);
}

/* The owner makes this run's journal; then the writers of other cells make theirs beside it. */
static bool start_output(struct run *r, const char *weights)
{
    struct err e = {{0}};
    struct comm *c = r->comm;
    int status = comm_is_first(c) ? output_start(r->out, weights, &e) : 0;
    if (!comm_agree(c, status == 0, &e))
        return false;
    uint64_t number = comm_is_first(c) ? output_number(r->out) : 0;
    char *value = comm_broadcast_text(&c->world, comm_is_first(c) ? output_weights(r->out) : NULL);
    identity_add(&r->identity, OUTPUT_WEIGHTS, value);
    free(value);
    comm_broadcast(&c->world, 0, &number, sizeof number);
    char *attributes =
        comm_broadcast_text(&c->world, comm_is_first(c) ? identity_json(&r->attributes) : NULL);
    if (comm_is_writer(c) && !comm_is_first(c)) {
        if (identity_add_json(&r->attributes, attributes) != 0)
            die("rank 0's attributes are no JSON: %.200s", attributes);
        const struct output_job job = output_job(r);
        status = output_join(&r->out, &job, number + (uint64_t)c->cell_index, &e);
    }
    free(attributes);
    return comm_agree(c, status == 0, &e);
}

/* Everybody learns what is done, and what was begun. */
static void share_output(struct run *r, struct bytes *begun)
{
    const struct group *g = &r->comm->world;
    size_t bytes = units_bitmap_bytes(r->in.units);
    uint8_t *done = mem_zeroed(bytes, 1);
    uint64_t begun_bytes = begun->used;
    if (comm_is_first(r->comm))
        output_done(r->out, done);
    comm_broadcast(g, 0, done, bytes);
    const struct job *job = &r->in.job;
    units_init(&r->units, r->in.units, done, job->cells, job_decoded(job),
               (uint64_t)job->layout.attention * (uint64_t)job->schedule.slots);
    free(done);
    comm_broadcast(g, 0, &begun_bytes, sizeof begun_bytes);
    if (!begun->data)
        begun->data = mem_new((size_t)begun_bytes, 1);
    begun->used = (size_t)begun_bytes;
    comm_broadcast(g, 0, begun->data, begun->used);
    if (r->comm->place.attention)
        begun_read(&r->begun, begun);
}

/* The first rank opens the output. *finished: all of it is there. */
static bool open_output(struct run *r, bool *finished)
{
    struct err e = {{0}};
    struct bytes begun = {0};
    int status = 0, complete = 0;
    char *ranks = ranks_table(r->comm, &r->engine);
    patience_set(r->in.job.output.patience, stop_wanted);
    if (comm_is_first(r->comm)) {
        status = open_as_owner(r, ranks, finished, &begun, &e);
        complete = *finished;
    }
    free(ranks);
    bool agreed = comm_agree(r->comm, status == 0, &e);
    if (agreed)
        comm_broadcast(&r->comm->world, 0, &complete, sizeof complete);
    *finished = complete != 0;
    if (agreed && !complete)
        share_output(r, &begun);
    free(begun.data);
    return agreed;
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
    struct fingerprint *f = identity_fingerprint(&r->in, r->engine.config.threads);
    r->engine.fingerprint = f;
    engine_load(&r->engine, c->cell.mpi, comm_is_first(c) ? show_loading : NULL, &loading);
    struct err e = {{0}};
    bool same = comm_agree(c, inputs_same_weights(&r->in, &e) == 0, &e) &&
                identity_agree_weights(c, f, &r->identity);
    r->engine.fingerprint = NULL;
    fingerprint_free(f);
    if (!same || !start_output(r, identity_value(&r->identity, OUTPUT_WEIGHTS)))
        return false;
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
    return true;
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

#define MERGE_PAUSE 0.2 /* seconds, at most, between two looks at the merge */
#define MERGE_SHOWS 10  /* seconds between two lines about it */

static void show_merge(struct run *r, double *shown)
{
    uint64_t rows, of;
    if (clock_now() - *shown < MERGE_SHOWS)
        return;
    *shown = clock_now();
    output_merge_progress(r->out, &rows, &of);
    fprintf(stderr, "tandem: %s: %llu of %llu completions written\n", r->in.job.output.file,
            (unsigned long long)rows, (unsigned long long)of);
}

/* Whoever gives a job its time must know: a merge begins anew (output/merge.h). */
static void say_stopped(struct run *r, double seconds)
{
    uint64_t rows, of;
    output_merge_progress(r->out, &rows, &of);
    fprintf(stderr,
            "tandem: %s: stopped with %llu of %llu completions written; the same command writes it "
            "anew, without the model",
            r->in.job.output.file, (unsigned long long)rows, (unsigned long long)of);
    if (rows > 0 && rows < of)
        fprintf(stderr, ", in about %.0f s", seconds * (double)of / (double)rows);
    fputc('\n', stderr);
}

/* Closes the journals of other cells, for their owner to read. */
static bool gather_journals(struct run *r)
{
    struct err e = {{0}};
    struct comm *c = r->comm;
    if (c->cells == 1)
        return true;
    if (!comm_is_first(c)) {
        output_close(r->out);
        r->out = NULL;
    }
    comm_barrier(&c->world);
    return comm_agree(c, !comm_is_first(c) || output_reread(r->out, &e) == 0, &e);
}

/* The owner's thread merges, and everybody sleeps; all look now and then whether it has ended, and
 * whether one of them was asked to stop. The status is the same on every rank. */
static enum exit_status merge(struct run *r)
{
    struct comm *c = r->comm;
    struct err e = {{0}};
    double began = clock_now(), shown = began, pause = 0.001;
    struct contract *all = mem_new((size_t)c->world.size, sizeof *all);
    enum output_state state = OUTPUT_BUSY;
    bool writer = comm_is_first(c), stop = false;
    if (writer)
        output_merge(r->out);
    while (state == OUTPUT_BUSY) {
        struct contract mine = {.stop = stop_wanted() || steps_over_time(&r->in.job, r->started)};
        if (writer) {
            mine.fail = (int32_t)output_state(r->out, &e);
            show_merge(r, &shown);
        }
        comm_allgather(&c->world, &mine, sizeof mine, all);
        for (int i = 0; i < c->world.size; i++)
            stop = stop || all[i].stop;
        if (writer && stop)
            output_merge_stop(r->out);
        state = (enum output_state)all[0].fail;
        const struct timespec moment = {0, (long)(pause * 1e9)};
        nanosleep(&moment, NULL);
        pause = pause * 2 < MERGE_PAUSE ? pause * 2 : MERGE_PAUSE;
    }
    if (writer && state != OUTPUT_FINE && !stop)
        fprintf(stderr, "tandem: %s\n", e.text);
    else if (writer && state != OUTPUT_FINE)
        say_stopped(r, clock_now() - began);
    free(all);
    return state == OUTPUT_FINE ? EXIT_DONE : state == OUTPUT_LATER ? EXIT_UNFINISHED : EXIT_RUN;
}

/* An output without one completion is the sign of a job that is wrong. */
static bool nothing_but_errors(struct run *r)
{
    int32_t nothing =
        comm_is_first(r->comm) && r->in.units > 0 && output_errors(r->out) == r->in.units;
    comm_broadcast(&r->comm->world, 0, &nothing, sizeof nothing);
    return nothing != 0;
}

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
        status = gather_journals(r) ? merge(r) : EXIT_RUN;
    bool worthless = status == EXIT_DONE && nothing_but_errors(r);
    if (status != EXIT_RUN && status != EXIT_INPUT)
        summarize(r, seconds, status == EXIT_DONE, worthless);
    if (r->in.job.trace &&
        trace_write(&r->trace, r->comm, (int)r->in.model.layers, r->in.job.trace, &e) != 0)
        fprintf(stderr, "tandem: warning: %s\n", e.text);
    return worthless ? EXIT_INPUT : status;
}

static enum exit_status run_opened(struct run *r)
{
    bool finished = false;
    if (!plan_engine(r) || !open_output(r, &finished))
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
        return start_output(r, NULL) ? finish(r, EXIT_DONE) : EXIT_INPUT;
    }
    if (!load(r))
        return EXIT_INPUT;
    return finish(r, decode(r));
}

static void close_run(struct run *r)
{
    decoder_close(&r->decoder);
    engine_close(&r->engine);
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
    bool nothing = r->report.steps == 0 && restarts > 0;
    if (status != EXIT_UNFINISHED || most < 0 || (restarts < most && !nothing))
        return status;
    if (comm_is_first(r->comm))
        fprintf(stderr,
                "tandem: Slurm has restarted this job %d times%s; it ends with status %d, to be "
                "submitted again by hand (--max-restarts)\n",
                restarts, nothing ? ", and in this run nothing was computed" : "", EXIT_RUN);
    return EXIT_RUN;
}

enum exit_status run_job(struct comm *c, const struct run_options *o)
{
    struct run r = {.comm = c, .started = clock_now()};
    if (!open_inputs(&r, o)) {
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
