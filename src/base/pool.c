#include "base/pool.h"

#include "base/err.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>

#ifdef __SANITIZE_ADDRESS__ /* every block is large, and has its own: what is read behind it is noticed */
#define CHUNK ((size_t)8)
#else
#define CHUNK ((size_t)32 << 20)
#endif
#define LARGE (CHUNK / 8) /* from here on a block has its own */

struct pool_chunk {
    size_t blocks, used; /* blocks that are not given back; bytes */
};

/* Before a block, MEM_ALIGN bytes: whose it is. */
struct owner {
    struct pool_chunk *chunk;
};

static struct pool_chunk *new_chunk(size_t bytes)
{
    struct pool_chunk *c = mem_aligned(bytes, 1);
    *c = (struct pool_chunk){.used = MEM_ALIGN};
    return c;
}

void *pool_take(struct pool *p, size_t bytes)
{
    if (bytes > SIZE_MAX - 3 * MEM_ALIGN)
        die("a size overflows: %zu bytes", bytes);
    size_t need = MEM_ALIGN + (bytes + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN;
    struct pool_chunk *c = p->chunk;
    if (need >= LARGE)
        c = new_chunk(MEM_ALIGN + need);
    else if (!c || CHUNK - c->used < need)
        c = p->chunk = new_chunk(CHUNK);
    uint8_t *at = (uint8_t *)c + c->used;
    ((struct owner *)(void *)at)->chunk = c;
    c->used += need;
    c->blocks++;
    return at + MEM_ALIGN;
}

void pool_give(struct pool *p, void *block)
{
    if (!block)
        return;
    struct pool_chunk *c = ((struct owner *)(void *)((uint8_t *)block - MEM_ALIGN))->chunk;
    if (--c->blocks > 0)
        return;
    if (p->chunk == c)
        p->chunk = NULL;
    free(c);
}
