#include "model/gguf_keys.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_ROOM 128

enum { TYPE_U32 = 4, TYPE_I32 = 5, TYPE_F32 = 6, TYPE_BOOL = 7, TYPE_TEXT = 8, TYPE_LIST = 9 };

struct keys {
    struct gguf_bytes *to;
    uint64_t n;
    const struct model *m;
    const char *arch;
};

void gguf_bytes_add(struct gguf_bytes *b, const void *data, size_t n)
{
    if (b->n + n > b->room) {
        b->room = 2 * (b->n + n);
        b->data = mem_resize(b->data, b->room, 1);
    }
    memcpy(b->data + b->n, data, n);
    b->n += n;
}

void gguf_bytes_u32(struct gguf_bytes *b, uint32_t x)
{
    gguf_bytes_add(b, &x, sizeof x);
}

void gguf_bytes_u64(struct gguf_bytes *b, uint64_t x)
{
    gguf_bytes_add(b, &x, sizeof x);
}

void gguf_bytes_text(struct gguf_bytes *b, const char *text)
{
    gguf_bytes_u64(b, strlen(text));
    gguf_bytes_add(b, text, strlen(text));
}

/* "general.x", "tokenizer.x" as they are; anything else is the architecture's. */
static void key(struct keys *f, const char *name, uint32_t type)
{
    char whole[NAME_ROOM];
    bool own = strncmp(name, "general.", 8) != 0 && strncmp(name, "tokenizer.", 10) != 0;
    snprintf(whole, sizeof whole, "%s%s%s", own ? f->arch : "", own ? "." : "", name);
    gguf_bytes_text(f->to, whole);
    gguf_bytes_u32(f->to, type);
    f->n++;
}

static void put_text(struct keys *f, const char *name, const char *text)
{
    key(f, name, TYPE_TEXT);
    gguf_bytes_text(f->to, text);
}

static void put_size(struct keys *f, const char *name, size_t n)
{
    key(f, name, TYPE_U32);
    gguf_bytes_u32(f->to, (uint32_t)n);
}

static void put_number(struct keys *f, const char *name, double x)
{
    float single = (float)x;
    key(f, name, TYPE_F32);
    gguf_bytes_add(f->to, &single, sizeof single);
}

static void put_bool(struct keys *f, const char *name, bool yes)
{
    uint8_t byte = yes;
    key(f, name, TYPE_BOOL);
    gguf_bytes_add(f->to, &byte, 1);
}

static size_t blocks(const struct model *m)
{
    return m->layers + m->mtp.layers;
}

/* A list with a number of every layer. */
static void put_list(struct keys *f, const char *name, uint32_t type,
                     double (*of)(const struct layer_spec *l))
{
    key(f, name, TYPE_LIST);
    gguf_bytes_u32(f->to, type);
    gguf_bytes_u64(f->to, blocks(f->m));
    for (size_t l = 0; l < blocks(f->m); l++) {
        double x = of(&f->m->layer[l]);
        float number = (float)x;
        int32_t whole = (int32_t)x;
        uint8_t byte = x != 0;
        if (type == TYPE_F32)
            gguf_bytes_add(f->to, &number, sizeof number);
        else if (type == TYPE_BOOL)
            gguf_bytes_add(f->to, &byte, 1);
        else
            gguf_bytes_add(f->to, &whole, sizeof whole);
    }
}

static double heads_of(const struct layer_spec *l)
{
    return l->attention.attn.heads;
}

static double kv_heads_of(const struct layer_spec *l)
{
    return l->attention.attn.kv_heads;
}

static double slides(const struct layer_spec *l)
{
    return l->attention.attn.window > 0;
}

static double limit_of(const struct layer_spec *l)
{
    return l->ffn.router.experts ? (double)l->ffn.limit : 0;
}

static double shared_limit_of(const struct layer_spec *l)
{
    return (double)(l->ffn.router.experts ? l->ffn.shared_limit : l->ffn.limit);
}

/* yarn only: llama3's scaling is a tensor (add_factors). */
static void put_rope(struct keys *f, const struct rope_spec *r)
{
    put_number(f, "rope.freq_base", r->theta);
    if (r->scaling != ROPE_YARN)
        return;
    put_text(f, "rope.scaling.type", "yarn");
    put_number(f, "rope.scaling.factor", r->factor);
    put_size(f, "rope.scaling.original_context_length", (size_t)r->original);
    put_number(f, "rope.scaling.yarn_beta_fast", r->beta_fast);
    put_number(f, "rope.scaling.yarn_beta_slow", r->beta_slow);
}

static void put_experts(struct keys *f, const struct ffn_spec *s)
{
    put_size(f, "expert_count", (size_t)s->router.experts);
    put_size(f, "expert_used_count", (size_t)s->router.topk);
    put_size(f, "expert_feed_forward_length", s->inter);
    if (s->router.score == ROUTER_SIGMOID) {
        put_size(f, "expert_gating_func", 2);
        put_bool(f, "expert_weights_norm", s->router.renormalize);
        put_number(f, "expert_weights_scale", (double)s->router.factor);
        put_size(f, "expert_group_count", (size_t)s->router.groups);
        put_size(f, "expert_group_used_count", (size_t)s->router.topk_groups);
        put_size(f, "expert_shared_count", s->shared_inter / s->inter);
    }
}

static void put_step35(struct keys *f)
{
    const struct model *m = f->m;
    const struct layer_spec *last = &m->layer[m->layers - 1];
    size_t full = 0, slide = 0;
    while (full + 1 < m->layers && m->layer[full].attention.attn.window)
        full++;
    while (slide + 1 < m->layers && !m->layer[slide].attention.attn.window)
        slide++;
    put_list(f, "attention.head_count", TYPE_I32, heads_of);
    put_list(f, "attention.head_count_kv", TYPE_I32, kv_heads_of);
    put_list(f, "attention.sliding_window_pattern", TYPE_BOOL, slides);
    put_list(f, "swiglu_clamp_exp", TYPE_F32, limit_of);
    put_list(f, "swiglu_clamp_shexp", TYPE_F32, shared_limit_of);
    put_size(f, "attention.sliding_window", (size_t)m->layer[slide].attention.attn.window);
    put_number(f, "rope.freq_base", m->ropes[m->layer[full].attention.rope].theta);
    put_number(f, "rope.freq_base_swa", m->ropes[m->layer[slide].attention.rope].theta);
    put_size(f, "expert_shared_feed_forward_length", last->ffn.shared_inter);
}

static void put_deepseek2(struct keys *f)
{
    const struct model *m = f->m;
    const struct attention_spec *a = &m->layer[0].attention;
    put_size(f, "attention.q_lora_rank", a->q_rank);
    put_size(f, "attention.kv_lora_rank", a->kv_rank);
    put_size(f, "rope.dimension_count", (size_t)a->attn.rope_dim);
    put_size(f, "attention.key_length", a->nope_dim + (size_t)a->attn.rope_dim);
    put_size(f, "attention.value_length", a->head_value_dim);
    put_rope(f, &m->ropes[0]);
    if (m->ropes[0].scaling == ROPE_YARN)
        put_number(f, "rope.scaling.yarn_log_multiplier", 0.1);
}

static void put_heads(struct keys *f)
{
    const struct attn_spec *a = &f->m->layer[0].attention.attn;
    put_size(f, "attention.head_count", (size_t)a->heads);
    put_size(f, "attention.head_count_kv", (size_t)a->kv_heads);
    put_size(f, "rope.dimension_count", (size_t)a->rope_dim);
    put_rope(f, &f->m->ropes[0]);
}

size_t gguf_dense_layers(const struct model *m)
{
    size_t n = 0;
    while (n < m->layers && !m->layer[n].ffn.router.experts)
        n++;
    return n;
}

static bool is_arch(const struct keys *f, const char *arch)
{
    return strcmp(f->arch, arch) == 0;
}

static void put_all(struct keys *f)
{
    const struct model *m = f->m;
    const struct attn_spec *a = &m->layer[0].attention.attn;
    size_t dense = gguf_dense_layers(m);
    put_text(f, "general.architecture", f->arch);
    put_text(f, "general.name", "random weights");
    put_size(f, "block_count", blocks(m));
    put_size(f, "context_length", m->context);
    put_size(f, "embedding_length", m->hidden);
    put_number(f, "attention.layer_norm_rms_epsilon", (double)m->norm_eps);
    put_size(f, "vocab_size", m->vocab);
    put_text(f, "tokenizer.ggml.model", "none"); /* others ask for one; this is how to have none */
    put_size(f, "tokenizer.ggml.eos_token_id", (size_t)m->eos[0]);
    if (m->bos >= 0)
        put_size(f, "tokenizer.ggml.bos_token_id", (size_t)m->bos);
    if (m->mtp.layers > 0)
        put_size(f, "nextn_predict_layers", m->mtp.layers);
    put_size(f, "feed_forward_length", m->layer[0].ffn.inter); /* or of an expert */
    if (dense < m->layers) {
        put_size(f, "leading_dense_block_count", dense);
        put_experts(f, &m->layer[m->layers - 1].ffn);
    }
    if (is_arch(f, "deepseek2")) {
        put_size(f, "attention.head_count", (size_t)a->heads);
        put_deepseek2(f);
        return;
    }
    put_size(f, "attention.key_length", (size_t)a->key_dim);
    put_size(f, "attention.value_length", (size_t)a->value_dim);
    if (is_arch(f, "step35"))
        put_step35(f);
    else
        put_heads(f);
    if (is_arch(f, "gpt-oss"))
        put_size(f, "attention.sliding_window", (size_t)a->window);
}

uint64_t gguf_keys(struct gguf_bytes *b, const struct model *m, const char *arch)
{
    struct keys keys = {.to = b, .m = m, .arch = arch};
    put_all(&keys);
    return keys.n;
}
