#include "schedule/demand.h"

#include "kernels/ops.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

void demand_start(struct demand *d, const struct kv_pool *pool, int pools, size_t longest,
                  double mean, size_t held)
{
    size_t when = 0, step = KV_BLOCK / 2;
    d->moments = 0;
    d->pools = pools;
    memcpy(d->pool, pool, (size_t)pools * sizeof *pool);
    for (int k = 0; k < DEMAND_MOMENTS_MAX; k++) {
        d->when[k] = when;
        d->alive[k] = when == 0 ? 1 : mean > 0 ? exp(-(double)when / mean) : 0;
        for (int p = 0; p < pools; p++)
            d->blocks[p][k] = p == 0 ? (double)held : 0;
        d->moments++;
        if (when >= longest)
            return;
        when += step;
        if (k >= 2 && k % 2 == 0)
            step *= 2; /* 0, 32, 64, 96, 160, 224, 352, ... */
    }
}

/* Blocks of a pool that the sequence is expected to hold at moment k: none when its limit comes before. The moment
 * at which it is at its limit counts, as the peak of many alike is there. The last token it samples
 * is never computed. */
static double expected(const struct demand *d, int pool, int k, struct demand_of one)
{
    size_t grown = d->when[k];
    if (k > 0 && d->when[k - 1] >= one.left)
        return 0;
    if (grown > one.left - 1)
        grown = one.left - 1;
    size_t shared = d->pool[pool].window ? 0 : one.shared;
    return d->alive[k] * (double)(pool_span(&d->pool[pool], 1, one.tokens + grown) - shared);
}

void demand_add(struct demand *d, struct demand_of one)
{
    for (int p = 0; p < d->pools; p++)
        for (int k = 0; k < d->moments; k++)
            d->blocks[p][k] += expected(d, p, k, one);
}

size_t demand_room(const struct demand *d, struct demand_limit capacity, struct demand_of one)
{
    double room = (double)SIZE_MAX / 2;
    for (int p = 0; p < d->pools; p++)
        for (int k = 0; k < d->moments; k++) {
            double each = expected(d, p, k, one), more = (double)capacity.blocks[p];
            more -= d->blocks[p][k];
            if (each > 0 && more / each < room)
                room = more / each;
        }
    return room > 0 ? (size_t)room : 0;
}

bool demand_fits(const struct demand *d, struct demand_limit capacity, struct demand_of one)
{
    return demand_room(d, capacity, one) >= 1;
}
