/* blocks.h - the free list of the KV cache: which blocks of KV_BLOCK tokens are in use.
 *
 * Pure bookkeeping of one attention rank; block numbers index the device's cache (ops.h, struct
 * kv). A sequence takes all blocks it can ever need when it is admitted, so a running sequence
 * never has to be preempted.
 */
#ifndef TANDEM_SCHEDULE_BLOCKS_H
#define TANDEM_SCHEDULE_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blocks {
    int32_t *free; /* stack of free block numbers */
    size_t n_free, total;
};

void blocks_init(struct blocks *b, size_t total);
void blocks_free(struct blocks *b);

/* Blocks that hold so many tokens. */
size_t blocks_for(size_t tokens);

/* Takes n blocks into out[n]; false, and nothing taken, when there are fewer. */
bool blocks_take(struct blocks *b, size_t n, int32_t *out);

/* Gives n blocks back. Giving one back twice is die(). */
void blocks_give(struct blocks *b, size_t n, const int32_t *list);

#endif
