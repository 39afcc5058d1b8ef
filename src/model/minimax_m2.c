/* minimax_m2.c - MiniMax-M2: what its config.json means and what its tensors are called. Queries and
 * keys are normed as a whole, a part of a head turns, every layer has experts, chosen by a sigmoid
 * with a bias.
 */
#include "model/block.h"
#include "model/fields.h"
#include "model/names.h"

static const char *const model_types[] = {"minimax_m2", NULL};

static const char *const skipped[] = {NULL};

static const char *const names[TENSOR_KINDS] = {
    NAMES_MODEL,
    NAMES_NORMS,
    NAMES_Q_K_V,
    NAMES_Q_K_NORM,
    NAMES_O,
    [TENSOR_ROUTER] = "block_sparse_moe.gate.weight",
    [TENSOR_ROUTER_BIAS] = "block_sparse_moe.e_score_correction_bias",
    [TENSOR_EXPERT_GATE] = "block_sparse_moe.experts.#.w1.weight",
    [TENSOR_EXPERT_UP] = "block_sparse_moe.experts.#.w3.weight",
    [TENSOR_EXPERT_DOWN] = "block_sparse_moe.experts.#.w2.weight",
};

static void refuse_unsupported(struct config *c)
{
    static const char *const unused[] = {"num_mtp_modules",
                                         "mtp_transformer_layers",
                                         "use_mtp",
                                         "layernorm_full_attention_beta",
                                         "layernorm_linear_attention_beta",
                                         "layernorm_mlp_beta",
                                         "attn_type_list",
                                         "max_model_len",
                                         "shared_moe_mode",
                                         "output_router_logits",
                                         NULL};
    config_must_be(c, "scoring_func", "\"sigmoid\"", "only \"sigmoid\"");
    config_must_be(c, "use_routing_bias", "true", "only true");
    config_must_be(c, "use_qk_norm", "true", "only true");
    config_must_be(c, "qk_norm_type", "\"per_layer\"", "only \"per_layer\"");
    config_must_be(c, "shared_intermediate_size", "0 null", "only 0, no shared expert");
    fields_no_bias(c);
    fields_full_attention(c);
    config_ignore(c, unused);
}

static void read_config(struct model *m, struct config *c)
{
    struct ffn_spec *f = &m->layer[0].ffn;
    fields_common(m, c, 1e-6, 196608);
    struct attention_spec *a = fields_grouped_attention(m, c, 1, 10000);
    a->norm = HEAD_NORM_ALL;
    size_t turning = config_size_or(c, "rotary_dim", 2, (size_t)a->attn.key_dim, m->ropes[0].dim);
    if (turning % 2)
        config_wrong(c, "rotary_dim", "is %zu; it must be even", turning);
    m->ropes[0].dim = turning;
    a->attn.rope_dim = (int)turning;
    fields_experts(&f->router, c, "num_local_experts", "num_experts_per_tok");
    f->router.score = ROUTER_SIGMOID;
    f->router.renormalize = true;
    f->router_bias = true;
    f->inter = config_size(c, "intermediate_size", 1, DIM_MAX);
    fields_same_layers(m);
    refuse_unsupported(c);
}

static void defaults(struct family_sizes *s)
{
    s->kv_heads = 4;
    s->norm_eps = 1e-6f;
}

static json_t *write_config(const struct family_sizes *s, enum dtype dtype)
{
    json_t *j = fields_write(s, dtype, "MiniMaxM2ForCausalLM", "minimax_m2");
    fields_set_size(j, "intermediate_size", s->expert_inter);
    fields_set_size(j, "num_key_value_heads", s->kv_heads);
    fields_set_size(j, "head_dim", s->head_dim);
    fields_set_size(j, "rotary_dim", s->head_dim / 4 * 2);
    fields_set_size(j, "max_position_embeddings", s->context);
    fields_set_number(j, "rope_theta", s->rope_theta);
    fields_set_size(j, "num_local_experts", (size_t)s->router.experts);
    fields_set_size(j, "num_experts_per_tok", (size_t)s->router.topk);
    fields_set_text(j, "scoring_func", "sigmoid");
    fields_set_text(j, "qk_norm_type", "per_layer");
    fields_set_bool(j, "use_routing_bias", true);
    fields_set_bool(j, "use_qk_norm", true);
    return j;
}

const struct family family_minimax_m2 = {
    .name = "minimax_m2",
    .published = "MiniMax-M2",
    .model_types = model_types,
    .layer_prefix = "model.layers.",
    .names = names,
    .skipped = skipped,
    .read = read_config,
    .defaults = defaults,
    .moe = fields_moe_all,
    .write = write_config,
};
