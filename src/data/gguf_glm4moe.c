/* gguf_glm4moe.c - GLM-4.5 and 4.6. Smaller ones have no norms of heads. MTP blocks are in the file. */
#include "data/gguf_arch.h"

static void put_all(struct gguf_builder *b)
{
    int64_t turning = gguf_put_heads(b, false), head_dim = gguf_put_before(b, "head_dim");
    if (head_dim > 0)
        gguf_put(b, "partial_rotary_factor", json_real((double)turning / (double)head_dim));
    gguf_put(b, "attention_bias", json_boolean(gguf_tensor(b->g, "blk.0.attn_q.bias") != NULL));
    gguf_put(b, "use_qk_norm", json_boolean(gguf_tensor(b->g, "blk.0.attn_q_norm.weight") != NULL));
    gguf_put_sigmoid(b, 1, 1);
    gguf_want_sigmoid(b, 2);
}

static const struct gguf_rule rules[] = {
    {"post_attention_norm.weight", "post_attention_layernorm.weight", GGUF_AS_IS}, {0}};

static const char *const ends[] = {"<|endoftext|>", "<|user|>", "<|observation|>", NULL};

const struct gguf_arch gguf_glm4moe = {
    .name = "glm4moe",
    .model_type = "glm4_moe",
    .ends = ends,
    .rules = {rules, gguf_every_layer, gguf_keys_values, gguf_biases, gguf_head_norms, gguf_experts,
              gguf_shared, gguf_mtp},
    .config = put_all,
};
