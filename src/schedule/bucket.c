#include "schedule/bucket.h"

#define TILE  64 /* rows of a product's tile */
#define LEAST 8

static int up(int n)
{
    int size = LEAST;
    if (n <= 0)
        return 0;
    while (size < n && size < TILE)
        size *= 2;
    return n <= size ? size : (n + TILE - 1) / TILE * TILE;
}

static struct bucket bucket(int rows, int segments, int sampled, bool filled)
{
    if (!filled || rows == 0)
        return (struct bucket){rows, segments, sampled};
    return (struct bucket){up(rows), up(segments) + 1, up(sampled)};
}

struct bucket bucket_of(const struct micro_batch *b)
{
    return bucket(b->rows, b->segments, b->n_sampled, b->filled);
}

struct bucket bucket_most(const struct schedule_limits *limits)
{
    return bucket(schedule_most_rows(limits), schedule_most_segments(limits),
                  schedule_most_sampled(limits), limits->fill);
}
