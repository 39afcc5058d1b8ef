/* gguf_names.c - tensors of a GGUF file under the names of Hugging Face. */
#include "data/gguf_arch.h"

#include "base/mem.h"
#include "kernels/weights/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS "model.layers."

/* Those that are there once, whole names. */
static const struct gguf_rule once[] = {
    {"token_embd.weight", "model.embed_tokens.weight", GGUF_AS_IS},
    {"output_norm.weight", "model.norm.weight", GGUF_AS_IS},
    {"output.weight", "lm_head.weight", GGUF_AS_IS},
    {0}};

const struct gguf_rule gguf_every_layer[] = {
    {"attn_norm.weight", "input_layernorm.weight", GGUF_AS_IS},
    {"ffn_norm.weight", "post_attention_layernorm.weight", GGUF_AS_IS},
    {"attn_q.weight", "self_attn.q_proj.weight", GGUF_AS_IS},
    {"attn_output.weight", "self_attn.o_proj.weight", GGUF_AS_IS},
    {"ffn_gate.weight", "mlp.gate_proj.weight", GGUF_AS_IS},
    {"ffn_up.weight", "mlp.up_proj.weight", GGUF_AS_IS},
    {"ffn_down.weight", "mlp.down_proj.weight", GGUF_AS_IS},
    {0}};

const struct gguf_rule gguf_keys_values[] = {
    {"attn_k.weight", "self_attn.k_proj.weight", GGUF_AS_IS},
    {"attn_v.weight", "self_attn.v_proj.weight", GGUF_AS_IS},
    {0}};

const struct gguf_rule gguf_head_norms[] = {
    {"attn_q_norm.weight", "self_attn.q_norm.weight", GGUF_AS_IS},
    {"attn_k_norm.weight", "self_attn.k_norm.weight", GGUF_AS_IS},
    {0}};

const struct gguf_rule gguf_biases[] = {{"attn_q.bias", "self_attn.q_proj.bias", GGUF_AS_IS},
                                        {"attn_k.bias", "self_attn.k_proj.bias", GGUF_AS_IS},
                                        {"attn_v.bias", "self_attn.v_proj.bias", GGUF_AS_IS},
                                        {0}};

const struct gguf_rule gguf_experts[] = {
    {"ffn_gate_inp.weight", "mlp.gate.weight", GGUF_AS_IS},
    {"ffn_gate_exps.weight", "mlp.experts.#.gate_proj.weight", GGUF_EXPERTS},
    {"ffn_up_exps.weight", "mlp.experts.#.up_proj.weight", GGUF_EXPERTS},
    {"ffn_down_exps.weight", "mlp.experts.#.down_proj.weight", GGUF_EXPERTS},
    {"ffn_gate_up_exps.weight", "mlp.experts.#.", GGUF_GATE_UP},
    {0}};

const struct gguf_rule gguf_shared[] = {
    {"exp_probs_b.bias", "mlp.gate.e_score_correction_bias", GGUF_AS_IS},
    {"ffn_gate_shexp.weight", "mlp.shared_experts.gate_proj.weight", GGUF_AS_IS},
    {"ffn_up_shexp.weight", "mlp.shared_experts.up_proj.weight", GGUF_AS_IS},
    {"ffn_down_shexp.weight", "mlp.shared_experts.down_proj.weight", GGUF_AS_IS},
    {0}};

const struct gguf_rule gguf_mtp[] = {
    {"nextn.enorm.weight", "enorm.weight", GGUF_AS_IS},
    {"nextn.hnorm.weight", "hnorm.weight", GGUF_AS_IS},
    {"nextn.eh_proj.weight", "eh_proj.weight", GGUF_AS_IS},
    {"nextn.shared_head_norm.weight", "shared_head.norm.weight", GGUF_AS_IS},
    {"nextn.embed_tokens.weight", "embed_tokens.weight", GGUF_AS_IS},
    {"nextn.shared_head_head.weight", "shared_head.head.weight", GGUF_AS_IS},
    {0}};

/* ---- finding -------------------------------------------------------------------------------- */

static const struct gguf_rule *find_in(const struct gguf_rule *rules, const char *gguf)
{
    for (; rules->gguf; rules++)
        if (strcmp(rules->gguf, gguf) == 0)
            return rules;
    return NULL;
}

static const struct gguf_rule *find_rule(const struct gguf_arch *arch, const char *gguf)
{
    const struct gguf_rule *found = NULL;
    for (size_t i = 0; i < GGUF_RULES_MAX && arch->rules[i] && !found; i++)
        found = find_in(arch->rules[i], gguf);
    return found;
}

static const char *named(const struct gguf_rule *rules, const char *hf, size_t length)
{
    for (; rules->gguf; rules++)
        if (strncmp(rules->hf, hf, length) == 0 && rules->hf[length] == '\0')
            return rules->gguf;
    return NULL;
}

const char *gguf_arch_name(const struct gguf_arch *arch, const char *hf, size_t length)
{
    const char *name = named(once, hf, length);
    for (size_t i = 0; i < GGUF_RULES_MAX && arch->rules[i] && !name; i++)
        name = named(arch->rules[i], hf, length);
    return name;
}

/* One tensor at work. */
struct naming {
    struct gguf_view *v;
    const struct tensor *t;
    const struct gguf_rule *rule;
    int layer; /* -1: of the model */
    struct err *e;
};

static int wrong(const struct naming *n, const char *what)
{
    return err_set(n->e, "%s: tensor \"%s\": %s", n->t->file, n->t->name, what);
}

/* "model.layers.3.mlp.experts.7.up_proj.weight"; malloc'd. tail is put behind. */
static char *hf_name(const struct naming *n, const char *hf, size_t expert, const char *tail)
{
    char name[256], *to = name;
    if (n->layer >= 0)
        to += sprintf(name, LAYERS "%d.", n->layer);
    for (; *hf; hf++)
        to += *hf == '#' ? sprintf(to, "%zu", expert) : (*to = *hf, 1);
    strcpy(to, tail);
    return mem_string(name);
}

static struct tensor *add(struct gguf_view *v, const struct tensor *from, char *name)
{
    if (v->count == v->room) {
        v->room = v->room ? 2 * v->room : 1024;
        v->tensors = mem_resize(v->tensors, v->room, sizeof *v->tensors);
    }
    struct tensor *t = &v->tensors[v->count++];
    *t = *from;
    t->name = name;
    return t;
}

static size_t row_bytes(const struct tensor *t)
{
    return t->shape[t->dims - 1] / t->codec->block * t->codec->block_bytes;
}

/* A matrix of `rows` rows from row `first` of all rows of the tensor. */
static void add_rows(const struct naming *n, size_t first, size_t rows, char *name)
{
    struct tensor *t = add(n->v, n->t, name);
    size_t columns = n->t->shape[n->t->dims - 1], bytes = row_bytes(n->t);
    t->dims = 2;
    t->shape[0] = rows;
    t->shape[1] = columns;
    t->data = (const char *)n->t->data + first * bytes;
    t->bytes = rows * bytes;
}

static int add_experts(const struct naming *n, bool two)
{
    const struct tensor *t = n->t;
    if (t->dims != 3 || (two && t->shape[1] % 2))
        return wrong(n, "wanted the matrices of all experts, three dimensions");
    size_t rows = two ? t->shape[1] / 2 : t->shape[1];
    for (size_t e = 0; e < t->shape[0]; e++) {
        if (!two) {
            add_rows(n, e * rows, rows, hf_name(n, n->rule->hf, e, ""));
            continue;
        }
        add_rows(n, 2 * e * rows, rows, hf_name(n, n->rule->hf, e, "gate_proj.weight"));
        add_rows(n, (2 * e + 1) * rows, rows, hf_name(n, n->rule->hf, e, "up_proj.weight"));
    }
    return 0;
}

/* A field of the config for this layer: a number, or a list with one for each. */
static size_t config_at(const struct naming *n, const char *field)
{
    const json_t *value = json_object_get(n->v->config, field);
    if (json_is_array(value))
        value = json_array_get(value, (size_t)n->layer);
    return (size_t)json_integer_value(value);
}

static int add_qkv(const struct naming *n)
{
    size_t d = config_at(n, "head_dim"), heads, kv;
    heads = config_at(n, "num_attention_heads");
    kv = config_at(n, "num_key_value_heads");
    if (n->t->dims != 2 || n->t->shape[0] != (heads + 2 * kv) * d)
        return wrong(n, "its rows are not those of q, k and v");
    add_rows(n, 0, heads * d, hf_name(n, n->rule->hf, 0, "q_proj.weight"));
    add_rows(n, heads * d, kv * d, hf_name(n, n->rule->hf, 0, "k_proj.weight"));
    add_rows(n, (heads + kv) * d, kv * d, hf_name(n, n->rule->hf, 0, "v_proj.weight"));
    return 0;
}

static int add_named(const struct naming *n)
{
    switch (n->rule->change) {
    case GGUF_EXPERTS:
        return add_experts(n, false);
    case GGUF_GATE_UP:
        return add_experts(n, true);
    case GGUF_QKV:
        return add_qkv(n);
    case GGUF_AS_IS:
        break;
    }
    add(n->v, n->t, hf_name(n, n->rule->hf, 0, ""));
    return 0;
}

/* "blk.17.rest": the layer, and *rest; -1: another name. */
static int layer_of(const char *name, const char **rest)
{
    int layer = 0;
    if (strncmp(name, "blk.", 4) != 0 || name[4] < '0' || name[4] > '9')
        return -1;
    for (name += 4; *name >= '0' && *name <= '9' && layer < 10000; name++)
        layer = layer * 10 + (*name - '0');
    *rest = name + 1;
    return *name == '.' ? layer : -1;
}

int gguf_view_tensors(struct gguf_view *v, const struct gguf_arch *arch, struct err *e)
{
    for (size_t i = 0; i < gguf_count(v->file); i++) {
        const char *rest = NULL;
        struct naming n = {.v = v, .t = gguf_at(v->file, i), .e = e};
        if (arch->rope_freqs && strcmp(n.t->name, "rope_freqs.weight") == 0)
            continue;
        n.layer = layer_of(n.t->name, &rest);
        n.rule = n.layer < 0 ? find_in(once, n.t->name) : find_rule(arch, rest);
        if (!n.rule)
            return wrong(&n, "is not a tensor that this architecture is known to have");
        if (add_named(&n) != 0)
            return -1;
    }
    return 0;
}
