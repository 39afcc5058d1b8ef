#include "model/block.h"

static bool has_router(const struct model *m, const struct layer_spec *l)
{
    (void)m;
    return l->ffn.router.experts > 0;
}

static bool has_router_bias(const struct model *m, const struct layer_spec *l)
{
    return has_router(m, l) && l->ffn.router_bias;
}

static bool is_dense(const struct model *m, const struct layer_spec *l)
{
    return !has_router(m, l);
}

static bool has_shared(const struct model *m, const struct layer_spec *l)
{
    return has_router(m, l) && l->ffn.shared_inter > 0;
}

static bool has_expert_bias(const struct model *m, const struct layer_spec *l)
{
    return has_router(m, l) && l->ffn.expert_bias;
}

static bool is_untied(const struct model *m, const struct layer_spec *l)
{
    (void)l;
    return !m->tied;
}

static bool has_own_head(const struct model *m, const struct layer_spec *l)
{
    (void)l;
    return m->mtp.own_head;
}

#define COUNT(list) (sizeof(list) / sizeof *(list))

#define ONCE(member)    offsetof(struct model_weights, member)
#define LAYERED(member) offsetof(struct layer_weights, member)
#define MTP(member)     offsetof(struct mtp_weights, member)

static const struct member in_model[] = {
    {TENSOR_EMBED, USE_TABLE, AS_TABLE, ONCE(embed), NULL, 2, {DIM_VOCAB, DIM_HIDDEN}},
    {TENSOR_FINAL_NORM, USE_GAIN, AS_F32, ONCE(final_norm), NULL, 1, {DIM_HIDDEN}},
    {TENSOR_LM_HEAD, USE_HEAD, AS_MATRIX, ONCE(lm_head), is_untied, 2, {DIM_VOCAB, DIM_HIDDEN}},
};

static const struct member in_layer[] = {
    {TENSOR_INPUT_NORM, USE_GAIN, AS_F32, LAYERED(input_norm), NULL, 1, {DIM_HIDDEN}},
    {TENSOR_POST_NORM, USE_GAIN, AS_F32, LAYERED(post_norm), NULL, 1, {DIM_HIDDEN}},
    {TENSOR_ROUTER, USE_ROUTER, AS_F32, LAYERED(router), has_router, 2, {DIM_EXPERTS, DIM_HIDDEN}},
    {TENSOR_ROUTER_BIAS, USE_BIAS, AS_F32, LAYERED(router_bias), has_router_bias, 1, {DIM_EXPERTS}},
};

#define FFN(tensor, wanted, ...)                                                                   \
    {                                                                                              \
        tensor, USE_LINEAR, AS_FFN, 0, wanted, __VA_ARGS__                                         \
    }
static const struct member in_ffn[] = {
    FFN(TENSOR_DENSE_GATE, is_dense, 2, {DIM_INTER, DIM_HIDDEN}),
    FFN(TENSOR_DENSE_UP, is_dense, 2, {DIM_INTER, DIM_HIDDEN}),
    FFN(TENSOR_DENSE_DOWN, is_dense, 2, {DIM_HIDDEN, DIM_INTER}),
    FFN(TENSOR_EXPERT_GATE, has_router, 3, {DIM_EXPERTS, DIM_INTER, DIM_HIDDEN}),
    FFN(TENSOR_EXPERT_UP, has_router, 3, {DIM_EXPERTS, DIM_INTER, DIM_HIDDEN}),
    FFN(TENSOR_EXPERT_DOWN, has_router, 3, {DIM_EXPERTS, DIM_HIDDEN, DIM_INTER}),
    {TENSOR_EXPERT_GATE_BIAS, USE_BIAS, AS_FFN, 0, has_expert_bias, 2, {DIM_EXPERTS, DIM_INTER}},
    {TENSOR_EXPERT_UP_BIAS, USE_BIAS, AS_FFN, 0, has_expert_bias, 2, {DIM_EXPERTS, DIM_INTER}},
    {TENSOR_EXPERT_DOWN_BIAS, USE_BIAS, AS_FFN, 0, has_expert_bias, 2, {DIM_EXPERTS, DIM_HIDDEN}},
    FFN(TENSOR_SHARED_GATE, has_shared, 2, {DIM_SHARED, DIM_HIDDEN}),
    FFN(TENSOR_SHARED_UP, has_shared, 2, {DIM_SHARED, DIM_HIDDEN}),
    FFN(TENSOR_SHARED_DOWN, has_shared, 2, {DIM_HIDDEN, DIM_SHARED}),
};

static const struct member in_mtp[] = {
    {TENSOR_MTP_EMBED_NORM, USE_GAIN, AS_F32, MTP(embed_norm), NULL, 1, {DIM_HIDDEN}},
    {TENSOR_MTP_HIDDEN_NORM, USE_GAIN, AS_F32, MTP(hidden_norm), NULL, 1, {DIM_HIDDEN}},
    {TENSOR_MTP_PROJ, USE_LINEAR, AS_MATRIX, MTP(proj), NULL, 2, {DIM_HIDDEN, DIM_MTP_IN}},
    {TENSOR_MTP_NORM, USE_GAIN, AS_F32, MTP(norm), NULL, 1, {DIM_HIDDEN}},
    {TENSOR_MTP_HEAD, USE_HEAD, AS_MATRIX, MTP(head), has_own_head, 2, {DIM_VOCAB, DIM_HIDDEN}},
};

const struct members model_members = {in_model, COUNT(in_model)};
const struct members layer_members = {in_layer, COUNT(in_layer)};
const struct members ffn_members = {in_ffn, COUNT(in_ffn)};
const struct members mtp_members = {in_mtp, COUNT(in_mtp)};

static void visit_list(const struct model *m, struct members all, size_t layer, member_visit visit,
                       void *context)
{
    const struct layer_spec *l = &m->layer[layer];
    for (size_t i = 0; i < all.n; i++) {
        const struct member *member = &all.list[i];
        if (i && all.list[i - 1].tensor == member->tensor)
            continue;
        if (!member->wanted || member->wanted(m, l))
            visit(context, member, layer);
    }
}

static void visit_layer(const struct model *m, size_t l, member_visit visit, void *context)
{
    const struct block *b = m->layer[l].attention.block;
    visit_list(m, layer_members, l, visit, context);
    visit_list(m, (struct members){b->members, b->n_members}, l, visit, context);
    visit_list(m, ffn_members, l, visit, context);
}

void members_visit(const struct model *m, member_visit visit, void *context)
{
    visit_list(m, model_members, 0, visit, context);
    for (size_t l = 0; l < m->layers; l++)
        visit_layer(m, l, visit, context);
}

void members_visit_mtp(const struct model *m, member_visit visit, void *context)
{
    for (size_t l = m->layers; l < m->layers + m->mtp.layers; l++) {
        visit_list(m, mtp_members, l, visit, context);
        visit_layer(m, l, visit, context);
    }
}

static size_t dim_size(const struct model *m, const struct layer_spec *l, enum tensor_dim dim)
{
    const struct attention_spec *a = &l->attention;
    size_t heads = (size_t)a->attn.heads, kv_heads = (size_t)a->attn.kv_heads;
    size_t key = (size_t)a->attn.key_dim, value = (size_t)a->attn.value_dim;
    size_t turning = (size_t)a->attn.rope_dim;
    switch (dim) {
    case DIM_VOCAB:
        return m->embed_rows;
    case DIM_HIDDEN:
        return m->hidden;
    case DIM_Q_RANK:
        return a->q_rank;
    case DIM_Q_IN:
        return a->q_rank ? a->q_rank : m->hidden;
    case DIM_Q_WIDTH:
        return heads * (a->kv_rank ? a->nope_dim + turning : key);
    case DIM_K_WIDTH:
        return kv_heads * key;
    case DIM_V_WIDTH:
        return kv_heads * value;
    case DIM_O_WIDTH:
        return heads * (a->kv_rank ? a->head_value_dim : value);
    case DIM_Q_NORM:
        return a->norm == HEAD_NORM_ALL ? heads * key : key;
    case DIM_K_NORM:
        return a->norm == HEAD_NORM_ALL ? kv_heads * key : key;
    case DIM_HEADS:
        return heads;
    case DIM_KV_DOWN:
        return a->kv_rank + turning;
    case DIM_KV_RANK:
        return a->kv_rank;
    case DIM_KV_UP:
        return heads * (a->nope_dim + a->head_value_dim);
    case DIM_NOPE:
        return a->nope_dim;
    case DIM_VALUE:
        return a->head_value_dim;
    case DIM_EXPERTS:
        return (size_t)l->ffn.router.experts;
    case DIM_INTER:
        return l->ffn.inter;
    case DIM_SHARED:
        return l->ffn.shared_inter;
    case DIM_MTP_IN:
        return 2 * m->hidden;
    }
    die("tensor dimension %d", (int)dim);
}

int member_shape(const struct model *m, const struct member *member, size_t layer, size_t shape[3])
{
    for (int i = 0; i < member->dims; i++)
        shape[i] = dim_size(m, &m->layer[layer], member->dim[i]);
    return member->dims;
}
