/* deepseek3.c - DeepSeek-V3 and R1 (and Kimi-K2, which has the same tensors): what its config.json
 * means and what its tensors are called. Latent attention, a sigmoid router with groups and a bias
 * that only chooses. The MTP layer is one like the last, with the model's embeddings and head.
 */
#include "model/block.h"
#include "model/fields.h"
#include "model/names.h"

#include <math.h>

static const char *const model_types[] = {"deepseek_v3", "kimi_k2", NULL};

static const char *const skipped[] = {NULL};

static const char *const names[TENSOR_KINDS] = {
    NAMES_MODEL,
    NAMES_NORMS,
    NAMES_O,
    NAMES_DENSE,
    NAMES_EXPERTS,
    NAMES_ROUTER_BIAS,
    NAMES_SHARED("mlp.shared_experts"),
    NAMES_MTP,
    [TENSOR_Q_DOWN] = "self_attn.q_a_proj.weight",
    [TENSOR_INTER_NORM] = "self_attn.q_a_layernorm.weight",
    [TENSOR_Q_UP] = "self_attn.q_b_proj.weight|self_attn.q_proj.weight",
    [TENSOR_KV_DOWN] = "self_attn.kv_a_proj_with_mqa.weight",
    [TENSOR_KV_NORM] = "self_attn.kv_a_layernorm.weight",
    [TENSOR_KV_UP] = "self_attn.kv_b_proj.weight",
    [TENSOR_KEY_UP] = "self_attn.k_b_proj.weight",
    [TENSOR_VALUE_UP] = "self_attn.v_b_proj.weight",
    [TENSOR_MTP_NORM] = "shared_head.norm.weight",
};

static const char *const mtp_copies[] = {"embed_tokens.weight", "shared_head.head.weight", NULL};

/* The scores' scale: (nope + R)^-0.5, times the square of yarn's magnitude for mscale_all_dim. */
static float scale_of(const struct attention_spec *a, const struct rope_spec *r, struct config *c)
{
    const json_t *scaling = fields_value(c, "rope_scaling");
    scaling = scaling ? scaling : fields_value(c, "rope_parameters");
    double all = json_number_value(json_object_get(scaling, "mscale_all_dim"));
    double m = r->scaling == ROPE_YARN && all > 0 ? rope_yarn_magnitude(r->factor, all) : 1;
    return (float)(m * m / sqrt((double)(a->nope_dim + r->dim)));
}

static void read_attention(struct model *m, struct config *c)
{
    struct attention_spec *a = &m->layer[0].attention;
    static const char *const unused[] = {"num_key_value_heads", "head_dim", NULL};
    size_t heads = config_size(c, "num_attention_heads", 1, 4096);
    size_t turning = config_size(c, "qk_rope_head_dim", 2, 4096);
    a->block = &block_mla;
    a->q_rank = fields_value(c, "q_lora_rank") ? config_size(c, "q_lora_rank", 1, DIM_MAX) : 0;
    a->kv_rank = config_size(c, "kv_lora_rank", 1, 4096);
    a->nope_dim = config_size(c, "qk_nope_head_dim", 1, 4096);
    a->head_value_dim = config_size(c, "v_head_dim", 1, 4096);
    a->kv_split = config_bool_or(c, "kv_b_split", false); /* GGUF */
    m->n_ropes = 1;
    fields_rope(&m->ropes[0], c, turning, 1, 10000);
    if (m->ropes[0].dim != turning)
        config_wrong(c, "partial_rotary_factor", "must be 1");
    a->attn = (struct attn_spec){.heads = (int)heads,
                                 .kv_heads = 1,
                                 .key_dim = (int)(a->kv_rank + turning),
                                 .value_dim = (int)a->kv_rank,
                                 .value_in_key = true,
                                 .rope_at = (int)a->kv_rank,
                                 .rope_dim = (int)turning,
                                 .pairs = ROPE_NEIGHBORS,
                                 .scale = scale_of(a, &m->ropes[0], c)};
    if (config_size_or(c, "qk_head_dim", 1, 8192, a->nope_dim + turning) != a->nope_dim + turning)
        config_wrong(c, "qk_head_dim", "must be qk_nope_head_dim and qk_rope_head_dim together");
    if (turning % 2)
        config_wrong(c, "qk_rope_head_dim", "is %zu; it must be even", turning);
    config_must_be(c, "rope_interleave", "true null", "only true, neighbors turn together");
    fields_no_bias(c);
    fields_full_attention(c);
    config_ignore(c, unused);
}

static void read_config(struct model *m, struct config *c)
{
    fields_common(m, c, 1e-6, 4096);
    m->mtp = (struct mtp_spec){.layers = m->mtp_layers, .normed = true};
    read_attention(m, c);
    config_must_be(c, "scoring_func", "\"sigmoid\"", "only \"sigmoid\"");
    config_must_be(c, "topk_method", "\"noaux_tc\"", "only \"noaux_tc\"");
    config_must_be(c, "moe_layer_freq", "1", "only 1");
    fields_sigmoid_experts(m, c, 0);
}

static void defaults(struct family_sizes *s)
{
    s->kv_rank = 128;
    s->nope_dim = 64;
    s->rope_dim = 32;
    s->value_dim = 64;
    s->rope_theta = 10000;
    s->norm_eps = 1e-6f;
    s->router.renormalize = true;
    s->router.factor = 2.5f;
    s->router.groups = 8;
    s->router.topk_groups = 4;
}

static json_t *write_config(const struct family_sizes *s, enum dtype dtype)
{
    json_t *j = fields_write(s, dtype, "DeepseekV3ForCausalLM", "deepseek_v3");
    size_t dense = 0;
    while (dense < s->layers && !s->moe[dense])
        dense++;
    fields_set_size(j, "first_k_dense_replace", dense);
    if (s->q_rank)
        fields_set_size(j, "q_lora_rank", s->q_rank);
    else
        json_object_set_new(j, "q_lora_rank", json_null());
    fields_set_size(j, "num_key_value_heads", s->heads);
    fields_set_size(j, "kv_lora_rank", s->kv_rank);
    fields_set_size(j, "qk_nope_head_dim", s->nope_dim);
    fields_set_size(j, "qk_rope_head_dim", s->rope_dim);
    fields_set_size(j, "v_head_dim", s->value_dim);
    fields_set_size(j, "max_position_embeddings", s->context);
    fields_set_size(j, "n_routed_experts", (size_t)s->router.experts);
    fields_set_size(j, "num_experts_per_tok", (size_t)s->router.topk);
    fields_set_size(j, "moe_intermediate_size", s->expert_inter);
    fields_set_size(j, "n_shared_experts", fields_shared_experts(s));
    fields_set_size(j, "n_group", (size_t)s->router.groups);
    fields_set_size(j, "topk_group", (size_t)s->router.topk_groups);
    fields_set_bool(j, "norm_topk_prob", s->router.renormalize);
    fields_set_number(j, "routed_scaling_factor", fields_decimal(s->router.factor));
    fields_set_text(j, "scoring_func", "sigmoid");
    fields_set_text(j, "topk_method", "noaux_tc");
    fields_set_number(j, "rope_theta", s->rope_theta);
    if (s->rope_factor > 1)
        json_object_set_new(j, "rope_scaling",
                            json_pack("{s:s, s:f, s:i, s:i, s:i, s:f, s:f}", "type", "yarn",
                                      "factor", s->rope_factor, "original_max_position_embeddings",
                                      (int)((double)s->context / s->rope_factor), "beta_fast", 32,
                                      "beta_slow", 1, "mscale", 1.0, "mscale_all_dim", 1.0));
    return j;
}

const struct family family_deepseek3 = {
    .name = "deepseek_v3",
    .published = "DeepSeek-V3, DeepSeek-R1, Kimi-K2",
    .model_types = model_types,
    .layer_prefix = "model.layers.",
    .names = names,
    .skipped = skipped,
    .mtp_copies = mtp_copies,
    .read = read_config,
    .defaults = defaults,
    .moe = fields_moe_later,
    .write = write_config,
};
