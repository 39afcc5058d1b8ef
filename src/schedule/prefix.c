#include "schedule/prefix.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/mem.h"
#include "kernels/ops.h"

#include <stdlib.h>
#include <string.h>

struct prefix_node {
    struct prefix_node *parent, *next; /* next: in its bucket */
    size_t uses;                       /* sequences, blocks and nodes behind it */
    bool announced;
    /* -1: none; when idle, the nodes whose block was read before and after. */
    int32_t block[KV_POOLS_MAX];
    struct prefix_node *older[KV_POOLS_MAX], *newer[KV_POOLS_MAX];
    int32_t tokens[KV_BLOCK];
};

struct tree_pool {
    struct blocks *blocks;
    struct prefix_node **node_of; /* [blocks->total] NULL: not in the tree */
    struct prefix_node *oldest, *newest;
    size_t idle;
};

struct prefix {
    int pools;
    struct tree_pool pool[KV_POOLS_MAX];
    struct prefix_node **buckets; /* [n_buckets], a power of two */
    size_t n_buckets;
};

struct prefix *prefix_new(struct blocks *blocks, int pools)
{
    struct prefix *p = mem_zeroed(1, sizeof *p);
    size_t total = 0;
    p->pools = pools;
    for (int i = 0; i < pools; i++) {
        p->pool[i].blocks = &blocks[i];
        p->pool[i].node_of = mem_zeroed(blocks[i].total, sizeof *p->pool[i].node_of);
        total += blocks[i].total;
    }
    for (p->n_buckets = 64; p->n_buckets < total;)
        p->n_buckets *= 2;
    p->buckets = mem_zeroed(p->n_buckets, sizeof *p->buckets);
    return p;
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static struct prefix_node **bucket_of(const struct prefix *p, const struct prefix_node *parent,
                                      const int32_t *tokens)
{
    uint64_t h = hash_u64(HASH_START, (uint64_t)(uintptr_t)parent);
    h = hash_bytes(h, tokens, KV_BLOCK * sizeof *tokens);
    return &p->buckets[h & (p->n_buckets - 1)];
}

struct prefix_node *prefix_find(const struct prefix *p, const struct prefix_node *parent,
                                const int32_t *tokens)
{
    struct prefix_node *n = *bucket_of(p, parent, tokens);
    while (n && (n->parent != parent || memcmp(n->tokens, tokens, sizeof n->tokens) != 0))
        n = n->next;
    return n;
}

struct prefix_node *prefix_enter(struct prefix *p, struct prefix_node *parent,
                                 const int32_t *tokens)
{
    struct prefix_node *n = prefix_find(p, parent, tokens);
    if (!n) {
        struct prefix_node **bucket = bucket_of(p, parent, tokens);
        n = mem_zeroed(1, sizeof *n);
        n->parent = parent;
        n->next = *bucket;
        for (int i = 0; i < KV_POOLS_MAX; i++)
            n->block[i] = -1;
        memcpy(n->tokens, tokens, sizeof n->tokens);
        *bucket = n;
        if (parent)
            parent->uses++;
    }
    n->uses++;
    return n;
}

/* With a node that nobody needs any more may go those before it. */
void prefix_leave(struct prefix *p, struct prefix_node *n)
{
    while (n && --n->uses == 0) {
        struct prefix_node *parent = n->parent, **at = bucket_of(p, parent, n->tokens);
        while (*at != n)
            at = &(*at)->next;
        *at = n->next;
        free(n);
        n = parent;
    }
}

void prefix_announce(struct prefix_node *n)
{
    if (n->announced)
        die("prefix: two sequences are going to compute the same tokens");
    n->announced = true;
}

void prefix_withdraw(struct prefix_node *n)
{
    n->announced = false;
}

bool prefix_announced(const struct prefix_node *n)
{
    return n->announced;
}

/* ---- their blocks --------------------------------------------------------------------------- */

static void begin_idling(struct tree_pool *t, int pool, struct prefix_node *n)
{
    n->older[pool] = t->newest;
    n->newer[pool] = NULL;
    *(t->newest ? &t->newest->newer[pool] : &t->oldest) = n;
    t->newest = n;
    t->idle++;
}

static void end_idling(struct tree_pool *t, int pool, struct prefix_node *n)
{
    struct prefix_node *older = n->older[pool], *newer = n->newer[pool];
    *(older ? &older->newer[pool] : &t->oldest) = newer;
    *(newer ? &newer->older[pool] : &t->newest) = older;
    t->idle--;
}

int32_t prefix_block(const struct prefix_node *n, int pool)
{
    return n->block[pool];
}

void prefix_fill(struct prefix *p, struct prefix_node *n, int pool, int32_t block)
{
    struct tree_pool *t = &p->pool[pool];
    if (n->block[pool] >= 0)
        return;
    blocks_hold(t->blocks, block);
    if (t->node_of[block])
        die("prefix: block %d is in the tree twice", (int)block);
    t->node_of[block] = n;
    n->block[pool] = block;
    n->uses++;
}

int32_t prefix_read(struct prefix *p, struct prefix_node *n, int pool)
{
    struct tree_pool *t = &p->pool[pool];
    int32_t block = n->block[pool];
    if (block < 0)
        die("prefix: a block is read that is not there");
    if (t->blocks->holders[block] == 1)
        end_idling(t, pool, n);
    blocks_hold(t->blocks, block);
    return block;
}

void prefix_give(struct prefix *p, int pool, size_t n, const int32_t *list)
{
    struct tree_pool *t = &p->pool[pool];
    for (size_t i = n; i-- > 0;) {
        struct prefix_node *node = t->node_of[list[i]];
        blocks_give(t->blocks, 1, &list[i]);
        if (node && t->blocks->holders[list[i]] == 1)
            begin_idling(t, pool, node);
    }
}

size_t prefix_idle(const struct prefix *p, int pool)
{
    return p->pool[pool].idle;
}

void prefix_make_room(struct prefix *p, int pool, size_t n)
{
    struct tree_pool *t = &p->pool[pool];
    while (t->blocks->n_free < n && t->oldest) {
        struct prefix_node *node = t->oldest;
        int32_t block = node->block[pool];
        end_idling(t, pool, node);
        node->block[pool] = -1;
        t->node_of[block] = NULL;
        blocks_give(t->blocks, 1, &block);
        prefix_leave(p, node);
    }
}

void prefix_free(struct prefix *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->pools; i++) {
        prefix_make_room(p, i, p->pool[i].blocks->total);
        free(p->pool[i].node_of);
    }
    free(p->buckets);
    free(p);
}
