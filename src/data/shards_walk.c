/* The walk of shards.h: a merge of the shards, each of which is in order. */
#include "data/shards.h"

#include "base/mem.h"

#include <stdlib.h>

struct shards_walk {
    struct shard_reader **readers; /* in the order of sealing */
    uint64_t *units;               /* [count] what each would give next */
    size_t count;
    struct shard_size size;
};

int shards_walk_open(struct shards_walk **out, const struct shards *s, size_t begin, size_t n,
                     struct err *e)
{
    struct shards_walk *w = mem_zeroed(1, sizeof *w);
    w->readers = mem_zeroed(n, sizeof(struct shard_reader *));
    w->units = mem_new(n, sizeof *w->units);
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        char *path = shards_path(s, begin + i);
        rc = shard_open(&w->readers[i], path, s->job, e);
        free(path);
        if (rc != 0)
            break;
        w->count++;
        struct shard_size one = shard_size(w->readers[i]);
        w->size.rows += one.rows;
        w->size.tokens += one.tokens;
        w->size.bytes += one.bytes;
        w->size.steps += one.steps;
        rc = shard_peek(w->readers[i], &w->units[i], e);
    }
    if (rc != 0) {
        shards_walk_close(w);
        return -1;
    }
    *out = w;
    return 0;
}

void shards_walk_close(struct shards_walk *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->count; i++)
        shard_close(w->readers[i]);
    free(w->readers);
    free(w->units);
    free(w);
}

struct shard_size shards_walk_size(const struct shards_walk *w)
{
    return w->size;
}

int shards_walk_next(struct shards_walk *w, uint64_t *unit, struct completion *out, struct err *e)
{
    size_t least = 0;
    for (size_t i = 1; i < w->count; i++)
        if (w->units[i] < w->units[least])
            least = i;
    *unit = w->count ? w->units[least] : UINT64_MAX;
    if (*unit == UINT64_MAX)
        return 0;
    if (shard_take(w->readers[least], out, e) != 0)
        return -1;
    if (shard_peek(w->readers[least], &w->units[least], e) != 0) {
        completion_free(out);
        return -1;
    }
    return 0;
}

int shards_walk_steps(struct shards_walk *w, shards_use_steps use, void *context, struct err *e)
{
    enum { AT_ONCE = 2048 };
    struct step_timing *steps = mem_new(AT_ONCE, sizeof *steps);
    int rc = 0;
    for (size_t i = 0; i < w->count && rc == 0; i++) {
        size_t all = shard_size(w->readers[i]).steps;
        for (size_t at = 0; at < all && rc == 0; at += AT_ONCE) {
            size_t n = all - at < AT_ONCE ? all - at : AT_ONCE;
            rc = shard_steps(w->readers[i], at, n, steps, e);
            if (rc == 0)
                rc = use(context, steps, n, e);
        }
    }
    free(steps);
    return rc;
}
