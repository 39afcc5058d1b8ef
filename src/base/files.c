#include "base/files.h"

#include "base/file_cache.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

char *files_join(const char *directory, const char *name)
{
    size_t room = strlen(directory) + strlen(name) + 2;
    char *path = mem_new(room, 1);
    snprintf(path, room, "%s/%s", directory, name);
    return path;
}

char *files_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return mem_string(".");
    return slash == path ? mem_string("/") : mem_string_n(path, (size_t)(slash - path));
}

const char *files_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool files_ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), k = strlen(end);
    return n >= k && strcasecmp(path + n - k, end) == 0;
}

bool files_exist(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

bool files_is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int files_err_open(const char *path, struct err *e)
{
    int why = errno;
    char target[1024];
    ssize_t n = why == ENOENT ? readlink(path, target, sizeof target - 1) : -1;
    if (n < 0)
        return err_set(e, "%s: cannot be opened: %s", path, strerror(why));
    target[n] = 0;
    return err_set(e, "%s: is a link to %s, which does not exist", path, target);
}

int files_may_create(const char *path, struct err *e)
{
    char *directory = files_directory(path);
    int status = 0;
    if (access(directory, W_OK | X_OK) != 0)
        status = err_set(e, "%s: cannot be written: its directory %s: %s", path, directory,
                         strerror(errno));
    free(directory);
    return status;
}

static int sync_path(const char *path, int flags, struct err *e)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        return err_set(e, "%s: cannot be opened to be synced: %s", path, strerror(errno));
    int rc = fsync(fd);
    int why = errno;
    close(fd);
    if (rc == 0 ||
        (why == EINVAL && (flags & O_DIRECTORY))) /* some file systems sync no directory */
        return 0;
    return err_set(e, "%s: cannot be forced to disk: %s", path, strerror(why));
}

int files_sync(const char *path, struct err *e)
{
    return sync_path(path, O_RDONLY, e);
}

int files_sync_directory(const char *directory, struct err *e)
{
    return sync_path(directory, O_RDONLY | O_DIRECTORY, e);
}

int files_publish(const char *from, const char *to, struct err *e)
{
    if (files_sync(from, e) != 0)
        return -1;
    if (rename(from, to) != 0)
        return err_set(e, "%s: cannot be renamed to %s: %s", from, to, strerror(errno));
    char *directory = files_directory(to);
    int rc = files_sync_directory(directory, e);
    free(directory);
    return rc;
}

int files_write(const char *directory, const char *name, const void *data, size_t n, struct err *e)
{
    char *path = files_join(directory, name);
    size_t room = strlen(path) + 5;
    char *tmp = mem_new(room, 1);
    snprintf(tmp, room, "%s.tmp", path);
    FILE *f = fopen(tmp, "we");
    int rc = 0;
    if (!f)
        rc = err_set(e, "%s: cannot be created: %s", tmp, strerror(errno));
    if (f) {
        bool ok = fwrite(data, 1, n, f) == n;
        ok = fclose(f) == 0 && ok;
        if (!ok)
            rc = err_set(e, "%s: cannot be written: %s", tmp, strerror(errno));
    }
    if (rc == 0)
        rc = files_publish(tmp, path, e);
    if (rc != 0)
        unlink(tmp);
    free(tmp);
    free(path);
    return rc;
}

/* Opens without waiting for the other end of a pipe. */
static FILE *open_regular(const char *path, struct err *e)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        files_err_open(path, e);
        return NULL;
    }
    FILE *f = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? fdopen(fd, "r") : NULL;
    if (!f) {
        err_set(e, "%s: wanted a file, found %s", path,
                S_ISDIR(st.st_mode) ? "a directory" : "something else");
        close(fd);
    }
    return f;
}

/* NULL: it cannot be read (errno), or has more than `most` bytes (0). */
static char *read_stream(FILE *f, size_t most, size_t *n)
{
    size_t room = 4096;
    char *data = mem_new(room + 1, 1);
    for (*n = 0;;) {
        *n += fread(data + *n, 1, room - *n, f);
        if (*n < room || *n > most)
            break;
        room *= 2;
        data = mem_resize(data, room + 1, 1);
    }
    int why = ferror(f) ? errno : 0;
    data[*n] = 0;
    if (!why && *n <= most)
        return data;
    free(data);
    errno = why;
    return NULL;
}

static char *read_all(FILE *f, const char *path, size_t most, size_t *n, struct err *e)
{
    char *data = read_stream(f, most, n);
    if (!data && errno)
        err_set(e, "%s: cannot be read: %s%s", path, strerror(errno),
                errno == EISDIR ? "; a file was meant" : "");
    else if (!data)
        err_set(e, "%s: is larger than %zu KiB: another file was meant", path, most >> 10);
    fclose(f);
    return data;
}

/* What the cache has of it; NULL: nothing, or more than is wanted. */
static char *read_cached(const char *path, size_t most, size_t *n)
{
    struct stamp now;
    const char *data = stamp_take(&now, path) == 0 ? file_cache_find(path, &now, n) : NULL;
    return data && *n <= most ? mem_string_n(data, *n) : NULL;
}

int files_refuse_pointer(const char *path, const void *data, size_t n, struct err *e)
{
    static const char begins[] = "version https://git-lfs";
    if (n < sizeof begins - 1 || memcmp(data, begins, sizeof begins - 1) != 0)
        return 0;
    return err_set(e, "%s: is a Git LFS pointer, not the file; fetch it with `git lfs pull`", path);
}

static char *read_opened(FILE *f, const char *path, size_t most, size_t *n, struct err *e)
{
    struct stamp stamp;
    bool stamped = stamp_take_open(&stamp, fileno(f)) == 0;
    char *data = read_all(f, path, most, n, e);
    if (data && files_refuse_pointer(path, data, *n, e) != 0) {
        free(data);
        return NULL;
    }
    if (data && stamped && stamp.bytes == *n)
        file_cache_add(path, &stamp, data, *n);
    return data;
}

char *files_read(const char *path, size_t most, size_t *n, struct err *e)
{
    char *data = read_cached(path, most, n);
    FILE *f = data ? NULL : open_regular(path, e);
    return f ? read_opened(f, path, most, n, e) : data;
}

char *files_read_any(const char *path, size_t most, size_t *n, struct err *e)
{
    char *data = read_cached(path, most, n);
    FILE *f = data ? NULL : fopen(path, "re");
    if (!data && !f)
        err_set(e, "%s: cannot be read: %s", path, strerror(errno));
    return f ? read_opened(f, path, most, n, e) : data;
}
