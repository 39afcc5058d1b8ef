/* gguf_config.c - metadata of a GGUF file as the config.json of the model it was made from. */
#include "data/gguf_view.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX 128
#define EOS_MAX 8

#define BLOCKS_MAX 4096

/* What every function here passes on. The first thing that is wrong is kept. */
struct builder {
    const struct gguf *g;
    char arch[32];
    json_t *out;
    struct err *e;
    bool failed;
};

static void wrong(struct builder *b, const char *key, const char *what)
{
    if (!b->failed)
        err_set(b->e, "%s: key \"%s\": %s", gguf_path(b->g), key, what);
    b->failed = true;
}

/* "llama.block_count" from "block_count". */
static const struct gguf_value *find(const struct builder *b, const char *name, char key[KEY_MAX])
{
    snprintf(key, KEY_MAX, "%s.%s", b->arch, name);
    return gguf_find(b->g, key);
}

/* An integer of 0 or more: the value, or of a list that of the layer. absent < 0: must be there. */
static int64_t integer_at(struct builder *b, const char *name, size_t layer, int64_t absent)
{
    char key[KEY_MAX];
    const struct gguf_value *v = find(b, name, key);
    int64_t n = 0;
    if (!v && absent >= 0)
        return absent;
    if (!v)
        wrong(b, key, "is missing");
    else if (!gguf_integer(v, v->array ? layer : 0, &n) || n < 0 || n > INT32_MAX)
        wrong(b, key, "wanted a whole number of 0 or more, or a list with one for every layer");
    return n;
}

static int64_t integer(struct builder *b, const char *name, int64_t absent)
{
    return integer_at(b, name, 0, absent);
}

static double number_at(struct builder *b, const char *name, size_t layer, double absent)
{
    char key[KEY_MAX];
    const struct gguf_value *v = find(b, name, key);
    double n = absent;
    if (v && (!gguf_number(v, v->array ? layer : 0, &n) || !isfinite(n)))
        wrong(b, key, "wanted a number, or a list with one for every layer");
    return n;
}

static double number(struct builder *b, const char *name, double absent)
{
    return number_at(b, name, 0, absent);
}

static void put(struct builder *b, const char *field, json_t *value)
{
    json_object_set_new(b->out, field, value);
}

static void put_integer(struct builder *b, const char *field, int64_t value)
{
    put(b, field, json_integer(value));
}

/* ---- what all architectures have ------------------------------------------------------------- */

static void put_rope(struct builder *b)
{
    char key[KEY_MAX];
    const struct gguf_value *type = find(b, "rope.scaling.type", key);
    double factor = number(b, "rope.scaling.factor", 1);
    put(b, "rope_theta", json_real(number(b, "rope.freq_base", 10000)));
    if (!type || gguf_is_text(type, "none") || factor == 1)
        return;
    if (!gguf_is_text(type, "yarn")) {
        wrong(b, key, "only \"yarn\" and \"none\" are supported");
        return;
    }
    json_t *yarn = json_pack("{s:s, s:f, s:I, s:f, s:f}", "rope_type", "yarn", "factor", factor,
                             "original_max_position_embeddings",
                             (json_int_t)integer(b, "rope.scaling.original_context_length", -1),
                             "beta_fast", number(b, "rope.scaling.yarn_beta_fast", 32), "beta_slow",
                             number(b, "rope.scaling.yarn_beta_slow", 1));
    double attn =
        number(b, "rope.scaling.attn_factor", number(b, "rope.scaling.yarn_attn_factor", 0));
    if (attn > 0)
        json_object_set_new(yarn, "attention_factor", json_real(attn * (0.1 * log(factor) + 1)));
    put(b, "rope_scaling", yarn);
}

static const char *const stop_texts[] = {"<|im_end|>",
                                         "<|eot_id|>",
                                         "<|end|>",
                                         "<|endoftext|>",
                                         "<|end_of_text|>",
                                         "<|eom_id|>",
                                         "<｜end▁of▁sentence｜>",
                                         "<|EOT|>"};

static bool listed(const json_t *list, int64_t id)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_integer_value(json_array_get(list, i)) == id)
            return true;
    return false;
}

static void add_id(json_t *list, int64_t id)
{
    if (!listed(list, id) && json_array_size(list) < EOS_MAX)
        json_array_append_new(list, json_integer(id));
}

/* The list of a config.json is not kept: control tokens that end a turn by their text join it. */
static void put_ends(struct builder *b)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id"};
    const struct gguf_value *tokens = gguf_find(b->g, "tokenizer.ggml.tokens");
    const struct gguf_value *types = gguf_find(b->g, "tokenizer.ggml.token_type");
    const struct gguf_value *bos = gguf_find(b->g, "tokenizer.ggml.bos_token_id");
    json_t *eos = json_array();
    int64_t id, type;
    for (size_t i = 0; i < 2; i++) {
        const struct gguf_value *v = gguf_find(b->g, keys[i]);
        if (v && gguf_integer(v, 0, &id) && id >= 0)
            add_id(eos, id);
    }
    for (size_t i = 0; tokens && types && tokens->type == GGUF_STRING && i < tokens->count; i++) {
        if (!gguf_integer(types, i, &type) || type != 3)
            continue;
        const struct gguf_string *s = &tokens->strings[i];
        for (size_t j = 0; j < sizeof stop_texts / sizeof *stop_texts; j++)
            if (s->bytes == strlen(stop_texts[j]) && memcmp(s->text, stop_texts[j], s->bytes) == 0)
                add_id(eos, (int64_t)i);
    }
    put(b, "eos_token_id", eos);
    if (bos && gguf_integer(bos, 0, &id) && id >= 0)
        put_integer(b, "bos_token_id", id);
}

static void put_common(struct builder *b)
{
    const struct tensor *embed = gguf_tensor(b->g, "token_embd.weight");
    int64_t hidden = integer(b, "embedding_length", -1),
            heads = integer(b, "attention.head_count", -1);
    if (heads < 1)
        wrong(b, "attention.head_count", "wanted 1 or more");
    if (!embed || embed->dims != 2)
        wrong(b, "tokenizer.ggml.tokens", "there is no tensor token_embd.weight of two dimensions");
    else
        put_integer(b, "vocab_size", (int64_t)embed->shape[0]);
    put_integer(b, "hidden_size", hidden);
    put_integer(b, "num_attention_heads", heads);
    put_integer(b, "max_position_embeddings", integer(b, "context_length", -1));
    put(b, "rms_norm_eps", json_real(number(b, "attention.layer_norm_rms_epsilon", 1e-5)));
    put(b, "tie_word_embeddings", json_boolean(!gguf_tensor(b->g, "output.weight")));
    put_ends(b);
}

/* A field that was put. */
static int64_t put_before(const struct builder *b, const char *field)
{
    return json_integer_value(json_object_get(b->out, field));
}

/* Keys and values of one width. */
static int64_t put_head_dim(struct builder *b)
{
    int64_t heads = put_before(b, "num_attention_heads");
    int64_t head_dim =
        integer(b, "attention.key_length", heads < 1 ? 0 : put_before(b, "hidden_size") / heads);
    if (integer(b, "attention.value_length", head_dim) != head_dim)
        wrong(b, "attention.value_length", "differs from attention.key_length");
    put_integer(b, "head_dim", head_dim);
    return head_dim;
}

/* llama, qwen3, qwen3moe. */
static void put_llama_like(struct builder *b)
{
    int64_t head_dim = put_head_dim(b);
    put(b, "hidden_act", json_string("silu"));
    put_integer(b, "num_hidden_layers", integer(b, "block_count", -1));
    put_integer(b, "num_key_value_heads",
                integer(b, "attention.head_count_kv", put_before(b, "num_attention_heads")));
    if (integer(b, "rope.dimension_count", head_dim) != head_dim)
        wrong(b, "rope.dimension_count", "only whole heads that turn are supported here");
    put_rope(b);
}

/* Conversion leaves only the factors of llama3's scaling, one for every pair. */
static void put_factors(struct builder *b)
{
    const struct tensor *t = gguf_tensor(b->g, "rope_freqs.weight");
    if (!t)
        return;
    if (t->dtype != DTYPE_F32 || t->dims != 1) {
        wrong(b, "rope_freqs.weight", "wanted one row of F32");
        return;
    }
    json_t *factors = json_array();
    for (size_t i = 0; i < t->shape[0]; i++)
        json_array_append_new(factors, json_real((double)((const float *)t->data)[i]));
    put(b, "rope_scaling", json_pack("{s:s, s:o}", "rope_type", "factors", "factors", factors));
}

/* And qwen3. */
static void put_llama(struct builder *b, enum gguf_arch arch)
{
    put_llama_like(b);
    put_integer(b, "intermediate_size", integer(b, "feed_forward_length", -1));
    if (arch == GGUF_LLAMA)
        put(b, "rope_interleaved", json_true());
    if (integer(b, "expert_count", 0))
        wrong(b, "expert_count", "experts are not supported in this architecture");
    put_factors(b);
}

static void put_qwen3moe(struct builder *b)
{
    put_llama_like(b);
    put_integer(b, "intermediate_size", integer(b, "feed_forward_length", 1));
    put_integer(b, "num_experts", integer(b, "expert_count", -1));
    put_integer(b, "num_experts_per_tok", integer(b, "expert_used_count", -1));
    put_integer(b, "moe_intermediate_size", integer(b, "expert_feed_forward_length", -1));
    put(b, "norm_topk_prob", json_true());
    put_integer(b, "decoder_sparse_step", 1);
    put(b, "mlp_only_layers", json_array());
}

/* Layers take turns, a window first; its yarn ends between two pairs. */
static void put_gpt_oss(struct builder *b)
{
    put_llama_like(b);
    put_integer(b, "intermediate_size", integer(b, "expert_feed_forward_length", -1));
    put_integer(b, "num_local_experts", integer(b, "expert_count", -1));
    put_integer(b, "num_experts_per_tok", integer(b, "expert_used_count", -1));
    put_integer(b, "sliding_window", integer(b, "attention.sliding_window", -1));
    json_t *yarn = json_object_get(b->out, "rope_scaling");
    if (yarn)
        json_object_set_new(yarn, "truncate", json_false());
}

/* ---- step35 ----------------------------------------------------------------------------------- */

/* Blocks with experts or a dense MLP that are there, MTP blocks included. */
static int64_t blocks_there(const struct builder *b, int64_t declared)
{
    char name[64];
    snprintf(name, sizeof name, "blk.%lld.attn_norm.weight", (long long)declared - 1);
    return gguf_tensor(b->g, name) ? declared : -1;
}

/* layer_types, thetas, rotary factors, clamps: one entry a layer. */
static void put_step35_layers(struct builder *b, int64_t layers)
{
    json_t *types = json_array(), *theta = json_array(), *partial = json_array();
    json_t *limits = json_array(), *shared = json_array();
    double full_theta = number(b, "rope.freq_base", 10000);
    double slide_theta = number(b, "rope.freq_base_swa", full_theta);
    for (int64_t l = 0; l < layers; l++) {
        size_t i = (size_t)l;
        bool sliding = integer_at(b, "attention.sliding_window_pattern", i, -1) != 0;
        double limit = number_at(b, "swiglu_clamp_exp", i, 0);
        double limit_shared = number_at(b, "swiglu_clamp_shexp", i, 0);
        json_array_append_new(types, json_string(sliding ? "sliding_attention" : "full_attention"));
        json_array_append_new(theta, json_real(sliding ? slide_theta : full_theta));
        json_array_append_new(partial, json_real(sliding ? 1.0 : 0.5));
        json_array_append_new(limits, json_real(limit > 1e-6 ? limit : 0));
        json_array_append_new(shared, json_real(limit_shared > 1e-6 ? limit_shared : 0));
    }
    put(b, "layer_types", types);
    put(b, "rope_theta", theta);
    put(b, "partial_rotary_factors", partial);
    put(b, "swiglu_limits", limits);
    put(b, "swiglu_limits_shared", shared);
}

/* Heads of the two kinds of layer; every layer of a kind must have as many. */
static void put_step35_heads(struct builder *b, int64_t layers)
{
    int64_t heads[2] = {0}, groups[2] = {0};
    for (int64_t l = 0; l < layers; l++) {
        size_t i = (size_t)l;
        bool sliding = integer_at(b, "attention.sliding_window_pattern", i, -1) != 0;
        int64_t h = integer_at(b, "attention.head_count", i, -1);
        int64_t kv = integer_at(b, "attention.head_count_kv", i, -1);
        if (heads[sliding] && (heads[sliding] != h || groups[sliding] != kv))
            wrong(b, "step35.attention.head_count", "layers of one kind have different heads");
        heads[sliding] = h;
        groups[sliding] = kv;
    }
    int full = heads[0] ? 0 : 1, other = heads[1] ? 1 : 0;
    int64_t dim = integer(b, "attention.key_length", 128);
    put_integer(b, "head_dim", dim);
    put_integer(b, "num_attention_heads", heads[full]);
    put_integer(b, "num_attention_groups", groups[full]);
    put(b, "attention_other_setting",
        json_pack("{s:s, s:I, s:I, s:I, s:I}", "attention_type", "sliding_attention",
                  "num_attention_heads", (json_int_t)heads[other], "num_attention_groups",
                  (json_int_t)groups[other], "head_dim", (json_int_t)dim, "true_head_dim",
                  (json_int_t)dim));
}

/* The factors of the release's scaling. Early conversions computed them for twice the dimensions:
 * their last entry is 2 where a right file has 1 in all entries that nothing uses. */
static void put_step35_scaling(struct builder *b, char note[256])
{
    const struct tensor *t = gguf_tensor(b->g, "rope_freqs.weight");
    if (!t)
        return;
    if (t->dtype != DTYPE_F32 || t->dims != 1 || t->shape[0] < 2) {
        wrong(b, "rope_freqs.weight", "wanted one row of F32");
        return;
    }
    if (((const float *)t->data)[t->shape[0] - 1] != 1)
        snprintf(
            note, 256,
            "rope_freqs.weight was made by an early converter, for twice the rotary dimensions; "
            "the right factors are used instead");
    put(b, "rope_scaling",
        json_pack("{s:s, s:f, s:i, s:f, s:f}", "rope_type", "llama3", "factor", 2.0,
                  "original_max_position_embeddings", 131072, "low_freq_factor", 1.0,
                  "high_freq_factor", 32.0));
    put(b, "yarn_only_types", json_pack("[s]", "full_attention"));
}

static void put_step35_experts(struct builder *b, int64_t trunk)
{
    json_t *moe = json_array();
    for (int64_t l = integer(b, "leading_dense_block_count", 0); l < trunk; l++)
        json_array_append_new(moe, json_integer(l));
    put(b, "moe_layers_enum", moe);
    put_integer(b, "moe_num_experts", integer(b, "expert_count", -1));
    put_integer(b, "moe_top_k", integer(b, "expert_used_count", -1));
    put_integer(b, "moe_intermediate_size", integer(b, "expert_feed_forward_length", -1));
    put_integer(b, "share_expert_dim", integer(b, "expert_shared_feed_forward_length", -1));
    put(b, "moe_router_activation", json_string("sigmoid"));
    put(b, "use_moe_router_bias", json_true());
    put(b, "need_fp32_gate", json_true());
    put(b, "norm_expert_weight", json_boolean(integer(b, "expert_weights_norm", 1)));
    double scale = number(b, "expert_weights_scale", 1);
    put(b, "moe_router_scaling_factor", json_real(scale > 0 ? scale : 1));
    if (integer(b, "expert_gating_func", 2) != 2)
        wrong(b, "step35.expert_gating_func", "only 2 (sigmoid) is supported");
    if (integer(b, "moe_every_n_layers", 1) != 1)
        wrong(b, "step35.moe_every_n_layers", "only 1 is supported");
}

static void put_step35(struct builder *b, char note[256])
{
    static const char *const yes[] = {"use_qk_norm", "zero_centered", "use_head_wise_attn_gate",
                                      "norm_gains_stored_whole"};
    int64_t blocks = integer(b, "block_count", -1), mtp = integer(b, "nextn_predict_layers", 0);
    int64_t trunk = blocks - mtp;
    put_head_dim(b);
    if (blocks > BLOCKS_MAX) { /* there is a list of them to come */
        wrong(b, "step35.block_count", "wanted at most 4096");
        return;
    }
    if (trunk < 1) {
        wrong(b, "step35.block_count", "is not more than nextn_predict_layers");
        return;
    }
    if (blocks_there(b, blocks) < 0) /* the MTP blocks are in a file of their own */
        mtp = 0;
    put_integer(b, "num_hidden_layers", trunk);
    put_integer(b, "num_nextn_predict_layers", mtp);
    put_integer(b, "intermediate_size", integer(b, "feed_forward_length", -1));
    put_integer(b, "sliding_window", integer(b, "attention.sliding_window", -1));
    put(b, "att_impl_type", json_string("GQA"));
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        put(b, yes[i], json_true());
    put_step35_layers(b, trunk + mtp);
    put_step35_heads(b, trunk);
    put_step35_scaling(b, note);
    put_step35_experts(b, trunk);
}

/* ---- deepseek2 -------------------------------------------------------------------------------- */

/* Scores are scaled by the magnitude of mscale_all_dim; angles are not. */
static void put_deepseek2_rope(struct builder *b)
{
    put_rope(b);
    json_t *yarn = json_object_get(b->out, "rope_scaling");
    double all = 10 * number(b, "rope.scaling.yarn_log_multiplier", 0);
    if (!yarn)
        return;
    if (!(all > 0) || json_object_get(yarn, "attention_factor"))
        wrong(b, "deepseek2.rope.scaling.yarn_log_multiplier",
              "wanted it above 0, without an attn_factor beside it");
    json_object_set_new(yarn, "mscale", json_real(all));
    json_object_set_new(yarn, "mscale_all_dim", json_real(all));
}

/* Files made before the middle of 2025 have attn_kv_b, and heads as wide as they are in it. */
static void put_deepseek2_heads(struct builder *b)
{
    int64_t rank = integer(b, "attention.kv_lora_rank", -1),
            turning = integer(b, "rope.dimension_count", -1),
            low = integer(b, "attention.q_lora_rank", 0),
            key = integer(b, "attention.key_length_mla", 0), value = 0;
    bool split = key > 0;
    key = split ? key : integer(b, "attention.key_length", -1);
    value = integer(b, split ? "attention.value_length_mla" : "attention.value_length", -1);
    if (split && (integer(b, "attention.key_length", -1) != rank + turning ||
                  integer(b, "attention.value_length", -1) != rank))
        wrong(b, "deepseek2.attention.key_length",
              "it and value_length are not those of attention.kv_lora_rank");
    if (key <= turning)
        wrong(b, "deepseek2.rope.dimension_count", "is not less than a head's width");
    put(b, "q_lora_rank", low > 0 ? json_integer(low) : json_null());
    put_integer(b, "kv_lora_rank", rank);
    put_integer(b, "qk_rope_head_dim", turning);
    put_integer(b, "qk_nope_head_dim", key - turning);
    put_integer(b, "v_head_dim", value);
    put(b, "kv_b_split", json_boolean(split));
}

/* Groups were not written at first: 256 experts are V3's, in 8 groups. */
static void put_deepseek2_experts(struct builder *b)
{
    int64_t experts = integer(b, "expert_count", -1);
    bool grouped = experts == 256;
    double scale = number(b, "expert_weights_scale", 1);
    put_integer(b, "n_routed_experts", experts);
    put_integer(b, "num_experts_per_tok", integer(b, "expert_used_count", -1));
    put_integer(b, "moe_intermediate_size", integer(b, "expert_feed_forward_length", -1));
    put_integer(b, "n_shared_experts", integer(b, "expert_shared_count", 0));
    put_integer(b, "n_group", integer(b, "expert_group_count", grouped ? 8 : 1));
    put_integer(b, "topk_group", integer(b, "expert_group_used_count", grouped ? 4 : 1));
    put(b, "norm_topk_prob", json_boolean(integer(b, "expert_weights_norm", 0)));
    put(b, "routed_scaling_factor", json_real(scale > 0 ? scale : 1));
    put(b, "scoring_func", json_string("sigmoid"));
    put(b, "topk_method", json_string("noaux_tc"));
    if (integer(b, "expert_gating_func", 0) != 2)
        wrong(b, "deepseek2.expert_gating_func",
              "only 2 (sigmoid, DeepSeek-V3's router) is supported");
}

static void put_deepseek2(struct builder *b)
{
    put(b, "hidden_act", json_string("silu"));
    put_integer(b, "num_hidden_layers", integer(b, "block_count", -1));
    put_integer(b, "intermediate_size", integer(b, "feed_forward_length", -1));
    put_integer(b, "first_k_dense_replace", integer(b, "leading_dense_block_count", 0));
    put_integer(b, "moe_layer_freq", 1);
    put_integer(b, "num_nextn_predict_layers", 0);
    put_deepseek2_heads(b);
    put_deepseek2_rope(b);
    put_deepseek2_experts(b);
}

/* ---- the whole -------------------------------------------------------------------------------- */

static const struct {
    const char *arch, *model_type;
    enum gguf_arch bit;
} archs[] = {
    {"llama", "llama", GGUF_LLAMA},           {"qwen3", "qwen3", GGUF_QWEN3},
    {"qwen3moe", "qwen3_moe", GGUF_QWEN3MOE}, {"step35", "step3p5", GGUF_STEP35},
    {"gpt-oss", "gpt_oss", GGUF_GPT_OSS},     {"deepseek2", "deepseek_v3", GGUF_DEEPSEEK2}};

#define ARCHS (sizeof archs / sizeof *archs)

enum gguf_arch gguf_arch_of(const struct gguf *g, struct err *e)
{
    const struct gguf_value *v = gguf_find(g, "general.architecture");
    for (size_t i = 0; i < ARCHS; i++)
        if (gguf_is_text(v, archs[i].arch))
            return archs[i].bit;
    bool text = v && v->type == GGUF_STRING && v->count == 1;
    size_t n = text && v->strings[0].bytes < 40 ? v->strings[0].bytes : text ? 40 : 0;
    err_set(e,
            "%s: general.architecture is \"%.*s\"; GGUF files of llama, qwen3, qwen3moe, step35, "
            "gpt-oss "
            "and deepseek2 are supported",
            gguf_path(g), (int)n, text ? v->strings[0].text : "");
    return 0;
}

int gguf_view_config(struct gguf_view *v, enum gguf_arch arch, struct err *e)
{
    struct builder b = {.g = v->file, .out = json_object(), .e = e};
    v->config = b.out;
    for (size_t i = 0; i < ARCHS; i++)
        if (archs[i].bit == arch) {
            snprintf(b.arch, sizeof b.arch, "%s", archs[i].arch);
            put(&b, "model_type", json_string(archs[i].model_type));
        }
    put_common(&b);
    if (arch == GGUF_STEP35)
        put_step35(&b, v->note);
    else if (arch == GGUF_DEEPSEEK2)
        put_deepseek2(&b);
    else if (arch == GGUF_GPT_OSS)
        put_gpt_oss(&b);
    else if (arch == GGUF_QWEN3MOE)
        put_qwen3moe(&b);
    else
        put_llama(&b, arch);
    return b.failed ? -1 : 0;
}
