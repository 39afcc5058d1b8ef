#include "roles/exact_split.h"

#include "kernels/exact.h"
#include "kernels/weights/form.h"
#include "model/tensors.h"
#include "model/weights.h"

#include <string.h>

/* The MLPs of one kind in a layer: one, or as many as there are experts. */
struct mlps {
    enum model_tensor gate; /* up and down are the next two */
    size_t layer, count, width;
    struct span (*of)(size_t width, const struct layout *l, int rank);
};

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

/* The form of a matrix; the size of a group that has the whole row is 0. */
static struct weight_form form_of(const struct inputs *in, enum model_tensor kind, size_t layer,
                                  size_t expert)
{
    struct weight_part p = tensors_part(&in->model, in->checkpoint, kind, layer, expert);
    struct weight_form f = weight_form(&p, inputs_keep(&in->job));
    if (!form_is_grouped(f.kind))
        return (struct weight_form){.kind = f.kind};
    f.outer = f.outer < p.k ? f.outer : 0;
    f.inner = f.inner < p.k ? f.inner : 0;
    return f;
}

static bool same_form(const struct weight_form *a, const struct weight_form *b)
{
    return a->kind == b->kind && a->factor == b->factor && a->outer == b->outer &&
           a->inner == b->inner && a->scales == b->scales && a->mins == b->mins &&
           (a->kind != FORM_I4 || memcmp(a->values, b->values, 16) == 0);
}

static bool power_of_two(size_t n)
{
    return (n & (n - 1)) == 0;
}

/* Whether every rank's columns of `down` begin a group and have more than one, and slices end where tensor
 * cores begin a product. */
static bool fits(const struct inputs *in, const struct mlps *m, const struct weight_form *down)
{
    const struct layout *l = &in->job.layout;
    size_t step = form_is_grouped(down->kind) ? 32 : 16;
    for (int s = 1; s < placement_slices(m->width, l->granule); s++)
        if (placement_cut(m->width, l->granule, s) % step)
            return false;
    for (int rank = 0; rank < layout_ffn_ranks(l); rank++) {
        struct span mine = m->of(m->width, l, rank);
        bool begins = mine.first == 0 || (down->outer && mine.first % down->outer == 0);
        if (down->inner && (!begins || mine.count <= down->inner))
            return false;
    }
    return true;
}

/* known: `form` has been filled, of gate and up, and of down. */
static bool mlps_alike(const struct inputs *in, const struct mlps *m, bool *known,
                       struct weight_form form[2])
{
    for (size_t e = 0; e < m->count; e++)
        for (int i = 0; i < 3; i++) {
            struct weight_form f = form_of(in, m->gate + (enum model_tensor)i, m->layer, e);
            struct weight_form *first = &form[i == 2];
            if (!*known && i != 1)
                *first = f;
            *known = *known || i == 2;
            if (!same_form(first, &f) || !power_of_two(f.inner) || !power_of_two(f.outer))
                return false;
        }
    return m->count == 0 || fits(in, m, &form[1]);
}

static bool layer_alike(const struct inputs *in, size_t layer)
{
    const struct ffn_spec *f = &in->model.layer[layer].ffn;
    struct weight_form form[2];
    bool known = false, moe = in->model.moe[layer];
    const struct mlps routed = {TENSOR_EXPERT_GATE, layer, (size_t)f->router.experts, f->inter,
                                placement_expert_inter};
    const struct mlps shared = {TENSOR_SHARED_GATE, layer, f->shared_inter > 0, f->shared_inter,
                                placement_shared_inter};
    const struct mlps dense = {TENSOR_DENSE_GATE, layer, 1, f->inter, placement_shared_inter};
    return moe ? mlps_alike(in, &routed, &known, form) && mlps_alike(in, &shared, &known, form)
               : mlps_alike(in, &dense, &known, form);
}

/* Whether GPUs run the same kernels on every part. With f32 activations there is only one sort. */
static bool same_kernels(const struct inputs *in)
{
    if (layout_instances(&in->job.layout) > EXACT_PARTS)
        return false;
    for (size_t i = 0; i < in->model.layers && in->job.precision.activations == DTYPE_BF16; i++)
        if (!layer_alike(in, i))
            return false;
    return true;
}

bool exact_split(const struct inputs *in)
{
    if (layout_ffn_ranks(&in->job.layout) == 1)
        return true;
    return in->job.precision.combine == DTYPE_F32 && whole_slices(in) &&
           (strcmp(in->job.device, "cuda") != 0 || same_kernels(in));
}
