/* step3.c - the Step-3 text model: what its config.json means and what its tensors are called.
 *
 * Two forms of config.json: model_type step3_text, the text model alone, and step3_vl, the vision
 * and language model, whose text_config is the former. Defaults are those of the public
 * configuration class; sizes have none here, because a model of another size never means them.
 */
#include "model/family.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIM_MAX     (1u << 20) /* any one size, heads x head_dim included: far above any model */
#define CONTEXT_MAX (1u << 24)
#define VOCAB_MAX   (1u << 24)
#define EXPERTS_MAX 1024 /* what the kernels have room for when they choose */

static const char *const model_types[] = {"step3_text", "step3_vl", NULL};

static const char *const skipped[] = {"vision_model.", "vit_", NULL};

#define MOE  "moe."
#define ATTN "self_attn."

static const struct tensor_spec tensors[TENSOR_KINDS] = {
    [TENSOR_EMBED] =
        {"model.embed_tokens.weight", WHERE_MODEL, USE_TABLE, 2, {DIM_VOCAB, DIM_HIDDEN}},
    [TENSOR_FINAL_NORM] = {"model.norm.weight", WHERE_MODEL, USE_GAIN, 1, {DIM_HIDDEN}},
    [TENSOR_LM_HEAD] = {"lm_head.weight", WHERE_MODEL, USE_HEAD, 2, {DIM_VOCAB, DIM_HIDDEN}},
    [TENSOR_INPUT_NORM] = {"input_layernorm.weight", WHERE_LAYER, USE_GAIN, 1, {DIM_HIDDEN}},
    [TENSOR_Q_DOWN] = {ATTN "q_proj.weight", WHERE_LAYER, USE_LINEAR, 2, {DIM_Q_RANK, DIM_HIDDEN}},
    [TENSOR_INTER_NORM] = {ATTN "inter_norm.weight", WHERE_LAYER, USE_GAIN, 1, {DIM_Q_RANK}},
    [TENSOR_Q_UP] = {ATTN "wq.weight", WHERE_LAYER, USE_LINEAR, 2, {DIM_Q_WIDTH, DIM_Q_RANK}},
    [TENSOR_K] = {ATTN "k_proj.weight", WHERE_LAYER, USE_LINEAR, 2, {DIM_KV_WIDTH, DIM_HIDDEN}},
    [TENSOR_V] = {ATTN "v_proj.weight", WHERE_LAYER, USE_LINEAR, 2, {DIM_KV_WIDTH, DIM_HIDDEN}},
    [TENSOR_O] = {ATTN "o_proj.weight", WHERE_LAYER, USE_LINEAR, 2, {DIM_HIDDEN, DIM_Q_WIDTH}},
    [TENSOR_POST_NORM] =
        {"post_attention_layernorm.weight", WHERE_LAYER, USE_GAIN, 1, {DIM_HIDDEN}},
    [TENSOR_DENSE_GATE] =
        {"mlp.gate_proj.weight", WHERE_DENSE, USE_LINEAR, 2, {DIM_DENSE, DIM_HIDDEN}},
    [TENSOR_DENSE_UP] = {"mlp.up_proj.weight", WHERE_DENSE, USE_LINEAR, 2, {DIM_DENSE, DIM_HIDDEN}},
    [TENSOR_DENSE_DOWN] =
        {"mlp.down_proj.weight", WHERE_DENSE, USE_LINEAR, 2, {DIM_HIDDEN, DIM_DENSE}},
    [TENSOR_ROUTER] = {MOE "gate.weight", WHERE_MOE, USE_ROUTER, 2, {DIM_EXPERTS, DIM_HIDDEN}},
    [TENSOR_EXPERT_GATE] =
        {MOE "gate_proj.weight", WHERE_MOE, USE_LINEAR, 3, {DIM_EXPERTS, DIM_EXPERT, DIM_HIDDEN}},
    [TENSOR_EXPERT_UP] =
        {MOE "up_proj.weight", WHERE_MOE, USE_LINEAR, 3, {DIM_EXPERTS, DIM_EXPERT, DIM_HIDDEN}},
    [TENSOR_EXPERT_DOWN] =
        {MOE "down_proj.weight", WHERE_MOE, USE_LINEAR, 3, {DIM_EXPERTS, DIM_HIDDEN, DIM_EXPERT}},
    [TENSOR_SHARED_GATE] =
        {"share_expert.gate_proj.weight", WHERE_SHARED, USE_LINEAR, 2, {DIM_SHARED, DIM_HIDDEN}},
    [TENSOR_SHARED_UP] =
        {"share_expert.up_proj.weight", WHERE_SHARED, USE_LINEAR, 2, {DIM_SHARED, DIM_HIDDEN}},
    [TENSOR_SHARED_DOWN] =
        {"share_expert.down_proj.weight", WHERE_SHARED, USE_LINEAR, 2, {DIM_HIDDEN, DIM_SHARED}},
};

/* Known and without a say in what the text decoder computes. */
static const char *const harmless[] = {
    "architectures",
    "auto_map",
    "torch_dtype",
    "dtype",
    "transformers_version",
    "initializer_range",
    "use_cache",
    "pad_token_id",
    "_name_or_path",
    "attention_dropout",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "id2label",
    "label2id",
    "problem_type",
    "is_encoder_decoder",
    "chunk_size_feed_forward",
    "pretraining_tp",
    NULL,
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
        {"rope_scaling", "null", "only null, plain rotary embedding"},
        {"partial_rotary_factor", "1 1.0 null", "only 1, all of a head is rotated"},
        {"hidden_act", "\"silu\"", "only \"silu\""},
        {"attention_bias", "false", "only false, projections without bias"},
        {"qkv_bias", "false", "only false, projections without bias"},
        {"mlp_bias", "false", "only false, projections without bias"},
        {"sliding_window", "null", "only null, every token sees all before it"},
        {"use_sliding_window", "false", "only false, every token sees all before it"},
        {"layer_types", "null", "only null, all layers have full attention"},
        {"moe_router_activation", "\"softmax\"", "only \"softmax\""},
        {"use_moe_router_bias", "false", "only false, a router without bias"},
        {"moe_router_scaling_factor", "1 1.0 null", "only 1, routed experts are not scaled"},
        {"num_nextn_predict_layers", "0 null", "only 0, no multi-token prediction"},
    };
    for (size_t i = 0; i < sizeof rule / sizeof *rule; i++)
        config_must_be(c, rule[i].field, rule[i].texts, rule[i].why);
}

static void read_sizes(struct model *m, struct config *c)
{
    m->hidden = config_size(c, "hidden_size", 1, DIM_MAX);
    m->layers = config_size(c, "num_hidden_layers", 1, MODEL_MAX_LAYERS);
    m->vocab = config_size(c, "vocab_size", 1, VOCAB_MAX);
    m->heads = config_size(c, "num_attention_heads", 1, DIM_MAX);
    m->kv_heads = 1;
    m->head_dim = config_size(c, "head_dim", 2, DIM_MAX);
    m->q_rank = config_size(c, "share_q_dim", 1, DIM_MAX);
    m->dense_inter = config_size(c, "intermediate_size", 1, DIM_MAX);
    m->expert_inter = config_size(c, "moe_intermediate_size", 1, DIM_MAX);
    m->shared_inter = config_size(c, "share_expert_dim", 0, DIM_MAX);
    m->router.score = ROUTER_SOFTMAX;
    m->router.experts = (int)config_size(c, "moe_num_experts", 1, EXPERTS_MAX);
    m->router.topk = (int)config_size(c, "moe_top_k", 1, EXPERTS_MAX);
    m->router.renormalize = config_bool_or(c, "norm_expert_weight", false);
    m->router.factor = 1;
    m->norm_eps = (float)config_number_or(c, "rms_norm_eps", 0, 1, 1e-5);
    m->attn = (struct attn_spec){.heads = (int)m->heads,
                                 .kv_heads = 1,
                                 .key_dim = (int)m->head_dim,
                                 .value_dim = (int)m->head_dim,
                                 .rope_dim = (int)m->head_dim,
                                 .scale = 1.0f / sqrtf((float)m->head_dim)};

    if (m->head_dim % 2)
        config_wrong(c, "head_dim", "is %zu; it must be even, rotary embedding pairs its halves",
                     m->head_dim);
    if (m->heads > DIM_MAX / m->head_dim)
        config_wrong(c, "num_attention_heads", "is %zu; with head_dim %zu at most %zu are possible",
                     m->heads, m->head_dim, DIM_MAX / m->head_dim);
    if (m->router.topk > m->router.experts)
        config_wrong(c, "moe_top_k", "is %d, but moe_num_experts is %d", m->router.topk,
                     m->router.experts);
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
    m->rope_theta = config_number_or(c, "rope_theta", 1, 1e12, 500000);
    const json_t *rope = config_get(c, "rope_parameters");
    if (!rope || json_is_null(rope))
        return;
    if (!json_is_object(rope)) {
        config_wrong(c, "rope_parameters", "must be an object");
        return;
    }
    char inside[64];
    snprintf(inside, sizeof inside, "%srope_parameters.", c->inside);
    struct config r;
    config_open(&r, c->file, inside, rope, c->e);
    config_must_be(&r, "rope_type", "\"default\"", "only \"default\", plain rotary embedding");
    config_must_be(&r, "partial_rotary_factor", "1 1.0 null", "only 1, all of a head is rotated");
    m->rope_theta = config_number_or(&r, "rope_theta", 1, 1e12, m->rope_theta);
    config_finish(&r);
    config_close(&r);
}

static void add_moe_layer(struct model *m, struct config *c, json_int_t layer)
{
    if (layer < 0 || layer >= (json_int_t)m->layers)
        config_wrong(c, "moe_layers_enum",
                     "names layer %" JSON_INTEGER_FORMAT "; num_hidden_layers is %zu", layer,
                     m->layers);
    else
        m->moe[layer] = true;
}

static void read_moe_text(struct model *m, struct config *c, const char *text)
{
    const char *p = text + strspn(text, " ");
    while (*p) {
        char *end = NULL;
        bool digit = *p >= '0' && *p <= '9';
        long long layer = digit ? strtoll(p, &end, 10) : -1;
        p = digit ? end + strspn(end, " ") : p;
        if (!digit || (*p != ',' && *p != '\0') || (*p == ',' && p[1] == '\0')) {
            config_wrong(c, "moe_layers_enum",
                         "must be layer numbers with commas between them, like \"1,2,3\", not "
                         "\"%.60s\"",
                         text);
            return;
        }
        add_moe_layer(m, c, layer);
        if (*p == ',')
            p += 1 + strspn(p + 1, " ");
    }
}

/* Absent: layers 4 to 59, as the configuration class has it (those of them that exist). null: all
 * but the first. */
static void read_moe_layers(struct model *m, struct config *c)
{
    const json_t *value = config_get(c, "moe_layers_enum");
    if (!value || json_is_null(value)) {
        size_t first = value ? 1 : 4, last = value ? m->layers - 1 : 59;
        for (size_t l = first; l <= last && l < m->layers; l++)
            m->moe[l] = true;
    } else if (json_is_string(value)) {
        read_moe_text(m, c, json_string_value(value));
    } else if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            const json_t *item = json_array_get(value, i);
            add_moe_layer(m, c, json_is_integer(item) ? json_integer_value(item) : -1);
        }
    } else {
        char text[60];
        config_wrong(c, "moe_layers_enum", "must be a string like \"4,5,6\" or a list, not %s",
                     config_text(value, text, sizeof text));
    }
}

static int32_t token(const struct model *m, struct config *c, const char *field,
                     const json_t *value)
{
    char text[60];
    json_int_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < 0 || id >= (json_int_t)m->vocab) {
        config_wrong(c, field, "must be a token below vocab_size %zu, not %s", m->vocab,
                     config_text(value, text, sizeof text));
        return -1;
    }
    return (int32_t)id;
}

/* Only fills what is not filled yet: the top level of a step3_vl file comes before its text_config,
 * as it is the one generation starts from. */
static void read_tokens(struct model *m, struct config *c)
{
    const json_t *bos = config_get(c, "bos_token_id"), *eos = config_get(c, "eos_token_id");
    if (bos && !json_is_null(bos) && m->bos < 0)
        m->bos = token(m, c, "bos_token_id", bos);
    if (!eos || json_is_null(eos) || m->n_eos > 0)
        return;
    if (!json_is_array(eos)) {
        m->eos[m->n_eos++] = token(m, c, "eos_token_id", eos);
        return;
    }
    if (json_array_size(eos) > MODEL_MAX_EOS) {
        config_wrong(c, "eos_token_id", "has %zu tokens; at most %d are supported",
                     json_array_size(eos), MODEL_MAX_EOS);
        return;
    }
    for (size_t i = 0; i < json_array_size(eos); i++)
        m->eos[m->n_eos++] = token(m, c, "eos_token_id", json_array_get(eos, i));
}

/* Which tensors are FP8 the tensors say themselves, so lists of modules left out are not needed. */
static void read_quantization(struct model *m, struct config *c)
{
    static const char *const lists[] = {"ignored_layers", "modules_to_not_convert", NULL};
    const json_t *value = config_get(c, "quantization_config");
    if (!value || json_is_null(value))
        return;
    if (!json_is_object(value)) {
        config_wrong(c, "quantization_config", "must be an object");
        return;
    }
    char inside[64];
    snprintf(inside, sizeof inside, "%squantization_config.", c->inside);
    struct config q;
    config_open(&q, c->file, inside, value, c->e);
    if (!json_object_get(value, "quant_method") || !json_object_get(value, "weight_block_size"))
        config_wrong(c, "quantization_config",
                     "lacks quant_method or weight_block_size: only \"fp8\" with blocks of "
                     "[128,128] is supported");
    config_must_be(&q, "quant_method", "\"fp8\"", "only \"fp8\" with blocks of 128x128");
    config_must_be(&q, "fmt", "\"e4m3\"", "only \"e4m3\"");
    config_must_be(&q, "weight_block_size", "[128,128]", "only blocks of [128,128]");
    config_must_be(&q, "activation_scheme", "\"dynamic\"", "only \"dynamic\"");
    config_ignore(&q, lists);
    config_finish(&q);
    config_close(&q);
    m->fp8_blocks = true;
}

static void read_text(struct model *m, struct config *c)
{
    read_sizes(m, c);
    read_context(m, c);
    read_rope(m, c);
    read_moe_layers(m, c);
    refuse_unsupported(c);
    config_must_be(c, "model_type", "\"step3_text\"", "only \"step3_text\"");
    config_ignore(c, harmless);
}

static void read_vision(struct model *m, struct config *c)
{
    const json_t *text = config_get(c, "text_config");
    if (!json_is_object(text)) {
        config_wrong(c, "text_config", "must be an object: the description of the text model");
        return;
    }
    struct config t;
    config_open(&t, c->file, "text_config.", text, c->e);
    read_text(m, &t);
    read_tokens(m, c);
    read_tokens(m, &t);
    read_quantization(m, c);
    read_quantization(m, &t);
    m->tied =
        config_bool_or(c, "tie_word_embeddings", config_bool_or(&t, "tie_word_embeddings", false));
    config_finish(&t);
    config_close(&t);
    config_ignore(c, harmless_vision);
    config_ignore(c, harmless);
    config_finish(c);
}

static void read_config(struct model *m, struct config *c)
{
    m->attention = ATTENTION_MFA;
    m->bos = -1;
    const char *type = json_string_value(config_get(c, "model_type"));
    if (type && strcmp(type, "step3_vl") == 0) {
        read_vision(m, c);
        return;
    }
    read_text(m, c);
    read_tokens(m, c);
    read_quantization(m, c);
    m->tied = config_bool_or(c, "tie_word_embeddings", false);
    config_finish(c);
}

static json_t *moe_layers_text(const struct model *m)
{
    char text[MODEL_MAX_LAYERS * 4] = "";
    size_t used = 0;
    for (size_t l = 0; l < m->layers && l < MODEL_MAX_LAYERS; l++)
        if (m->moe[l])
            used += (size_t)snprintf(text + used, sizeof text - used, used ? ",%zu" : "%zu", l);
    return json_string(text);
}

static json_t *tokens_json(const struct model *m)
{
    json_t *list = json_array();
    for (int i = 0; i < m->n_eos; i++)
        json_array_append_new(list, json_integer(m->eos[i]));
    return list;
}

/* The short decimal that stands for the float: 1e-05, not 9.99999974737875e-06. */
static double decimal(float f)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)f);
    double short_one = strtod(text, NULL);
    return (float)short_one == f ? short_one : (double)f;
}

static json_t *write_config(const struct model *m, enum dtype dtype)
{
    json_t *j = json_pack(
        "{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, "
        "s:f, s:f, s:n, s:b, s:s, s:o, s:o, s:o}",
        "architectures", "Step3TextForCausalLM", "model_type", "step3_text", "hidden_size",
        (json_int_t)m->hidden, "intermediate_size", (json_int_t)m->dense_inter, "num_hidden_layers",
        (json_int_t)m->layers, "vocab_size", (json_int_t)m->vocab, "num_attention_heads",
        (json_int_t)m->heads, "num_attention_groups", (json_int_t)m->kv_heads, "head_dim",
        (json_int_t)m->head_dim, "share_q_dim", (json_int_t)m->q_rank, "max_seq_len",
        (json_int_t)m->context, "max_position_embedding", (json_int_t)m->context, "moe_num_experts",
        (json_int_t)m->router.experts, "moe_top_k", (json_int_t)m->router.topk,
        "moe_intermediate_size", (json_int_t)m->expert_inter, "share_expert_dim",
        (json_int_t)m->shared_inter, "norm_expert_weight", m->router.renormalize, "rms_norm_eps",
        decimal(m->norm_eps), "rope_theta", m->rope_theta, "rope_scaling", "tie_word_embeddings",
        m->tied, "torch_dtype", dtype == DTYPE_F32 ? "float32" : "bfloat16", "moe_layers_enum",
        moe_layers_text(m), "bos_token_id", m->bos < 0 ? json_null() : json_integer(m->bos),
        "eos_token_id", tokens_json(m));
    if (!j)
        die("out of memory while writing a config.json");
    if (dtype == DTYPE_F8E4M3)
        json_object_set_new(j, "quantization_config",
                            json_pack("{s:s, s:s, s:s, s:[i,i]}", "quant_method", "fp8", "fmt",
                                      "e4m3", "activation_scheme", "dynamic", "weight_block_size",
                                      FAMILY_BLOCK, FAMILY_BLOCK));
    return j;
}

const struct family family_step3 = {
    .name = "step3",
    .model_types = model_types,
    .layer_prefix = "model.layers.",
    .scale_suffix = "_scale_inv",
    .tensors = tensors,
    .skipped = skipped,
    .read = read_config,
    .write = write_config,
};
