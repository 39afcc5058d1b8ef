#include "output/output.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "base/patience.h"
#include "base/files.h"
#include "data/h5.h"
#include "output/lock.h"
#include "output/merge.h"
#include "output/writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MERGE_TRIES        3
#define MERGE_AGAIN_WITHIN 600.0 /* seconds since it began */

struct output {
    char *path, *directory;
    uint64_t first_prompt, samples, kept, units;
    bool retry_errors, joined;
    uint64_t number;             /* of its journal */
    char *identity, *attributes; /* JSON */
    struct lock lock;
    struct journals journals;
    struct journal *journal;
    size_t file; /* its number among the journals */
    struct writer *writer;
    struct merge_progress progress;
};

char *output_directory(const char *path)
{
    size_t room = strlen(path) + sizeof ".partial";
    char *directory = mem_new(room, 1);
    snprintf(directory, room, "%s.partial", path);
    return directory;
}

/* ---- is it this job's? ---------------------------------------------------------------------- */

static int check_identity(const char *path, const char *json, const struct identity *wanted,
                          struct err *e)
{
    struct identity found = {0};
    int rc = json && identity_add_json(&found, json) == 0
                 ? identity_check(path, &found, wanted, e)
                 : err_set(e,
                           "%s: exists and was not written by this program as an output; it is not "
                           "overwritten: name another output, or move it away",
                           path);
    identity_free(&found);
    return rc;
}

/* The file has the same values; are the weights, which were not read, the same too? */
static int check_weights(const char *path, const char *json, const char *stamp,
                         const struct output_job *job, struct err *e)
{
    const char *weights = identity_value(job->identity, OUTPUT_WEIGHTS);
    const char *ours = identity_value(job->attributes, OUTPUT_WEIGHTS_STAMP);
    if (!weights || strcmp(weights, IDENTITY_LATER) != 0 ||
        (stamp && ours && strcmp(stamp, ours) == 0))
        return 0;
    job->read_weights(job->context);
    return check_identity(path, json, job->identity, e);
}

static int check_file(const char *path, const struct output_job *job, struct err *e)
{
    struct h5_output in;
    if (h5_read_output(&in, path, e) != 0) {
        struct err ignored;
        return check_identity(path, NULL, job->identity, in.state.failure ? &ignored : e);
    }
    char *json = h5_get_string(in.file, "identity");
    char *stamp = h5_get_string(in.file, OUTPUT_WEIGHTS_STAMP);
    h5_abandon(&in);
    int rc = check_identity(path, json, job->identity, e);
    if (rc == 0)
        rc = check_weights(path, json, stamp, job, e);
    free(json);
    free(stamp);
    return rc;
}

/* Is the output there, whole, and this job's? Its siblings alone were left by a kill between two
 * renames and will be replaced, but only when they are ours. */
static int look_for_output(const char *path, const struct output_job *job, bool *finished,
                           struct err *e)
{
    static const char *const siblings[] = {"tokens", "steps"};
    int rc = disk_exists(path, finished, e);
    if (rc == 0 && *finished)
        rc = check_file(path, job, e);
    for (size_t i = 0; i < 2 && rc == 0; i++) {
        char *sibling = merge_sibling(path, siblings[i]);
        bool there = false;
        rc = disk_exists(sibling, &there, e);
        if (rc == 0 && there)
            rc = check_file(sibling, job, e);
        else if (rc == 0 && *finished)
            rc = err_set(e,
                         "%s: is finished, but its sibling %s is missing; put it back, or move the "
                         "output away to decode again",
                         path, sibling);
        free(sibling);
    }
    return rc;
}

static int check_header(void *context, const char *path, const struct journal_header *h,
                        struct err *e)
{
    const struct output_job *job = context;
    if ((uint64_t)h->first_prompt != job->first_prompt || (uint64_t)h->samples != job->samples)
        return err_set(e, "%s: belongs to another job: its first prompt or samples differ", path);
    struct identity shorter = {0};
    bool grown = job->shorter && (uint64_t)h->units < job->units;
    if (grown && job->shorter(job->context, (uint64_t)h->units, &shorter, e) != 0)
        return -1;
    char *directory = files_directory(path);
    int rc = check_identity(directory, h->identity, grown ? &shorter : job->identity, e);
    free(directory);
    identity_free(&shorter);
    return rc;
}

/* ---- the directory -------------------------------------------------------------------------- */

/* Removes what is ours in the directory (all: the journals too), then the directory when nothing
 * else is in it. The output stands: what cannot be removed is no failure. */
static void clean(struct output *o, bool all)
{
    char **names;
    size_t n;
    struct err e;
    int rc = disk_list(o->directory, &names, &n, &e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        uint64_t number, id;
        size_t length = strlen(names[i]);
        bool tmp = length > 4 && strcmp(names[i] + length - 4, ".tmp") == 0;
        bool journal = journal_name(names[i], &number, &id);
        char *path = files_join(o->directory, names[i]);
        if (tmp || (all && (journal || strcmp(names[i], LOCK_FILE) == 0)))
            rc = disk_remove(path, &e);
        free(path);
    }
    if (rc == 0)
        disk_list_free(names, n);
    if (rc == 0 && all && rmdir(o->directory) != 0 && errno != ENOTEMPTY && errno != ENOENT)
        rc = err_set(&e, "%s: cannot be removed: %s", o->directory, strerror(errno));
    if (rc != 0)
        fprintf(stderr, "tandem: warning: %s\n", e.text);
}

static int refuse_first_edition(const struct output *o, struct err *e)
{
    char *path = files_join(o->directory, "identity.json");
    bool there = false;
    int rc = disk_exists(path, &there, e);
    free(path);
    if (rc != 0 || !there)
        return rc;
    return err_set(e,
                   "%s: was begun by an earlier version of this program; finish it with that one, "
                   "or move the directory away to begin anew",
                   o->directory);
}

static int resume(struct output *o, const struct output_job *job, bool *finished, struct err *e)
{
    if (look_for_output(o->path, job, finished, e) != 0 || refuse_first_edition(o, e) != 0)
        return -1;
    if (*finished) { /* the kill came between the last rename and the removal */
        clean(o, true);
        return 0;
    }
    clean(o, false);
    return journals_open(&o->journals, o->directory, o->units, check_header, (void *)job, e);
}

static struct output *make(const struct output_job *job)
{
    struct output *o = mem_zeroed(1, sizeof *o);
    if (job->samples == 0 || job->units % job->samples)
        die("%llu units are no multiple of %llu samples", (unsigned long long)job->units,
            (unsigned long long)job->samples);
    o->path = mem_string(job->path);
    o->directory = output_directory(job->path);
    o->first_prompt = job->first_prompt;
    o->samples = job->samples;
    o->kept = job->kept ? job->kept : job->samples;
    o->units = job->units;
    o->retry_errors = job->retry_errors;
    o->identity = identity_json(job->identity);
    o->attributes = identity_json(job->attributes);
    o->lock.fd = -1;
    return o;
}

int output_open(struct output **out, const struct output_job *job, bool *finished, struct err *e)
{
    *out = NULL;
    h5_quiet();
    if (look_for_output(job->path, job, finished, e) != 0)
        return -1;
    struct output *o = make(job);
    bool there = false;
    int rc = disk_exists(o->directory, &there, e);
    if (rc == 0 && (!*finished || there)) {
        rc = lock_enter(&o->lock, o->directory, e);
        if (rc == 0)
            rc = resume(o, job, finished, e);
    }
    if (rc != 0 || *finished)
        output_close(o);
    else
        *out = o;
    return rc;
}

int output_look(const struct output_job *job, struct output_there *there, struct err *e)
{
    bool begun = false;
    *there = (struct output_there){.done = 0};
    h5_quiet();
    if (look_for_output(job->path, job, &there->finished, e) != 0)
        return -1;
    struct output *o = make(job);
    int rc = there->finished ? 0 : disk_exists(o->directory, &begun, e);
    if (rc == 0 && begun)
        rc = refuse_first_edition(o, e);
    if (rc == 0 && begun)
        rc = journals_open(&o->journals, o->directory, o->units, check_header, (void *)job, e);
    if (rc == 0 && begun) {
        there->done = o->journals.n_done;
        there->errors = o->journals.n_errors;
        lock_is_held(o->directory, there->who, sizeof there->who);
    }
    output_close(o);
    return rc;
}

void output_close(struct output *o)
{
    struct err ignored;
    if (!o)
        return;
    bool fine = o->writer && writer_drain(o->writer, &ignored) == OUTPUT_FINE;
    writer_stop(o->writer);
    journal_close(o->journal, fine);
    journals_close(&o->journals);
    lock_leave(&o->lock);
    free(o->identity);
    free(o->attributes);
    free(o->path);
    free(o->directory);
    free(o);
}

/* ---- what is there -------------------------------------------------------------------------- */

static bool is_done(const struct output *o, uint64_t unit)
{
    return o->journals.places[unit] && !(o->retry_errors && journals_is_error(&o->journals, unit));
}

void output_done(const struct output *o, uint8_t *bitmap)
{
    memset(bitmap, 0, (size_t)(o->units + 7) / 8);
    for (uint64_t u = 0; u < o->units; u++)
        if (is_done(o, u))
            bitmap[u / 8] |= (uint8_t)(1u << u % 8);
}

uint64_t output_done_count(const struct output *o)
{
    return o->journals.n_done - (o->retry_errors ? o->journals.n_errors : 0);
}

uint64_t output_errors(const struct output *o)
{
    return o->journals.n_errors;
}

static void add_piece(void *batch, const struct piece *p)
{
    journal_put(batch, RECORD_PIECE, p->unit, &piece_table, p, 1);
}

int output_begun(struct output *o, struct bytes *batch, struct err *e)
{
    return journals_pieces(&o->journals, add_piece, batch, e);
}

/* ---- writing -------------------------------------------------------------------------------- */

static int create_journal(struct output *o, struct err *e)
{
    char *signature = journal_signature();
    const struct journal_header header = {
        .first_prompt = (int64_t)o->first_prompt,
        .samples = (int64_t)o->samples,
        .kept = (int64_t)o->kept,
        .units = (int64_t)o->units,
        .signature = signature,
        .identity = o->identity,
        .attributes = o->attributes,
    };
    o->number = o->joined ? o->number : o->journals.next_number;
    int rc = journal_create(&o->journal, o->directory, o->number, &header, e);
    free(signature);
    if (rc == 0 && !o->joined)
        o->file = journals_add_file(&o->journals, o->journal);
    return rc;
}

/* The list of this run with the value of its weights, or with that of the journals before it. */
static int settle_weights(struct output *o, const char *weights, struct err *e)
{
    struct identity now = {0}, before = {0};
    int rc = 0;
    if (identity_add_json(&now, o->identity) != 0)
        die("the identity of %s is no JSON", o->path);
    if (o->journals.header.identity && identity_add_json(&before, o->journals.header.identity) != 0)
        rc = err_set(e, "%s: the identity in its latest journal is no JSON", o->directory);
    const char *known = rc == 0 ? identity_value(&before, OUTPUT_WEIGHTS) : NULL;
    if (rc == 0 && known && weights && strcmp(known, weights) != 0)
        rc = err_set(e,
                     "%s: belongs to another job: it has %s %s instead of %s, which was loaded. "
                     "Nothing was overwritten: go on with the same model, name another output, or "
                     "move this one away",
                     o->directory, OUTPUT_WEIGHTS, known, weights);
    if (rc == 0 && (weights || known)) {
        identity_add(&now, OUTPUT_WEIGHTS, weights ? weights : known);
        free(o->identity);
        o->identity = identity_json(&now);
    }
    identity_free(&now);
    identity_free(&before);
    return rc;
}

void output_describe(struct output *o, const struct identity *attributes)
{
    free(o->attributes);
    o->attributes = identity_json(attributes);
}

int output_start(struct output *o, const char *weights, struct err *e)
{
    /* A job that only merges makes a journal too: its attributes are those of the last run. */
    if (settle_weights(o, weights, e) != 0 || create_journal(o, e) != 0)
        return -1;
    free(o->journals.header.identity);
    free(o->journals.header.attributes);
    free(o->journals.header.signature);
    o->journals.header = (struct journal_header){
        .first_prompt = (int64_t)o->first_prompt,
        .samples = (int64_t)o->samples,
        .kept = (int64_t)o->kept,
        .units = (int64_t)o->units,
        .signature = mem_string(""),
        .identity = mem_string(o->identity),
        .attributes = mem_string(o->attributes),
    };
    o->writer = writer_start();
    return 0;
}

char *output_weights(const struct output *o)
{
    struct identity now = {0};
    if (identity_add_json(&now, o->identity) != 0)
        die("the identity of %s is no JSON", o->path);
    const char *value = identity_value(&now, OUTPUT_WEIGHTS);
    char *copy = mem_string(value ? value : IDENTITY_LATER);
    identity_free(&now);
    return copy;
}

uint64_t output_number(const struct output *o)
{
    return o->number;
}

int output_join(struct output **out, const struct output_job *job, uint64_t number, struct err *e)
{
    struct output *o = make(job);
    o->joined = true;
    o->number = number;
    *out = NULL;
    if (create_journal(o, e) != 0) {
        output_close(o);
        return -1;
    }
    o->writer = writer_start();
    *out = o;
    return 0;
}

int output_reread(struct output *o, struct err *e)
{
    journals_close(&o->journals);
    return journals_open(&o->journals, o->directory, o->units, NULL, NULL, e);
}

/* In the thread. */
static int append(void *context, struct bytes *batch, struct err *e)
{
    struct output *o = context;
    uint64_t at;
    if (journal_append(o->journal, batch, &at, e) != 0)
        return -1;
    struct journal_record *r;
    if (o->joined)
        return 0;
    for (size_t next = 0, here = 0; (r = journal_next(batch, &next)); here = next) {
        if (r->kind == RECORD_COMPLETION && r->unit < o->units && is_done(o, r->unit))
            die("unit %llu is finished twice", (unsigned long long)r->unit);
        /* Pieces are for the next run. */
        if (r->kind != RECORD_PIECE &&
            journals_add(&o->journals, o->file, at + here, r, (const char *)(r + 1), e) != 0)
            die("%s", e->text);
    }
    return 0;
}

void output_push(struct output *o, struct bytes *batch)
{
    writer_push(o->writer, append, o, batch);
}

enum output_state output_state(struct output *o, struct err *e)
{
    return writer_state(o->writer, e);
}

enum output_state output_drain(struct output *o, struct err *e)
{
    return writer_drain(o->writer, e);
}

/* ---- the end -------------------------------------------------------------------------------- */

static int merge(void *context, struct bytes *batch, struct err *e)
{
    (void)batch;
    struct output *o = context;
    double began = clock_now();
    /* Its calls have been tried again already; all that remains is what must be written again, after
     * a disk has forgotten what it was given. */
    for (int tries = 1; merge_write(o->path, o->directory, &o->journals, false, &o->progress, e);
         tries++)
        if (o->progress.stop || tries == MERGE_TRIES || !patience_may_mend(errno) ||
            clock_now() - began >= MERGE_AGAIN_WITHIN)
            return -1;
    clean(o, true);
    return 0;
}

void output_merge(struct output *o)
{
    struct bytes none = {0};
    if (o->journals.n_done != o->units)
        die("merge of %s: %llu of %llu units are there", o->path,
            (unsigned long long)o->journals.n_done, (unsigned long long)o->units);
    journal_close(o->journal, false); /* it will be removed */
    o->journal = NULL;
    writer_push(o->writer, merge, o, &none);
}

void output_merge_progress(const struct output *o, uint64_t *rows, uint64_t *of)
{
    *rows = o->progress.rows;
    *of = o->progress.of;
}

void output_merge_stop(struct output *o)
{
    o->progress.stop = true;
}

int output_merge_partial(const char *path, const char *to, uint64_t *rows, uint64_t *of,
                         struct err *e)
{
    char *directory = output_directory(path), *beside = files_directory(to);
    struct journals js;
    struct merge_progress progress = {.stop = false};
    int rc = 0;
    if (!files_exist(directory))
        rc = err_set(e, "%s: does not exist: the job was never started, or is finished", directory);
    if (rc == 0 && files_exist(to))
        rc = err_set(e, "%s: exists; name another file with --to", to);
    if (rc == 0) {
        rc = journals_open(&js, directory, 0, NULL, NULL, e);
        if (rc == 0 && !js.header.identity)
            rc = err_set(e, "%s: has no journal yet", directory);
        if (rc == 0)
            rc = merge_write(to, beside, &js, true, &progress, e);
        *rows = progress.of;
        *of = js.units;
        journals_close(&js);
    }
    free(directory);
    free(beside);
    return rc;
}
