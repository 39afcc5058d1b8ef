#include "text/arena.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK = 16384, ALIGN = 16 };

struct arena_chunk {
    struct arena_chunk *older;
    size_t used, room;
    _Alignas(ALIGN) char bytes[];
};

void *arena_take(struct arena *a, size_t count, size_t size)
{
    size_t bytes = mem_mul(count, size);
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (!a->newest || a->newest->room - a->newest->used < bytes) {
        size_t room = bytes > CHUNK / 4 ? bytes : CHUNK;
        struct arena_chunk *c = mem_zeroed(1, sizeof *c + room);
        c->room = room;
        c->older = a->newest;
        a->newest = c;
    }
    char *p = a->newest->bytes + a->newest->used;
    a->newest->used += bytes;
    a->bytes += bytes;
    return p;
}

char *arena_string(struct arena *a, const char *s, size_t n)
{
    char *copy = arena_take(a, n + 1, 1);
    if (n)
        memcpy(copy, s, n);
    return copy;
}

void arena_free(struct arena *a)
{
    while (a->newest) {
        struct arena_chunk *c = a->newest;
        a->newest = c->older;
        free(c);
    }
    a->bytes = 0;
}
