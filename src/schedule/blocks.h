/* blocks.h - which blocks of the KV cache are in use, and by how many.
 *
 * Pure bookkeeping of one attention rank; block numbers index the device's cache (ops.h, struct
 * kv), and a block holds KV_BLOCK tokens. A block has one holder for every sequence that reads it;
 * it is free when it has none.
 */
#ifndef TANDEM_SCHEDULE_BLOCKS_H
#define TANDEM_SCHEDULE_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
