/* qwen3.c - Qwen3, dense and with experts: what its config.json means and what its tensors are
 * called. Norms of every head of queries and keys; a softmax router over all experts. Files saved
 * by newer tools may hold the experts of a layer in one tensor, gate and up together.
 */
#include "model/block.h"
#include "model/fields.h"
#include "model/names.h"

static const char *const moe_types[] = {"qwen3_moe", NULL};
static const char *const dense_types[] = {"qwen3", NULL};

static const char *const skipped[] = {NULL};

static const char *const names[TENSOR_KINDS] = {
    NAMES_MODEL, NAMES_NORMS, NAMES_Q_K_V, NAMES_Q_K_NORM, NAMES_O, NAMES_DENSE, NAMES_EXPERTS,
};

static void read_dense(struct model *m, struct config *c)
{
    fields_common(m, c, 1e-6, 32768);
    fields_grouped_attention(m, c, 1, 1e6)->norm = HEAD_NORM_EACH;
    const struct rope_spec *r = &m->ropes[0];
    if (r->scaling == ROPE_YARN && (double)m->context < r->original * r->factor)
        m->context = (size_t)(r->original * r->factor);
    fields_no_bias(c);
    fields_full_attention(c);
    m->layer[0].ffn.inter = config_size(c, "intermediate_size", 1, DIM_MAX);
    fields_same_layers(m);
}

/* Layer l has experts when (l + 1) is a multiple of decoder_sparse_step and l is not listed. */
static void read_moe(struct model *m, struct config *c)
{
    struct ffn_spec experts = {.inter = config_size(c, "moe_intermediate_size", 1, DIM_MAX)};
    bool dense[MODEL_MAX_LAYERS] = {false};
    read_dense(m, c);
    const char *count =
        json_object_get(c->fields, "num_experts") ? "num_experts" : "num_local_experts";
    fields_experts(&experts.router, c, count, "num_experts_per_tok");
    config_get(c, "num_local_experts");
    experts.router.renormalize = fields_bool(c, "norm_topk_prob", false);
    size_t step = config_size_or(c, "decoder_sparse_step", 1, MODEL_MAX_LAYERS, 1);
    const json_t *only = fields_value(c, "mlp_only_layers");
    if (only)
        fields_layers(c, "mlp_only_layers", only, m->layers, dense);
    for (size_t l = 0; l < m->layers; l++)
        if (!dense[l] && (l + 1) % step == 0)
            m->layer[l].ffn = experts;
    config_must_be(c, "shared_expert_intermediate_size", "0 null", "only 0, no shared expert");
}

/* ---- writing -------------------------------------------------------------------------------- */

static void defaults(struct family_sizes *s)
{
    s->kv_heads = 4;
    s->shared_inter = 0;
    s->router.renormalize = true;
    s->rope_theta = 1e6;
    s->norm_eps = 1e-6f;
}

static json_t *write_all(const struct family_sizes *s, enum dtype dtype, const char *architecture,
                         const char *type)
{
    json_t *j = fields_write(s, dtype, architecture, type);
    fields_set_size(j, "num_key_value_heads", s->kv_heads);
    fields_set_size(j, "head_dim", s->head_dim);
    fields_set_size(j, "max_position_embeddings", s->context);
    fields_set_number(j, "rope_theta", s->rope_theta);
    if (s->rope_factor > 1)
        json_object_set_new(j, "rope_scaling",
                            json_pack("{s:s, s:f, s:i}", "rope_type", "yarn", "factor",
                                      s->rope_factor, "original_max_position_embeddings",
                                      (int)((double)s->context / s->rope_factor)));
    return j;
}

static json_t *write_dense(const struct family_sizes *s, enum dtype dtype)
{
    return write_all(s, dtype, "Qwen3ForCausalLM", "qwen3");
}

static json_t *write_moe(const struct family_sizes *s, enum dtype dtype)
{
    json_t *j = write_all(s, dtype, "Qwen3MoeForCausalLM", "qwen3_moe"), *dense = json_array();
    for (size_t l = 0; l < s->layers; l++)
        if (!s->moe[l])
            json_array_append_new(dense, json_integer((json_int_t)l));
    json_object_set_new(j, "mlp_only_layers", dense);
    fields_set_size(j, "num_experts", (size_t)s->router.experts);
    fields_set_size(j, "num_experts_per_tok", (size_t)s->router.topk);
    fields_set_size(j, "moe_intermediate_size", s->expert_inter);
    fields_set_bool(j, "norm_topk_prob", s->router.renormalize);
    return j;
}

const struct family family_qwen3_moe = {
    .name = "qwen3_moe",
    .published = "Qwen3-30B-A3B, Qwen3-235B-A22B",
    .model_types = moe_types,
    .layer_prefix = "model.layers.",
    .names = names,
    .skipped = skipped,
    .read = read_moe,
    .defaults = defaults,
    .moe = fields_moe_all,
    .write = write_moe,
};

const struct family family_qwen3 = {
    .name = "qwen3",
    .published = "Qwen3-0.6B to 32B",
    .model_types = dense_types,
    .layer_prefix = "model.layers.",
    .names = names,
    .skipped = skipped,
    .read = read_dense,
    .defaults = defaults,
    .moe = fields_moe_none,
    .write = write_dense,
};
