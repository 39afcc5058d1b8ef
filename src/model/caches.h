/* caches.h - the KV caches of a model on one rank: one for all layers of a shape and window.
 *
 * Caches of a pool (schedule/pools.h) have the same number of blocks, and a sequence has the same
 * blocks in each, so that one table of blocks serves all their layers. Made after the weights,
 * destroyed before the device is closed.
 */
#ifndef TANDEM_MODEL_CACHES_H
#define TANDEM_MODEL_CACHES_H

#include "model/model.h"
#include "schedule/pools.h"

struct caches {
    /* By attention_spec.cache; the second is the pool that its blocks are of. */
    struct kv *kv[MODEL_MAX_CACHES];
    int pool[MODEL_MAX_CACHES];
};

/* Which pools there are, without blocks, for sequences of at most `context` tokens: one for each window
 * that is shorter, behind the one for all other caches. Returns how many. */
int caches_plan(struct caches *c, const struct model *m, size_t context,
                struct kv_pool pool[KV_POOLS_MAX]);

/* Device bytes of so many blocks in the caches of a pool. */
size_t caches_bytes(const struct caches *c, const struct backend *b, const struct device *d,
                    const struct model *m, int pool, size_t blocks);

/* pool: as planned, with blocks; so many more are made of each. */
void caches_create(struct caches *c, const struct backend *b, struct device *d,
                   const struct model *m, const struct kv_pool *pool, size_t more);
void caches_destroy(struct caches *c, const struct backend *b, struct device *d);

#endif
