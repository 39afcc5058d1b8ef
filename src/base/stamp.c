#include "base/stamp.h"

#include "base/mem.h"
#include "base/files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool stamp_same(const struct stamp *a, const struct stamp *b)
{
    return a->inode == b->inode && a->bytes == b->bytes && a->seconds == b->seconds &&
           a->nanoseconds == b->nanoseconds;
}

static void fill(struct stamp *s, const struct stat *st)
{
    *s = (struct stamp){.inode = st->st_ino,
                        .bytes = (uint64_t)st->st_size,
                        .seconds = st->st_mtim.tv_sec,
                        .nanoseconds = st->st_mtim.tv_nsec};
}

int stamp_take(struct stamp *s, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return -1;
    fill(s, &st);
    return 0;
}

int stamp_take_open(struct stamp *s, int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return -1;
    fill(s, &st);
    return 0;
}

int stamps_add(struct stamps *s, const char *path, struct err *e)
{
    struct stamp now;
    if (stamp_take(&now, path) != 0)
        return files_err_open(path, e);
    s->paths = mem_resize(s->paths, s->n + 1, sizeof *s->paths);
    s->stamps = mem_resize(s->stamps, s->n + 1, sizeof *s->stamps);
    s->paths[s->n] = mem_string(path);
    s->stamps[s->n++] = now;
    return 0;
}

int stamps_check(const struct stamps *s, size_t i, int *fault, struct err *e)
{
    struct stamp now;
    int status = stamp_take(&now, s->paths[i]);
    int why = status != 0 ? errno : 0;
    *fault = why == ENOENT || why == ENOTDIR ? 0 : why;
    if (status == 0 && stamp_same(&now, &s->stamps[i]))
        return 0;
    if (*fault)
        return err_set(e, "%s: cannot be looked at: %s", s->paths[i], strerror(why));
    return err_set(e,
                   "%s: was %s while the job was using it. Nothing that was read of it since then "
                   "is kept. Put the file back as it was and start the same command again, or "
                   "start another job with another output",
                   s->paths[i], status != 0 ? "removed" : "changed");
}

void stamps_free(struct stamps *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->paths[i]);
    free(s->paths);
    free(s->stamps);
    *s = (struct stamps){0};
}
