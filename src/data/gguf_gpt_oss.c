/* gguf_gpt_oss.c - gpt-oss: layers take turns, a window first; its yarn ends between two pairs. */
#include "data/gguf_arch.h"

static void put_all(struct gguf_builder *b)
{
    gguf_put_heads(b, true);
    gguf_put_experts(b, "num_local_experts", "num_experts_per_tok", "intermediate_size");
    gguf_put_integer(b, "sliding_window", gguf_integer_key(b, "attention.sliding_window", -1));
    json_t *yarn = json_object_get(b->out, "rope_scaling");
    if (yarn)
        json_object_set_new(yarn, "truncate", json_false());
}

static const struct gguf_rule rules[] = {
    {"post_attention_norm.weight", "post_attention_layernorm.weight", GGUF_AS_IS},
    {"attn_output.bias", "self_attn.o_proj.bias", GGUF_AS_IS},
    {"attn_sinks.weight", "self_attn.sinks", GGUF_AS_IS},
    {"ffn_gate_inp.weight", "mlp.router.weight", GGUF_AS_IS},
    {"ffn_gate_inp.bias", "mlp.router.bias", GGUF_AS_IS},
    {"ffn_gate_exps.weight", "mlp.experts.gate_proj.weight", GGUF_AS_IS},
    {"ffn_up_exps.weight", "mlp.experts.up_proj.weight", GGUF_AS_IS},
    {"ffn_down_exps.weight", "mlp.experts.down_proj.weight", GGUF_AS_IS},
    {"ffn_gate_exps.bias", "mlp.experts.gate_proj_bias", GGUF_AS_IS},
    {"ffn_up_exps.bias", "mlp.experts.up_proj_bias", GGUF_AS_IS},
    {"ffn_down_exps.bias", "mlp.experts.down_proj_bias", GGUF_AS_IS},
    {0}};

/* <|end|> ends a message, and the answer comes behind that of the analysis. */
static const char *const ends[] = {"<|return|>", "<|call|>", "<|endoftext|>", NULL};

const struct gguf_arch gguf_gpt_oss = {
    .name = "gpt-oss",
    .model_type = "gpt_oss",
    .ends = ends,
    .rules = {rules, gguf_every_layer, gguf_keys_values, gguf_biases},
    .config = put_all,
};
