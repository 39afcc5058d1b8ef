#include "base/file_cache.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* One file, as it is kept and as it is packed: the path, then the data stand behind it. */
struct cached {
    uint64_t path_bytes, n;
    struct stamp stamp;
    char rest[];
};

static struct {
    bool open;
    struct cached **files;
    size_t n;
} cache;

void file_cache_open(void)
{
    cache.open = true;
}

void file_cache_close(void)
{
    for (size_t i = 0; i < cache.n; i++)
        free(cache.files[i]);
    free(cache.files);
    memset(&cache, 0, sizeof cache);
}

const void *file_cache_find(const char *path, const struct stamp *now, size_t *n)
{
    size_t path_bytes = strlen(path);
    for (size_t i = 0; i < cache.n; i++) {
        const struct cached *c = cache.files[i];
        if (c->path_bytes != path_bytes || memcmp(c->rest, path, path_bytes) != 0 ||
            !stamp_same(&c->stamp, now))
            continue;
        *n = (size_t)c->n;
        return c->rest + path_bytes;
    }
    return NULL;
}

void file_cache_add(const char *path, const struct stamp *stamp, const void *data, size_t n)
{
    size_t before, path_bytes = strlen(path);
    if (!cache.open || (file_cache_find(path, stamp, &before) && before == n))
        return;
    struct cached *c = mem_new(sizeof *c + path_bytes + n, 1);
    *c = (struct cached){.path_bytes = path_bytes, .n = n, .stamp = *stamp};
    memcpy(c->rest, path, path_bytes);
    memcpy(c->rest + path_bytes, data, n);
    cache.files = mem_resize(cache.files, cache.n + 1, sizeof *cache.files);
    cache.files[cache.n++] = c;
}

static size_t size_of(const struct cached *c)
{
    return sizeof *c + (size_t)c->path_bytes + (size_t)c->n;
}

void *file_cache_pack(size_t *bytes)
{
    *bytes = 0;
    for (size_t i = 0; i < cache.n; i++)
        *bytes += size_of(cache.files[i]);
    char *packed = mem_new(*bytes, 1), *to = packed;
    for (size_t i = 0; i < cache.n; i++) {
        memcpy(to, cache.files[i], size_of(cache.files[i]));
        to += size_of(cache.files[i]);
    }
    return packed;
}

void file_cache_unpack(const void *packed, size_t bytes)
{
    const char *from = packed, *end = from + bytes;
    while (from < end) {
        struct cached head;
        memcpy(&head, from, sizeof head);
        if (size_of(&head) > (size_t)(end - from))
            die("files that another rank has read: cut off");
        const char *rest = from + sizeof head;
        char *path = mem_string_n(rest, (size_t)head.path_bytes);
        file_cache_add(path, &head.stamp, rest + head.path_bytes, (size_t)head.n);
        free(path);
        from += size_of(&head);
    }
}
