#include "schedule/pools.h"

#include "base/mem.h"
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

size_t pool_least(const struct kv_pool *p, const struct pools_use *use)
{
    return pool_span(p, 1, use->context);
}

size_t pool_most(const struct kv_pool *p, const struct pools_use *use)
{
    size_t each = pool_span(p, 1, use->context), whole = blocks_for(use->context);
    size_t most = mem_mul(each, use->slots), all = mem_mul(whole, use->slots);
    if (p->window > 0)
        most += blocks_for(use->chunk) + use->slots / 8 * each + 1;
    return most < all ? most : all;
}

/* Blocks of all windowed pools, as far as `memory` bytes go: each gets the same share of what more is of
 * use to it. Returns the bytes that they take. */
static size_t give_rings(struct kv_pool *pool, int pools, const size_t *bytes,
                         const struct pools_use *use, size_t memory)
{
    double least = 0, most = 0;
    size_t taken = 0;
    for (int i = 0; i < pools; i++)
        if (pool[i].window > 0) {
            least += (double)bytes[i] * (double)pool_least(&pool[i], use);
            most += (double)bytes[i] * (double)pool_most(&pool[i], use);
        }
    double share = most > least ? ((double)memory - least) / (most - least) : 1;
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    for (int i = 0; i < pools; i++)
        if (pool[i].window > 0) {
            size_t first = pool_least(&pool[i], use), more = pool_most(&pool[i], use) - first;
            pool[i].blocks = first + (share < 1 ? (size_t)(share * (double)more) : more);
            taken += pool[i].blocks * bytes[i];
        }
    return taken;
}

bool pools_divide(struct kv_pool *pool, int pools, const size_t *bytes, const struct pools_use *use,
                  size_t memory)
{
    size_t least = 0, grows = pool[0].window == 0 ? mem_mul(pool_least(pool, use), bytes[0]) : 0;
    for (int i = 0; i < pools; i++) {
        pool[i].blocks = pool_least(&pool[i], use);
        least += mem_mul(pool[i].blocks, bytes[i]);
    }
    if (least > memory)
        return false;
    size_t half = grows > 0 && memory / 2 < memory - grows ? memory / 2 : memory - grows;
    size_t rest = memory - give_rings(pool, pools, bytes, use, half);
    if (grows == 0)
        return true;
    size_t most = pool_most(pool, use), fit = rest / bytes[0];
    pool[0].blocks = fit < most ? fit : most;
    if (fit > most)
        give_rings(pool, pools, bytes, use, memory - most * bytes[0]);
    return true;
}
