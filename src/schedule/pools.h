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

#endif
