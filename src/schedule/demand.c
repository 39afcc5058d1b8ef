#include "schedule/demand.h"

#include "kernels/ops.h"
#include "schedule/blocks.h"

#include <math.h>
#include <stdint.h>

void demand_start(struct demand *d, size_t longest, double mean, size_t held)
{
    size_t when = 0, step = KV_BLOCK / 2;
    d->moments = 0;
    for (int k = 0; k < DEMAND_MOMENTS_MAX; k++) {
        d->when[k] = when;
        d->alive[k] = when == 0 ? 1 : mean > 0 ? exp(-(double)when / mean) : 0;
        d->blocks[k] = (double)held;
        d->moments++;
        if (when >= longest)
            return;
        when += step;
        if (k >= 2 && k % 2 == 0)
            step *= 2; /* 0, 32, 64, 96, 160, 224, 352, ... */
    }
}

/* Blocks the sequence is expected to hold at moment k: none when its limit comes before. The moment
 * at which it is at its limit counts, as the peak of many alike is there. The last token it samples
 * is never computed. */
static double expected(const struct demand *d, int k, struct demand_of one)
{
    size_t grown = d->when[k];
    if (k > 0 && d->when[k - 1] >= one.left)
        return 0;
    if (grown > one.left - 1)
        grown = one.left - 1;
    return d->alive[k] * (double)(blocks_for(one.tokens + grown) - one.shared);
}

void demand_add(struct demand *d, struct demand_of one)
{
    for (int k = 0; k < d->moments; k++)
        d->blocks[k] += expected(d, k, one);
}

size_t demand_room(const struct demand *d, size_t capacity, struct demand_of one)
{
    double room = (double)SIZE_MAX / 2;
    for (int k = 0; k < d->moments; k++) {
        double each = expected(d, k, one), more = (double)capacity - d->blocks[k];
        if (each > 0 && more / each < room)
            room = more / each;
    }
    return room > 0 ? (size_t)room : 0;
}

bool demand_fits(const struct demand *d, size_t capacity, struct demand_of one)
{
    return demand_room(d, capacity, one) >= 1;
}
