#include "roles/roofs.h"

#include "base/mem.h"
#include "model/tensors.h"
#include "plan/shape.h"

#include <stdlib.h>

/* Bytes of a parameter of this tensor, as it is kept. */
static double parameter_bytes(const struct engine *g, enum model_tensor kind, size_t layer,
                              enum weight_keep keep)
{
    struct weight_part p = tensors_part(&g->in->model, g->in->checkpoint, kind, layer, 0);
    return (double)g->backend->ops->weight_bytes(g->device, &p, keep) / (double)(p.n * p.k);
}

static void read_layer(struct layer_roof *r, const struct engine *g, const struct layer_shape *s,
                       size_t layer)
{
    const struct ffn_spec *f = &g->in->model.layer[layer].ffn;
    enum weight_keep keep = inputs_keep(&g->in->job);
    *r = (struct layer_roof){.projections = s->projections,
                             .kv_bytes = s->kv_values * (double)dtype_size(g->config.kv),
                             .context_flops = s->context_flops,
                             .window = s->window,
                             .dense = s->dense,
                             .expert = s->expert,
                             .experts = s->experts,
                             .topk = s->topk};
    r->projection_bytes = s->projections * parameter_bytes(g, TENSOR_O, layer, keep);
    if (s->experts)
        r->expert_bytes = s->expert * parameter_bytes(g, TENSOR_EXPERT_GATE, layer, keep);
    if (!s->experts || f->shared_inter)
        r->dense_bytes =
            s->dense *
            parameter_bytes(g, s->experts ? TENSOR_SHARED_GATE : TENSOR_DENSE_GATE, layer, keep);
}

void roofs_open(struct roofs *r, const struct engine *g)
{
    const struct model *m = &g->in->model;
    struct model_shape *s = mem_new(1, sizeof *s);
    shape_of_model(s, m, "");
    *r = (struct roofs){.layers = mem_new(m->layers, sizeof *r->layers),
                        .n = m->layers,
                        .head = (double)(m->vocab * m->hidden)};
    for (size_t l = 0; l < m->layers; l++)
        read_layer(&r->layers[l], g, &s->layer[l], l);
    r->head_bytes = r->head * parameter_bytes(g, TENSOR_LM_HEAD, 0, WEIGHT_KEEP);
    free(s);
}

void roofs_close(struct roofs *r)
{
    free(r->layers);
    *r = (struct roofs){.layers = NULL};
}

double roof_seconds(double bandwidth, double peak, double bytes, double flops)
{
    double memory = bytes / bandwidth, arithmetic = flops / peak;
    return memory > arithmetic ? memory : arithmetic;
}

struct roof roofs_step(const struct roofs *r, double bandwidth, double peak, double rows,
                       double context, const double *active)
{
    struct roof t = {0};
    for (size_t i = 0; i < r->n; i++) {
        const struct layer_roof *l = &r->layers[i];
        double seen = rows * (l->window > 0 && l->window < context ? l->window : context);
        t.attention +=
            roof_seconds(bandwidth, peak, l->projection_bytes, 2 * rows * l->projections);
        t.attention += roof_seconds(bandwidth, peak, seen * l->kv_bytes, seen * l->context_flops);
        t.ffn += roof_seconds(bandwidth, peak, l->dense_bytes + active[i] * l->expert_bytes,
                              2 * rows * (l->dense + l->topk * l->expert));
    }
    t.head = roof_seconds(bandwidth, peak, r->head_bytes, 2 * rows * r->head);
    return t;
}
