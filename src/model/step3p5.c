/* step3p5.c - Step-3.5-Flash: what its config.json means and what its tensors are called.
 *
 * One layer in four sees all tokens, the others a window, with other numbers of heads, rotary bases
 * and shares of a head that turns. Norms are stored around 0; every head has a gate; the router is a
 * sigmoid with a bias that only chooses; the last layers clamp. Lists of layers also cover the MTP
 * layers behind the last one: dense, windowed, each with a head of its own, used one after the other.
 */
#include "model/block.h"
#include "model/fields.h"
#include "model/names.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const model_types[] = {"step3p5", NULL};

static const char *const skipped[] = {"vision_model.", "vit_", NULL};

static const char *const names[TENSOR_KINDS] = {
    NAMES_MODEL,
    NAMES_NORMS,
    NAMES_Q_K_V,
    NAMES_Q_K_NORM,
    NAMES_O,
    NAMES_DENSE,
    NAMES_SHARED("share_expert"),
    NAMES_MTP,
    [TENSOR_HEAD_GATE] = "self_attn.g_proj.weight",
    [TENSOR_ROUTER] = "moe.gate.weight",
    [TENSOR_ROUTER_BIAS] = "moe.router_bias",
    [TENSOR_EXPERT_GATE] =
        "moe.gate_proj.weight|moe.experts.#.gate_proj.weight|moe.#.gate_proj.weight",
    [TENSOR_EXPERT_UP] = "moe.up_proj.weight|moe.experts.#.up_proj.weight|moe.#.up_proj.weight",
    [TENSOR_EXPERT_DOWN] =
        "moe.down_proj.weight|moe.experts.#.down_proj.weight|moe.#.down_proj.weight",
    [TENSOR_MTP_NORM] = "transformer.shared_head.norm.weight",
    [TENSOR_MTP_HEAD] = "transformer.shared_head.output.weight",
};

static const char *const mtp_copies[] = {"embed_tokens.weight", NULL};

/* The two kinds of layers. */
enum { FULL, SLIDING };

/* A number, or a list with one for every layer: that of layer l, `otherwise` where none is said. */
static double number_of(struct config *c, const char *field, size_t l, double otherwise)
{
    const json_t *value = fields_value(c, field);
    if (json_is_array(value)) {
        value = json_array_get(value, l);
        if (!value || json_is_null(value))
            return otherwise;
    }
    if (!value)
        return otherwise;
    if (!json_is_number(value) || json_number_value(value) < 0)
        config_wrong(c, field, "must be a number, or a list with one for every layer");
    return json_number_value(value);
}

static void read_kind(struct config *c, struct attention_spec *a)
{
    size_t heads = config_size(c, "num_attention_heads", 1, 4096);
    size_t groups = config_size(c, "num_attention_groups", 1, 4096);
    size_t dim = config_size(c, "head_dim", 2, 4096);
    if (heads % groups)
        config_wrong(c, "num_attention_groups",
                     "is %zu; num_attention_heads %zu must be a multiple", groups, heads);
    a->block = &block_qkv;
    a->norm = HEAD_NORM_EACH;
    a->head_gate = true;
    a->attn = (struct attn_spec){.heads = (int)heads,
                                 .kv_heads = (int)groups,
                                 .key_dim = (int)dim,
                                 .value_dim = (int)dim,
                                 .scale = 1.0f / sqrtf((float)dim)};
}

static void read_kinds(struct config *c, struct attention_spec kind[2])
{
    read_kind(c, &kind[FULL]);
    kind[SLIDING] = kind[FULL];
    const json_t *other = fields_value(c, "attention_other_setting");
    if (json_is_object(other)) {
        struct config o;
        config_open_inside(&o, c, "attention_other_setting.", other);
        read_kind(&o, &kind[SLIDING]);
        config_must_be(&o, "attention_type", "\"sliding_attention\"", "only \"sliding_attention\"");
        config_get(&o, "true_head_dim");
        config_finish(&o);
        config_close(&o);
    }
    if (kind[SLIDING].attn.key_dim != kind[FULL].attn.key_dim)
        config_wrong(c, "attention_other_setting", "has another head_dim, which is not supported");
    kind[SLIDING].attn.window = (int)config_size(c, "sliding_window", 1, CONTEXT_MAX);
}

/* The table of these angles, a new one if there is none. */
static int find_rope(struct model *m, struct config *c, const struct rope_spec *r)
{
    for (int i = 0; i < m->n_ropes; i++)
        if (m->ropes[i].dim == r->dim && m->ropes[i].theta == r->theta &&
            m->ropes[i].scaling == r->scaling)
            return i;
    if (m->n_ropes == MODEL_MAX_ROPES) {
        config_wrong(c, "rope_theta", "makes more than %d different rotations", MODEL_MAX_ROPES);
        return 0;
    }
    m->ropes[m->n_ropes] = *r;
    return m->n_ropes++;
}

/* Which kinds of layers stretch their rotation: those of yarn_only_types, or all. */
static bool stretches(struct config *c, int kind)
{
    const json_t *types = fields_value(c, "yarn_only_types");
    const char *name = kind == FULL ? "full_attention" : "sliding_attention";
    bool found = json_array_size(types) == 0;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        found |= type && strcmp(type, name) == 0;
    }
    return found;
}

static void read_rope(struct model *m, struct config *c, size_t l, int kind)
{
    struct attention_spec *a = &m->layer[l].attention;
    double share = number_of(c, "partial_rotary_factors", l, 1);
    struct rope_spec r = fields_plain_rope((size_t)((double)a->attn.key_dim * share),
                                           number_of(c, "rope_theta", l, 1e4));
    if (share > 1 || r.dim % 2 || !(r.theta > 1))
        config_wrong(c, "partial_rotary_factors", "or rope_theta of layer %zu cannot be", l);
    if (stretches(c, kind))
        fields_rope_scaling(&r, c, "rope_scaling", (size_t)a->attn.key_dim);
    else
        config_get(c, "rope_scaling");
    a->attn.rope_dim = (int)r.dim;
    a->rope = find_rope(m, c, &r);
}

static void read_attention(struct model *m, struct config *c)
{
    struct attention_spec kind[2] = {{0}, {0}};
    const json_t *types = fields_value(c, "layer_types");
    read_kinds(c, kind);
    if (json_array_size(types) < m->layers)
        config_wrong(c, "layer_types",
                     "must be a list with full_attention or sliding_attention for "
                     "each of the %zu layers",
                     m->layers);
    for (size_t l = 0; l < m->layers + m->mtp.layers && !config_failed(c); l++) {
        const char *type = json_string_value(json_array_get(types, l));
        bool full = type && strcmp(type, "full_attention") == 0;
        bool unsaid = !type && l >= m->layers;
        if (!full && !unsaid && !(type && strcmp(type, "sliding_attention") == 0))
            config_wrong(c, "layer_types",
                         "of layer %zu must be full_attention or sliding_attention", l);
        m->layer[l].attention = kind[full ? FULL : SLIDING];
        read_rope(m, c, l, full ? FULL : SLIDING);
    }
    const json_t *used = fields_value(c, "use_rope_layers");
    for (size_t i = 0; i < json_array_size(used); i++)
        if (json_is_false(json_array_get(used, i)))
            config_wrong(c, "use_rope_layers",
                         "switches rotation off in layer %zu, which is not "
                         "supported",
                         i);
}

static void read_ffn(struct model *m, struct config *c)
{
    bool moe[MODEL_MAX_LAYERS + MODEL_MAX_MTP] = {false};
    struct ffn_spec f = {.router_bias = true};
    size_t dense = config_size(c, "intermediate_size", 1, DIM_MAX);
    fields_experts(&f.router, c, "moe_num_experts", "moe_top_k");
    f.router.score = ROUTER_SIGMOID;
    f.router.renormalize = true;
    f.router.epsilon = 1e-20f;
    f.router.factor = (float)config_number_or(c, "moe_router_scaling_factor", 0, 1e6, 1);
    f.inter = config_size(c, "moe_intermediate_size", 1, DIM_MAX);
    const char *shared =
        json_object_get(c->fields, "share_expert_dims") ? "share_expert_dims" : "share_expert_dim";
    f.shared_inter = config_size(c, shared, 0, DIM_MAX);
    const json_t *list = fields_value(c, "moe_layers_enum");
    if (!list)
        config_wrong(c, "moe_layers_enum", "is missing: the layers that have experts");
    else
        fields_layers(c, "moe_layers_enum", list, m->layers, moe);
    for (size_t l = 0; l < m->layers + m->mtp.layers; l++) {
        float limit = (float)number_of(c, "swiglu_limits", l, 0);
        float shared_limit = (float)number_of(c, "swiglu_limits_shared", l, 0);
        m->layer[l].ffn = moe[l] ? f : (struct ffn_spec){.inter = dense};
        m->layer[l].ffn.limit = moe[l] ? limit : shared_limit;
        m->layer[l].ffn.shared_limit = moe[l] ? shared_limit : 0;
    }
}

static void refuse_unsupported(struct config *c)
{
    static const struct {
        const char *field, *texts;
    } rule[] = {
        {"att_impl_type", "\"GQA\" null"},
        {"use_qk_norm", "true"},
        {"zero_centered", "true"},
        {"use_head_wise_attn_gate", "true"},
        {"moe_every_n_layer", "1 null"},
        {"moe_layer_offset", "0 null"},
        {"sink", "false null"},
        {"attention_bias", "false null"},
        {"use_moe", "true null"},
        {"moe_router_activation", "\"sigmoid\""},
        {"use_moe_router_bias", "true"},
        {"norm_expert_weight", "true null"},
        {"need_fp32_gate", "true null"},
        {"rope_parameters", "null"},
    };
    for (size_t i = 0; i < sizeof rule / sizeof *rule; i++)
        config_must_be(c, rule[i].field, rule[i].texts, rule[i].texts);
}

static void read_config(struct model *m, struct config *c)
{
    size_t sequence = config_size_or(c, "max_seq_len", 1, CONTEXT_MAX, CONTEXT_MAX);
    fields_common(m, c, 1e-5, sequence);
    m->context = sequence < m->context ? sequence : m->context;
    m->gain_offset = config_bool_or(c, "norm_gains_stored_whole", false) ? 0 : 1;
    m->mtp = (struct mtp_spec){.layers = m->mtp_layers, .own_head = true};
    read_attention(m, c);
    read_ffn(m, c);
    refuse_unsupported(c);
}

/* ---- writing -------------------------------------------------------------------------------- */

static void defaults(struct family_sizes *s)
{
    s->kv_heads = 4;
    s->window = 512;
    s->limit = 7;
    s->router.factor = 3;
    s->rope_factor = 2;
}

static bool is_full(const struct family_sizes *s, size_t l)
{
    return l < s->layers && l % 4 == 0;
}

static json_t *list_of(const struct family_sizes *s, double full, double sliding)
{
    json_t *list = json_array();
    for (size_t l = 0; l < s->layers + s->mtp; l++)
        json_array_append_new(list, json_real(is_full(s, l) ? full : sliding));
    return list;
}

/* The limit clamps the last layer with experts. */
static json_t *limits_of(const struct family_sizes *s, double limit)
{
    json_t *list = json_array();
    size_t last = s->layers;
    while (last > 1 && !s->moe[last - 1])
        last--;
    for (size_t l = 0; l < s->layers; l++)
        json_array_append_new(list, l + 1 == last && limit > 0 ? json_real(limit) : json_null());
    return list;
}

static json_t *write_config(const struct family_sizes *s, enum dtype dtype)
{
    char text[MODEL_MAX_LAYERS * 4] = "";
    size_t used = 0;
    json_t *j = fields_write(s, dtype, "Step3p5ForCausalLM", "step3p5"), *types = json_array();
    for (size_t l = 0; l < s->layers + s->mtp; l++) {
        json_array_append_new(types,
                              json_string(is_full(s, l) ? "full_attention" : "sliding_attention"));
        if (l < s->layers && s->moe[l])
            used += (size_t)snprintf(text + used, sizeof text - used, used ? ",%zu" : "%zu", l);
    }
    json_object_set_new(j, "layer_types", types);
    fields_set_text(j, "moe_layers_enum", text);
    fields_set_size(j, "num_attention_groups", s->kv_heads);
    fields_set_size(j, "head_dim", s->head_dim);
    json_object_set_new(j, "attention_other_setting",
                        json_pack("{s:s, s:I, s:I, s:I}", "attention_type", "sliding_attention",
                                  "num_attention_heads", (json_int_t)(s->heads + s->kv_heads),
                                  "num_attention_groups", (json_int_t)s->kv_heads, "head_dim",
                                  (json_int_t)s->head_dim));
    fields_set_size(j, "sliding_window", s->window);
    fields_set_size(j, "max_seq_len", s->context);
    json_object_set_new(j, "rope_theta", list_of(s, s->rope_theta, 10000));
    json_object_set_new(j, "partial_rotary_factors", list_of(s, 0.5, 1));
    if (s->rope_factor > 1) {
        json_object_set_new(j, "rope_scaling",
                            json_pack("{s:s, s:f, s:i, s:f, s:f}", "rope_type", "llama3", "factor",
                                      s->rope_factor, "original_max_position_embeddings",
                                      (int)((double)s->context / s->rope_factor), "low_freq_factor",
                                      1.0, "high_freq_factor", 32.0));
        json_object_set_new(j, "yarn_only_types", json_pack("[s]", "full_attention"));
    }
    fields_set_size(j, "moe_num_experts", (size_t)s->router.experts);
    fields_set_size(j, "moe_top_k", (size_t)s->router.topk);
    fields_set_size(j, "moe_intermediate_size", s->expert_inter);
    fields_set_size(j, "share_expert_dim", s->shared_inter);
    fields_set_text(j, "moe_router_activation", "sigmoid");
    fields_set_number(j, "moe_router_scaling_factor", fields_decimal(s->router.factor));
    fields_set_bool(j, "use_moe_router_bias", true);
    fields_set_bool(j, "need_fp32_gate", true);
    fields_set_bool(j, "use_qk_norm", true);
    fields_set_bool(j, "zero_centered", true);
    fields_set_bool(j, "use_head_wise_attn_gate", true);
    json_object_set_new(j, "swiglu_limits", limits_of(s, s->limit));
    json_object_set_new(j, "swiglu_limits_shared", limits_of(s, 2 * s->limit));
    return j;
}

const struct family family_step3p5 = {
    .name = "step3p5",
    .published = "Step-3.5-Flash",
    .model_types = model_types,
    .layer_prefix = "model.layers.",
    .names = names,
    .skipped = skipped,
    .mtp_copies = mtp_copies,
    .read = read_config,
    .defaults = defaults,
    .moe = fields_moe_later,
    .write = write_config,
};
