#include "schedule/blocks.h"

#include "base/err.h"
#include "base/mem.h"
#include "kernels/ops.h"

#include <stdlib.h>
#include <string.h>

void blocks_init(struct blocks *b, size_t total)
{
    b->free = mem_new(total, sizeof *b->free);
    b->n_free = b->total = total;
    for (size_t i = 0; i < total; i++)
        b->free[i] = (int32_t)(total - 1 - i); /* block 0 is taken first */
}

void blocks_free(struct blocks *b)
{
    free(b->free);
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
    for (size_t i = 0; i < n; i++)
        out[i] = b->free[--b->n_free];
    return true;
}

void blocks_give(struct blocks *b, size_t n, const int32_t *list)
{
    if (n > b->total - b->n_free)
        die("KV blocks: %zu given back, but only %zu are in use", n, b->total - b->n_free);
    for (size_t i = 0; i < n; i++) {
        if (list[i] < 0 || (size_t)list[i] >= b->total)
            die("KV blocks: block %d of %zu given back", (int)list[i], b->total);
        b->free[b->n_free++] = list[n - 1 - i];
    }
}
