#include "model/caches.h"

static struct kv_shape shape_of(const struct model *m, int cache, size_t blocks)
{
    struct kv_shape shape = m->caches[cache];
    shape.blocks = blocks;
    return shape;
}

size_t caches_bytes(const struct backend *b, const struct device *d, const struct model *m,
                    size_t blocks)
{
    size_t bytes = 0;
    for (int i = 0; i < m->n_caches; i++) {
        struct kv_shape shape = shape_of(m, i, blocks);
        bytes += b->ops->kv_bytes(d, &shape);
    }
    return bytes;
}

void caches_create(struct caches *c, const struct backend *b, struct device *d,
                   const struct model *m, size_t blocks)
{
    *c = (struct caches){{NULL}};
    for (int i = 0; i < m->n_caches; i++) {
        struct kv_shape shape = shape_of(m, i, blocks);
        c->kv[i] = b->ops->kv_create(d, &shape);
    }
}

void caches_destroy(struct caches *c, const struct backend *b, struct device *d)
{
    for (int i = 0; i < MODEL_MAX_CACHES; i++)
        if (c->kv[i])
            b->ops->kv_destroy(d, c->kv[i]);
    *c = (struct caches){{NULL}};
}
