#include "data/mapped.h"

#include "base/file_cache.h"
#include "base/files.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static struct mapped *volatile first;
static struct sigaction before;

/* The fault is in one of our own reads of a mapping, never inside a library that die() needs. */
static void on_bus_error(int number, siginfo_t *info, void *context)
{
    (void)context;
    const uint8_t *at = info->si_addr;
    for (const struct mapped *m = first; m; m = m->next)
        if (at >= m->data && at < m->data + m->bytes)
            die("%s: byte %zu cannot be read any more: the file was cut off or replaced in place "
                "while it was in use, or its disk failed",
                m->path, (size_t)(at - m->data));
    sigaction(number, &before, NULL); /* the instruction is tried again, and faults again */
}

static void watch(struct mapped *m)
{
    static bool installed;
    if (!installed) {
        struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
        sigemptyset(&action.sa_mask);
        installed = sigaction(SIGBUS, &action, &before) == 0;
    }
    m->next = first;
    first = m;
}

/* What the cache has of the file, in place of those pages that have nothing else. */
static int take_header(struct mapped *m, struct err *e)
{
    size_t n = 0, page = (size_t)sysconf(_SC_PAGESIZE);
    const void *header = file_cache_find(m->path, &m->stamp, &n);
    size_t whole = n / page * page;
    if (!header || whole == 0 || whole > m->bytes)
        return 0;
    void *to = mmap((void *)m->data, whole, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (to == MAP_FAILED)
        return err_set(e, "%s: no memory for its header: %s", m->path, strerror(errno));
    memcpy(to, header, whole);
    mprotect(to, whole, PROT_READ);
    return 0;
}

static int map(struct mapped *m, int fd, size_t least, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || stamp_take_open(&m->stamp, fd) != 0)
        return err_set(e, "%s: %s", m->path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(e, "%s: is not a regular file", m->path);
    if ((uint64_t)st.st_size < least)
        return err_set(e,
                       "%s: has %lld bytes, fewer than such a file begins with. The file is empty "
                       "or its copy was cut off: copy it again",
                       m->path, (long long)st.st_size);
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return err_set(e, "%s: cannot be mapped: %s", m->path, strerror(errno));
    m->bytes = (size_t)st.st_size;
    m->data = data;
    return take_header(m, e);
}

int mapped_open(struct mapped *m, const char *path, size_t least, struct err *e)
{
    *m = (struct mapped){.path = mem_string(path)};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* of a pipe: at once */
    int rc = fd < 0 ? files_err_open(path, e) : map(m, fd, least, e);
    if (fd >= 0)
        close(fd);
    if (rc == 0)
        watch(m);
    else
        mapped_close(m);
    return rc;
}

void mapped_close(struct mapped *m)
{
    struct mapped *volatile *link = &first;
    while (*link && *link != m)
        link = (struct mapped *volatile *)&(*link)->next;
    if (*link)
        *link = m->next;
    if (m->data)
        munmap((void *)m->data, m->bytes);
    free(m->path);
    *m = (struct mapped){0};
}

void mapped_had_header(const struct mapped *m, size_t n)
{
    file_cache_add(m->path, &m->stamp, m->data, n);
}
