#include "schedule/blocks.h"

#include "base/err.h"
#include "base/mem.h"
#include "kernels/ops.h"

#include <stdlib.h>

void blocks_init(struct blocks *b, size_t total)
{
    b->free = mem_new(total, sizeof *b->free);
    b->holders = mem_zeroed(total, sizeof *b->holders);
    b->n_free = b->total = total;
    for (size_t i = 0; i < total; i++)
        b->free[i] = (int32_t)(total - 1 - i); /* block 0 is taken first */
}

void blocks_free(struct blocks *b)
{
    free(b->free);
    free(b->holders);
    *b = (struct blocks){0};
}

size_t blocks_for(size_t tokens)
{
    return (tokens + KV_BLOCK - 1) / KV_BLOCK;
}

bool blocks_take(struct blocks *b, size_t n, int32_t *out)
{
    if (n > b->n_free)
        return false;
    for (size_t i = 0; i < n; i++) {
        out[i] = b->free[--b->n_free];
        b->holders[out[i]] = 1;
    }
    return true;
}

static void check_held(const struct blocks *b, int32_t block, const char *what)
{
    if (block < 0 || (size_t)block >= b->total || b->holders[block] < 1)
        die("KV blocks: block %d of %zu is not in use, and was %s", (int)block, b->total, what);
}

void blocks_hold(struct blocks *b, int32_t block)
{
    check_held(b, block, "to be shared");
    b->holders[block]++;
}

void blocks_give(struct blocks *b, size_t n, const int32_t *list)
{
    for (size_t i = n; i-- > 0;) {
        check_held(b, list[i], "given back");
        if (--b->holders[list[i]] == 0)
            b->free[b->n_free++] = list[i];
    }
}
