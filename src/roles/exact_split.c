#include "roles/exact_split.h"

#include "kernels/exact.h"
#include "model/weights.h"

static bool whole_slices(const struct inputs *in)
{
    const struct layout *l = &in->job.layout;
    int tensor = l->colocated ? 1 : l->tensor, all = layout_ffn_ranks(l);
    for (size_t i = 0; i < in->model.layers; i++) {
        const struct ffn_spec *f = &in->model.layer[i].ffn;
        bool moe = in->model.moe[i];
        if ((moe && !placement_whole(f->inter, tensor, l->granule)) ||
            !placement_whole(moe ? f->shared_inter : f->inter, all, l->granule))
            return false;
    }
    return true;
}

/* Backends whose kernels hang on the part are devices, which add so many parts at once. */
static bool same_terms(const struct inputs *in)
{
    const struct weights_plan plan = {.backend = in->backend,
                                      .model = &in->model,
                                      .checkpoint = in->checkpoint,
                                      .keep = inputs_keep(&in->job),
                                      .layout = &in->job.layout};
    return !in->backend->ops->ffn_same || (layout_instances(&in->job.layout) <= EXACT_PARTS &&
                                           ffn_weights_same(&plan, in->job.precision.activations));
}

bool exact_split(const struct inputs *in)
{
    if (layout_ffn_ranks(&in->job.layout) == 1)
        return true;
    return in->job.precision.combine == DTYPE_F32 && whole_slices(in) && same_terms(in);
}
