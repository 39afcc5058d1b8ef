/* names.h - names of tensors that several families have, as parts of their lists (family.h, `names`).
 *
 * Those of Hugging Face's Llama, which others have kept: what a family calls otherwise it says itself. Internal to the
 * files of families.
 */
#ifndef TANDEM_MODEL_NAMES_H
#define TANDEM_MODEL_NAMES_H

/* Once in a model. */
#define NAMES_MODEL                                                                                \
    [TENSOR_EMBED] = "model.embed_tokens.weight", [TENSOR_FINAL_NORM] = "model.norm.weight",       \
    [TENSOR_LM_HEAD] = "lm_head.weight"

/* In every layer. */
#define NAMES_NORMS                                                                                \
    [TENSOR_INPUT_NORM] = "input_layernorm.weight", [TENSOR_POST_NORM] =                           \
                                                        "post_attention_layernorm.weight"
#define NAMES_Q_K_V                                                                                \
    [TENSOR_Q_UP] = "self_attn.q_proj.weight", [TENSOR_K] = "self_attn.k_proj.weight",             \
    [TENSOR_V] = "self_attn.v_proj.weight"
#define NAMES_Q_K_V_BIAS                                                                           \
    [TENSOR_Q_BIAS] = "self_attn.q_proj.bias", [TENSOR_K_BIAS] = "self_attn.k_proj.bias",          \
    [TENSOR_V_BIAS] = "self_attn.v_proj.bias"
#define NAMES_Q_K_NORM                                                                             \
    [TENSOR_Q_NORM] = "self_attn.q_norm.weight", [TENSOR_K_NORM] = "self_attn.k_norm.weight"
#define NAMES_O [TENSOR_O] = "self_attn.o_proj.weight"
#define NAMES_DENSE                                                                                \
    [TENSOR_DENSE_GATE] = "mlp.gate_proj.weight", [TENSOR_DENSE_UP] = "mlp.up_proj.weight",        \
    [TENSOR_DENSE_DOWN] = "mlp.down_proj.weight"

/* Experts one by one, or as newer checkpoints stack them. */
#define NAMES_EXPERTS                                                                              \
    [TENSOR_ROUTER] = "mlp.gate.weight",                                                           \
    [TENSOR_EXPERT_GATE] = "mlp.experts.#.gate_proj.weight|mlp.experts.gate_up_proj@0",            \
    [TENSOR_EXPERT_UP] = "mlp.experts.#.up_proj.weight|mlp.experts.gate_up_proj@1",                \
    [TENSOR_EXPERT_DOWN] = "mlp.experts.#.down_proj.weight|mlp.experts.down_proj"
/* The shared expert, under its prefix; and the bias of a router that only chooses. */
#define NAMES_SHARED(prefix)                                                                       \
    [TENSOR_SHARED_GATE] = prefix ".gate_proj.weight",                                             \
    [TENSOR_SHARED_UP] = prefix ".up_proj.weight",                                                 \
    [TENSOR_SHARED_DOWN] = prefix ".down_proj.weight"
#define NAMES_ROUTER_BIAS [TENSOR_ROUTER_BIAS] = "mlp.gate.e_score_correction_bias"

/* Of layers that draft. */
#define NAMES_MTP                                                                                  \
    [TENSOR_MTP_EMBED_NORM] = "enorm.weight", [TENSOR_MTP_HIDDEN_NORM] = "hnorm.weight",           \
    [TENSOR_MTP_PROJ] = "eh_proj.weight"

#endif
