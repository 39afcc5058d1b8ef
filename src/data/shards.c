#include "data/shards.h"

#include "base/mem.h"
#include "data/files.h"
#include "data/h5.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void name_text(struct shard_name n, char out[64])
{
    snprintf(out, 64, "shard-%08u-%08u.h5", n.first, n.last);
}

/* Exactly a name this program makes, or false. */
static bool parse_name(const char *text, struct shard_name *n)
{
    char again[64];
    if (sscanf(text, "shard-%8u-%8u.h5", &n->first, &n->last) != 2 || n->last < n->first)
        return false;
    name_text(*n, again);
    return strcmp(text, again) == 0;
}

/* Wider shards before those inside them. */
static int by_number(const void *left, const void *right)
{
    const struct shard_name *a = left, *b = right;
    if (a->first != b->first)
        return a->first < b->first ? -1 : 1;
    return a->last > b->last ? -1 : a->last < b->last;
}

static void unlink_in(const struct shards *s, const char *name)
{
    char *path = files_join(s->directory, name);
    unlink(path); /* what stays is superseded, or a .tmp: the next run tries again */
    free(path);
}

static bool is_tmp(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && strcmp(name + n - 4, ".tmp") == 0;
}

static int drop_superseded(struct shards *s, bool clean, struct err *e)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct shard_name n = s->names[i], before = kept ? s->names[kept - 1] : n;
        char text[64];
        name_text(n, text);
        if (kept == 0 || n.first > before.last) {
            s->names[kept++] = n;
        } else if (n.last > before.last) {
            return err_set(e,
                           "%s: %s shares only some of its numbers with the shard before it; was "
                           "a file renamed?",
                           s->directory, text);
        } else if (clean) {
            unlink_in(s, text);
        }
    }
    s->count = kept;
    return 0;
}

int shards_list(struct shards *s, const char *directory, uint64_t job, bool clean, struct err *e)
{
    *s = (struct shards){.directory = mem_string(directory), .job = job, .fanout = SHARDS_FANOUT};
    DIR *d = opendir(directory);
    if (!d) {
        err_set(e, "%s: cannot be listed: %s", directory, strerror(errno));
        shards_free(s);
        return -1;
    }
    size_t room = 0;
    for (struct dirent *entry; (entry = readdir(d));) {
        struct shard_name n;
        if (clean && is_tmp(entry->d_name))
            unlink_in(s, entry->d_name);
        if (!parse_name(entry->d_name, &n))
            continue;
        if (s->count == room) {
            room = room ? 2 * room : 64;
            s->names = mem_resize(s->names, room, sizeof *s->names);
        }
        s->names[s->count++] = n;
    }
    closedir(d);
    if (s->count)
        qsort(s->names, s->count, sizeof *s->names, by_number);
    if (drop_superseded(s, clean, e) != 0) {
        shards_free(s);
        return -1;
    }
    return 0;
}

void shards_free(struct shards *s)
{
    free(s->directory);
    free(s->names);
    *s = (struct shards){0};
}

char *shards_path(const struct shards *s, size_t i)
{
    char text[64];
    name_text(s->names[i], text);
    return files_join(s->directory, text);
}

/* Publishes the finished `tmp` as shard n. When only the last step of it fails, the directory's
 * fsync, the name is there already: it must go, or a later shard could overlap it. */
static int publish(const struct shards *s, const char *tmp, struct shard_name n, struct err *e)
{
    char text[64];
    name_text(n, text);
    char *path = files_join(s->directory, text);
    int rc = files_publish(tmp, path, e);
    if (rc != 0)
        unlink(path);
    free(path);
    return rc;
}

static int by_unit(const void *left, const void *right)
{
    const struct completion *a = *(const struct completion *const *)left;
    const struct completion *b = *(const struct completion *const *)right;
    return a->unit < b->unit ? -1 : a->unit > b->unit;
}

static int write_rows(const char *tmp, uint64_t job, const struct completion *rows, size_t n,
                      const struct step_timing *steps, size_t m, struct err *e)
{
    struct shard_size size = {.steps = m};
    const struct completion **order = mem_new(n, sizeof *order);
    for (size_t i = 0; i < n; i++) {
        order[i] = &rows[i];
        shard_measure(&size, &rows[i]);
    }
    if (n)
        qsort(order, n, sizeof *order, by_unit);
    struct shard_writer *w;
    int rc = shard_create(&w, tmp, job, size, e);
    if (rc == 0) {
        for (size_t i = 0; i < n && rc == 0; i++)
            rc = shard_put(w, order[i], e);
        if (rc == 0)
            rc = shard_put_steps(w, steps, m, e);
        if (rc == 0)
            rc = shard_finish(w, e);
        else
            shard_abandon(w);
    }
    free(order);
    return rc;
}

int shards_seal(struct shards *s, const struct completion *rows, size_t n,
                const struct step_timing *steps, size_t m, struct err *e)
{
    uint32_t number = s->count ? s->names[s->count - 1].last + 1 : 0;
    if (number > 99999999u)
        return err_set(e, "%s: holds %u shards, the most there can be", s->directory, number);
    char *tmp = files_join(s->directory, "seal.tmp");
    struct shard_name name = {number, number};
    int rc = write_rows(tmp, s->job, rows, n, steps, m, e);
    if (rc == 0)
        rc = publish(s, tmp, name, e);
    if (rc != 0)
        unlink(tmp);
    free(tmp);
    if (rc == 0) {
        s->names = mem_resize(s->names, s->count + 1, sizeof *s->names);
        s->names[s->count++] = name;
    }
    return rc;
}

/* floor(log_fanout(numbers spanned)): what is merged together is of one class. */
static unsigned size_class(const struct shards *s, struct shard_name n)
{
    unsigned class = 0;
    for (uint64_t span = (uint64_t)n.last - n.first + 1; span >= s->fanout; span /= s->fanout)
        class ++;
    return class;
}

static bool compaction_due(const struct shards *s)
{
    if (s->count < s->fanout)
        return false;
    unsigned class = size_class(s, s->names[s->count - 1]);
    for (size_t i = s->count - s->fanout; i < s->count; i++)
        if (size_class(s, s->names[i]) != class)
            return false;
    return true;
}

static int put_steps(void *writer, const struct step_timing *steps, size_t n, struct err *e)
{
    return shard_put_steps(writer, steps, n, e);
}

static int write_walk(const char *tmp, uint64_t job, struct shards_walk *walk, struct err *e)
{
    struct shard_writer *w;
    if (shard_create(&w, tmp, job, shards_walk_size(walk), e) != 0)
        return -1;
    int rc = 0;
    for (uint64_t unit = 0; rc == 0;) {
        struct completion c;
        rc = shards_walk_next(walk, &unit, &c, e);
        if (rc != 0 || unit == UINT64_MAX)
            break;
        rc = shard_put(w, &c, e);
        completion_free(&c);
    }
    if (rc == 0)
        rc = shards_walk_steps(walk, put_steps, w, e);
    if (rc == 0)
        return shard_finish(w, e);
    shard_abandon(w);
    return rc;
}

static int compact_once(struct shards *s, struct err *e)
{
    size_t begin = s->count - s->fanout;
    struct shard_name wide = {s->names[begin].first, s->names[s->count - 1].last};
    struct shards_walk *walk;
    if (shards_walk_open(&walk, s, begin, s->fanout, e) != 0)
        return -1;
    char *tmp = files_join(s->directory, "compact.tmp");
    int rc = write_walk(tmp, s->job, walk, e);
    shards_walk_close(walk);
    if (rc == 0)
        rc = publish(s, tmp, wide, e);
    if (rc != 0)
        unlink(tmp);
    free(tmp);
    if (rc != 0)
        return rc;
    for (size_t i = begin; i < s->count; i++) {
        char text[64];
        name_text(s->names[i], text);
        unlink_in(s, text);
    }
    s->names[begin] = wide;
    s->count = begin + 1;
    return 0;
}

int shards_compact(struct shards *s, struct err *e)
{
    while (compaction_due(s))
        if (compact_once(s, e) != 0)
            return -1;
    return 0;
}

void shards_remove(struct shards *s)
{
    for (size_t i = 0; i < s->count; i++) {
        char text[64];
        name_text(s->names[i], text);
        unlink_in(s, text);
    }
    s->count = 0;
}
