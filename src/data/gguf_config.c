/* gguf_config.c - metadata of a GGUF file as the config.json of the model it was made from. */
#include "data/gguf_arch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX 128
#define EOS_MAX 8

#define BLOCKS_MAX 4096

void gguf_wrong(struct gguf_builder *b, const char *name, const char *what)
{
    if (!b->failed)
        err_set(b->e, "%s: key \"%s.%s\": %s", gguf_path(b->g), b->arch->name, name, what);
    b->failed = true;
}

void gguf_wrong_tensor(struct gguf_builder *b, const char *name, const char *what)
{
    if (!b->failed)
        err_set(b->e, "%s: tensor \"%s\": %s", gguf_path(b->g), name, what);
    b->failed = true;
}

/* "llama.block_count" from "block_count". */
static const struct gguf_value *find(const struct gguf_builder *b, const char *name)
{
    char key[KEY_MAX];
    snprintf(key, KEY_MAX, "%s.%s", b->arch->name, name);
    return gguf_find(b->g, key);
}

/* An integer of 0 or more: the value, or of a list that of the layer. absent < 0: must be there. */
int64_t gguf_integer_key_at(struct gguf_builder *b, const char *name, size_t layer, int64_t absent)
{
    const struct gguf_value *v = find(b, name);
    int64_t n = 0;
    if (!v && absent >= 0)
        return absent;
    if (!v)
        gguf_wrong(b, name, "is missing");
    else if (!gguf_integer(v, v->array ? layer : 0, &n) || n < 0 || n > INT32_MAX)
        gguf_wrong(b, name,
                   "wanted a whole number of 0 or more, or a list with one for every layer");
    return n;
}

int64_t gguf_integer_key(struct gguf_builder *b, const char *name, int64_t absent)
{
    return gguf_integer_key_at(b, name, 0, absent);
}

double gguf_number_key_at(struct gguf_builder *b, const char *name, size_t layer, double absent)
{
    const struct gguf_value *v = find(b, name);
    double n = absent;
    if (v && (!gguf_number(v, v->array ? layer : 0, &n) || !isfinite(n)))
        gguf_wrong(b, name, "wanted a number, or a list with one for every layer");
    return n;
}

double gguf_number_key(struct gguf_builder *b, const char *name, double absent)
{
    return gguf_number_key_at(b, name, 0, absent);
}

void gguf_put(struct gguf_builder *b, const char *field, json_t *value)
{
    json_object_set_new(b->out, field, value);
}

void gguf_put_integer(struct gguf_builder *b, const char *field, int64_t value)
{
    gguf_put(b, field, json_integer(value));
}

/* ---- what all architectures have ------------------------------------------------------------- */

void gguf_put_rope(struct gguf_builder *b)
{
    const struct gguf_value *type = find(b, "rope.scaling.type");
    double factor = gguf_number_key(b, "rope.scaling.factor", 1);
    gguf_put(b, "rope_theta", json_real(gguf_number_key(b, "rope.freq_base", 10000)));
    if (!type || gguf_is_text(type, "none") || factor == 1)
        return;
    if (!gguf_is_text(type, "yarn")) {
        gguf_wrong(b, "rope.scaling.type", "only \"yarn\" and \"none\" are supported");
        return;
    }
    json_t *yarn =
        json_pack("{s:s, s:f, s:I, s:f, s:f}", "rope_type", "yarn", "factor", factor,
                  "original_max_position_embeddings",
                  (json_int_t)gguf_integer_key(b, "rope.scaling.original_context_length", -1),
                  "beta_fast", gguf_number_key(b, "rope.scaling.yarn_beta_fast", 32), "beta_slow",
                  gguf_number_key(b, "rope.scaling.yarn_beta_slow", 1));
    double attn = gguf_number_key(b, "rope.scaling.attn_factor",
                                  gguf_number_key(b, "rope.scaling.yarn_attn_factor", 0));
    if (attn > 0)
        json_object_set_new(yarn, "attention_factor", json_real(attn * (0.1 * log(factor) + 1)));
    gguf_put(b, "rope_scaling", yarn);
}

/* Of architectures that do not say it. */
static const char *const usual_ends[] = {"<|im_end|>",
                                         "<|eot_id|>",
                                         "<|end|>",
                                         "<|endoftext|>",
                                         "<|end_of_text|>",
                                         "<|eom_id|>",
                                         "<｜end▁of▁sentence｜>",
                                         "<|EOT|>",
                                         NULL};

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
static void put_ends(struct gguf_builder *b)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id",
                                       "tokenizer.ggml.eot_token_id"};
    const struct gguf_value *tokens = gguf_find(b->g, "tokenizer.ggml.tokens");
    const struct gguf_value *types = gguf_find(b->g, "tokenizer.ggml.token_type");
    const struct gguf_value *bos = gguf_find(b->g, "tokenizer.ggml.bos_token_id");
    const char *const *ends = b->arch->ends ? b->arch->ends : usual_ends;
    json_t *eos = json_array();
    int64_t id, type;
    for (size_t i = 0; i < (b->arch->ends ? 1 : 2); i++) {
        const struct gguf_value *v = gguf_find(b->g, keys[i]);
        if (v && gguf_integer(v, 0, &id) && id >= 0)
            add_id(eos, id);
    }
    for (size_t i = 0; tokens && types && tokens->type == GGUF_STRING && i < tokens->count; i++) {
        if (!gguf_integer(types, i, &type) || type != 3)
            continue;
        const struct gguf_string *s = &tokens->strings[i];
        for (const char *const *end = ends; *end; end++)
            if (s->bytes == strlen(*end) && memcmp(s->text, *end, s->bytes) == 0)
                add_id(eos, (int64_t)i);
    }
    gguf_put(b, "eos_token_id", eos);
    if (bos && gguf_integer(bos, 0, &id) && id >= 0)
        gguf_put_integer(b, "bos_token_id", id);
}

/* And the MTP blocks behind them that are in this file. */
static void put_layers(struct gguf_builder *b)
{
    int64_t blocks = gguf_integer_key(b, "block_count", -1);
    int64_t mtp = gguf_integer_key(b, "nextn_predict_layers", 0), layers = blocks - mtp;
    char last[64];
    if (blocks > BLOCKS_MAX) { /* there may be a list of them to come */
        gguf_wrong(b, "block_count", "wanted at most 4096");
        return;
    }
    if (layers < 1) {
        gguf_wrong(b, "block_count", "is not more than nextn_predict_layers");
        return;
    }
    snprintf(last, sizeof last, "blk.%lld.attn_norm.weight", (long long)blocks - 1);
    bool there = gguf_tensor(b->g, last); /* else they are in a file of their own */
    gguf_put_integer(b, "num_hidden_layers", layers);
    if (mtp > 0)
        gguf_put_integer(b, "num_nextn_predict_layers", there ? mtp : 0);
}

static void put_common(struct gguf_builder *b)
{
    const struct tensor *embed = gguf_tensor(b->g, "token_embd.weight");
    int64_t hidden = gguf_integer_key(b, "embedding_length", -1),
            heads = gguf_integer_key(b, "attention.head_count", -1);
    if (heads < 1)
        gguf_wrong(b, "attention.head_count", "wanted 1 or more");
    if (!embed || embed->dims != 2)
        gguf_wrong_tensor(b, "token_embd.weight", "is missing, or has not two dimensions");
    else
        gguf_put_integer(b, "vocab_size", (int64_t)embed->shape[0]);
    gguf_put_integer(b, "hidden_size", hidden);
    gguf_put_integer(b, "num_attention_heads", heads);
    gguf_put_integer(b, "max_position_embeddings", gguf_integer_key(b, "context_length", -1));
    gguf_put(b, "rms_norm_eps",
             json_real(gguf_number_key(b, "attention.layer_norm_rms_epsilon", 1e-5)));
    gguf_put(b, "tie_word_embeddings", json_boolean(!gguf_tensor(b->g, "output.weight")));
    put_layers(b);
    put_ends(b);
}

/* A field that was put. */
int64_t gguf_put_before(const struct gguf_builder *b, const char *field)
{
    return json_integer_value(json_object_get(b->out, field));
}

int64_t gguf_put_head_dim(struct gguf_builder *b)
{
    int64_t heads = gguf_put_before(b, "num_attention_heads"), whole = 0;
    if (heads > 0)
        whole = gguf_put_before(b, "hidden_size") / heads;
    int64_t head_dim = gguf_integer_key(b, "attention.key_length", whole);
    if (gguf_integer_key(b, "attention.value_length", head_dim) != head_dim)
        gguf_wrong(b, "attention.value_length", "differs from attention.key_length");
    gguf_put_integer(b, "head_dim", head_dim);
    return head_dim;
}

int64_t gguf_put_heads(struct gguf_builder *b, bool whole)
{
    int64_t head_dim = gguf_put_head_dim(b), heads = gguf_put_before(b, "num_attention_heads");
    int64_t turning = gguf_integer_key(b, "rope.dimension_count", head_dim);
    gguf_put(b, "hidden_act", json_string("silu"));
    gguf_put_integer(b, "num_key_value_heads",
                     gguf_integer_key(b, "attention.head_count_kv", heads));
    if (whole && turning != head_dim)
        gguf_wrong(b, "rope.dimension_count", "only whole heads that turn are supported here");
    else if (turning < 1 || turning > head_dim)
        gguf_wrong(b, "rope.dimension_count", "wanted 1 or more, and no more than a head has");
    gguf_put_rope(b);
    return turning;
}

void gguf_put_experts(struct gguf_builder *b, const char *experts, const char *topk,
                      const char *width)
{
    gguf_put_integer(b, experts, gguf_integer_key(b, "expert_count", -1));
    gguf_put_integer(b, topk, gguf_integer_key(b, "expert_used_count", -1));
    gguf_put_integer(b, width, gguf_integer_key(b, "expert_feed_forward_length", -1));
}

void gguf_want_sigmoid(struct gguf_builder *b, int64_t absent)
{
    if (gguf_integer_key(b, "expert_gating_func", absent) != 2)
        gguf_wrong(b, "expert_gating_func", "only 2 (a sigmoid) is supported in this architecture");
}

void gguf_put_sigmoid(struct gguf_builder *b, int64_t groups, int64_t topk_groups)
{
    double scale = gguf_number_key(b, "expert_weights_scale", 1);
    gguf_put_experts(b, "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size");
    gguf_put_integer(b, "n_shared_experts", gguf_integer_key(b, "expert_shared_count", 0));
    gguf_put_integer(b, "n_group", gguf_integer_key(b, "expert_group_count", groups));
    gguf_put_integer(b, "topk_group", gguf_integer_key(b, "expert_group_used_count", topk_groups));
    gguf_put(b, "norm_topk_prob", json_boolean(gguf_integer_key(b, "expert_weights_norm", 0)));
    gguf_put(b, "routed_scaling_factor", json_real(scale > 0 ? scale : 1));
    gguf_put_integer(b, "intermediate_size", gguf_integer_key(b, "feed_forward_length", -1));
    gguf_put_integer(b, "first_k_dense_replace",
                     gguf_integer_key(b, "leading_dense_block_count", 0));
}

int gguf_view_config(struct gguf_view *v, const struct gguf_arch *arch, struct err *e)
{
    struct gguf_builder b = {
        .g = v->file, .arch = arch, .out = json_object(), .note = v->note, .e = e};
    v->config = b.out;
    gguf_put(&b, "model_type", json_string(arch->model_type));
    put_common(&b);
    arch->config(&b);
    return b.failed ? -1 : 0;
}
