/* gguf_llama.c - llama, and Qwen3, dense and with experts. */
#include "data/gguf_arch.h"

/* Conversion leaves only the factors of llama3's scaling, one for every pair. */
static void put_factors(struct gguf_builder *b)
{
    const struct tensor *t = gguf_tensor(b->g, "rope_freqs.weight");
    if (!t)
        return;
    if (t->dtype != DTYPE_F32 || t->dims != 1) {
        gguf_wrong_tensor(b, "rope_freqs.weight", "wanted one row of F32");
        return;
    }
    json_t *factors = json_array();
    for (size_t i = 0; i < t->shape[0]; i++)
        json_array_append_new(factors, json_real((double)((const float *)t->data)[i]));
    gguf_put(b, "rope_scaling",
             json_pack("{s:s, s:o}", "rope_type", "factors", "factors", factors));
}

static void put_dense(struct gguf_builder *b)
{
    gguf_put_heads(b, true);
    gguf_put_integer(b, "intermediate_size", gguf_integer_key(b, "feed_forward_length", -1));
    if (b->arch->row_pairs)
        gguf_put(b, "rope_interleaved", json_true());
    if (gguf_integer_key(b, "expert_count", 0))
        gguf_wrong(b, "expert_count", "experts are not supported in this architecture");
    if (b->arch->rope_freqs)
        put_factors(b);
}

static void put_moe(struct gguf_builder *b)
{
    gguf_put_heads(b, true);
    gguf_put_integer(b, "intermediate_size", gguf_integer_key(b, "feed_forward_length", 1));
    gguf_put_experts(b, "num_experts", "num_experts_per_tok", "moe_intermediate_size");
    gguf_put(b, "norm_topk_prob", json_true());
    gguf_put_integer(b, "decoder_sparse_step", 1);
    gguf_put(b, "mlp_only_layers", json_array());
}

static const struct gguf_rule joined[] = {{"attn_qkv.weight", "self_attn.", GGUF_QKV}, {0}};

const struct gguf_arch gguf_llama = {
    .name = "llama",
    .model_type = "llama",
    .rope_freqs = true,
    .row_pairs = true,
    .rules = {gguf_every_layer, gguf_keys_values},
    .config = put_dense,
};

const struct gguf_arch gguf_qwen3 = {
    .name = "qwen3",
    .model_type = "qwen3",
    .rules = {gguf_every_layer, gguf_keys_values, gguf_head_norms, joined},
    .config = put_dense,
};

const struct gguf_arch gguf_qwen3moe = {
    .name = "qwen3moe",
    .model_type = "qwen3_moe",
    .rules = {gguf_every_layer, gguf_keys_values, gguf_head_norms, joined, gguf_experts},
    .config = put_moe,
};
