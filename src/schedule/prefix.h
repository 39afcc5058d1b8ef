/* prefix.h - which full blocks of the KV cache begin which sequences: what sequences may share.
 *
 * A tree of blocks: a block is known by the block before it (-1: none) and its KV_BLOCK tokens, so a
 * path from the root is the beginning of a sequence, and its K and V are those that any sequence
 * with this beginning would compute, to the last bit. The tree holds every block in it, beside the
 * sequences that read it; a block that only the tree holds is idle, and the one that was read
 * longest ago is dropped when memory is wanted.
 *
 * A sequence announces a block when it is going to fill it, so that others with the same beginning
 * wait for it instead of computing it as well. Tokens are compared, not only hashed.
 *
 * Pure bookkeeping of one attention rank, on top of struct blocks.
 */
#ifndef TANDEM_SCHEDULE_PREFIX_H
#define TANDEM_SCHEDULE_PREFIX_H

#include "schedule/blocks.h"

struct prefix;

/* The blocks outlive it. */
struct prefix *prefix_new(struct blocks *blocks);
void prefix_free(struct prefix *p);

/* The block with these KV_BLOCK tokens behind `parent`, or -1. *filled: its K and V are there. */
int32_t prefix_find(const struct prefix *p, int32_t parent, const int32_t *tokens, bool *filled);

/* Puts a block that a sequence holds into the tree, to be filled by it. */
void prefix_announce(struct prefix *p, int32_t block, int32_t parent, const int32_t *tokens);
void prefix_filled(struct prefix *p, int32_t block);
/* It will not be filled after all. */
void prefix_withdraw(struct prefix *p, int32_t block);

/* One more sequence reads a filled block. */
void prefix_read(struct prefix *p, int32_t block);

/* A sequence gives its blocks back, in the order of its tokens, in the tree or not. */
void prefix_give(struct prefix *p, size_t n, const int32_t *list);

/* Idle blocks: free for whoever wants them. */
size_t prefix_idle(const struct prefix *p);

/* Drops idle blocks until n are free, as far as there are any. */
void prefix_make_room(struct prefix *p, size_t n);

#endif
