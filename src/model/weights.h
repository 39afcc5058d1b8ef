/* weights.h - the weights of one rank, packed on its device.
 *
 * An attention rank holds embeddings, all attention weights, norms, routers and lm_head; an FFN
 * rank its share of experts, shared expert and dense MLPs (schedule/placement.h). A rank that has
 * both roles holds both. Loaded once, tensor by tensor: peak host memory is the packed weights plus
 * one tensor. Freed before the device is closed.
 */
#ifndef TANDEM_MODEL_WEIGHTS_H
#define TANDEM_MODEL_WEIGHTS_H

#include "data/checkpoint.h"
#include "kernels/ops.h"
#include "model/model.h"
#include "schedule/placement.h"

struct attention_layer {
    float *input_norm, *inter_norm, *post_norm; /* device f32 [H], [q_rank], [H] */
    struct weight *q_down, *q_up, *k, *v,
        *o;        /* [q_rank][H], [heads D][q_rank], [D][H] x 2, [H][heads D] */
    float *router; /* device f32 [experts][H]; NULL in a dense layer */
};

struct attention_weights {
    struct weight *embed;           /* table */
    struct weight *lm_head;         /* [V][H] */
    float *final_norm;              /* device f32 [H] */
    float *angles;                  /* device f32 [context][D/2][2], cos and sin, of rope */
    struct attention_layer *layers; /* [model.layers] */
};

struct ffn_weights {
    struct ffn **layers; /* [model.layers] */
};

/* Called after every tensor with the bytes packed so far and in all; may be NULL. */
typedef void (*weights_progress)(void *context, size_t done, size_t total);

/* Device bytes, from the description and the checkpoint's dtypes alone. */
size_t attention_weights_bytes(const struct backend *b, const struct device *d,
                               const struct model *m, const struct checkpoint *c, size_t context,
                               enum weight_keep keep);
size_t ffn_weights_bytes(const struct backend *b, const struct device *d, const struct model *m,
                         const struct checkpoint *c, const struct layout *l, int ffn_rank,
                         enum weight_keep keep);

/* context: positions the angles are made for. Never fail: model_check() has passed. */
void attention_weights_load(struct attention_weights *w, const struct backend *b, struct device *d,
                            const struct model *m, const struct checkpoint *c, size_t context,
                            enum weight_keep keep, weights_progress progress,
                            void *progress_context);
void ffn_weights_load(struct ffn_weights *w, const struct backend *b, struct device *d,
                      const struct model *m, const struct checkpoint *c, const struct layout *l,
                      int ffn_rank, enum weight_keep keep, weights_progress progress,
                      void *progress_context);

void attention_weights_free(struct attention_weights *w, const struct backend *b, struct device *d,
                            const struct model *m);
void ffn_weights_free(struct ffn_weights *w, const struct backend *b, struct device *d,
                      const struct model *m);

#endif
