/* gguf_minimax_m2.c - MiniMax-M2: norms over all heads, a part of a head turns, experts in every layer. */
#include "data/gguf_arch.h"

static void put_all(struct gguf_builder *b)
{
    int64_t width = gguf_integer_key(b, "feed_forward_length", 0);
    gguf_put_integer(b, "rotary_dim", gguf_put_heads(b, false));
    gguf_put_integer(b, "intermediate_size",
                     gguf_integer_key(b, "expert_feed_forward_length", width > 0 ? width : -1));
    gguf_put_integer(b, "num_local_experts", gguf_integer_key(b, "expert_count", -1));
    gguf_put_integer(b, "num_experts_per_tok", gguf_integer_key(b, "expert_used_count", -1));
    gguf_put(b, "scoring_func", json_string("sigmoid"));
    gguf_put(b, "qk_norm_type", json_string("per_layer"));
    gguf_put(b, "use_qk_norm", json_true());
    gguf_put(b, "use_routing_bias", json_true());
    gguf_want_sigmoid(b, 2);
}

static const struct gguf_rule rules[] = {
    {"ffn_gate_inp.weight", "block_sparse_moe.gate.weight", GGUF_AS_IS},
    {"exp_probs_b.bias", "block_sparse_moe.e_score_correction_bias", GGUF_AS_IS},
    {"ffn_gate_exps.weight", "block_sparse_moe.experts.#.w1.weight", GGUF_EXPERTS},
    {"ffn_up_exps.weight", "block_sparse_moe.experts.#.w3.weight", GGUF_EXPERTS},
    {"ffn_down_exps.weight", "block_sparse_moe.experts.#.w2.weight", GGUF_EXPERTS},
    {0}};

const struct gguf_arch gguf_minimax_m2 = {
    .name = "minimax-m2",
    .model_type = "minimax_m2",
    .rules = {gguf_every_layer, gguf_keys_values, gguf_head_norms, rules},
    .config = put_all,
};
