/* blocks.h - which blocks of a pool of KV blocks are in use, and by how many.
 *
 * Caches with one window share a pool: a sequence holds the same blocks in each of them, so block
 * numbers index all of these caches on the device (ops.h, struct kv). A block holds KV_BLOCK tokens,
 * has one holder for every sequence that reads it, and is free when it has none. Pure bookkeeping of
 * one attention rank.
 */
#ifndef TANDEM_SCHEDULE_BLOCKS_H
#define TANDEM_SCHEDULE_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_POOLS_MAX 4

struct blocks {
    int32_t *free;    /* stack of free block numbers */
    int32_t *holders; /* [total] */
    size_t n_free, total;
};

void blocks_init(struct blocks *b, size_t total);
void blocks_free(struct blocks *b);

/* Blocks that hold so many tokens. */
size_t blocks_for(size_t tokens);

/* Takes n free blocks into out[n], each with one holder; false, and nothing taken, when there are
 * fewer. */
bool blocks_take(struct blocks *b, size_t n, int32_t *out);

/* One more holder of a block that is in use; of a free one: die(). */
void blocks_hold(struct blocks *b, int32_t block);

/* Each of n blocks has one holder less; those without any are free. Giving back what nobody holds
 * is die(): two sequences would come to share a block without knowing it. */
void blocks_give(struct blocks *b, size_t n, const int32_t *list);

#endif
