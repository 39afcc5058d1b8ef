#include "model/caches.h"

_Static_assert(MODEL_MAX_CACHES <= KV_POOLS_MAX, "each cache may have a pool of its own");

/* A window that no sequence is longer than is none. */
static int window_of(const struct kv_shape *cache, size_t context)
{
    return (size_t)cache->window < context ? cache->window : 0;
}

int caches_plan(struct caches *c, const struct model *m, size_t context,
                struct kv_pool pool[KV_POOLS_MAX])
{
    int n = 0;
    *c = (struct caches){{NULL}, {0}};
    for (int i = 0; i < m->n_caches && n == 0; i++)
        if (window_of(&m->caches[i], context) == 0)
            pool[n++] = (struct kv_pool){0};
    for (int i = 0; i < m->n_caches; i++) {
        int window = window_of(&m->caches[i], context), at = 0;
        while (at < n && pool[at].window != window)
            at++;
        if (at == n)
            pool[n++] = (struct kv_pool){.window = window};
        c->pool[i] = at;
    }
    return n;
}

static struct kv_shape shape_of(const struct model *m, int cache, size_t blocks)
{
    struct kv_shape shape = m->caches[cache];
    shape.blocks = blocks;
    return shape;
}

size_t caches_bytes(const struct caches *c, const struct backend *b, const struct device *d,
                    const struct model *m, int pool, size_t blocks)
{
    size_t bytes = 0;
    for (int i = 0; i < m->n_caches; i++) {
        struct kv_shape shape = shape_of(m, i, blocks);
        bytes += c->pool[i] == pool ? b->ops->kv_bytes(d, &shape) : 0;
    }
    return bytes;
}

void caches_create(struct caches *c, const struct backend *b, struct device *d,
                   const struct model *m, const struct kv_pool *pool, size_t more)
{
    for (int i = 0; i < m->n_caches; i++) {
        struct kv_shape shape = shape_of(m, i, pool[c->pool[i]].blocks + more);
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
