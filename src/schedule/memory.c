/* memory.c - the blocks that sequences hold, in every pool, and what they read of each other's. */
#include "schedule/state.h"

#include "base/err.h"

#include <stdlib.h>

static const int32_t *tokens_of(const struct sequence *q, size_t block)
{
    return q->tokens + block * KV_BLOCK;
}

static struct prefix_node *node_before(const struct sequence *q, size_t block)
{
    return block > 0 ? q->nodes[block - 1] : NULL;
}

/* Blocks for which a running sequence has rows of its own to compute. */
static bool has_begun(const struct sequence *q)
{
    return q->kv[0].n > q->n_shared;
}

/* ---- giving back ---------------------------------------------------------------------------- */

static void give(struct schedule *s, int pool, size_t n, const int32_t *list)
{
    if (s->prefix)
        prefix_give(s->prefix, pool, n, list);
    else
        blocks_give(&s->blocks[pool], n, list);
}

/* The blocks before `first`, which no row of the sequence looks at any more. */
static void give_behind(struct schedule *s, struct sequence *q, int pool, size_t first)
{
    struct held_blocks *held = &q->kv[pool];
    for (; held->first < first && held->first < held->n; held->first++)
        give(s, pool, 1, &held->list[held->first]);
    if (held->first < first)
        held->first = held->n = first;
}

void schedule_give_blocks(struct schedule *s, struct sequence *q)
{
    for (size_t i = q->n_filled; i < q->n_nodes; i++)
        prefix_withdraw(q->nodes[i]);
    for (int i = 0; i < s->limits.pools; i++) {
        struct held_blocks *held = &q->kv[i];
        give(s, i, held->n - held->first, held->list + held->first);
        held->first = held->n = 0;
    }
    while (q->n_nodes > 0)
        prefix_leave(s->prefix, q->nodes[--q->n_nodes]);
    q->computed = q->holes = q->n_shared = q->n_filled = 0;
}

/* ---- sharing -------------------------------------------------------------------------------- */

size_t schedule_shareable(const struct sequence *q)
{
    return (q->n_tokens - 1) / KV_BLOCK;
}

/* Of the shareable blocks, those that need not be computed although others have: the rows before
 * scored tokens are wanted. */
static size_t readable(const struct sequence *q)
{
    size_t most = schedule_shareable(q);
    size_t before = q->score_from ? (q->score_from - 1) / KV_BLOCK : most;
    return before < most ? before : most;
}

/* Are the blocks there that the row behind block `last` looks at? run: how many are, one behind the
 * other up to it. */
static bool is_seen(const struct schedule *s, const size_t *run, size_t last)
{
    for (int i = 0; i < s->limits.pools; i++)
        if (run[i] < last + 1 - pool_first(&s->limits.pool[i], (last + 1) * KV_BLOCK))
            return false;
    return true;
}

/* Behind how many blocks the sequence can begin that others have computed: of a pool without a window
 * all of them must be there, of a windowed one those within the window of the first row behind. *waits:
 * another one is going to compute the next. */
static size_t reach(const struct schedule *s, const struct sequence *q, bool *waits)
{
    size_t run[KV_POOLS_MAX], reached = q->n_shared;
    const struct prefix_node *node = node_before(q, reached);
    for (int p = 0; p < s->limits.pools; p++)
        run[p] = q->kv[p].n - q->kv[p].first;
    *waits = false;
    for (size_t i = q->n_shared; i < readable(q); i++) {
        node = prefix_find(s->prefix, node, tokens_of(q, i));
        *waits = node && prefix_announced(node);
        if (!node || *waits)
            break;
        for (int p = 0; p < s->limits.pools; p++)
            run[p] = prefix_block(node, p) >= 0 ? run[p] + 1 : 0;
        if (is_seen(s, run, i))
            reached = i + 1;
    }
    return reached;
}

bool schedule_share(struct schedule *s, struct sequence *q)
{
    bool waits;
    if (!s->prefix || has_begun(q))
        return false;
    size_t to = reach(s, q, &waits);
    if (to == q->n_shared)
        return waits;
    for (size_t i = q->n_shared; i < to; i++)
        q->nodes[i] = prefix_enter(s->prefix, node_before(q, i), tokens_of(q, i));
    for (int p = 0; p < s->limits.pools; p++) {
        struct held_blocks *held = &q->kv[p];
        give_behind(s, q, p, pool_first(&s->limits.pool[p], to * KV_BLOCK));
        for (; held->n < to; held->n++)
            held->list[held->n] = prefix_read(s->prefix, q->nodes[held->n], p);
    }
    q->n_nodes = q->n_shared = q->n_filled = to;
    q->computed = to * KV_BLOCK;
    return waits;
}

/* It is going to compute what it could not share. Others are told: nobody else does, or it would wait. */
static void begin(struct schedule *s, struct sequence *q)
{
    size_t shared = q->n_shared * KV_BLOCK;
    if (q->had > shared)
        s->computed_again += q->had - shared;
    q->had = 0;
    s->shared += shared;
    s->past.shared += (double)shared;
    for (; s->prefix && q->n_nodes < readable(q); q->n_nodes++) {
        size_t i = q->n_nodes;
        q->nodes[i] = prefix_enter(s->prefix, node_before(q, i), tokens_of(q, i));
        prefix_announce(q->nodes[i]);
    }
}

/* The node's K and V are computed: in the pools in which the sequence still has them. */
static void fill(struct schedule *s, const struct sequence *q, size_t block)
{
    for (int p = 0; p < s->limits.pools; p++)
        if (block >= q->kv[p].first && block < q->kv[p].n)
            prefix_fill(s->prefix, q->nodes[block], p, q->kv[p].list[block]);
}

void schedule_computed(struct schedule *s, struct sequence *q)
{
    for (; q->n_filled < q->n_nodes && (q->n_filled + 1) * KV_BLOCK <= q->computed; q->n_filled++) {
        fill(s, q, q->n_filled);
        prefix_withdraw(q->nodes[q->n_filled]);
    }
    for (int p = 0; p < s->limits.pools; p++)
        give_behind(s, q, p, pool_first(&s->limits.pool[p], q->computed));
}

void schedule_keep_computed(struct schedule *s, struct sequence *q)
{
    while (s->prefix && q->n_filled == q->n_nodes && (q->n_nodes + 1) * KV_BLOCK <= q->computed) {
        size_t i = q->n_nodes;
        q->nodes[i] = prefix_enter(s->prefix, node_before(q, i), tokens_of(q, i));
        fill(s, q, i);
        q->n_nodes = q->n_filled = i + 1;
    }
}

/* ---- taking --------------------------------------------------------------------------------- */

/* Blocks that sequences do not hold. */
static size_t available(const struct schedule *s, int pool)
{
    return s->blocks[pool].total - schedule_held(s, pool);
}

static size_t lacking(const struct sequence *q, int pool, size_t tokens)
{
    size_t all = blocks_for(tokens), have = q->kv[pool].n;
    return all > have ? all - have : 0;
}

/* Blocks that it must have to go on: for all tokens it knows, of a windowed pool for its next row. */
static size_t wanted(const struct schedule *s, const struct sequence *q, int pool)
{
    bool windowed = s->limits.pool[pool].window > 0;
    return lacking(q, pool, windowed ? q->computed + 1 : q->n_tokens);
}

bool schedule_fits(const struct schedule *s, const struct sequence *q)
{
    for (int p = 0; p < s->limits.pools; p++)
        if (wanted(s, q, p) > available(s, p))
            return false;
    return true;
}

static void take(struct schedule *s, struct sequence *q, int pool, size_t n)
{
    struct held_blocks *held = &q->kv[pool];
    if (s->prefix)
        prefix_make_room(s->prefix, pool, n);
    if (!blocks_take(&s->blocks[pool], n, held->list + held->n))
        die("schedule: %zu KV blocks for unit %llu, but only %zu of %zu are free", n,
            (unsigned long long)q->unit, s->blocks[pool].n_free, s->blocks[pool].total);
    held->n += n;
}

void schedule_take_blocks(struct schedule *s, struct sequence *q)
{
    bool first = !has_begun(q);
    for (int p = 0; p < s->limits.pools; p++)
        take(s, q, p, wanted(s, q, p));
    if (first)
        begin(s, q);
}

size_t schedule_extend(struct schedule *s, struct sequence *q, size_t rows)
{
    for (int p = 0; p < s->limits.pools; p++) {
        size_t room = (q->kv[p].n + available(s, p)) * KV_BLOCK - q->computed;
        rows = rows < room ? rows : room;
    }
    for (int p = 0; p < s->limits.pools; p++)
        take(s, q, p, lacking(q, p, q->computed + rows));
    return rows;
}
