#include "base/disk.h"

#include "base/mem.h"
#include "base/patience.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The message for a call that is given up; errno stays. */
static int refused(const char *path, const char *what, struct err *e)
{
    int why = errno;
    err_set(e, "%s: cannot %s: %s", path, what, strerror(why));
    errno = why;
    return -1;
}

int disk_open(const char *path, int flags, struct err *e)
{
    struct patience p = {0};
    const char *what = flags & O_CREAT ? "be created" : "be opened";
    int fd;
    /* A FIFO or a device would be waited for, hence O_NONBLOCK; it means nothing for files. */
    while ((fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644)) < 0) {
        if (errno == ENOENT && !(flags & O_CREAT))
            return -2;
        if (!patience_again(&p, path, what))
            return refused(path, what, e);
    }
    struct stat st;
    while (fstat(fd, &st) != 0) {
        if (patience_again(&p, path, "be looked at"))
            continue;
        refused(path, "be looked at", e);
        close(fd);
        return -1;
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        errno = EINVAL;
        return err_set(e, "%s: wanted a file, found something else", path);
    }
    patience_end(&p, path);
    return fd;
}

int disk_read(int fd, const char *path, void *to, size_t n, uint64_t at, size_t *got, struct err *e)
{
    struct patience p = {0};
    for (*got = 0; *got < n;) {
        ssize_t some = pread(fd, (char *)to + *got, n - *got, (off_t)(at + *got));
        if (some == 0)
            break;
        if (some > 0)
            *got += (size_t)some;
        else if (!patience_again(&p, path, "be read"))
            return refused(path, "be read", e);
    }
    patience_end(&p, path);
    return 0;
}

static int write_all(int fd, const char *path, const char *from, size_t n, uint64_t at, bool again,
                     struct err *e)
{
    struct patience p = {0};
    while (n) {
        ssize_t some = pwrite(fd, from, n, (off_t)at);
        if (some > 0) {
            from += some;
            at += (uint64_t)some;
            n -= (size_t)some;
            continue;
        }
        if (some == 0)
            errno = ENOSPC;
        if (errno != EINTR && !(again && patience_again(&p, path, "be written")))
            return refused(path, "be written", e);
    }
    patience_end(&p, path);
    return 0;
}

int disk_write(int fd, const char *path, const void *from, size_t n, uint64_t at, struct err *e)
{
    return write_all(fd, path, from, n, at, true, e);
}

int disk_write_once(int fd, const char *path, const void *from, size_t n, uint64_t at,
                    struct err *e)
{
    return write_all(fd, path, from, n, at, false, e);
}

int disk_cut(int fd, const char *path, uint64_t n, struct err *e)
{
    struct patience p = {0};
    while (ftruncate(fd, (off_t)n) != 0)
        if (!patience_again(&p, path, "be cut"))
            return refused(path, "be cut", e);
    patience_end(&p, path);
    return 0;
}

int disk_sync(int fd, const char *path, struct err *e)
{
    while (fdatasync(fd) != 0)
        if (errno != EINTR)
            return refused(path, "be forced to disk", e);
    return 0;
}

int disk_exists(const char *path, bool *there, struct err *e)
{
    struct patience p = {0};
    struct stat st;
    int rc;
    while ((rc = lstat(path, &st)) != 0 && errno != ENOENT && errno != ENOTDIR)
        if (!patience_again(&p, path, "be looked at"))
            return refused(path, "be looked at", e);
    *there = rc == 0;
    return 0;
}

int disk_size(int fd, const char *path, uint64_t *bytes, struct err *e)
{
    struct patience p = {0};
    struct stat st;
    while (fstat(fd, &st) != 0)
        if (!patience_again(&p, path, "be looked at"))
            return refused(path, "be looked at", e);
    *bytes = (uint64_t)st.st_size;
    return 0;
}

int disk_sync_directory(const char *path, struct err *e)
{
    struct patience p = {0};
    int rc = -1;
    while (rc != 0) {
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) {
            rc = fsync(fd);
            int why = errno;
            close(fd);
            errno = why;
        }
        if (rc != 0 && fd >= 0 && errno == EINVAL)
            return 0;
        if (rc != 0 && !patience_again(&p, path, "be forced to disk"))
            return refused(path, "be forced to disk", e);
    }
    patience_end(&p, path);
    return 0;
}

int disk_rename(const char *from, const char *to, struct err *e)
{
    struct patience p = {0};
    while (rename(from, to) != 0)
        if (!patience_again(&p, to, "be renamed to"))
            return refused(to, "be renamed to", e);
    patience_end(&p, to);
    return 0;
}

int disk_remove(const char *path, struct err *e)
{
    struct patience p = {0};
    while (remove(path) != 0 && errno != ENOENT)
        if (!patience_again(&p, path, "be removed"))
            return refused(path, "be removed", e);
    patience_end(&p, path);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void disk_list_free(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

/* One try; what a directory does not give is no end of it: readdir() says both with NULL. */
static int list_once(const char *path, char ***names, size_t *n)
{
    DIR *d = opendir(path);
    if (!d)
        return -1;
    *names = NULL;
    *n = 0;
    errno = 0;
    for (struct dirent *entry; (entry = readdir(d)); errno = 0) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (*n % 64 == 0)
            *names = mem_resize(*names, *n + 64, sizeof **names);
        (*names)[(*n)++] = mem_string(entry->d_name);
    }
    int why = errno;
    closedir(d);
    if (why) {
        disk_list_free(*names, *n);
        errno = why;
        return -1;
    }
    if (*n)
        qsort(*names, *n, sizeof **names, by_name);
    return 0;
}

int disk_list(const char *path, char ***names, size_t *n, struct err *e)
{
    struct patience p = {0};
    while (list_once(path, names, n) != 0)
        if (!patience_again(&p, path, "be listed"))
            return refused(path, "be listed", e);
    patience_end(&p, path);
    return 0;
}
