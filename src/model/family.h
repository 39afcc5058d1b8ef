/* family.h - what a model family is: its config fields and its tensors.
 *
 * One constant table per family, in its own file; the rest of the program sees only struct model
 * and enum model_tensor. A new family of the same building blocks is one new file and one line in
 * family.c. Pure functions of constant tables; any rank and thread.
 */
#ifndef TANDEM_MODEL_FAMILY_H
#define TANDEM_MODEL_FAMILY_H

#include "model/config.h"
#include "model/model.h"

#define FAMILY_NAME_MAX 160 /* bytes of a tensor name */
#define FAMILY_BLOCK    128 /* rows and columns of a block of FP8 weights */

/* A size that a tensor's shape is made of. */
enum tensor_dim {
    DIM_VOCAB,
    DIM_HIDDEN,
    DIM_Q_RANK,
    DIM_Q_WIDTH,  /* heads x head_dim */
    DIM_KV_WIDTH, /* kv_heads x head_dim */
    DIM_DENSE,    /* intermediate size of a dense MLP */
    DIM_EXPERTS,
    DIM_EXPERT, /* intermediate size of a routed expert */
    DIM_SHARED, /* intermediate size of the shared expert */
};

/* Which layers have the tensor. */
enum tensor_where {
    WHERE_MODEL, /* once in the model */
    WHERE_LAYER, /* in every layer */
    WHERE_DENSE, /* in layers with a dense MLP */
    WHERE_MOE,   /* in layers with experts */
    WHERE_SHARED /* in layers with experts, when the model has a shared expert */
};

/* What a tensor is to arithmetic: decides its possible formats, and random weights. */
enum tensor_use {
    USE_TABLE,  /* embedding: never FP8 */
    USE_GAIN,   /* norm: never FP8 */
    USE_ROUTER, /* never FP8 */
    USE_HEAD,   /* lm_head: never FP8 */
    USE_LINEAR, /* f32, bf16, or FP8 with a scale per 128x128 block */
};

struct tensor_spec {
    const char *name; /* whole for WHERE_MODEL, else what follows "<layer_prefix>N." */
    enum tensor_where where;
    enum tensor_use use;
    int dims;
    enum tensor_dim dim[3];
};

struct family {
    const char *name;                  /* "step3" */
    const char *const *model_types;    /* config.json's model_type; NULL-terminated */
    const char *layer_prefix;          /* "model.layers." */
    const char *scale_suffix;          /* behind the name of an FP8 tensor: that of its scales */
    const struct tensor_spec *tensors; /* [TENSOR_KINDS] */
    const char *const
        *skipped; /* prefixes of tensors that are not the decoder's; NULL-terminated */

    /* Fills everything of *m but `family` from config.json's top level. Errors go to c. */
    void (*read)(struct model *m, struct config *c);

    /* The config.json that read() gets *m back from; dtype: what the weights are stored in. A new
     * reference. */
    json_t *(*write)(const struct model *m, enum dtype dtype);
};

extern const struct family family_step3;

/* All families, NULL at the end. */
const struct family *const *family_all(void);

/* The family of a model that was read; die() when there is none. */
const struct family *family_of(const struct model *m);

/* Is there such a tensor in layer `layer` of the model? (layer is ignored for WHERE_MODEL.) */
bool family_has(const struct model *m, enum model_tensor kind, size_t layer);

/* Its name in the checkpoint. */
void family_name(const struct model *m, enum model_tensor kind, size_t layer,
                 char name[FAMILY_NAME_MAX]);

/* Its shape, without the dimensions the spec does not have; returns how many it has. */
int family_shape(const struct model *m, enum model_tensor kind, size_t shape[3]);

/* Which tensor a name stands for: 0 and kind and layer (0 for WHERE_MODEL), or -1 when it is none
 * of this model's. */
int family_match(const struct model *m, const char *name, enum model_tensor *kind, size_t *layer);

#endif
