/* pools.h - the KV cache's pools: caches with one window share one (schedule/blocks.h).
 *
 * Of a pool without a window a sequence holds a block for every KV_BLOCK tokens it knows. Of a
 * windowed pool it holds those that its next rows look at, and gives a block back when the step has
 * run after which no row of it sees any of the block's tokens: never more than a ring of
 * ceil((window - 1) / KV_BLOCK) + 1 blocks, and as many as the rows of a step fill.
 *
 * Pure functions.
 */
#ifndef TANDEM_SCHEDULE_POOLS_H
#define TANDEM_SCHEDULE_POOLS_H

#include "schedule/blocks.h"

struct kv_pool {
    size_t blocks;
    int window; /* a row sees itself and window - 1 tokens before it; 0: all before it */
};

/* The first block of a sequence that the row of its token `pos` looks at; also of all rows behind it. */
size_t pool_first(const struct kv_pool *p, size_t pos);

/* Most blocks that `rows` neighbouring rows of a sequence of at most `context` tokens look at: the
 * width of a block table. */
size_t pool_span(const struct kv_pool *p, size_t rows, size_t context);

/* What a rank's memory is divided for. */
struct pools_use {
    size_t slots, context; /* sequences at once; tokens of the longest */
    size_t chunk;          /* prompt rows of a step */
};

/* Blocks of a pool: so many for the longest sequence alone, and so many that more are of no use. A
 * windowed pool has the most when every slot has its ring, the rows of a step's prompts are beside them,
 * and one ring for eight slots is left for beginnings that come again (prefix.h). */
size_t pool_least(const struct kv_pool *p, const struct pools_use *use);
size_t pool_most(const struct kv_pool *p, const struct pools_use *use);

/* Sets the blocks of all pools, which have blocks of bytes[pool] each, within `memory` bytes; of the pools
 * only the first may be without a window. False, and only the least is set, when there is not even
 * memory for that.
 *
 * How many tokens a sequence will have nobody knows, and of short sequences a larger part is in the
 * rings. So the rings of all slots come first, with at most half of the memory, and the pool without a
 * window gets the rest, as far as it is of use. With one window and memory for two of the longest, at
 * least half as many sequences then run at once as with the best division, whatever their lengths are:
 * of its sequences, half of the memory has room for half of the rings, and half for half of what
 * grows. */
bool pools_divide(struct kv_pool *pool, int pools, const size_t *bytes, const struct pools_use *use,
                  size_t memory);

#endif
