#include "model/fields.h"

#include "model/block.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const json_t *fields_value(struct config *c, const char *field)
{
    const json_t *value = config_get(c, field);
    return value && !json_is_null(value) ? value : NULL;
}

void fields_sizes(struct model *m, struct config *c, double eps)
{
    m->hidden = config_size(c, "hidden_size", 1, DIM_MAX);
    m->layers = config_size(c, "num_hidden_layers", 1, MODEL_MAX_LAYERS);
    m->embed_rows = m->vocab = config_size(c, "vocab_size", 1, VOCAB_MAX);
    m->norm_eps = (float)config_number_or(c, "rms_norm_eps", 0, 1, eps);
}

bool fields_bool(struct config *c, const char *field, bool otherwise)
{
    return fields_value(c, field) ? config_bool_or(c, field, otherwise) : otherwise;
}

/* ---- tokens --------------------------------------------------------------------------------- */

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

void fields_tokens(struct model *m, struct config *c)
{
    const json_t *bos = fields_value(c, "bos_token_id"), *eos = fields_value(c, "eos_token_id");
    if (bos && m->bos < 0)
        m->bos = token(m, c, "bos_token_id", bos);
    if (!eos || m->n_eos > 0)
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

bool fields_moe_none(const struct family_sizes *s, size_t layer)
{
    (void)s;
    (void)layer;
    return false;
}

bool fields_moe_all(const struct family_sizes *s, size_t layer)
{
    (void)s;
    (void)layer;
    return true;
}

bool fields_moe_later(const struct family_sizes *s, size_t layer)
{
    (void)s;
    return layer > 0;
}

/* ---- objects inside ------------------------------------------------------------------------- */

bool fields_open_inside(struct config *inner, struct config *c, const char *field,
                        char inside[FIELDS_INSIDE])
{
    const json_t *value = fields_value(c, field);
    if (!value)
        return false;
    if (!json_is_object(value)) {
        config_wrong(c, field, "must be an object");
        return false;
    }
    snprintf(inside, FIELDS_INSIDE, "%.60s%.30s.", c->inside, field);
    config_open_inside(inner, c, inside, value);
    return true;
}

void fields_close_inside(struct config *inner)
{
    config_finish(inner);
    config_close(inner);
}

/* ---- rotary embedding ----------------------------------------------------------------------- */

struct rope_spec fields_plain_rope(size_t dim, double theta)
{
    return (struct rope_spec){.dim = dim, .theta = theta, .factor = 1, .magnitude = 1};
}

static const char *scaling_type(struct config *r)
{
    const json_t *type = fields_value(r, "rope_type"), *older = fields_value(r, "type");
    const char *text = json_string_value(type ? type : older);
    return text ? text : "default";
}

static void read_llama3(struct rope_spec *r, struct config *c)
{
    r->scaling = ROPE_LLAMA3;
    r->factor = config_number_or(c, "factor", 0, 1e6, 8);
    r->low_freq = config_number_or(c, "low_freq_factor", 0, 1e6, 1);
    r->high_freq = config_number_or(c, "high_freq_factor", 0, 1e6, 4);
    r->original = config_number_or(c, "original_max_position_embeddings", 0, CONTEXT_MAX, 8192);
    if (!(r->high_freq > r->low_freq))
        config_wrong(c, "high_freq_factor", "must be larger than low_freq_factor");
}

static void read_yarn(struct rope_spec *r, struct config *c)
{
    r->scaling = ROPE_YARN;
    r->factor = config_number_or(c, "factor", 0, 1e6, 1);
    r->original = config_number_or(c, "original_max_position_embeddings", 0, CONTEXT_MAX, 0);
    r->beta_fast = config_number_or(c, "beta_fast", 0, 1e6, 32);
    r->beta_slow = config_number_or(c, "beta_slow", 0, 1e6, 1);
    if (!(r->original > 0))
        config_wrong(c, "original_max_position_embeddings", "is missing: yarn needs it");
    r->between = !fields_bool(c, "truncate", true);
    double one = config_number_or(c, "mscale", 0, 1e6, 0);
    double all = config_number_or(c, "mscale_all_dim", 0, 1e6, 0);
    r->magnitude = one > 0 && all > 0
                       ? rope_yarn_magnitude(r->factor, one) / rope_yarn_magnitude(r->factor, all)
                       : rope_yarn_magnitude(r->factor, 1);
    if (fields_value(c, "attention_factor"))
        r->magnitude = config_number_or(c, "attention_factor", 0, 1e6, 1);
}

static void read_factors(struct rope_spec *r, struct config *c)
{
    const json_t *list = fields_value(c, "factors");
    r->scaling = ROPE_FACTORS;
    if (json_array_size(list) != r->dim / 2 || r->dim / 2 > ROPE_MOST_PAIRS) {
        config_wrong(c, "factors", "must be a list of %zu numbers, at most %d", r->dim / 2,
                     ROPE_MOST_PAIRS);
        return;
    }
    for (size_t i = 0; i < r->dim / 2; i++) {
        r->factors[i] = (float)json_number_value(json_array_get(list, i));
        if (!(r->factors[i] > 0))
            config_wrong(c, "factors", "must all be numbers above 0");
    }
}

static void read_scaling(struct rope_spec *r, struct config *c)
{
    const char *type = scaling_type(c);
    if (strcmp(type, "llama3") == 0)
        read_llama3(r, c);
    else if (strcmp(type, "yarn") == 0)
        read_yarn(r, c);
    else if (strcmp(type, "factors") == 0)
        read_factors(r, c);
    else if (strcmp(type, "default") != 0)
        config_wrong(c, "rope_type",
                     "is \"%.40s\"; only \"default\", \"llama3\" and \"yarn\" are supported", type);
}

/* HF's int(dim * share); the addition is for shares that are a quotient. */
static size_t share_of(struct config *c, size_t dim)
{
    return (size_t)((double)dim * config_number_or(c, "partial_rotary_factor", 0, 1, 1) + 1e-9);
}

void fields_rope_scaling(struct rope_spec *r, struct config *c, const char *field, size_t dim)
{
    char inside[FIELDS_INSIDE];
    struct config s;
    if (!fields_open_inside(&s, c, field, inside))
        return;
    read_scaling(r, &s);
    if (fields_value(&s, "partial_rotary_factor"))
        r->dim = share_of(&s, dim);
    r->theta = config_number_or(&s, "rope_theta", 1, 1e12, r->theta);
    fields_close_inside(&s);
}

void fields_rope(struct rope_spec *r, struct config *c, size_t dim, double share, double theta)
{
    *r = fields_plain_rope((size_t)((double)dim * share),
                           config_number_or(c, "rope_theta", 1, 1e12, theta));
    if (fields_value(c, "partial_rotary_factor"))
        r->dim = share_of(c, dim);
    fields_rope_scaling(r, c, "rope_scaling", dim);
    fields_rope_scaling(r, c, "rope_parameters", dim);
    if (r->dim % 2)
        config_wrong(c, "partial_rotary_factor",
                     "makes %zu numbers of a head turn; it must be an even number", r->dim);
}

/* ---- lists of layers ------------------------------------------------------------------------ */

static void name_layer(struct config *c, const char *field, json_int_t layer, size_t layers,
                       bool named[MODEL_MAX_LAYERS])
{
    if (layer < 0 || layer >= (json_int_t)layers)
        config_wrong(c, field, "names layer %" JSON_INTEGER_FORMAT "; num_hidden_layers is %zu",
                     layer, layers);
    else
        named[layer] = true;
}

static void read_layer_text(struct config *c, const char *field, const char *text, size_t layers,
                            bool named[MODEL_MAX_LAYERS])
{
    const char *p = text + strspn(text, " ");
    while (*p) {
        char *end = NULL;
        bool digit = *p >= '0' && *p <= '9';
        long long layer = digit ? strtoll(p, &end, 10) : -1;
        p = digit ? end + strspn(end, " ") : p;
        if (!digit || (*p != ',' && *p != '\0') || (*p == ',' && p[1] == '\0')) {
            config_wrong(c, field,
                         "must be layer numbers with commas between them, like \"1,2,3\", not "
                         "\"%.60s\"",
                         text);
            return;
        }
        name_layer(c, field, layer, layers, named);
        if (*p == ',')
            p += 1 + strspn(p + 1, " ");
    }
}

void fields_layers(struct config *c, const char *field, const json_t *value, size_t layers,
                   bool named[MODEL_MAX_LAYERS])
{
    char text[60];
    if (json_is_string(value)) {
        read_layer_text(c, field, json_string_value(value), layers, named);
        return;
    }
    if (!json_is_array(value))
        config_wrong(c, field, "must be a string like \"4,5,6\" or a list, not %s",
                     config_text(value, text, sizeof text));
    for (size_t i = 0; json_is_array(value) && i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        name_layer(c, field, json_is_integer(item) ? json_integer_value(item) : -1, layers, named);
    }
}

/* ---- heads and experts ---------------------------------------------------------------------- */

void fields_heads(struct attention_spec *a, struct config *c, size_t hidden,
                  const char *kv_heads_field)
{
    size_t heads = config_size(c, "num_attention_heads", 1, DIM_MAX);
    size_t kv_heads = config_size_or(c, kv_heads_field, 1, DIM_MAX, heads);
    size_t dim = hidden / heads;
    if (fields_value(c, "head_dim"))
        dim = config_size(c, "head_dim", 2, DIM_MAX);
    if (dim % 2 || dim == 0)
        config_wrong(c, "head_dim", "is %zu; it must be even, rotary embedding turns pairs", dim);
    else if (heads > DIM_MAX / dim)
        config_wrong(c, "num_attention_heads", "is %zu; with head_dim %zu at most %zu are possible",
                     heads, dim, DIM_MAX / dim);
    if (heads % kv_heads)
        config_wrong(c, kv_heads_field, "is %zu; num_attention_heads %zu must be a multiple of it",
                     kv_heads, heads);
    a->attn = (struct attn_spec){.heads = (int)heads,
                                 .kv_heads = (int)kv_heads,
                                 .key_dim = (int)dim,
                                 .value_dim = (int)dim,
                                 .rope_dim = (int)dim,
                                 .scale = 1.0f / sqrtf((float)dim)};
}

void fields_experts(struct router_spec *r, struct config *c, const char *experts, const char *topk)
{
    r->experts = (int)config_size(c, experts, 1, EXPERTS_MAX);
    r->topk = (int)config_size(c, topk, 1, EXPERTS_MAX);
    r->factor = 1;
    if (r->topk > r->experts)
        config_wrong(c, topk, "is %d, but %s is %d", r->topk, experts, r->experts);
}

struct attention_spec *fields_grouped_attention(struct model *m, struct config *c, double share,
                                                double theta)
{
    struct attention_spec *a = &m->layer[0].attention;
    a->block = &block_qkv;
    fields_heads(a, c, m->hidden, "num_key_value_heads");
    m->n_ropes = 1;
    fields_rope(&m->ropes[0], c, (size_t)a->attn.key_dim, share, theta);
    a->attn.rope_dim = (int)m->ropes[0].dim;
    return a;
}

void fields_full_attention(struct config *c)
{
    static const char *const why = "only full attention, every token sees all before it";
    size_t i;
    const json_t *type, *types = fields_value(c, "layer_types");
    config_must_be(c, "use_sliding_window", "false null", why);
    config_get(c, "max_window_layers");
    if (!json_is_false(config_get(c, "use_sliding_window")))
        config_must_be(c, "sliding_window", "0 null", why);
    config_get(c, "sliding_window");
    if (types && !json_is_array(types))
        config_wrong(c, "layer_types", "must be a list");
    json_array_foreach(types, i, type)
    {
        const char *text = json_string_value(type);
        if (!text || strcmp(text, "full_attention") != 0)
            config_wrong(c, "layer_types", "of layer %zu is not full_attention: %s", i, why);
    }
}

void fields_no_bias(struct config *c)
{
    config_must_be(c, "attention_bias", "false null", "only false, projections without bias");
}

void fields_same_layers(struct model *m)
{
    for (size_t l = 1; l < m->layers + m->mtp.layers; l++)
        m->layer[l] = m->layer[0];
}

void fields_sigmoid_experts(struct model *m, struct config *c, size_t dense)
{
    struct ffn_spec f = {.router_bias = true};
    struct router_spec *r = &f.router;
    fields_experts(r, c, "n_routed_experts", "num_experts_per_tok");
    r->score = ROUTER_SIGMOID;
    r->renormalize = fields_bool(c, "norm_topk_prob", true);
    r->epsilon = 1e-20f;
    r->factor = (float)config_number_or(c, "routed_scaling_factor", 0, 1e6, 1);
    r->groups = (int)config_size_or(c, "n_group", 1, EXPERTS_MAX, 1);
    r->topk_groups = (int)config_size_or(c, "topk_group", 1, EXPERTS_MAX, 1);
    if (r->experts % r->groups || r->topk_groups > r->groups ||
        r->topk_groups * (r->experts / r->groups) < r->topk)
        config_wrong(c, "n_group",
                     "is %d with topk_group %d, which does not fit %d experts of which "
                     "%d are chosen",
                     r->groups, r->topk_groups, r->experts, r->topk);
    f.inter = config_size(c, "moe_intermediate_size", 1, DIM_MAX);
    f.shared_inter = f.inter * config_size_or(c, "n_shared_experts", 0, 64, 1);
    dense = config_size_or(c, "first_k_dense_replace", 0, MODEL_MAX_LAYERS, dense);
    m->layer[0].ffn = (struct ffn_spec){.inter = config_size(c, "intermediate_size", 1, DIM_MAX)};
    fields_same_layers(m);
    for (size_t l = dense; l < m->layers + m->mtp.layers; l++)
        m->layer[l].ffn = f;
}

/* ---- fields that change nothing ------------------------------------------------------------- */

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
    /* of saving and generating, not of the model */
    "do_sample",
    "tokenizer_class",
    "torchscript",
    "max_length",
    "min_length",
    "temperature",
    "top_k",
    "top_p",
    "num_beams",
    "repetition_penalty",
    "finetuning_task",
    "prefix",
    "use_bfloat16",
    "task_specific_params",
    "is_decoder",
    "add_cross_attention",
    "cross_attention_hidden_size",
    "tie_encoder_decoder",
    "pruned_heads",
    "sep_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "remove_invalid_values",
    "bad_words_ids",
    "num_return_sequences",
    "length_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "early_stopping",
    "num_beam_groups",
    "diversity_penalty",
    "typical_p",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
    "output_scores",
    "return_dict_in_generate",
    "model_max_length",
    "unsloth_version",
    "unsloth_fixed",
    /* of training a router */
    "router_aux_loss_coef",
    "output_router_logits",
    "router_jitter_noise",
    "aux_loss_alpha",
    "seq_aux",
    "ep_size",
    NULL,
};

void fields_harmless(struct config *c)
{
    config_must_be(c, "hidden_act", "\"silu\" null", "only \"silu\"");
    config_must_be(c, "mlp_bias", "false null", "only false, projections without bias");
    config_must_be(c, "attn_logit_softcapping", "null", "only null");
    config_must_be(c, "final_logit_softcapping", "null", "only null");
    config_ignore(c, harmless);
}

void fields_common(struct model *m, struct config *c, double eps, size_t context)
{
    fields_sizes(m, c, eps);
    m->context = config_size_or(c, "max_position_embeddings", 1, CONTEXT_MAX, context);
    m->mtp_layers = config_size_or(c, "num_nextn_predict_layers", 0, MODEL_MAX_MTP, 0);
    fields_tokens(m, c);
    fields_quantization(m, c);
    fields_harmless(c);
    m->tied = config_bool_or(c, "tie_word_embeddings", false);
    config_get(c, "model_type");
}

/* ---- writing -------------------------------------------------------------------------------- */

size_t fields_shared_experts(const struct family_sizes *s)
{
    return s->expert_inter ? s->shared_inter / s->expert_inter : 0;
}

double fields_decimal(float f)
{
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)f);
    double short_one = strtod(text, NULL);
    return (float)short_one == f ? short_one : (double)f;
}

static void set(json_t *j, const char *field, json_t *value)
{
    if (json_object_set_new(j, field, value) != 0)
        die("out of memory while writing a config.json");
}

void fields_set_size(json_t *j, const char *field, size_t n)
{
    set(j, field, json_integer((json_int_t)n));
}

void fields_set_number(json_t *j, const char *field, double x)
{
    set(j, field, json_real(x));
}

void fields_set_bool(json_t *j, const char *field, bool yes)
{
    set(j, field, json_boolean(yes));
}

void fields_set_text(json_t *j, const char *field, const char *text)
{
    set(j, field, json_string(text));
}

json_t *fields_write(const struct family_sizes *s, enum dtype dtype, const char *architecture,
                     const char *model_type)
{
    json_t *j = json_pack("{s:[s], s:s}", "architectures", architecture, "model_type", model_type);
    json_t *eos = json_array();
    if (!j || !eos)
        die("out of memory while writing a config.json");
    for (int i = 0; i < s->n_eos; i++)
        json_array_append_new(eos, json_integer(s->eos[i]));
    fields_set_size(j, "hidden_size", s->hidden);
    fields_set_size(j, "num_hidden_layers", s->layers);
    fields_set_size(j, "vocab_size", s->vocab);
    fields_set_size(j, "intermediate_size", s->dense_inter);
    fields_set_size(j, "num_attention_heads", s->heads);
    fields_set_number(j, "rms_norm_eps", fields_decimal(s->norm_eps));
    fields_set_bool(j, "tie_word_embeddings", s->tied);
    if (s->mtp)
        fields_set_size(j, "num_nextn_predict_layers", s->mtp);
    fields_set_text(j, "torch_dtype", dtype == DTYPE_F32 ? "float32" : "bfloat16");
    set(j, "bos_token_id", s->bos < 0 ? json_null() : json_integer(s->bos));
    set(j, "eos_token_id", eos);
    if (dtype == DTYPE_F8E4M3)
        set(j, "quantization_config",
            json_pack("{s:s, s:s, s:s, s:[i,i]}", "quant_method", "fp8", "fmt", "e4m3",
                      "activation_scheme", "dynamic", "weight_block_size", FAMILY_BLOCK,
                      FAMILY_BLOCK));
    return j;
}
