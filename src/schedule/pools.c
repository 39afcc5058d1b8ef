#include "schedule/pools.h"

#include "kernels/ops.h"

size_t pool_first(const struct kv_pool *p, size_t pos)
{
    size_t window = (size_t)p->window;
    return window == 0 || pos < window ? 0 : (pos + 1 - window) / KV_BLOCK;
}

size_t pool_span(const struct kv_pool *p, size_t rows, size_t context)
{
    size_t whole = blocks_for(context);
    if (p->window == 0 || rows == 0)
        return whole;
    /* At worst the first token that is seen is the last of its block. */
    size_t span = blocks_for((size_t)p->window - 1 + rows - 1) + 1;
    return span < whole ? span : whole;
}
