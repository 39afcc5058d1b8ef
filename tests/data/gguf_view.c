/* The view of GGUF files: names, values and tokenizer that the checkpoint had; what is not understood is
 * named, damage never hurts.
 *
 *     gguf_view FILE       prints config, tokenizer and tensors of a model: for other programs to compare */
#include "data/gguf_view.h"

#include "base/mem.h"
#include "data/gguf_arch.h"
#include "kernels/weights/codec.h"
#include "tests/data/gguf_file.h"
#include "tests/data/scratch.h"
#include "text/tokenizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const float numbers[128];

/* ---- models ----------------------------------------------------------------------------------- */

#define HIDDEN 64
#define VOCAB  11

/* Values that tell tensor and place. */
static float *made(size_t n, float first)
{
    float *values = mem_new(n, sizeof *values);
    for (size_t i = 0; i < n; i++)
        values[i] = first + (float)i / 1024;
    return values;
}

static void add(struct gguf_file *f, const char *name, uint64_t a, uint64_t b, uint64_t c,
                float first)
{
    float *values = made(a * (b ? b : 1) * (c ? c : 1), first);
    gguf_file_tensor(f, name,
                     c   ? 3
                     : b ? 2
                         : 1,
                     (const uint64_t[]){a, b, c}, 0, values, a * (b ? b : 1) * (c ? c : 1) * 4);
    free(values);
}

static const char *tokens[VOCAB] = {"a", "b",      "\u0120",  "ab", "<|im_end|>", "<x>",
                                    "'", "[PAD7]", "\u0120a", "1",  "<|eot_id|>"};
static int32_t token_types[VOCAB] = {1, 1, 1, 1, 3, 4, 1, 5, 1, 1, 3};

static void common(struct gguf_file *f, const char *arch)
{
    static const char *const merges[] = {"a b", "\u0120 a"};
    char key[64];
    static const struct {
        const char *name;
        uint32_t value;
    } numbers_of[] = {{"block_count", 1},           {"context_length", 128},
                      {"embedding_length", HIDDEN}, {"feed_forward_length", 96},
                      {"attention.head_count", 4},  {"attention.head_count_kv", 2}};
    gguf_file_text(f, "general.architecture", arch);
    for (size_t i = 0; i < sizeof numbers_of / sizeof *numbers_of; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, numbers_of[i].name);
        gguf_file_u32(f, key, numbers_of[i].value);
    }
    gguf_file_text(f, "tokenizer.ggml.model", "gpt2");
    gguf_file_text(f, "tokenizer.ggml.pre", "smollm");
    gguf_file_texts(f, "tokenizer.ggml.tokens", tokens, VOCAB);
    gguf_file_i32s(f, "tokenizer.ggml.token_type", token_types, VOCAB);
    gguf_file_texts(f, "tokenizer.ggml.merges", merges, 2);
    gguf_file_u32(f, "tokenizer.ggml.bos_token_id", 4);
    gguf_file_u32(f, "tokenizer.ggml.eos_token_id", 4);
    gguf_file_raw(f, "tokenizer.ggml.add_bos_token", 7, "\1", 1);
    gguf_file_text(f, "tokenizer.chat_template", "{{ bos_token }}");
    add(f, "token_embd.weight", HIDDEN, VOCAB, 0, 1);
    add(f, "output_norm.weight", HIDDEN, 0, 0, 2);
    add(f, "blk.0.attn_norm.weight", HIDDEN, 0, 0, 3);
    add(f, "blk.0.ffn_norm.weight", HIDDEN, 0, 0, 4);
    add(f, "blk.0.attn_k.weight", HIDDEN, 32, 0, 5);
    add(f, "blk.0.attn_q.weight", HIDDEN, 64, 0, 6);
}

static const struct tensor *find(const struct gguf_view *v, const char *name)
{
    for (size_t i = 0; i < v->count; i++)
        if (strcmp(v->tensors[i].name, name) == 0)
            return &v->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static struct gguf_view *open_view(struct gguf_file *f)
{
    struct gguf_view *v;
    struct err e;
    gguf_file_write(f, scratch_path("model.gguf"));
    expect_ok(gguf_view_open(&v, scratch_path("model.gguf"), &e), &e);
    return v;
}

static int64_t config_integer(const struct gguf_view *v, const char *field)
{
    return json_integer_value(json_object_get(v->config, field));
}

static float value_at(const struct tensor *t, size_t row, size_t column)
{
    float values[256];
    struct weight_part p = {.codec = t->codec, .data = t->data};
    p.stride = p.k = t->shape[t->dims - 1];
    p.n = row + 1;
    weight_row(&p, row, values);
    return values[column];
}

static void test_llama(void **state)
{
    (void)state;
    struct gguf_file f = {0};
    common(&f, "llama");
    gguf_file_f32(&f, "llama.rope.freq_base", 5000);
    add(&f, "rope_freqs.weight", 8, 0, 0, 1);
    struct gguf_view *v = open_view(&f);
    assert_string_equal(json_string_value(json_object_get(v->config, "model_type")), "llama");
    assert_int_equal(config_integer(v, "vocab_size"), VOCAB);
    assert_int_equal(config_integer(v, "head_dim"), 16);
    assert_true(json_is_true(json_object_get(v->config, "tie_word_embeddings")));
    assert_true(json_real_value(json_object_get(v->config, "rope_theta")) == 5000);
    const json_t *eos = json_object_get(v->config, "eos_token_id");
    assert_int_equal(json_array_size(eos), 2);
    assert_int_equal(json_integer_value(json_array_get(eos, 1)), 10);
    const json_t *factors = json_object_get(json_object_get(v->config, "rope_scaling"), "factors");
    assert_int_equal(json_array_size(factors), 8);
    assert_int_equal(v->count, 6);
    assert_true(json_is_true(json_object_get(v->config, "rope_interleaved")));
    assert_true(value_at(find(v, "model.norm.weight"), 0, 1) == 2 + 1.0f / 1024);
    gguf_view_close(v);
}

/* Names that llama.cpp's converter writes, of the architectures whose files no other test has by hand. */
static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *family, *hf, *gguf;
    } known[] = {
        {"glm4_moe", "post_attention_layernorm.weight", "post_attention_norm.weight"},
        {"glm4_moe", "self_attn.q_norm.weight", "attn_q_norm.weight"},
        {"glm4_moe", "self_attn.k_proj.bias", "attn_k.bias"},
        {"glm4_moe", "mlp.gate.weight", "ffn_gate_inp.weight"},
        {"glm4_moe", "mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
        {"glm4_moe", "mlp.shared_experts.down_proj.weight", "ffn_down_shexp.weight"},
        {"minimax_m2", "post_attention_layernorm.weight", "ffn_norm.weight"},
        {"minimax_m2", "self_attn.k_norm.weight", "attn_k_norm.weight"},
        {"minimax_m2", "block_sparse_moe.gate.weight", "ffn_gate_inp.weight"},
        {"minimax_m2", "block_sparse_moe.e_score_correction_bias", "exp_probs_b.bias"},
        {"minimax_m2", "block_sparse_moe.experts.#.w3.weight", "ffn_up_exps.weight"},
        {"gpt_oss", "post_attention_layernorm.weight", "post_attention_norm.weight"},
        {"gpt_oss", "self_attn.o_proj.bias", "attn_output.bias"},
        {"gpt_oss", "self_attn.sinks", "attn_sinks.weight"},
        {"gpt_oss", "mlp.router.bias", "ffn_gate_inp.bias"},
        {"gpt_oss", "mlp.experts.down_proj_bias", "ffn_down_exps.bias"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct gguf_arch *arch = gguf_arch_find(known[i].family);
        assert_non_null(arch);
        const char *name = gguf_arch_name(arch, known[i].hf, strlen(known[i].hf));
        if (!name || strcmp(name, known[i].gguf) != 0)
            fail_msg("%s: %s is %s, wanted %s", known[i].family, known[i].hf,
                     name ? name : "nothing", known[i].gguf);
    }
}

/* A message's end is not the answer's. */
static void test_ends(void **state)
{
    (void)state;
    struct gguf_file f = {0};
    const char *before[VOCAB];
    memcpy(before, tokens, sizeof before);
    tokens[4] = "<|return|>";
    tokens[6] = "<|call|>";
    tokens[10] = "<|end|>";
    token_types[6] = 3;
    common(&f, "gpt-oss");
    gguf_file_u32(&f, "gpt-oss.expert_count", 4);
    gguf_file_u32(&f, "gpt-oss.expert_used_count", 2);
    gguf_file_u32(&f, "gpt-oss.expert_feed_forward_length", 32);
    gguf_file_u32(&f, "gpt-oss.attention.sliding_window", 8);
    gguf_file_u32(&f, "tokenizer.ggml.eot_token_id", 10);
    struct gguf_view *v = open_view(&f);
    const json_t *eos = json_object_get(v->config, "eos_token_id");
    assert_int_equal(json_array_size(eos), 2);
    assert_int_equal(json_integer_value(json_array_get(eos, 0)), 4);
    assert_int_equal(json_integer_value(json_array_get(eos, 1)), 6);
    gguf_view_close(v);
    memcpy(tokens, before, sizeof before);
    token_types[6] = 1;
}

static void test_qwen3moe(void **state)
{
    (void)state;
    struct gguf_file f = {0};
    common(&f, "qwen3moe");
    gguf_file_u32(&f, "qwen3moe.expert_count", 3);
    gguf_file_u32(&f, "qwen3moe.expert_used_count", 2);
    gguf_file_u32(&f, "qwen3moe.expert_feed_forward_length", 5);
    gguf_file_u32(&f, "qwen3moe.attention.key_length", 16);
    gguf_file_text(&f, "qwen3moe.rope.scaling.type", "yarn");
    gguf_file_f32(&f, "qwen3moe.rope.scaling.factor", 4);
    gguf_file_u32(&f, "qwen3moe.rope.scaling.original_context_length", 32);
    add(&f, "output.weight", HIDDEN, VOCAB, 0, 1);
    add(&f, "blk.0.ffn_gate_inp.weight", HIDDEN, 3, 0, 1);
    add(&f, "blk.0.ffn_down_exps.weight", 5, HIDDEN, 3, 7);
    add(&f, "blk.0.ffn_gate_up_exps.weight", HIDDEN, 10, 3, 8);
    struct gguf_view *v = open_view(&f);
    assert_false(json_is_true(json_object_get(v->config, "tie_word_embeddings")));
    assert_int_equal(config_integer(v, "num_experts"), 3);
    assert_int_equal(config_integer(v, "moe_intermediate_size"), 5);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(v->config, "rope_scaling"),
                                                        "original_max_position_embeddings")),
                     32);
    const struct tensor *q = find(v, "model.layers.0.self_attn.q_proj.weight");
    assert_true(value_at(q, 1, 0) == 6 + 64.0f / 1024);
    const struct tensor *down = find(v, "model.layers.0.mlp.experts.2.down_proj.weight");
    assert_true(down->dims == 2 && down->shape[0] == HIDDEN && down->shape[1] == 5);
    assert_true(value_at(down, 1, 2) == 7 + (float)((2 * HIDDEN + 1) * 5 + 2) / 1024);
    const struct tensor *up = find(v, "model.layers.0.mlp.experts.1.up_proj.weight");
    assert_true(value_at(up, 4, 9) == 8 + (float)((10 + 5 + 4) * HIDDEN + 9) / 1024);
    gguf_view_close(v);
}

static void step35(struct gguf_file *f, float last_factor)
{
    static const int32_t heads[] = {4, 6}, groups[] = {2, 2};
    float clamps[] = {0, 7}, factors[] = {1, 1.5f, 1, last_factor};
    gguf_file_i32s(f, "step35.attention.head_count", heads, 2);
    gguf_file_i32s(f, "step35.attention.head_count_kv", groups, 2);
    gguf_file_raw(f, "step35.attention.sliding_window_pattern", 9, "\7\0\0\0\2\0\0\0\0\0\0\0\0\1",
                  14);
    gguf_file_raw(f, "step35.swiglu_clamp_exp", 9, "\6\0\0\0\2\0\0\0\0\0\0\0", 12);
    gguf_bytes_add(&f->kv, clamps, sizeof clamps);
    static const struct {
        const char *name;
        uint32_t value;
    } of[] = {{"block_count", 2},
              {"context_length", 128},
              {"embedding_length", HIDDEN},
              {"feed_forward_length", 96},
              {"attention.key_length", 16},
              {"attention.value_length", 16},
              {"attention.sliding_window", 5},
              {"expert_count", 3},
              {"expert_used_count", 2},
              {"expert_feed_forward_length", 5},
              {"expert_shared_feed_forward_length", 6},
              {"leading_dense_block_count", 1}};
    char key[64];
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        snprintf(key, sizeof key, "step35.%s", of[i].name);
        gguf_file_u32(f, key, of[i].value);
    }
    gguf_file_text(f, "general.architecture", "step35");
    gguf_file_f32(f, "step35.expert_weights_scale", 3);
    add(f, "token_embd.weight", HIDDEN, VOCAB, 0, 1);
    add(f, "output_norm.weight", HIDDEN, 0, 0, 2);
    add(f, "blk.1.attn_norm.weight", HIDDEN, 0, 0, 3);
    add(f, "blk.1.ffn_gate_exps.weight", HIDDEN, 5, 3, 8);
    add(f, "blk.1.exp_probs_b.bias", 3, 0, 0, 9);
    gguf_file_tensor(f, "rope_freqs.weight", 1, (const uint64_t[]){4}, 0, factors, 16);
}

static void test_step35(void **state)
{
    (void)state;
    for (int old = 0; old < 2; old++) {
        struct gguf_file f = {0};
        step35(&f, old ? 2 : 1);
        struct gguf_view *v = open_view(&f);
        if (old)
            assert_non_null(strstr(v->note, "early converter"));
        else
            assert_string_equal(v->note, "");
        assert_int_equal(config_integer(v, "num_attention_heads"), 4);
        assert_int_equal(
            json_integer_value(json_object_get(
                json_object_get(v->config, "attention_other_setting"), "num_attention_heads")),
            6);
        const json_t *types = json_object_get(v->config, "layer_types");
        assert_string_equal(json_string_value(json_array_get(types, 1)), "sliding_attention");
        assert_true(
            json_real_value(json_array_get(json_object_get(v->config, "swiglu_limits"), 1)) == 7);
        assert_true(json_real_value(json_object_get(v->config, "moe_router_scaling_factor")) == 3);
        assert_int_equal(
            json_integer_value(json_array_get(json_object_get(v->config, "moe_layers_enum"), 0)),
            1);
        assert_true(json_is_true(json_object_get(v->config, "norm_gains_stored_whole")));
        assert_true(value_at(find(v, "model.norm.weight"), 0, 1) == 2 + 1.0f / 1024);
        const struct tensor *gate = find(v, "model.layers.1.moe.gate_proj.weight");
        assert_true(gate->dims == 3 && gate->shape[0] == 3);
        find(v, "model.layers.1.moe.router_bias");
        gguf_view_close(v);
    }
}

/* Heads of 6 + 4 on a latent of 8; gating 2: the router of V3. */
static void deepseek2(struct gguf_file *f, uint32_t gating, uint32_t key_length)
{
    static const struct {
        const char *name;
        uint32_t value;
    } numbers_of[] = {{"attention.kv_lora_rank", 8},     {"attention.key_length_mla", 10},
                      {"attention.value_length_mla", 5}, {"attention.value_length", 8},
                      {"rope.dimension_count", 4},       {"expert_count", 3},
                      {"expert_used_count", 2},          {"expert_feed_forward_length", 7},
                      {"expert_shared_count", 1},        {"expert_weights_norm", 1}};
    char key[64];
    common(f, "deepseek2");
    for (size_t i = 0; i < sizeof numbers_of / sizeof *numbers_of; i++) {
        snprintf(key, sizeof key, "deepseek2.%s", numbers_of[i].name);
        gguf_file_u32(f, key, numbers_of[i].value);
    }
    gguf_file_u32(f, "deepseek2.expert_gating_func", gating);
    gguf_file_u32(f, "deepseek2.attention.key_length", key_length);
    gguf_file_text(f, "deepseek2.rope.scaling.type", "yarn");
    gguf_file_f32(f, "deepseek2.rope.scaling.factor", 40);
    gguf_file_u32(f, "deepseek2.rope.scaling.original_context_length", 32);
    gguf_file_f32(f, "deepseek2.rope.scaling.yarn_log_multiplier", 0.1f);
    gguf_file_write(f, scratch_path("model.gguf"));
}

static void test_deepseek2(void **state)
{
    (void)state;
    struct gguf_file f = {0};
    struct gguf_view *v;
    struct err e;
    deepseek2(&f, 2, 12); /* it has attn_k and attn_q, which are not this architecture's */
    expect_error(gguf_view_open(&v, scratch_path("model.gguf"), &e), &e, "blk.0.attn_k.weight",
                 "not a tensor", NULL);
    deepseek2(&f, 1, 12);
    expect_error(gguf_view_open(&v, scratch_path("model.gguf"), &e), &e, "expert_gating_func",
                 "sigmoid", NULL);
    deepseek2(&f, 2, 10);
    expect_error(gguf_view_open(&v, scratch_path("model.gguf"), &e), &e, "attention.key_length",
                 NULL);
}

static void test_view_refuses(void **state)
{
    (void)state;
    struct gguf_view *v;
    struct err e;
    struct gguf_file f = {0};
    common(&f, "llama");
    add(&f, "blk.0.ssm_in.weight", 4, 4, 0, 0);
    gguf_file_write(&f, scratch_path("model.gguf"));
    expect_error(gguf_view_open(&v, scratch_path("model.gguf"), &e), &e, "model.gguf",
                 "blk.0.ssm_in.weight", "not a tensor", NULL);
    common(&f, "mamba");
    gguf_file_write(&f, scratch_path("model.gguf"));
    expect_error(gguf_view_open(&v, scratch_path("model.gguf"), &e), &e, "\"mamba\"", "qwen3moe",
                 NULL);
    common(&f, "qwen3moe");
    gguf_file_write(&f, scratch_path("model.gguf"));
    expect_error(gguf_view_open(&v, scratch_path("model.gguf"), &e), &e, "qwen3moe.expert_count",
                 "is missing", NULL);
    common(&f, "llama");
    gguf_file_text(&f, "llama.rope.scaling.type", "longrope");
    gguf_file_f32(&f, "llama.rope.scaling.factor", 4);
    gguf_file_write(&f, scratch_path("model.gguf"));
    expect_error(gguf_view_open(&v, scratch_path("model.gguf"), &e), &e, "rope.scaling.type", NULL);
}

/* ---- the tokenizer ---------------------------------------------------------------------------- */

static struct tokenizer *tokenizer_of(const char *path)
{
    struct gguf *g;
    struct tokenizer *t;
    struct err e;
    expect_ok(gguf_open(&g, path, &e), &e);
    char *text = gguf_tokenizer(g, &e);
    if (!text)
        fail_msg("%s", e.text);
    expect_ok(tokenizer_open_text(&t, path, text, strlen(text), &e), &e);
    free(text);
    gguf_close(g);
    return t;
}

static void test_tokenizer(void **state)
{
    (void)state;
    static const char *const pres[] = {"deepseek-v3", "qwen2",       "llama-bpe", "smollm",
                                       "gpt-2",       "chatglm-bpe", "glm4",      "gpt-4o",
                                       "minimax-m2",  "kimi-k2"};
    struct gguf_file f = {0};
    struct gguf *g;
    struct err e;
    common(&f, "llama");
    gguf_file_write(&f, scratch_path("model.gguf"));
    struct tokenizer *t = tokenizer_of(scratch_path("model.gguf"));
    int32_t *ids;
    size_t n;
    static const int32_t wanted[] = {3, 8, 4, 5, 9, 9, 0};
    expect_ok(tokenizer_encode(t, "ab a<|im_end|><x>11a", 20, &ids, &n, &e), &e);
    assert_int_equal(n, 7);
    assert_memory_equal(ids, wanted, sizeof wanted);
    assert_true(tokenizer_is_special(t, 4) && !tokenizer_is_special(t, 5));
    assert_null(tokenizer_token(t, 7)); /* unused */
    free(ids);
    tokenizer_close(t);
    expect_ok(gguf_open(&g, scratch_path("model.gguf"), &e), &e);
    json_t *config = gguf_tokenizer_config(g);
    assert_true(json_is_true(json_object_get(config, "add_bos_token")));
    assert_string_equal(json_string_value(json_object_get(config, "bos_token")), "<|im_end|>");
    assert_string_equal(json_string_value(json_object_get(config, "chat_template")),
                        "{{ bos_token }}");
    json_decref(config);
    gguf_close(g);
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) { /* their patterns can be compiled */
        gguf_file_text(&f, "tokenizer.ggml.model", "gpt2");
        gguf_file_text(&f, "tokenizer.ggml.pre", pres[i]);
        gguf_file_texts(&f, "tokenizer.ggml.tokens", (const char *const[]){"a"}, 1);
        gguf_file_texts(&f, "tokenizer.ggml.merges", NULL, 0);
        gguf_file_tensor(&f, "t", 2, (const uint64_t[]){32, 4}, 0, numbers, sizeof numbers);
        gguf_file_write(&f, scratch_path("model.gguf"));
        tokenizer_close(tokenizer_of(scratch_path("model.gguf")));
    }
}

/* ---- damage ----------------------------------------------------------------------------------- */

static void look_at(const char *path, size_t *rejected)
{
    struct gguf_view *v;
    struct err e = {""};
    if (gguf_view_open(&v, path, &e) != 0) {
        assert_non_null(strstr(e.text, path));
        ++*rejected;
        return;
    }
    unsigned sum = 0;
    for (size_t t = 0; t < v->count; t++)
        for (size_t b = 0; b < v->tensors[t].bytes; b++)
            sum += ((const uint8_t *)v->tensors[t].data)[b];
    char *text = gguf_tokenizer(v->file, &e);
    assert_true(sum > 0 && (text || strstr(e.text, path)));
    free(text);
    json_decref(gguf_tokenizer_config(v->file));
    gguf_view_close(v);
}

static void damage(struct gguf_file *f, int trials)
{
    size_t n, rejected = 0;
    const char *path = scratch_path("damaged.gguf");
    uint8_t *bytes = gguf_file_bytes(f, &n), *copy = mem_new(n, 1);
    for (int i = 0; i < trials; i++) {
        memcpy(copy, bytes, n);
        /* Mostly the beginning, where lengths, counts and types are. */
        size_t head = i % 4 ? n < 1700 ? n : 1700 : n, size = i % 8 ? n : scratch_random() % n;
        for (int j = 0; j < 1 + i % 3; j++)
            copy[scratch_random() % head] = (uint8_t)(i % 2 ? 0xff : scratch_random());
        scratch_write(path, copy, size);
        look_at(path, &rejected);
    }
    printf("%d damaged files, %zu refused\n", trials, rejected);
    assert_true(rejected > (size_t)trials / 10);
    free(copy);
    free(bytes);
}

/* Any byte changed, or the end cut off: an error or a model, and no access outside the file. TRIALS: how
 * many, in the place of 3,000. */
static void test_damage(void **state)
{
    (void)state;
    const char *named = getenv("TRIALS");
    int trials = named ? atoi(named) : scratch_trials(3000);
    struct gguf_file plain = {0}, lists = {0};
    common(&plain, "llama");
    damage(&plain, trials / 2);
    step35(&lists, 1);
    damage(&lists, trials / 2);
}

static int print_model(const char *path)
{
    struct gguf_view *v;
    struct err e;
    if (gguf_view_open(&v, path, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    json_t *tensors = json_array();
    for (size_t i = 0; i < v->count; i++)
        json_array_append_new(tensors, json_string(v->tensors[i].name));
    char *text = gguf_tokenizer(v->file, &e);
    json_t *all = json_pack("{s:O, s:o, s:o, s:o}", "config", v->config, "tokenizer",
                            text ? json_loads(text, 0, NULL) : json_string(e.text),
                            "tokenizer_config", gguf_tokenizer_config(v->file), "tensors", tensors);
    json_dumpf(all, stdout, 0);
    json_decref(all);
    free(text);
    gguf_view_close(v);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    return scratch_begin() ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    scratch_end();
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return print_model(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama),        cmocka_unit_test(test_names),
        cmocka_unit_test(test_ends),         cmocka_unit_test(test_qwen3moe),
        cmocka_unit_test(test_step35),       cmocka_unit_test(test_deepseek2),
        cmocka_unit_test(test_view_refuses), cmocka_unit_test(test_tokenizer),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
