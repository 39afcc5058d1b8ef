/* caches.h - the KV caches of a model on one rank: one for all layers of a shape and window.
 *
 * All caches have the same number of blocks, and a sequence has the same blocks in each, so that one
 * table of blocks serves every layer. Made after the weights, destroyed before the device is closed.
 */
#ifndef TANDEM_MODEL_CACHES_H
#define TANDEM_MODEL_CACHES_H

#include "model/model.h"

struct caches {
    struct kv *kv[MODEL_MAX_CACHES]; /* by attention_spec.cache */
};

/* Device bytes of so many blocks in all caches. */
size_t caches_bytes(const struct backend *b, const struct device *d, const struct model *m,
                    size_t blocks);

void caches_create(struct caches *c, const struct backend *b, struct device *d,
                   const struct model *m, size_t blocks);
void caches_destroy(struct caches *c, const struct backend *b, struct device *d);

#endif
