/* side.h - what both roles' sides of a layer work with (attention.h, ffn.h). */
#ifndef TANDEM_ROLES_SIDE_H
#define TANDEM_ROLES_SIDE_H

#include "exchange/exchange.h"
#include "kernels/ops.h"
#include "model/model.h"

/* All of it outlives whoever is given it. */
struct side {
    const struct model *model;
    const struct backend *backend;
    struct device *device;
    struct stream *stream;
    const struct exchange_ops *exchange_ops;
    struct exchange *exchange;
    const struct exchange_shape *shape;
    const struct place *place;
    enum dtype act;
};

#endif
