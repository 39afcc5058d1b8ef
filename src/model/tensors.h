/* tensors.h - where in a checkpoint the tensors of a model are, and whether they are right.
 *
 * Pure functions of model and checkpoint; any thread.
 */
#ifndef TANDEM_MODEL_TENSORS_H
#define TANDEM_MODEL_TENSORS_H

#include "data/checkpoint.h"
#include "kernels/ops.h"
#include "model/block.h"
#include "model/family.h"
#include "model/packed.h"

struct found {
    const struct tensor *tensor;
    const struct tensor *scale; /* its weight_scale_inv, or NULL */
    struct packed packed;       /* kind not NONE: tensor is only one of several that make it */
    struct family_place place;
};

/* The tensor of that kind; expert counts only when every expert has its own. -1: it is not there, and
 * `name` is what it would be called. A tied lm_head is the embedding. */
int tensors_find(const struct model *m, const struct checkpoint *c, enum model_tensor kind,
                 size_t layer, size_t expert, struct found *f, char name[FAMILY_NAME_MAX]);

/* The matrix of one expert, or the whole tensor; vectors are matrices of one row. Only after
 * model_check(). */
struct weight_part tensors_part(const struct model *m, const struct checkpoint *c,
                                enum model_tensor kind, size_t layer, size_t expert);

/* The tensors that the model reads, each once, sorted by their `data`; malloc'd, *n of them. Only after
 * model_check(). */
const struct tensor **tensors_used(const struct model *m, const struct checkpoint *c, size_t *n);

/* What the matrices of a model become when they are kept by `keep`. granule: the columns of down-projections may be
 * cut at its multiples without cutting a group of packed weights, or of those that `keep` makes, and of `least`; 1: anywhere.
 * integers: is any kept as integers (kernels/weights/form.h)? Only after model_check(). */
struct tensors_forms {
    size_t granule;
    bool integers;
};
struct tensors_forms tensors_forms(const struct model *m, const struct checkpoint *c,
                                   enum weight_keep keep, size_t least);

#endif
