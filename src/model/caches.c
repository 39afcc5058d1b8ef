#include "model/caches.h"

#include "base/err.h"

#include <string.h>

/* All of them have one pool, whatever their windows. */
int caches_pools(const struct model *m, size_t context, struct kv_pool pool[KV_POOLS_MAX])
{
    (void)m;
    (void)context;
    pool[0] = (struct kv_pool){0};
    return 1;
}

static bool is_of(const struct kv_shape *cache, const struct kv_pool *pool)
{
    (void)cache;
    return pool->window == 0;
}

static struct kv_shape shape_of(const struct model *m, int cache, const struct kv_pool *pool)
{
    struct kv_shape shape = m->caches[cache];
    shape.blocks = pool->blocks;
    return shape;
}

size_t caches_bytes(const struct backend *b, const struct device *d, const struct model *m,
                    const struct kv_pool *pool)
{
    size_t bytes = 0;
    for (int i = 0; i < m->n_caches; i++) {
        struct kv_shape shape = shape_of(m, i, pool);
        bytes += is_of(&shape, pool) ? b->ops->kv_bytes(d, &shape) : 0;
    }
    return bytes;
}

void caches_create(struct caches *c, const struct backend *b, struct device *d,
                   const struct model *m, const struct kv_pool *pool, int pools)
{
    *c = (struct caches){{NULL}, {0}};
    for (int i = 0; i < m->n_caches; i++) {
        while (c->pool[i] < pools && !is_of(&m->caches[i], &pool[c->pool[i]]))
            c->pool[i]++;
        if (c->pool[i] == pools)
            die("KV cache %d is of no pool", i);
        struct kv_shape shape = shape_of(m, i, &pool[c->pool[i]]);
        c->kv[i] = b->ops->kv_create(d, &shape);
    }
}

void caches_destroy(struct caches *c, const struct backend *b, struct device *d)
{
    for (int i = 0; i < MODEL_MAX_CACHES; i++)
        if (c->kv[i])
            b->ops->kv_destroy(d, c->kv[i]);
    *c = (struct caches){{NULL}, {0}};
}
