#include "roles/card.h"

#include "kernels/card/pack.h"
#include "kernels/card/pack_ffn.h"

#include <stdlib.h>

#define CARD_KEEPS ((size_t)1 << 30) /* what a card's driver takes for itself */

static size_t card_bytes;
static struct device_config opened; /* of the last device */

static size_t card_free(const struct device *d)
{
    (void)d;
    return card_bytes;
}

static int one_card(void)
{
    return 1;
}

static int card_open(const struct device_config *config, struct device **out, struct err *e)
{
    opened = *config;
    return backend_all()[0]->device->open(config, out, e);
}

static size_t matrix_bytes(const struct cuda_matrix *m)
{
    return pack_data_bytes(m) + pack_scale_bytes(m);
}

static size_t weight_bytes(const struct device *d, const struct weight_part *w,
                           enum weight_keep keep)
{
    struct cuda_matrix m;
    (void)d;
    pack_linear(&opened, w, keep, &m);
    return matrix_bytes(&m);
}

static size_t heads_bytes(const struct device *d, const struct weight_part *w, int heads,
                          enum weight_keep keep)
{
    size_t bytes = card_round((size_t)heads * sizeof(struct cuda_matrix));
    (void)d;
    for (int h = 0; h < heads; h++) {
        struct cuda_matrix m;
        pack_head(&opened, &w[h], keep, w[h].k > 0, &m);
        bytes += matrix_bytes(&m);
    }
    return bytes;
}

static size_t ffn_bytes(const struct device *d, const struct ffn_part *f, enum weight_keep keep)
{
    struct ffn_plan p = pack_ffn_plan(&opened, f, keep);
    (void)d;
    free(p.mlp);
    return p.bytes;
}

static const char *weight_obstacle(const struct device *d, const struct weight_part *w,
                                   enum weight_keep keep)
{
    (void)d;
    return opened.act == DTYPE_BF16 ? pack_obstacle(w, keep) : NULL;
}

static const char *ffn_obstacle(const struct device *d, const struct ffn_part *f,
                                enum weight_keep keep)
{
    (void)d;
    return opened.act == DTYPE_BF16 ? pack_ffn_obstacle(f, keep) : NULL;
}

const struct backend *card_backend(size_t bytes)
{
    static struct device_ops device;
    static struct ops ops;
    static struct backend backend;
    backend = *backend_all()[0];
    device = *backend.device;
    device.open = card_open;
    device.memory_free = card_free;
    device.count = one_card;
    ops = *backend.ops;
    ops.weight_bytes = weight_bytes;
    ops.heads_bytes = heads_bytes;
    ops.ffn_bytes = ffn_bytes;
    ops.weight_obstacle = weight_obstacle;
    ops.ffn_obstacle = ffn_obstacle;
    ops.ffn_same = pack_ffn_same;
    backend.device = &device;
    backend.ops = &ops;
    card_bytes = bytes > CARD_KEEPS ? bytes - CARD_KEEPS : 0;
    return &backend;
}
