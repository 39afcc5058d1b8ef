#include "schedule/prefix.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "kernels/ops.h"

#include <stdlib.h>
#include <string.h>

/* One for every block of the cache. A node is named by a serial number that no other ever has: a
 * child of a node that was dropped is then nobody's child, though the block has another node. */
struct node {
    uint64_t serial, parent; /* serial 0: the block is not in the tree; parent 0: the root */
    int32_t next;            /* in its bucket */
    int32_t older, newer;    /* among idle blocks; -1: end */
    bool filled;
    int32_t tokens[KV_BLOCK];
};

struct prefix {
    struct blocks *blocks;
    struct node *nodes; /* [blocks.total] */
    int32_t *buckets;   /* [n_buckets], a power of two; -1: empty */
    size_t n_buckets, n_idle;
    int32_t oldest, newest; /* idle */
    uint64_t serial;
};

struct prefix *prefix_new(struct blocks *blocks)
{
    struct prefix *p = mem_zeroed(1, sizeof *p);
    p->blocks = blocks;
    p->nodes = mem_zeroed(blocks->total, sizeof *p->nodes);
    for (p->n_buckets = 64; p->n_buckets < blocks->total;)
        p->n_buckets *= 2;
    p->buckets = mem_new(p->n_buckets, sizeof *p->buckets);
    for (size_t i = 0; i < p->n_buckets; i++)
        p->buckets[i] = -1;
    p->oldest = p->newest = -1;
    return p;
}

void prefix_free(struct prefix *p)
{
    if (!p)
        return;
    free(p->nodes);
    free(p->buckets);
    free(p);
}

static uint64_t serial_of(const struct prefix *p, int32_t block)
{
    return block < 0 ? 0 : p->nodes[block].serial;
}

static int32_t *bucket_of(const struct prefix *p, uint64_t parent, const int32_t *tokens)
{
    uint64_t h = hash_bytes(hash_u64(HASH_START, parent), tokens, KV_BLOCK * sizeof *tokens);
    return &p->buckets[h & (p->n_buckets - 1)];
}

int32_t prefix_find(const struct prefix *p, int32_t parent, const int32_t *tokens, bool *filled)
{
    uint64_t before = serial_of(p, parent);
    int32_t block = *bucket_of(p, before, tokens);
    while (block >= 0 && (p->nodes[block].parent != before ||
                          memcmp(p->nodes[block].tokens, tokens, KV_BLOCK * sizeof *tokens) != 0))
        block = p->nodes[block].next;
    *filled = block >= 0 && p->nodes[block].filled;
    return block;
}

void prefix_announce(struct prefix *p, int32_t block, int32_t parent, const int32_t *tokens)
{
    struct node *n = &p->nodes[block];
    if (n->serial || (parent >= 0 && !p->nodes[parent].serial))
        die("prefix: block %d behind %d: one is in the tree, or the other is not", (int)block,
            (int)parent);
    int32_t *bucket = bucket_of(p, serial_of(p, parent), tokens);
    *n = (struct node){.serial = ++p->serial, .parent = serial_of(p, parent), .next = *bucket};
    memcpy(n->tokens, tokens, sizeof n->tokens);
    *bucket = block;
    blocks_hold(p->blocks, block);
}

void prefix_filled(struct prefix *p, int32_t block)
{
    p->nodes[block].filled = true;
}

/* Out of the tree, which does not hold it any more. */
static void leave(struct prefix *p, int32_t block)
{
    struct node *n = &p->nodes[block];
    int32_t *at = bucket_of(p, n->parent, n->tokens);
    while (*at != block)
        at = &p->nodes[*at].next;
    *at = n->next;
    n->serial = 0;
    blocks_give(p->blocks, 1, &block);
}

void prefix_withdraw(struct prefix *p, int32_t block)
{
    leave(p, block);
}

static bool is_idle(const struct prefix *p, int32_t block)
{
    return p->nodes[block].serial && p->blocks->holders[block] == 1;
}

static void begin_idling(struct prefix *p, int32_t block)
{
    struct node *n = &p->nodes[block];
    n->older = p->newest;
    n->newer = -1;
    if (p->newest >= 0)
        p->nodes[p->newest].newer = block;
    else
        p->oldest = block;
    p->newest = block;
    p->n_idle++;
}

static void end_idling(struct prefix *p, int32_t block)
{
    struct node *n = &p->nodes[block];
    *(n->older >= 0 ? &p->nodes[n->older].newer : &p->oldest) = n->newer;
    *(n->newer >= 0 ? &p->nodes[n->newer].older : &p->newest) = n->older;
    p->n_idle--;
}

void prefix_read(struct prefix *p, int32_t block)
{
    if (is_idle(p, block))
        end_idling(p, block);
    blocks_hold(p->blocks, block);
}

/* From the last to the first: a block then never idles longer than those behind it, and is dropped
 * after them. */
void prefix_give(struct prefix *p, size_t n, const int32_t *list)
{
    for (size_t i = n; i-- > 0;) {
        blocks_give(p->blocks, 1, &list[i]);
        if (is_idle(p, list[i]))
            begin_idling(p, list[i]);
    }
}

size_t prefix_idle(const struct prefix *p)
{
    return p->n_idle;
}

void prefix_make_room(struct prefix *p, size_t n)
{
    while (p->blocks->n_free < n && p->oldest >= 0) {
        int32_t block = p->oldest;
        end_idling(p, block);
        leave(p, block);
    }
}
