#include "data/completions.h"

#include "base/mem.h"
#include "data/files.h"
#include "data/h5.h"
#include "data/identity.h"
#include "data/merge.h"
#include "data/prompts.h"
#include "data/shards.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_FILE "lock"

struct completions {
    char *path, *directory; /* the output; `<path>.partial` */
    struct completions_identity id;
    int lock;
    struct shards shards;
    uint8_t *done;
    size_t done_count;
    size_t compact_at; /* shards there must be before compaction is tried again after a failure */
};

const char *finish_name(enum finish f)
{
    static const char *const names[] = {"stop", "length", "error"};
    return names[f];
}

void completion_free(struct completion *c)
{
    free(c->error);
    free(c->text);
    free(c->tokens);
    free(c->logprobs);
    c->error = c->text = NULL;
    c->tokens = NULL;
    c->logprobs = NULL;
}

/* The lock: an flock on a file of the directory, which ends with the process, however that ends. */

static int lock_refused(const char *path, int fd, struct err *e)
{
    char who[200] = "";
    ssize_t n = pread(fd, who, sizeof who - 1, 0);
    if (n > 0 && who[n - 1] == '\n')
        who[n - 1] = 0;
    return err_set(e,
                   "%s: another job is writing this output%s%s%s; wait for it, or name another "
                   "output",
                   path, *who ? " (" : "", who, *who ? ")" : "");
}

/* Returns the descriptor, -1 on error, or -2 when the file went away under us and it is to be tried
 * again: its owner has just finished and removed the directory. */
static int try_lock(const char *path, struct err *e)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return errno == ENOENT ? -2
                               : err_set(e, "%s: cannot be created: %s", path, strerror(errno));
    /* A file system without flock (Lustre without -o flock: ENOSYS, NFS: ENOLCK) must not end the
     * job: there the user alone sees to it that no two jobs write one output. */
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        lock_refused(path, fd, e);
        close(fd);
        return -1;
    }
    struct stat held, there;
    if (fstat(fd, &held) != 0 || stat(path, &there) != 0 || held.st_ino != there.st_ino ||
        held.st_dev != there.st_dev) {
        close(fd);
        return -2;
    }
    char host[64] = "", who[128];
    gethostname(host, sizeof host - 1);
    int n = snprintf(who, sizeof who, "process %ld on %s\n", (long)getpid(), host);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, who, (size_t)n, 0) < 0) {
        err_set(e, "%s: cannot be written: %s", path, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

/* Makes the directory when it is not there, and takes its lock. */
static int enter(struct completions *c, struct err *e)
{
    char *lock = files_join(c->directory, LOCK_FILE), *parent = files_directory(c->path);
    int rc = 0;
    for (int tries = 0; rc == 0 && c->lock < 0; tries++) {
        if (mkdir(c->directory, 0777) != 0 && errno != EEXIST)
            rc = err_set(e, "%s: cannot be created: %s%s", c->directory, strerror(errno),
                         errno == ENOENT ? "; create the directory of the output first" : "");
        if (rc == 0)
            rc = files_sync_directory(parent, e);
        if (rc == 0) {
            c->lock = try_lock(lock, e);
            if (c->lock == -1 || (c->lock == -2 && tries == 10))
                rc = c->lock == -1 ? -1 : err_set(e, "%s: appears and disappears", lock);
        }
    }
    free(lock);
    free(parent);
    return rc;
}

/* Compares the identity in a finished file's attributes. what: for a file that has none. */
static int check_file(const char *path, const struct completions_identity *id, struct err *e)
{
    hid_t file;
    if (h5_open(&file, path, e) != 0)
        return -1;
    struct completions_identity found;
    int rc = identity_get(file, &found);
    h5_close(file);
    if (rc != 0)
        return err_set(e,
                       "%s: exists and was not written by this program as an output; it is not "
                       "overwritten: name another output, or move it away",
                       path);
    rc = job_identity_check(path, &found, id, e);
    job_identity_free(&found);
    return rc;
}

/* Is the output there, whole, and this job's? A ragged file alone was left by a kill between the
 * two renames and will be replaced, but only when it is ours. */
static int look_for_output(const char *path, const struct completions_identity *id, bool *finished,
                           struct err *e)
{
    char *tokens = merge_tokens_path(path);
    bool have_main = files_exist(path), have_tokens = files_exist(tokens);
    int rc = 0;
    if (have_main)
        rc = check_file(path, id, e);
    if (rc == 0 && have_tokens)
        rc = check_file(tokens, id, e);
    if (rc == 0 && have_main && !have_tokens)
        rc = err_set(e,
                     "%s: is finished, but its sibling %s is missing; put it back, or move the "
                     "output away to decode again",
                     path, tokens);
    *finished = rc == 0 && have_main;
    free(tokens);
    return rc;
}

/* Removes what is ours in the directory, then the directory if nothing else is in it. */
static void remove_directory(struct completions *c)
{
    static const char *const ours[] = {IDENTITY_FILE, LOCK_FILE};
    shards_remove(&c->shards);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        char *path = files_join(c->directory, ours[i]);
        unlink(path);
        free(path);
    }
    rmdir(c->directory);
}

static int take_over(struct completions *c, struct err *e)
{
    char *path = files_join(c->directory, IDENTITY_FILE);
    bool begun = files_exist(path);
    free(path);
    if (!begun && c->shards.count)
        return err_set(e,
                       "%s: has completions, but no " IDENTITY_FILE " that says of which job; move "
                       "the directory away to begin anew",
                       c->directory);
    if (!begun)
        return identity_write(c->directory, &c->id, e);
    struct completions_identity found;
    int rc = identity_read(c->directory, &found, e);
    if (rc == 0)
        rc = job_identity_check(c->directory, &found, &c->id, e);
    job_identity_free(&found);
    return rc;
}

static int read_done(struct completions *c, struct err *e)
{
    for (size_t i = 0; i < c->shards.count; i++) {
        char *path = shards_path(&c->shards, i);
        struct shard_reader *r;
        int rc = shard_open(&r, path, c->shards.job, e);
        if (rc == 0) {
            rc = shard_mark(r, c->id.units, c->done, &c->done_count, e);
            shard_close(r);
        }
        free(path);
        if (rc != 0) {
            size_t used = strlen(e->text);
            snprintf(e->text + used, sizeof e->text - used,
                     "; move this file out of the directory and its completions will be decoded "
                     "again");
            return -1;
        }
    }
    return 0;
}

/* With the lock held. The identity is looked at before anything is removed or changed. */
static int resume(struct completions *c, bool *finished, struct err *e)
{
    uint64_t job = identity_hash(&c->id);
    if (look_for_output(c->path, &c->id, finished, e) != 0)
        return -1;
    if (shards_list(&c->shards, c->directory, job, false, e) != 0)
        return -1;
    if (take_over(c, e) != 0)
        return -1;
    shards_free(&c->shards);
    if (shards_list(&c->shards, c->directory, job, true, e) != 0)
        return -1;
    if (*finished) { /* the kill came between the last rename and this */
        remove_directory(c);
        return 0;
    }
    return read_done(c, e);
}

int completions_open(struct completions **out, const char *path,
                     const struct completions_identity *id, bool *finished, struct err *e)
{
    *out = NULL;
    h5_quiet();
    if (id->samples == 0 || id->units % id->samples)
        die("%" PRIu64 " units are no multiple of %" PRIu64 " samples", id->units, id->samples);
    if (look_for_output(path, id, finished, e) != 0)
        return -1;
    struct completions *c = mem_zeroed(1, sizeof *c);
    c->path = mem_string(path);
    size_t room = strlen(path) + sizeof ".partial";
    c->directory = mem_new(room, 1);
    snprintf(c->directory, room, "%s.partial", path);
    c->lock = -1;
    c->id = identity_copy(id);
    c->done = mem_zeroed((size_t)(id->units + 7) / 8, 1);
    int rc = 0;
    if (!*finished || files_exist(c->directory)) {
        rc = enter(c, e);
        if (rc == 0)
            rc = resume(c, finished, e);
    }
    if (rc != 0 || *finished)
        completions_close(c);
    else
        *out = c;
    return rc;
}

void completions_close(struct completions *c)
{
    if (!c)
        return;
    shards_free(&c->shards);
    if (c->lock >= 0)
        close(c->lock);
    job_identity_free(&c->id);
    free(c->done);
    free(c->path);
    free(c->directory);
    free(c);
}

void completions_fanout(struct completions *c, size_t fanout)
{
    c->shards.fanout = fanout;
}

const uint8_t *completions_done(const struct completions *c)
{
    return c->done;
}

size_t completions_done_count(const struct completions *c)
{
    return c->done_count;
}

static bool is_done(const struct completions *c, uint64_t unit)
{
    return c->done[unit >> 3] >> (unit & 7) & 1;
}

static void set_done(struct completions *c, uint64_t unit, bool done)
{
    uint8_t bit = (uint8_t)(1u << (unit & 7));
    c->done[unit >> 3] = (uint8_t)(done ? c->done[unit >> 3] | bit : c->done[unit >> 3] & ~bit);
}

int completions_seal(struct completions *c, const struct completion *rows, size_t n,
                     const struct step_timing *steps, size_t m, struct err *e)
{
    if (n == 0 && m == 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (rows[i].unit >= c->id.units)
            die("unit %" PRIu64 " of %" PRIu64 " is sealed", rows[i].unit, c->id.units);
        if (is_done(c, rows[i].unit))
            die("unit %" PRIu64 " is sealed twice", rows[i].unit);
        set_done(c, rows[i].unit, true); /* finds duplicates among the rows themselves */
    }
    if (shards_seal(&c->shards, rows, n, steps, m, e) != 0) {
        for (size_t i = 0; i < n; i++)
            set_done(c, rows[i].unit, false);
        return -1;
    }
    c->done_count += n;
    /* What was asked for is done. Compaction may fail (it needs room for a copy): then there are
     * more files than we like, and it is tried again after some more seals. */
    struct err ignored;
    if (c->shards.count >= c->compact_at && shards_compact(&c->shards, &ignored) != 0)
        c->compact_at = c->shards.count + c->shards.fanout;
    return 0;
}

int completions_merge(struct completions *c, struct prompts *prompts,
                      const struct attribute *attributes, size_t n_attributes, struct err *e)
{
    if (c->done_count != c->id.units ||
        prompts_count(prompts) < c->id.first_prompt + c->id.units / c->id.samples)
        die("merge of %s: %zu of %" PRIu64 " units are there, for %zu prompts", c->path,
            c->done_count, c->id.units, prompts_count(prompts));
    if (merge_write(c->path, &c->shards, &c->id, prompts, attributes, n_attributes, e) != 0)
        return -1;
    remove_directory(c);
    return 0;
}
