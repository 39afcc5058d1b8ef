/* glm4_moe.c - GLM-4.5 and 4.6: what its config.json means and what its tensors are called. Grouped
 * queries with biases, half of a head turns, a sigmoid router with a bias that only chooses.
 */
#include "model/block.h"
#include "model/fields.h"
#include "model/names.h"

static const char *const model_types[] = {"glm4_moe", NULL};

static const char *const skipped[] = {NULL};

static const char *const names[TENSOR_KINDS] = {
    NAMES_MODEL, NAMES_NORMS, NAMES_Q_K_V,   NAMES_Q_K_V_BIAS,  NAMES_Q_K_NORM,
    NAMES_O,     NAMES_DENSE, NAMES_EXPERTS, NAMES_ROUTER_BIAS, NAMES_SHARED("mlp.shared_experts"),
};

/* Half of a head turns unless partial_rotary_factor says otherwise. */
static void read_config(struct model *m, struct config *c)
{
    fields_common(m, c, 1e-5, 131072);
    struct attention_spec *a = fields_grouped_attention(m, c, 0.5, 10000);
    a->norm = fields_bool(c, "use_qk_norm", false) ? HEAD_NORM_EACH : HEAD_NORM_NONE;
    a->bias = fields_bool(c, "attention_bias", false);
    fields_full_attention(c);
    fields_sigmoid_experts(m, c, 1);
}

static void defaults(struct family_sizes *s)
{
    s->kv_heads = 4;
    s->norm_eps = 1e-5f;
    s->router.renormalize = true;
    s->router.groups = s->router.topk_groups = 1;
}

static json_t *write_config(const struct family_sizes *s, enum dtype dtype)
{
    json_t *j = fields_write(s, dtype, "Glm4MoeForCausalLM", "glm4_moe");
    size_t dense = 0;
    while (dense < s->layers && !s->moe[dense])
        dense++;
    fields_set_size(j, "first_k_dense_replace", dense);
    fields_set_size(j, "num_key_value_heads", s->kv_heads);
    fields_set_size(j, "head_dim", s->head_dim);
    fields_set_size(j, "max_position_embeddings", s->context);
    fields_set_bool(j, "use_qk_norm", true);
    fields_set_bool(j, "attention_bias", true);
    fields_set_number(j, "partial_rotary_factor", 0.5);
    fields_set_number(j, "rope_theta", s->rope_theta);
    fields_set_size(j, "n_routed_experts", (size_t)s->router.experts);
    fields_set_size(j, "num_experts_per_tok", (size_t)s->router.topk);
    fields_set_size(j, "moe_intermediate_size", s->expert_inter);
    fields_set_size(j, "n_shared_experts", fields_shared_experts(s));
    fields_set_size(j, "n_group", (size_t)s->router.groups);
    fields_set_size(j, "topk_group", (size_t)s->router.topk_groups);
    fields_set_bool(j, "norm_topk_prob", s->router.renormalize);
    fields_set_number(j, "routed_scaling_factor", fields_decimal(s->router.factor));
    return j;
}

const struct family family_glm4_moe = {
    .name = "glm4_moe",
    .published = "GLM-4.5, GLM-4.5-Air, GLM-4.6",
    .model_types = model_types,
    .layer_prefix = "model.layers.",
    .names = names,
    .skipped = skipped,
    .read = read_config,
    .defaults = defaults,
    .moe = fields_moe_later,
    .write = write_config,
};
