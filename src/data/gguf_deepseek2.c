/* gguf_deepseek2.c - DeepSeek-V3 and what has its router (Kimi-K2). kv_b_proj is cut in k_b_proj and v_b_proj, but in
 * files made before the middle of 2025. */
#include "data/gguf_arch.h"

/* Scores are scaled by the magnitude of mscale_all_dim; angles are not. */
static void put_yarn(struct gguf_builder *b)
{
    gguf_put_rope(b);
    json_t *yarn = json_object_get(b->out, "rope_scaling");
    double all = 10 * gguf_number_key(b, "rope.scaling.yarn_log_multiplier", 0);
    if (!yarn)
        return;
    if (!(all > 0) || json_object_get(yarn, "attention_factor"))
        gguf_wrong(b, "rope.scaling.yarn_log_multiplier",
                   "wanted it above 0, without an attn_factor beside it");
    json_object_set_new(yarn, "mscale", json_real(all));
    json_object_set_new(yarn, "mscale_all_dim", json_real(all));
}

/* Files made before the middle of 2025 have attn_kv_b, and heads as wide as they are in it. */
static void put_heads(struct gguf_builder *b)
{
    int64_t rank = gguf_integer_key(b, "attention.kv_lora_rank", -1),
            turning = gguf_integer_key(b, "rope.dimension_count", -1),
            low = gguf_integer_key(b, "attention.q_lora_rank", 0),
            key = gguf_integer_key(b, "attention.key_length_mla", 0), value = 0;
    bool split = key > 0;
    key = split ? key : gguf_integer_key(b, "attention.key_length", -1);
    value =
        gguf_integer_key(b, split ? "attention.value_length_mla" : "attention.value_length", -1);
    if (split && (gguf_integer_key(b, "attention.key_length", -1) != rank + turning ||
                  gguf_integer_key(b, "attention.value_length", -1) != rank))
        gguf_wrong(b, "attention.key_length",
                   "it and value_length are not those of attention.kv_lora_rank");
    if (key <= turning)
        gguf_wrong(b, "rope.dimension_count", "is not less than a head's width");
    gguf_put(b, "q_lora_rank", low > 0 ? json_integer(low) : json_null());
    gguf_put_integer(b, "kv_lora_rank", rank);
    gguf_put_integer(b, "qk_rope_head_dim", turning);
    gguf_put_integer(b, "qk_nope_head_dim", key - turning);
    gguf_put_integer(b, "v_head_dim", value);
    gguf_put(b, "kv_b_split", json_boolean(split));
}

static void put_all(struct gguf_builder *b)
{
    bool grouped = gguf_integer_key(b, "expert_count", -1) == 256;
    gguf_put(b, "hidden_act", json_string("silu"));
    gguf_put_integer(b, "moe_layer_freq", 1);
    put_heads(b);
    put_yarn(b);
    gguf_put_sigmoid(b, grouped ? 8 : 1, grouped ? 4 : 1); /* not written at first; 256 are V3's */
    gguf_put(b, "scoring_func", json_string("sigmoid"));
    gguf_put(b, "topk_method", json_string("noaux_tc"));
    gguf_want_sigmoid(b, 0);
}

static const struct gguf_rule rules[] = {
    {"attn_q_a.weight", "self_attn.q_a_proj.weight", GGUF_AS_IS},
    {"attn_q_a_norm.weight", "self_attn.q_a_layernorm.weight", GGUF_AS_IS},
    {"attn_q_b.weight", "self_attn.q_b_proj.weight", GGUF_AS_IS},
    {"attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight", GGUF_AS_IS},
    {"attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight", GGUF_AS_IS},
    {"attn_kv_b.weight", "self_attn.kv_b_proj.weight", GGUF_AS_IS},
    {"attn_k_b.weight", "self_attn.k_b_proj.weight", GGUF_AS_IS},
    {"attn_v_b.weight", "self_attn.v_b_proj.weight", GGUF_AS_IS},
    {0}};

const struct gguf_arch gguf_deepseek2 = {
    .name = "deepseek2",
    .model_type = "deepseek_v3",
    .rules = {rules, gguf_every_layer, gguf_experts, gguf_shared, gguf_mtp},
    .config = put_all,
};
