/* prefix.h - the beginnings of sequences whose K and V are in the cache: what sequences may share.
 *
 * A tree of nodes: a node is known by the node before it (NULL: none) and its KV_BLOCK tokens, so a
 * path from the root is the beginning of a sequence. For every pool a node may have the block with
 * these tokens' K and V, which are those that any sequence with this beginning would compute, to the
 * last bit. What has blocks of all pools at one place need not have them at another: of a windowed
 * pool the blocks behind the window are the first to go. Tokens are compared, not only hashed.
 *
 * The tree holds every block in it, beside the sequences that read it; a block that only the tree
 * holds is idle, and of a pool's idle blocks the one that was read longest ago is dropped when
 * memory is wanted. A node stays as long as a sequence, a block or a node behind it needs it.
 *
 * A sequence announces a node when it is going to compute its tokens, so that others with the same
 * beginning wait for it instead of computing them as well.
 *
 * Pure bookkeeping of one attention rank, on top of struct blocks.
 */
#ifndef TANDEM_SCHEDULE_PREFIX_H
#define TANDEM_SCHEDULE_PREFIX_H

#include "schedule/blocks.h"

struct prefix;
struct prefix_node;

/* blocks [pools], which outlive it. */
struct prefix *prefix_new(struct blocks *blocks, int pools);
/* No sequence has a node any more. */
void prefix_free(struct prefix *p);

/* The node with these KV_BLOCK tokens behind `parent`, or NULL. */
struct prefix_node *prefix_find(const struct prefix *p, const struct prefix_node *parent,
                                const int32_t *tokens);

/* The same, made where there is none, and kept until prefix_leave(). */
struct prefix_node *prefix_enter(struct prefix *p, struct prefix_node *parent,
                                 const int32_t *tokens);
void prefix_leave(struct prefix *p, struct prefix_node *node);

/* Somebody is going to compute it; has computed it, or will not after all. */
void prefix_announce(struct prefix_node *node);
void prefix_withdraw(struct prefix_node *node);
bool prefix_announced(const struct prefix_node *node);

/* Its block of a pool, or -1. */
int32_t prefix_block(const struct prefix_node *node, int pool);

/* It gets a block that the caller holds, unless it has one. */
void prefix_fill(struct prefix *p, struct prefix_node *node, int pool, int32_t block);

/* One more sequence reads the block that it has: returns it. */
int32_t prefix_read(struct prefix *p, struct prefix_node *node, int pool);

/* A sequence gives n blocks back, those first that are last in the list, in the tree or not: a block
 * then never idles longer than those behind it, and is dropped after them. */
void prefix_give(struct prefix *p, int pool, size_t n, const int32_t *list);

/* Idle blocks of a pool: free for whoever wants them. */
size_t prefix_idle(const struct prefix *p, int pool);

/* Drops idle blocks until n are free, as far as there are any. */
void prefix_make_room(struct prefix *p, int pool, size_t n);

#endif
