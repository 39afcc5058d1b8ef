/* shape.h - a model as the cost model sees it: how much of what in every layer.
 *
 * Costs need no weights and no kernels, only counts: parameters that multiply every row, values a
 * token leaves in the KV cache, operations a token of context costs, sizes of experts. They follow
 * from config.json alone (shape_of_model), or from the sizes that were published
 * (shape_published), so a cluster can be planned before anything is downloaded.
 * Pure; any thread.
 */
#ifndef TANDEM_PLAN_SHAPE_H
#define TANDEM_PLAN_SHAPE_H

#include "base/err.h"
#include "model/model.h"

#include <stdbool.h>
#include <stddef.h>

#define SHAPE_LAYERS_MAX MODEL_MAX_LAYERS

struct layer_shape {
    /* Parameters of the attention's projections: 2 operations each for every row. A down- and an
     * up-projection count as they are computed in a decode step (MLA: absorbed). */
    double projections;
    /* Values a token leaves in the KV cache, and operations that a row spends on it later. */
    double kv_values, context_flops;
    /* Tokens of context that are looked at: 0 is all of them. */
    double window;
    /* Parameters: of the router; of what every row passes in the FFN (the dense MLP, or the shared
     * expert); of one routed expert. */
    double router, dense, expert;
    /* Routed experts, and how many a row takes; 0: a dense layer. */
    int experts, topk;
};

struct model_shape {
    const char *name;
    int layers, hidden, vocab;
    bool tied; /* one matrix is both embedding and lm_head */
    struct layer_shape layer[SHAPE_LAYERS_MAX];
};

/* From a description that was read from config.json (model_read). `name` must outlive the shape. */
void shape_of_model(struct model_shape *s, const struct model *m, const char *name);

/* "step3", "deepseek-v3", "kimi-k2", "qwen3-235b", "qwen3-32b": sizes as published with the models.
 * -1 for another name. The first NULL of shape_names() ends the list. */
int shape_published(struct model_shape *s, const char *name);
const char *const *shape_names(void);

/* Sums over the layers. */
double shape_projections(const struct model_shape *s);
double shape_ffn_active(const struct model_shape *s); /* parameters a row passes, without router */
double shape_ffn_stored(const struct model_shape *s); /* parameters there are, without routers */
double shape_routers(const struct model_shape *s);
double shape_head(const struct model_shape *s);                      /* V x H */
double shape_kv_values(const struct model_shape *s, double context); /* of a whole sequence */
double shape_context_flops(const struct model_shape *s, double context);

/* The largest share of active experts among layers that have experts, the shared one counted with
 * them: (topk + shared) / (experts + shared); 1 when there are none. (Report, section 4.2.) */
double shape_sparsity(const struct model_shape *s);

#endif
