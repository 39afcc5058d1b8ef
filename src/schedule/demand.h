/* demand.h - how much KV cache sequences will come to need.
 *
 * A sequence takes blocks as it grows, so what it needs is known only when it has ended: it stops by
 * a token, which nobody can foresee, or at its limit, which everybody can. The demand of a set of
 * sequences is what they are expected to hold at a number of moments from now (counted in new
 * tokens of each), if they go on stopping as often as they have so far. It answers whether one more
 * can be taken on without having to put one back later. Where lengths are known (every sequence
 * runs to its limit) it is the exact future; else it errs, and putting back costs only time.
 *
 * Every pool is counted by itself (pools.h): in a windowed one a sequence holds no more than its ring.
 * Pure functions; memory of one attention rank, in blocks.
 */
#ifndef TANDEM_SCHEDULE_DEMAND_H
#define TANDEM_SCHEDULE_DEMAND_H

#include "schedule/pools.h"

#include <stdbool.h>
#include <stddef.h>

/* Two moments an octave, up to the longest context that a job can ask for. */
#define DEMAND_MOMENTS_MAX 64

struct demand {
    int moments, pools;
    struct kv_pool pool[KV_POOLS_MAX];
    size_t when[DEMAND_MOMENTS_MAX];  /* new tokens from now, ascending; the first is 0 */
    double alive[DEMAND_MOMENTS_MAX]; /* share of the sequences that have not stopped by then */
    double blocks[KV_POOLS_MAX][DEMAND_MOMENTS_MAX]; /* held then by all that were added */
};

/* Blocks of every pool. */
struct demand_limit {
    size_t blocks[KV_POOLS_MAX];
};

/* A sequence of `tokens` that will sample at least one and at most `left` more. Its first `shared`
 * blocks are counted elsewhere, but for windowed pools: it leaves them soon. */
struct demand_of {
    size_t tokens, left, shared;
};

/* `held` blocks of the first pool are in use at any moment. mean: new tokens after which a sequence
 * stops, on average; 0: at once. */
void demand_start(struct demand *d, const struct kv_pool *pool, int pools, size_t longest,
                  double mean, size_t held);

void demand_add(struct demand *d, struct demand_of one);

/* Is there room in as many blocks, at every moment, for such a sequence beside those added? */
bool demand_fits(const struct demand *d, struct demand_limit capacity, struct demand_of one);

/* For how many alike. */
size_t demand_room(const struct demand *d, struct demand_limit capacity, struct demand_of one);

#endif
