#include "model/family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct family *const all[] = {&family_step3, NULL};

const struct family *const *family_all(void)
{
    return all;
}

const struct family *family_of(const struct model *m)
{
    for (size_t i = 0; all[i]; i++)
        if (strcmp(all[i]->name, m->family) == 0)
            return all[i];
    die("no model family \"%s\"", m->family);
}

bool family_has(const struct model *m, enum model_tensor kind, size_t layer)
{
    if (kind == TENSOR_LM_HEAD && m->tied)
        return false;
    switch (family_of(m)->tensors[kind].where) {
    case WHERE_MODEL:
        return true;
    case WHERE_LAYER:
        return layer < m->layers;
    case WHERE_DENSE:
        return layer < m->layers && !m->moe[layer];
    case WHERE_MOE:
        return layer < m->layers && m->moe[layer];
    case WHERE_SHARED:
        return layer < m->layers && m->moe[layer] && m->shared_inter > 0;
    }
    return false;
}

void family_name(const struct model *m, enum model_tensor kind, size_t layer,
                 char name[FAMILY_NAME_MAX])
{
    const struct family *f = family_of(m);
    const struct tensor_spec *s = &f->tensors[kind];
    int n = s->where == WHERE_MODEL
                ? snprintf(name, FAMILY_NAME_MAX, "%s", s->name)
                : snprintf(name, FAMILY_NAME_MAX, "%s%zu.%s", f->layer_prefix, layer, s->name);
    if (n < 0 || n >= FAMILY_NAME_MAX)
        die("a tensor name of family %s is longer than %d bytes", f->name, FAMILY_NAME_MAX - 1);
}

static size_t dim_size(const struct model *m, enum tensor_dim dim)
{
    switch (dim) {
    case DIM_VOCAB:
        return m->vocab;
    case DIM_HIDDEN:
        return m->hidden;
    case DIM_Q_RANK:
        return m->q_rank;
    case DIM_Q_WIDTH:
        return m->heads * m->head_dim;
    case DIM_KV_WIDTH:
        return m->kv_heads * m->head_dim;
    case DIM_DENSE:
        return m->dense_inter;
    case DIM_EXPERTS:
        return (size_t)m->router.experts;
    case DIM_EXPERT:
        return m->expert_inter;
    case DIM_SHARED:
        return m->shared_inter;
    }
    die("tensor dimension %d", (int)dim);
}

int family_shape(const struct model *m, enum model_tensor kind, size_t shape[3])
{
    const struct tensor_spec *s = &family_of(m)->tensors[kind];
    for (int i = 0; i < s->dims; i++)
        shape[i] = dim_size(m, s->dim[i]);
    return s->dims;
}

int family_match(const struct model *m, const char *name, enum model_tensor *kind, size_t *layer)
{
    const struct family *f = family_of(m);
    size_t prefix = strlen(f->layer_prefix);
    const char *rest = name;
    bool in_layer = strncmp(name, f->layer_prefix, prefix) == 0;
    *layer = 0;
    if (in_layer) {
        char *end;
        if (name[prefix] < '0' || name[prefix] > '9' ||
            (name[prefix] == '0' && name[prefix + 1] != '.'))
            return -1;
        *layer = strtoul(name + prefix, &end, 10);
        if (*end != '.')
            return -1;
        rest = end + 1;
    }
    for (int k = 0; k < TENSOR_KINDS; k++) {
        const struct tensor_spec *s = &f->tensors[k];
        if ((s->where == WHERE_MODEL) == in_layer || strcmp(s->name, rest) != 0)
            continue;
        *kind = (enum model_tensor)k;
        return family_has(m, *kind, *layer) ? 0 : -1;
    }
    return -1;
}
