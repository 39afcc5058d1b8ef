/* gpt_oss.c - gpt-oss: what its config.json means and what its tensors are called. Layers see a window
 * and all tokens in turn, every head has a sink, projections, router and experts have biases, experts
 * gate in a way of their own and are stored as MXFP4, rows of gate and up in turn; or, in copies made by
 * Hugging Face's classes, as numbers with inputs as rows.
 */
#include "model/block.h"
#include "model/fields.h"
#include "model/names.h"

#include <string.h>

static const char *const model_types[] = {"gpt_oss", NULL};

static const char *const skipped[] = {NULL};

static const char *const names[TENSOR_KINDS] = {
    NAMES_MODEL,
    NAMES_NORMS,
    NAMES_Q_K_V,
    NAMES_Q_K_V_BIAS,
    NAMES_O,
    [TENSOR_O_BIAS] = "self_attn.o_proj.bias",
    [TENSOR_SINKS] = "self_attn.sinks",
    [TENSOR_ROUTER] = "mlp.router.weight",
    [TENSOR_ROUTER_BIAS] = "mlp.router.bias",
    /* The second names are those of GGUF files, which keep gate and up apart, outputs as rows. */
    [TENSOR_EXPERT_GATE] = "^mlp.experts.gate_up_proj~0|mlp.experts.gate_proj.weight",
    [TENSOR_EXPERT_UP] = "^mlp.experts.gate_up_proj~1|mlp.experts.up_proj.weight",
    [TENSOR_EXPERT_DOWN] = "^mlp.experts.down_proj|mlp.experts.down_proj.weight",
    [TENSOR_EXPERT_GATE_BIAS] = "mlp.experts.gate_up_proj_bias~0|mlp.experts.gate_proj_bias",
    [TENSOR_EXPERT_UP_BIAS] = "mlp.experts.gate_up_proj_bias~1|mlp.experts.up_proj_bias",
    [TENSOR_EXPERT_DOWN_BIAS] = "mlp.experts.down_proj_bias",
};

#define ALPHA 1.702
#define LIMIT 7.0

static bool is_sliding(struct config *c, const json_t *types, size_t l)
{
    const char *type = json_string_value(json_array_get(types, l));
    if (!types)
        return l % 2 == 0;
    bool sliding = type && strcmp(type, "sliding_attention") == 0;
    if (!sliding && !(type && strcmp(type, "full_attention") == 0))
        config_wrong(c, "layer_types", "of layer %zu must be full_attention or sliding_attention",
                     l);
    return sliding;
}

static void read_layers(struct model *m, struct config *c)
{
    const json_t *types = fields_value(c, "layer_types");
    int window = (int)config_size(c, "sliding_window", 1, CONTEXT_MAX);
    fields_same_layers(m);
    for (size_t l = 0; l < m->layers; l++)
        m->layer[l].attention.attn.window = is_sliding(c, types, l) ? window : 0;
}

static void read_experts(struct model *m, struct config *c)
{
    struct ffn_spec *f = &m->layer[0].ffn;
    fields_experts(&f->router, c, "num_local_experts", "num_experts_per_tok");
    f->router.score = ROUTER_SOFTMAX;
    f->router.renormalize = true;
    f->router.bias_counts = true;
    f->router_bias = f->expert_bias = true;
    f->inter = config_size(c, "intermediate_size", 1, DIM_MAX);
    f->limit = (float)config_number_or(c, "swiglu_limit", 0, 1e6, LIMIT);
    f->alpha = (float)config_number_or(c, "swiglu_alpha", 1e-6, 1e6, ALPHA);
    if (fields_value(c, "quantization_config") && (m->hidden % 32 || f->inter % 32))
        config_wrong(c, "intermediate_size",
                     "is %zu, and hidden_size %zu; MXFP4 has blocks of 32 inputs", f->inter,
                     m->hidden);
}

static void read_config(struct model *m, struct config *c)
{
    static const char *const unused[] = {"experts_per_token", "initial_context_length", NULL};
    fields_common(m, c, 1e-5, 131072);
    struct attention_spec *a = fields_grouped_attention(m, c, 1, 150000);
    a->bias = fields_bool(c, "attention_bias", true);
    a->out_bias = a->bias;
    a->sinks = true;
    read_experts(m, c);
    read_layers(m, c);
    config_ignore(c, unused);
}

/* ---- writing -------------------------------------------------------------------------------- */

static void defaults(struct family_sizes *s)
{
    s->kv_heads = 8;
    s->head_dim = 64;
    s->window = 128;
    s->limit = LIMIT;
    s->rope_theta = 150000;
    s->rope_factor = 32;
}

static json_t *write_config(const struct family_sizes *s, enum dtype dtype)
{
    json_t *j = fields_write(s, dtype, "GptOssForCausalLM", "gpt_oss"), *types = json_array();
    for (size_t l = 0; l < s->layers; l++)
        json_array_append_new(types, json_string(l % 2 ? "full_attention" : "sliding_attention"));
    json_object_set_new(j, "layer_types", types);
    fields_set_size(j, "intermediate_size", s->expert_inter);
    fields_set_size(j, "num_key_value_heads", s->kv_heads);
    fields_set_size(j, "head_dim", s->head_dim);
    fields_set_size(j, "max_position_embeddings", s->context);
    fields_set_size(j, "sliding_window", s->window);
    fields_set_size(j, "num_local_experts", (size_t)s->router.experts);
    fields_set_size(j, "num_experts_per_tok", (size_t)s->router.topk);
    fields_set_number(j, "swiglu_limit", s->limit);
    fields_set_bool(j, "attention_bias", true);
    fields_set_number(j, "rope_theta", s->rope_theta);
    if (s->rope_factor > 1)
        json_object_set_new(j, "rope_scaling",
                            json_pack("{s:s, s:f, s:i, s:f, s:f, s:b}", "rope_type", "yarn",
                                      "factor", s->rope_factor, "original_max_position_embeddings",
                                      (int)((double)s->context / s->rope_factor), "beta_fast", 32.0,
                                      "beta_slow", 1.0, "truncate", 0));
    return j;
}

const struct family family_gpt_oss = {
    .name = "gpt_oss",
    .published = "gpt-oss-20b, gpt-oss-120b",
    .model_types = model_types,
    .layer_prefix = "model.layers.",
    .names = names,
    .skipped = skipped,
    .mxfp4 = true,
    .read = read_config,
    .defaults = defaults,
    .moe = fields_moe_all,
    .write = write_config,
};
