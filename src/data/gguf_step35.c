/* gguf_step35.c - Step-3.5: layers of two kinds, in lists; MTP blocks may be in the file. Its norms hold the 1 that
 * is elsewhere added to them. */
#include "data/gguf_arch.h"

#include <stdio.h>

/* layer_types, thetas, rotary factors, clamps: one entry a layer. */
static void put_layers(struct gguf_builder *b, int64_t layers)
{
    json_t *types = json_array(), *theta = json_array(), *partial = json_array();
    json_t *limits = json_array(), *shared = json_array();
    double full_theta = gguf_number_key(b, "rope.freq_base", 10000);
    double slide_theta = gguf_number_key(b, "rope.freq_base_swa", full_theta);
    for (int64_t l = 0; l < layers; l++) {
        size_t i = (size_t)l;
        bool sliding = gguf_integer_key_at(b, "attention.sliding_window_pattern", i, -1) != 0;
        double limit = gguf_number_key_at(b, "swiglu_clamp_exp", i, 0);
        double limit_shared = gguf_number_key_at(b, "swiglu_clamp_shexp", i, 0);
        json_array_append_new(types, json_string(sliding ? "sliding_attention" : "full_attention"));
        json_array_append_new(theta, json_real(sliding ? slide_theta : full_theta));
        json_array_append_new(partial, json_real(sliding ? 1.0 : 0.5));
        json_array_append_new(limits, json_real(limit > 1e-6 ? limit : 0));
        json_array_append_new(shared, json_real(limit_shared > 1e-6 ? limit_shared : 0));
    }
    gguf_put(b, "layer_types", types);
    gguf_put(b, "rope_theta", theta);
    gguf_put(b, "partial_rotary_factors", partial);
    gguf_put(b, "swiglu_limits", limits);
    gguf_put(b, "swiglu_limits_shared", shared);
}

/* Heads of the two kinds of layer; every layer of a kind must have as many. */
static void put_heads(struct gguf_builder *b, int64_t layers)
{
    int64_t heads[2] = {0}, groups[2] = {0};
    for (int64_t l = 0; l < layers; l++) {
        size_t i = (size_t)l;
        bool sliding = gguf_integer_key_at(b, "attention.sliding_window_pattern", i, -1) != 0;
        int64_t h = gguf_integer_key_at(b, "attention.head_count", i, -1);
        int64_t kv = gguf_integer_key_at(b, "attention.head_count_kv", i, -1);
        if (heads[sliding] && (heads[sliding] != h || groups[sliding] != kv))
            gguf_wrong(b, "attention.head_count", "layers of one kind have different heads");
        heads[sliding] = h;
        groups[sliding] = kv;
    }
    int full = heads[0] ? 0 : 1, other = heads[1] ? 1 : 0;
    int64_t dim = gguf_integer_key(b, "attention.key_length", 128);
    gguf_put_integer(b, "head_dim", dim);
    gguf_put_integer(b, "num_attention_heads", heads[full]);
    gguf_put_integer(b, "num_attention_groups", groups[full]);
    gguf_put(b, "attention_other_setting",
             json_pack("{s:s, s:I, s:I, s:I, s:I}", "attention_type", "sliding_attention",
                       "num_attention_heads", (json_int_t)heads[other], "num_attention_groups",
                       (json_int_t)groups[other], "head_dim", (json_int_t)dim, "true_head_dim",
                       (json_int_t)dim));
}

/* The factors of the release's scaling. Early conversions computed them for twice the dimensions:
 * their last entry is 2 where a right file has 1 in all entries that nothing uses. */
static void put_scaling(struct gguf_builder *b)
{
    const struct tensor *t = gguf_tensor(b->g, "rope_freqs.weight");
    if (!t)
        return;
    if (t->dtype != DTYPE_F32 || t->dims != 1 || t->shape[0] < 2) {
        gguf_wrong_tensor(b, "rope_freqs.weight", "wanted one row of F32");
        return;
    }
    if (((const float *)t->data)[t->shape[0] - 1] != 1)
        snprintf(
            b->note, 256,
            "rope_freqs.weight was made by an early converter, for twice the rotary dimensions; "
            "the right factors are used instead");
    gguf_put(b, "rope_scaling",
             json_pack("{s:s, s:f, s:i, s:f, s:f}", "rope_type", "llama3", "factor", 2.0,
                       "original_max_position_embeddings", 131072, "low_freq_factor", 1.0,
                       "high_freq_factor", 32.0));
    gguf_put(b, "yarn_only_types", json_pack("[s]", "full_attention"));
}

static void put_experts(struct gguf_builder *b, int64_t trunk)
{
    json_t *moe = json_array();
    for (int64_t l = gguf_integer_key(b, "leading_dense_block_count", 0); l < trunk; l++)
        json_array_append_new(moe, json_integer(l));
    gguf_put(b, "moe_layers_enum", moe);
    gguf_put_experts(b, "moe_num_experts", "moe_top_k", "moe_intermediate_size");
    gguf_put_integer(b, "share_expert_dim",
                     gguf_integer_key(b, "expert_shared_feed_forward_length", -1));
    gguf_put(b, "moe_router_activation", json_string("sigmoid"));
    gguf_put(b, "use_moe_router_bias", json_true());
    gguf_put(b, "need_fp32_gate", json_true());
    gguf_put(b, "norm_expert_weight", json_boolean(gguf_integer_key(b, "expert_weights_norm", 1)));
    double scale = gguf_number_key(b, "expert_weights_scale", 1);
    gguf_put(b, "moe_router_scaling_factor", json_real(scale > 0 ? scale : 1));
    gguf_want_sigmoid(b, 2);
    if (gguf_integer_key(b, "moe_every_n_layers", 1) != 1)
        gguf_wrong(b, "moe_every_n_layers", "only 1 is supported");
}

static void put_all(struct gguf_builder *b)
{
    static const char *const yes[] = {"use_qk_norm", "zero_centered", "use_head_wise_attn_gate",
                                      "norm_gains_stored_whole"};
    int64_t layers = gguf_put_before(b, "num_hidden_layers");
    gguf_put_head_dim(b);
    if (layers < 1)
        return;
    gguf_put_integer(b, "intermediate_size", gguf_integer_key(b, "feed_forward_length", -1));
    gguf_put_integer(b, "sliding_window", gguf_integer_key(b, "attention.sliding_window", -1));
    gguf_put(b, "att_impl_type", json_string("GQA"));
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        gguf_put(b, yes[i], json_true());
    put_layers(b, layers + gguf_put_before(b, "num_nextn_predict_layers"));
    put_heads(b, layers);
    put_scaling(b);
    put_experts(b, layers);
}

static const struct gguf_rule rules[] = {
    {"attn_gate.weight", "self_attn.g_proj.weight", GGUF_AS_IS},
    {"ffn_gate_inp.weight", "moe.gate.weight", GGUF_AS_IS},
    {"exp_probs_b.bias", "moe.router_bias", GGUF_AS_IS},
    {"ffn_gate_exps.weight", "moe.gate_proj.weight", GGUF_AS_IS},
    {"ffn_up_exps.weight", "moe.up_proj.weight", GGUF_AS_IS},
    {"ffn_down_exps.weight", "moe.down_proj.weight", GGUF_AS_IS},
    {"ffn_gate_shexp.weight", "share_expert.gate_proj.weight", GGUF_AS_IS},
    {"ffn_up_shexp.weight", "share_expert.up_proj.weight", GGUF_AS_IS},
    {"ffn_down_shexp.weight", "share_expert.down_proj.weight", GGUF_AS_IS},
    {"nextn.enorm.weight", "enorm.weight", GGUF_AS_IS},
    {"nextn.hnorm.weight", "hnorm.weight", GGUF_AS_IS},
    {"nextn.eh_proj.weight", "eh_proj.weight", GGUF_AS_IS},
    {"nextn.shared_head_norm.weight", "transformer.shared_head.norm.weight", GGUF_AS_IS},
    {"nextn.shared_head_head.weight", "transformer.shared_head.output.weight", GGUF_AS_IS},
    {0}};

const struct gguf_arch gguf_step35 = {
    .name = "step35",
    .model_type = "step3p5",
    .rope_freqs = true,
    .rules = {rules, gguf_every_layer, gguf_keys_values, gguf_head_norms},
    .config = put_all,
};
