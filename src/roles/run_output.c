#include "roles/run_output.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/patience.h"
#include "output/beside.h"
#include "roles/ranks.h"
#include "roles/stop.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- what the files say of the job ---------------------------------------------------------- */

/* The prompts file, for whoever reads the output: what of it travels, and whether another output's is the
 * same one. */
static void describe_prompts(struct run *r)
{
    char text[64];
    const struct stamp *stamp = &r->in.prompts_file.stamps[0];
    snprintf(text, sizeof text, "%zu", prompts_count(r->in.prompts));
    identity_add(&r->attributes, BESIDE_ROWS, text);
    snprintf(text, sizeof text, "%llu %llu", (unsigned long long)r->in.first_of_all,
             (unsigned long long)r->in.end_of_all);
    identity_add(&r->attributes, BESIDE_RANGE, text);
    snprintf(text, sizeof text, "%llu bytes of %lld.%09lld", (unsigned long long)stamp->bytes,
             (long long)stamp->seconds, (long long)stamp->nanoseconds);
    identity_add(&r->attributes, "prompts_stamp", text);
    if (prompts_ids_are_integers(r->in.prompts))
        identity_add(&r->attributes, OUTPUT_IDS, OUTPUT_IDS_INTEGERS);
    identity_add(&r->attributes, OUTPUT_PROMPTS,
                 prompts_are_messages(r->in.prompts) ? OUTPUT_PROMPTS_MESSAGES
                 : prompts_are_tokens(r->in.prompts) ? OUTPUT_PROMPTS_TOKENS
                                                     : OUTPUT_PROMPTS_TEXTS);
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
    identity_add(&r->attributes, "tandem_version", r->version);
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
bool run_start_output(struct run *r, const char *weights)
{
    struct err e = {{0}};
    struct comm *c = r->comm;
    if (comm_is_first(c))
        output_describe(r->out, &r->attributes);
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

bool run_open_output(struct run *r, bool *finished)
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

/* ---- merging -------------------------------------------------------------------------------- */

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
static enum exit_status merge_journals(struct run *r)
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

enum exit_status run_merge(struct run *r)
{
    return gather_journals(r) ? merge_journals(r) : EXIT_RUN;
}

bool run_nothing_but_errors(struct run *r)
{
    int32_t nothing =
        comm_is_first(r->comm) && r->in.units > 0 && output_errors(r->out) == r->in.units;
    comm_broadcast(&r->comm->world, 0, &nothing, sizeof nothing);
    return nothing != 0;
}
