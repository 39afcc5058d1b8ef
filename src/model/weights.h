/* weights.h - the weights of one rank, packed on its device.
 *
 * An attention rank holds embeddings, all attention weights, norms, routers and lm_head; an FFN
 * rank its share of experts, shared expert and dense MLPs (schedule/placement.h). A rank that has
 * both roles holds both. Loaded once, tensor by tensor: peak host memory is the packed weights plus
 * one tensor, and on FFN ranks the slices of one layer (model/slices.h). Freed before the device is closed.
 */
#ifndef TANDEM_MODEL_WEIGHTS_H
#define TANDEM_MODEL_WEIGHTS_H

#include "data/checkpoint.h"
#include "data/fingerprint.h"
#include "kernels/ops.h"
#include "model/block.h"
#include "model/slices.h"
#include "schedule/placement.h"

struct attention_weights {
    struct model_weights once;
    float *angles[MODEL_MAX_ROPES]; /* device f32 [context][R/2][2], cos and sin, of each rope */
    struct layer_weights *layers;   /* [model.layers + model_mtp_loaded()] */
    struct mtp_weights *mtp;        /* [model_mtp_loaded()] */
};

struct ffn_weights {
    struct ffn **layers; /* [model.layers + model_mtp_loaded()] */
};

/* What is loaded, and where to; all of it outlives the call. */
struct weights_plan {
    const struct backend *backend;
    struct device *device;
    const struct model *model;
    const struct checkpoint *checkpoint;
    enum weight_keep keep;
    size_t context;              /* attention: positions the angles are made for */
    const struct layout *layout; /* ffn: the rank's share */
    int ffn_rank;
    const struct slices_way *way;    /* ffn: how ranks hand each other slices; NULL: they do not */
    int threads;                     /* ffn: that make slices */
    struct fingerprint *fingerprint; /* takes what is loaded but MTP layers; NULL: nothing does */
};

/* Layers that are loaded: the model's, and those of MTP. */
size_t weights_layers(const struct model *m);

/* Called after every tensor with the bytes packed so far and in all; may be NULL. */
typedef void (*weights_progress)(void *context, size_t done, size_t total);

/* Device bytes, from the description and the checkpoint's formats alone. */
size_t attention_weights_bytes(const struct weights_plan *p);
size_t ffn_weights_bytes(const struct weights_plan *p);

/* Backends that keep gate and up in one matrix have a format for both where theirs are not alike: so many of
 * the bytes above come on top of those that the two formats would take. */
size_t ffn_weights_widened(const struct weights_plan *p);

/* Matrices, or layers' FFNs, that the device has far slower kernels for than for others (ops.h: ffn_obstacle), and why the
 * first is one. */
struct weights_slow {
    int count;
    const char *why; /* NULL: count is 0 */
};
struct weights_slow attention_weights_slow(const struct weights_plan *p);
struct weights_slow ffn_weights_slow(const struct weights_plan *p);

/* Whether every FFN rank comes to the terms (kernels/exact.h) that one rank with all layers' FFNs would, where ranks
 * have whole slices. Of the plan neither device nor rank is looked at; act: of the device. */
bool ffn_weights_same(const struct weights_plan *p, enum dtype act);

/* Host bytes that ffn_weights_load() takes beside the weights where there is a way: the slices of the layer that
 * has most of them. */
size_t ffn_weights_loading(const struct weights_plan *p);

/* Never fail: model_check() has passed. The second is collective over all FFN ranks of the layout when
 * there is a way. */
void attention_weights_load(struct attention_weights *w, const struct weights_plan *p,
                            weights_progress progress, void *progress_context);
void ffn_weights_load(struct ffn_weights *w, const struct weights_plan *p,
                      weights_progress progress, void *progress_context);

/* Of the plan only backend, device and model are looked at. */
void attention_weights_free(struct attention_weights *w, const struct weights_plan *p);
void ffn_weights_free(struct ffn_weights *w, const struct weights_plan *p);

#endif
