/* step3.c - the Step-3 text model: what its config.json means and what its tensors are called.
 *
 * Two forms of config.json: model_type step3_text, the text model alone, and step3_vl, the vision
 * and language model, whose text_config is the former. Defaults are those of the public
 * configuration class; sizes have none here, because a model of another size never means them.
 */
#include "model/block.h"
#include "model/fields.h"
#include "model/names.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const model_types[] = {"step3_text", "step3_vl", NULL};

static const char *const skipped[] = {"vision_model.", "vit_", NULL};

static const char *const names[TENSOR_KINDS] = {
    NAMES_MODEL,
    NAMES_NORMS,
    NAMES_O,
    NAMES_DENSE,
    NAMES_SHARED("share_expert"),
    [TENSOR_Q_DOWN] = "self_attn.q_proj.weight",
    [TENSOR_INTER_NORM] = "self_attn.inter_norm.weight",
    [TENSOR_Q_UP] = "self_attn.wq.weight",
    [TENSOR_K] = "self_attn.k_proj.weight",
    [TENSOR_V] = "self_attn.v_proj.weight",
    [TENSOR_ROUTER] = "moe.gate.weight",
    [TENSOR_EXPERT_GATE] = "moe.gate_proj.weight",
    [TENSOR_EXPERT_UP] = "moe.up_proj.weight",
    [TENSOR_EXPERT_DOWN] = "moe.down_proj.weight",
};

static const char *const harmless_vision[] = {
    "vision_config",
    "im_end_token",
    "im_patch_token",
    "im_start_token",
    "image_token_len",
    "patch_token_len",
    "image_token_id",
    "understand_projector_stride",
    "projector_bias",
    "hidden_size",
    NULL,
};

/* Fields that other models of this kind have; what they may say without changing the result. */
static void refuse_unsupported(struct config *c)
{
    static const struct {
        const char *field, *texts, *why;
    } rule[] = {
        {"num_attention_groups", "1", "only 1, all query heads on one key and value head"},
        {"num_key_value_heads", "1 null", "only 1, all query heads on one key and value head"},
        {"partial_rotary_factor", "1 1.0 null", "only 1, all of a head is rotated"},
        {"qkv_bias", "false null", "only false, projections without bias"},
        {"moe_router_activation", "\"softmax\" null", "only \"softmax\""},
        {"use_moe_router_bias", "false null", "only false, a router without bias"},
        {"moe_router_scaling_factor", "1 1.0 null", "only 1, routed experts are not scaled"},
        {"num_nextn_predict_layers", "0 null", "only 0, no multi-token prediction"},
    };
    for (size_t i = 0; i < sizeof rule / sizeof *rule; i++)
        config_must_be(c, rule[i].field, rule[i].texts, rule[i].why);
    fields_no_bias(c);
    fields_full_attention(c);
}

static void read_sizes(struct model *m, struct config *c)
{
    struct layer_spec *l = &m->layer[0]; /* as if all were alike and had experts */
    struct attention_spec *a = &l->attention;
    fields_sizes(m, c, 1e-5);
    size_t heads = config_size(c, "num_attention_heads", 1, DIM_MAX);
    size_t dim = config_size(c, "head_dim", 2, DIM_MAX);
    a->block = &block_qkv;
    a->q_rank = config_size(c, "share_q_dim", 1, DIM_MAX);
    l->ffn.inter = config_size(c, "moe_intermediate_size", 1, DIM_MAX);
    l->ffn.shared_inter = config_size(c, "share_expert_dim", 0, DIM_MAX);
    fields_experts(&l->ffn.router, c, "moe_num_experts", "moe_top_k");
    l->ffn.router.renormalize = config_bool_or(c, "norm_expert_weight", false);
    if (dim % 2)
        config_wrong(c, "head_dim", "is %zu; it must be even, rotary embedding pairs its halves",
                     dim);
    if (heads > DIM_MAX / dim)
        config_wrong(c, "num_attention_heads", "is %zu; with head_dim %zu at most %zu are possible",
                     heads, dim, DIM_MAX / dim);
    a->attn = (struct attn_spec){.heads = (int)heads,
                                 .kv_heads = 1,
                                 .key_dim = (int)dim,
                                 .value_dim = (int)dim,
                                 .rope_dim = (int)dim,
                                 .scale = 1.0f / sqrtf((float)dim)};
}

/* The published file has both fields, with the same value. The position table is the limit of one,
 * the training length that of the other; a sequence must keep both. */
static void read_context(struct model *m, struct config *c)
{
    size_t sequence = config_size_or(c, "max_seq_len", 1, CONTEXT_MAX, CONTEXT_MAX + 1);
    size_t position = config_size_or(c, "max_position_embedding", 1, CONTEXT_MAX, CONTEXT_MAX + 1);
    size_t plural = config_size_or(c, "max_position_embeddings", 1, CONTEXT_MAX, CONTEXT_MAX + 1);
    m->context = sequence < position ? sequence : position;
    m->context = plural < m->context ? plural : m->context;
    if (m->context > CONTEXT_MAX)
        config_wrong(c, "max_position_embedding", "is missing: the longest sequence in tokens");
}

/* theta stands in rope_theta, or in rope_parameters in files of newer tools. */
static void read_rope(struct model *m, struct config *c)
{
    size_t dim = (size_t)m->layer[0].attention.attn.rope_dim;
    config_must_be(c, "rope_scaling", "null {\"type\":\"default\"} {\"rope_type\":\"default\"}",
                   "only null, plain rotary embedding");
    m->n_ropes = 1;
    fields_rope(&m->ropes[0], c, dim, 1, 500000);
    if (m->ropes[0].scaling != ROPE_PLAIN || m->ropes[0].dim != dim)
        config_wrong(c, "rope_parameters", "must mean plain rotary embedding of all of a head");
}

/* Absent: layers 4 to 59, as the configuration class has it (those of them that exist). null: all
 * but the first. */
static void read_moe_layers(struct model *m, struct config *c)
{
    const json_t *value = config_get(c, "moe_layers_enum");
    size_t dense = config_size(c, "intermediate_size", 1, DIM_MAX);
    bool moe[MODEL_MAX_LAYERS] = {false};
    if (!value || json_is_null(value)) {
        size_t first = value ? 1 : 4, last = value ? m->layers - 1 : 59;
        for (size_t l = first; l <= last && l < m->layers; l++)
            moe[l] = true;
    } else {
        fields_layers(c, "moe_layers_enum", value, m->layers, moe);
    }
    struct layer_spec like = m->layer[0];
    for (size_t l = 0; l < m->layers; l++) {
        m->layer[l] = like;
        if (!moe[l])
            m->layer[l].ffn = (struct ffn_spec){.inter = dense};
    }
}

static void read_text(struct model *m, struct config *c)
{
    read_sizes(m, c);
    read_context(m, c);
    read_rope(m, c);
    read_moe_layers(m, c);
    refuse_unsupported(c);
    config_must_be(c, "model_type", "\"step3_text\"", "only \"step3_text\"");
    fields_harmless(c);
}

static void read_vision(struct model *m, struct config *c)
{
    const json_t *text = config_get(c, "text_config");
    if (!json_is_object(text)) {
        config_wrong(c, "text_config", "must be an object: the description of the text model");
        return;
    }
    struct config t;
    config_open_inside(&t, c, "text_config.", text);
    read_text(m, &t);
    fields_tokens(m, c);
    fields_tokens(m, &t);
    fields_quantization(m, c);
    fields_quantization(m, &t);
    m->tied =
        config_bool_or(c, "tie_word_embeddings", config_bool_or(&t, "tie_word_embeddings", false));
    config_finish(&t);
    config_close(&t);
    config_ignore(c, harmless_vision);
    fields_harmless(c);
}

static void read_config(struct model *m, struct config *c)
{
    const char *type = json_string_value(config_get(c, "model_type"));
    if (type && strcmp(type, "step3_vl") == 0) {
        read_vision(m, c);
        return;
    }
    read_text(m, c);
    fields_tokens(m, c);
    fields_quantization(m, c);
    m->tied = config_bool_or(c, "tie_word_embeddings", false);
}

static void defaults(struct family_sizes *s)
{
    s->kv_heads = 1;
}

static bool has_experts(const struct family_sizes *s, size_t layer)
{
    return layer > 0 && layer + 1 < s->layers;
}

static json_t *write_config(const struct family_sizes *s, enum dtype dtype)
{
    char text[MODEL_MAX_LAYERS * 4] = "";
    size_t used = 0;
    for (size_t l = 0; l < s->layers && l < MODEL_MAX_LAYERS; l++)
        if (s->moe[l])
            used += (size_t)snprintf(text + used, sizeof text - used, used ? ",%zu" : "%zu", l);
    json_t *j = fields_write(s, dtype, "Step3TextForCausalLM", "step3_text");
    fields_set_size(j, "num_attention_groups", s->kv_heads);
    fields_set_size(j, "head_dim", s->head_dim);
    fields_set_size(j, "share_q_dim", s->q_rank);
    fields_set_size(j, "max_seq_len", s->context);
    fields_set_size(j, "max_position_embedding", s->context);
    fields_set_size(j, "moe_num_experts", (size_t)s->router.experts);
    fields_set_size(j, "moe_top_k", (size_t)s->router.topk);
    fields_set_size(j, "moe_intermediate_size", s->expert_inter);
    fields_set_size(j, "share_expert_dim", s->shared_inter);
    fields_set_bool(j, "norm_expert_weight", s->router.renormalize);
    fields_set_number(j, "rope_theta", s->rope_theta);
    fields_set_text(j, "moe_layers_enum", text);
    json_object_set_new(j, "rope_scaling", json_null());
    return j;
}

const struct family family_step3 = {
    .name = "step3",
    .published = "Step-3",
    .model_types = model_types,
    .layer_prefix = "model.layers.",
    .names = names,
    .skipped = skipped,
    .read = read_config,
    .defaults = defaults,
    .moe = has_experts,
    .write = write_config,
};
