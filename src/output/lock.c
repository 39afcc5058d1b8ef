#include "output/lock.h"

#include "base/disk.h"
#include "base/patience.h"
#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GONE = -2 };

static int refused(const char *path, int fd, struct err *e)
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

/* A file system without flock (Lustre without -o flock: ENOSYS, NFS: ENOLCK) must not end the job:
 * there the user alone sees to it that no two jobs write one output. */
static int take(int fd, const char *path, struct err *e)
{
    struct patience p = {0};
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            return refused(path, fd, e);
        if (!patience_again(&p, path, "be locked"))
            return 0;
    }
    return 0;
}

/* True when the name still is the file's: its owner may have finished and removed it. */
static bool same_file(int fd, const char *path)
{
    struct stat held, there;
    return fstat(fd, &held) == 0 && stat(path, &there) == 0 && held.st_ino == there.st_ino &&
           held.st_dev == there.st_dev;
}

static int try_lock(const char *path, struct err *e)
{
    int fd = disk_open(path, O_RDWR | O_CREAT, e);
    if (fd < 0)
        return errno == ENOENT ? GONE : -1;
    if (take(fd, path, e) != 0) {
        close(fd);
        return -1;
    }
    if (!same_file(fd, path)) {
        close(fd);
        return GONE;
    }
    char host[64] = "", who[128];
    gethostname(host, sizeof host - 1);
    int n = snprintf(who, sizeof who, "process %ld on %s\n", (long)getpid(), host);
    if (disk_cut(fd, path, 0, e) != 0 || disk_write(fd, path, who, (size_t)n, 0, e) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int make_directory(const char *directory, struct err *e)
{
    struct patience p = {0};
    while (mkdir(directory, 0755) != 0 && errno != EEXIST)
        if (!patience_again(&p, directory, "be created"))
            return err_set(e, "%s: cannot be created: %s%s", directory, strerror(errno),
                           errno == ENOENT ? "; create the directory of the output first" : "");
    struct stat st;
    while (lstat(directory, &st) != 0)
        if (errno == ENOENT || !patience_again(&p, directory, "be looked at"))
            return errno == ENOENT ? 0 : err_set(e, "%s: %s", directory, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return err_set(e, "%s: wanted a directory, found something else", directory);
    if (st.st_uid != geteuid())
        return err_set(e, "%s: belongs to another user; name another output", directory);
    if (st.st_mode & (S_IWGRP | S_IWOTH))
        return err_set(e,
                       "%s: others may write to it, and could replace what is in it; say `chmod "
                       "go-w` to it, or name another output",
                       directory);
    return 0;
}

int lock_enter(struct lock *l, const char *directory, struct err *e)
{
    char *path = files_join(directory, LOCK_FILE), *parent = files_directory(directory);
    int rc = 0;
    l->fd = -1;
    for (int tries = 0; rc == 0 && l->fd < 0; tries++) {
        rc = make_directory(directory, e);
        if (rc == 0)
            rc = disk_sync_directory(parent, e);
        if (rc == 0)
            l->fd = try_lock(path, e);
        if (rc == 0 && l->fd == GONE && tries == 10)
            rc = err_set(e, "%s: appears and disappears", path);
        else if (l->fd == -1)
            rc = -1;
    }
    free(path);
    free(parent);
    return rc;
}

void lock_leave(struct lock *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}

bool lock_is_held(const char *directory, char *who, size_t size)
{
    char *path = files_join(directory, LOCK_FILE);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool held = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    ssize_t n = held ? pread(fd, who, size - 1, 0) : 0;
    who[n > 0 ? n : 0] = 0;
    who[strcspn(who, "\n")] = 0;
    if (fd >= 0)
        close(fd); /* gives a lock back that it got */
    free(path);
    return held;
}
