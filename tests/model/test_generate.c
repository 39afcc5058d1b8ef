/* Random checkpoints: the same for the same seed, of the right shape and size of numbers. */
#include "base/mem.h"
#include "data/checkpoint.h"
#include "model/generate.h"

#include "tests/model/files.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char top[FILES_PATH];

/* Generates into top/name and opens it. */
static struct checkpoint *generate(struct generate_options *o, const char *name)
{
    struct checkpoint *c;
    struct err e;
    char path[FILES_PATH];
    fixture_join(path, top, name);
    o->directory = path;
    if (generate_checkpoint(o, &e) != 0 || checkpoint_open(&c, path, &e) != 0)
        die("%s", e.text);
    return c;
}

static void odd(struct generate_options *o, enum dtype dtype)
{
    files_odd_model(o, NULL);
    o->dtype = dtype;
    o->model.hidden = 133;
    o->model.expert_inter = 301; /* three rows of blocks */
}

static bool same_contents(const struct checkpoint *a, const struct checkpoint *b)
{
    bool same = checkpoint_count(a) == checkpoint_count(b);
    for (size_t i = 0; same && i < checkpoint_count(a); i++) {
        const struct tensor *t = checkpoint_at(a, i), *u = checkpoint_find(b, t->name);
        same = u && t->dtype == u->dtype && t->bytes == u->bytes &&
               memcmp(t->data, u->data, t->bytes) == 0;
    }
    return same;
}

/* Threads and file sizes change nothing; the seed changes everything but the shape. */
static void test_seed_decides(void **state)
{
    (void)state;
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F8E4M3};
    for (int i = 0; i < 3; i++) {
        struct generate_options o;
        char name[32];
        struct checkpoint *c[4];
        for (int run = 0; run < 4; run++) {
            odd(&o, dtypes[i]);
            o.threads = run == 1 ? 1 : 3;
            o.file_bytes = run == 2 ? 100000 : 0;
            o.seed = run == 3 ? 12 : 11;
            snprintf(name, sizeof name, "seed-%d-%d", i, run);
            c[run] = generate(&o, name);
        }
        assert_true(same_contents(c[0], c[1]));
        assert_true(same_contents(c[0], c[2]));
        assert_false(same_contents(c[0], c[3]));
        assert_true(strstr(checkpoint_at(c[2], 0)->file, "model-00001-of-000"));
        for (int run = 0; run < 4; run++)
            checkpoint_close(c[run]);
    }
}

/* Bytes and parameters as counted beforehand. */
static void test_sizes(void **state)
{
    (void)state;
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F8E4M3};
    for (int i = 0; i < 3; i++) {
        struct generate_options o;
        char name[32];
        odd(&o, dtypes[i]);
        snprintf(name, sizeof name, "size-%d", i);
        struct checkpoint *c = generate(&o, name);
        size_t bytes = 0, parameters = 0;
        for (size_t t = 0; t < checkpoint_count(c); t++) {
            const struct tensor *x = checkpoint_at(c, t);
            bytes += x->bytes;
            if (!strstr(x->name, "_scale_inv"))
                parameters += x->bytes / dtype_size(x->dtype);
        }
        assert_int_equal(bytes, generate_bytes(&o));
        assert_int_equal(parameters, generate_parameters(&o));
        checkpoint_close(c);
    }
    struct generate_options o;
    generate_defaults(&o);
    assert_int_equal(generate_bytes(&o), 2 * generate_parameters(&o));
    assert_true(generate_parameters(&o) > 1560000000 && generate_parameters(&o) < 1570000000);
}

/* What was asked for is what is read back. */
static void test_config_round_trip(void **state)
{
    (void)state;
    struct generate_options o;
    struct model m;
    struct err e;
    char path[FILES_PATH];
    odd(&o, DTYPE_F8E4M3);
    o.model.router.renormalize = true;
    o.model.tied = true;
    o.model.norm_eps = 3e-6f;
    o.model.rope_theta = 12345.5;
    o.model.n_eos = 2;
    o.model.eos[1] = 60;
    checkpoint_close(generate(&o, "round"));
    fixture_join(path, top, "round");
    assert_int_equal(model_read(&m, path, NULL, &e), 0);
    assert_memory_equal(m.moe, o.model.moe, sizeof o.model.moe);
    assert_memory_equal(m.eos, o.model.eos, sizeof m.eos);
    assert_true(m.norm_eps == o.model.norm_eps && m.ropes[0].theta == o.model.rope_theta);
    assert_string_equal(m.family, o.model.family);
    const struct attention_spec *a = &m.layer[1].attention;
    const struct ffn_spec *f = &m.layer[1].ffn;
    const size_t got[] = {m.hidden,
                          m.layers,
                          m.vocab,
                          m.context,
                          (size_t)a->attn.heads,
                          (size_t)a->attn.kv_heads,
                          (size_t)a->attn.key_dim,
                          a->q_rank,
                          m.most.dense_inter,
                          f->inter,
                          f->shared_inter};
    const size_t put[] = {o.model.hidden,       o.model.layers,      o.model.vocab,
                          o.model.context,      o.model.heads,       o.model.kv_heads,
                          o.model.head_dim,     o.model.q_rank,      o.model.dense_inter,
                          o.model.expert_inter, o.model.shared_inter};
    for (size_t i = 0; i < sizeof got / sizeof *got; i++)
        assert_int_equal(got[i], put[i]);
    assert_int_equal(f->router.experts, o.model.router.experts);
    assert_int_equal(f->router.topk, o.model.router.topk);
    assert_true(f->router.renormalize && m.tied && m.fp8_blocks);
    assert_int_equal(m.bos, 0);
    assert_int_equal(m.n_eos, 2);
}

static float element(const struct tensor *t, size_t i)
{
    if (t->dtype == DTYPE_F32)
        return ((const float *)t->data)[i];
    if (t->dtype == DTYPE_BF16)
        return f32_from_bf16(((const bf16_t *)t->data)[i]);
    return f32_from_f8e4m3(((const f8e4m3_t *)t->data)[i]);
}

static void check_moments(const struct checkpoint *c, const char *name, double mean,
                          double deviation)
{
    const struct tensor *t = checkpoint_find(c, name);
    size_t n = t->bytes / dtype_size(t->dtype);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += element(t, i);
    for (size_t i = 0; i < n; i++)
        squares += (element(t, i) - sum / (double)n) * (element(t, i) - sum / (double)n);
    double error = fabs(sum / (double)n - mean) * sqrt((double)n) / deviation;
    double ratio = sqrt(squares / (double)n) / deviation;
    if (!(error < 4) || !(fabs(ratio - 1) < 3 / sqrt((double)n)))
        fail_msg("%s: mean %g (wanted %g), deviation %g times %g", name, sum / (double)n, mean,
                 ratio, deviation);
}

static void test_numbers_are_of_ordinary_size(void **state)
{
    (void)state;
    struct generate_options o;
    odd(&o, DTYPE_BF16);
    struct checkpoint *c = generate(&o, "numbers");
    check_moments(c, "model.embed_tokens.weight", 0, 1);
    check_moments(c, "lm_head.weight", 0, 3 / sqrt(133));
    check_moments(c, "model.layers.0.self_attn.wq.weight", 0, 1 / sqrt(19));
    check_moments(c, "model.layers.1.moe.gate.weight", 0, 2 / sqrt(133));
    check_moments(c, "model.layers.1.moe.gate_proj.weight", 0, 1 / sqrt(133));
    check_moments(c, "model.layers.2.moe.down_proj.weight", 0, 1 / sqrt(301));
    check_moments(c, "model.layers.3.post_attention_layernorm.weight", 1, 0.1);
    /* one tensor is not another's copy */
    const struct tensor *a = checkpoint_find(c, "model.layers.1.moe.gate_proj.weight");
    const struct tensor *b = checkpoint_find(c, "model.layers.2.moe.gate_proj.weight");
    const struct tensor *d = checkpoint_find(c, "model.layers.1.moe.up_proj.weight");
    assert_memory_not_equal(a->data, b->data, 1024);
    assert_memory_not_equal(a->data, d->data, 1024);
    /* nor one expert another's, nor one strip of rows another's */
    const bf16_t *first = a->data;
    assert_memory_not_equal(first, first + 301 * 133, 1024);
    assert_memory_not_equal(first, first + 128 * 133, 1024);
    checkpoint_close(c);
}

/* Every block uses the whole range of the format, and its scale is that of the block. */
static void test_fp8_blocks(void **state)
{
    (void)state;
    struct generate_options o;
    odd(&o, DTYPE_F8E4M3);
    struct checkpoint *c = generate(&o, "blocks");
    const struct tensor *t = checkpoint_find(c, "model.layers.1.moe.gate_proj.weight");
    const struct tensor *s = checkpoint_find(c, "model.layers.1.moe.gate_proj.weight_scale_inv");
    assert_int_equal(s->shape[1], 3);
    assert_int_equal(s->shape[2], 2);
    float most[7 * 3 * 2] = {0};
    for (size_t i = 0; i < 7u * 301 * 133; i++) {
        size_t block = (i / 133 / 301 * 3 + i / 133 % 301 / 128) * 2 + i % 133 / 128;
        most[block] = fmaxf(most[block], fabsf(element(t, i)));
    }
    const float *scale = s->data;
    float low = 1, high = 0;
    for (size_t i = 0; i < 7 * 3 * 2; i++) {
        assert_true(most[i] == 448.0f);
        low = fminf(low, scale[i]);
        high = fmaxf(high, scale[i]);
    }
    assert_true(low > 0 && high < 2 * 3.5f / sqrtf(133) / 448 && high > 1.5f * low);
    checkpoint_close(c);
}

static void test_tokenizer_is_copied(void **state)
{
    (void)state;
    struct generate_options o;
    char from[FILES_PATH], to[FILES_PATH];
    size_t n;
    struct err e;
    odd(&o, DTYPE_BF16);
    fixture_join(from, top, "from");
    fixture_join(to, top, "to");
    o.directory = from;
    assert_int_equal(generate_checkpoint(&o, &e), 0);
    o.directory = to;
    o.tokenizer = from;
    assert_int_equal(generate_checkpoint(&o, &e), -1);
    assert_non_null(strstr(e.text, "from/tokenizer.json: cannot be opened"));
    fixture_write(from, "tokenizer.json", "{\"a\": 1}", 8);
    assert_int_equal(generate_checkpoint(&o, &e), 0); /* no config.json was left behind */
    char *copy = fixture_read(to, "tokenizer.json", &n);
    assert_string_equal(copy, "{\"a\": 1}");
    free(copy);
}

static void expect_refused(struct generate_options *o, const char *words)
{
    struct err e = {""};
    if (generate_checkpoint(o, &e) == 0)
        fail_msg("accepted, but wanted: %s", words);
    if (!strstr(e.text, words))
        fail_msg("no \"%s\" in: %s", words, e.text);
}

static void test_refusals(void **state)
{
    (void)state;
    struct generate_options o;
    char path[FILES_PATH];
    odd(&o, DTYPE_BF16);
    checkpoint_close(generate(&o, "twice"));
    fixture_join(path, top, "twice");
    o.directory = path;
    expect_refused(&o, "twice/config.json: is there already");
    fixture_join(path, top, "no/parent");
    expect_refused(&o, "no/parent: cannot be made: No such file");

    fixture_join(path, top, "refused");
    o.model.router.topk = 8;
    expect_refused(&o, "moe_top_k is 8, but moe_num_experts is 7");
    odd(&o, DTYPE_BF16);
    o.directory = path;
    o.model.head_dim = 7;
    expect_refused(&o, "head_dim is 7; it must be even");
    odd(&o, DTYPE_BF16);
    o.directory = path;
    o.model.moe[5] = true;
    expect_refused(&o, "layer 5 is to have experts, but there are 4 layers");
    odd(&o, DTYPE_BF16);
    o.directory = path;
    o.model.expert_inter = o.model.hidden = 1u << 20;
    o.model.router.experts = 1024;
    expect_refused(&o, "GB are free there");
}

static void set_all(struct generate_options *o, const char *const (*settings)[2], size_t n)
{
    struct err e;
    for (size_t i = 0; i < n; i++)
        if (generate_set(o, settings[i][0], settings[i][1], &e) != 0)
            fail_msg("%s", e.text);
}

static void test_settings(void **state)
{
    (void)state;
    static const char *const good[][2] = {
        {"hidden", "11"},      {"layers", "9"},  {"vocab", "12"},
        {"context", "13"},     {"heads", "14"},  {"head_dim", "16"},
        {"q_rank", "17"},      {"dense", "18"},  {"experts", "19"},
        {"topk", "2"},         {"expert", "20"}, {"shared", "0"},
        {"tied", "true"},      {"eos", "5"},     {"renormalize", "true"},
        {"rope_theta", "1e4"}, {"dtype", "fp8"}, {"seed", "18446744073709551615"},
        {"file_mb", "3"},      {"threads", "2"},
    };
    static const char *const bad[][3] = {
        {"hidden", "", "hidden must be a whole number"},
        {"hidden", "12x", "not \"12x\""},
        {"hidden", "-1", "not \"-1\""},
        {"hidden", "99999999999", "whole number"},
        {"tied", "yes", "tied must be true or false"},
        {"dtype", "f17", "dtype must be f32, bf16, fp8, awq, int4, int8 or mxfp4, or for GGUF f16"},
        {"rope_theta", "x", "rope_theta must be a number"},
        {"moe_layers", "1-", "moe_layers must be layers like"},
        {"moe_layers", "1,,2", "moe_layers must be"},
        {"moe_layers", "600", "moe_layers must be"},
        {"seed", "18446744073709551616", "seed must be"},
        {"size", "3", "no setting \"size\"; there are: family, hidden, layers"},
    };
    struct generate_options o;
    struct err e;
    generate_defaults(&o);
    set_all(&o, good, sizeof good / sizeof *good);
    const struct family_sizes *m = &o.model;
    assert_true(m->hidden == 11 && m->layers == 9 && m->vocab == 12 && m->context == 13);
    assert_true(m->heads == 14 && m->head_dim == 16 && m->q_rank == 17 && m->dense_inter == 18);
    assert_true(m->router.experts == 19 && m->router.topk == 2 && m->router.renormalize);
    assert_true(m->expert_inter == 20 && m->shared_inter == 0 && m->tied && m->eos[0] == 5);
    assert_true(m->rope_theta == 1e4 && o.dtype == DTYPE_F8E4M3 && o.seed == UINT64_MAX);
    assert_true(o.file_bytes == 3u << 20 && o.threads == 2);
    for (size_t l = 0; l < MODEL_MAX_LAYERS; l++)
        assert_int_equal(m->moe[l], l >= 1 && l <= 7);
    assert_int_equal(generate_set(&o, "dtype", "awq", &e), 0);
    assert_int_equal(generate_set(&o, "dtype", "q4_k", &e), 0);
    assert_true(o.packing == PACKING_NONE && o.blocks && o.dtype == DTYPE_BF16);
    assert_int_equal(generate_set(&o, "moe_layers", "0,2-3", &e), 0);
    assert_int_equal(generate_set(&o, "layers", "5", &e), 0);
    for (size_t l = 0; l < MODEL_MAX_LAYERS; l++)
        assert_int_equal(m->moe[l], l == 0 || l == 2 || l == 3);
    assert_int_equal(generate_set(&o, "moe_layers", "none", &e), 0);
    for (size_t l = 0; l < MODEL_MAX_LAYERS; l++)
        assert_false(m->moe[l]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(generate_set(&o, bad[i][0], bad[i][1], &e), -1);
        if (!strstr(e.text, bad[i][2]))
            fail_msg("no \"%s\" in: %s", bad[i][2], e.text);
    }
}

/* A small model of the family with one more setting. */
static void set_small(struct generate_options *o, const char *family, const char *name,
                      const char *value)
{
    const char *const settings[][2] = {{name, value},   {"family", family}, {"hidden", "64"},
                                       {"layers", "4"}, {"vocab", "40"},    {"context", "64"},
                                       {"heads", "8"}};
    generate_defaults(o);
    set_all(o, settings, sizeof settings / sizeof *settings);
}

/* What the family cannot do is an error, whatever comes first; nothing and ignored are none. */
static void test_unused(void **state)
{
    (void)state;
    static const struct {
        const char *family, *name, *value, *error; /* NULL: it has a use */
    } cases[] = {
        {"llama", "window", "32", "window: models of llama have no use for this value"},
        {"llama", "experts", "8", "experts: models of llama"},
        {"llama", "moe_layers", "1-2", "layer 1 is to have experts, which models of llama"},
        {"llama", "rope_factor", "2", NULL},
        {"llama", "tied", "true", NULL},
        {"qwen3_moe", "limit", "7", "limit: models of qwen3_moe"},
        {"qwen3_moe", "shared", "64", "shared: models of qwen3_moe"},
        {"qwen3_moe", "shared", "0", NULL},
        {"qwen3_moe", "moe_layers", "1,3", NULL},
        {"qwen3_moe", "kv_rank", "64", "kv_rank: "},
        {"deepseek_v3", "kv_heads", "4", "kv_heads: models of deepseek_v3"},
        {"deepseek_v3", "moe_layers", "1,3", "layer 2 is to have no experts"},
        {"deepseek_v3", "moe_layers", "2-3", NULL},
        {"deepseek_v3", "shared", "1500", "(some count in wholes of expert)"},
        {"deepseek_v3", "shared", "2048", NULL},
        {"glm4_moe", "window", "8", "window: models of glm4_moe"},
        {"glm4_moe", "mtp", "1", NULL},
        {"minimax_m2", "renormalize", "true", NULL},
        {"minimax_m2", "renormalize", "false", "renormalize: models of minimax_m2"},
        {"gpt_oss", "renormalize", "false", "renormalize: models of gpt_oss"},
        {"llama", "renormalize", "false", NULL},
        {"llama", "renormalize", "true", "renormalize: models of llama"},
        {"llama", "limit", "1", "limit: models of llama"},
        {"llama", "experts", "1", "experts: models of llama"},
        {"llama", "groups", "1", NULL},
        {"step3", "rope_factor", "1", NULL},
        {"minimax_m2", "rope_factor", "4", "rope_factor: "},
        {"gpt_oss", "dense", "64", "dense: models of gpt_oss"},
        {"gpt_oss", "window", "32", NULL},
        {"gpt_oss", "moe_layers", "1-3", "layer 0 is to have no experts"},
        {"step3", "rope_factor", "2", "rope_factor: "},
        {"step3", "moe_layers", "1,3", NULL},
        {"step3p5", "window", "32", NULL},
        {"step3p5", "q_rank", "32", "q_rank: "},
    };
    struct generate_options o;
    struct model *m = mem_zeroed(1, sizeof *m);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {""};
        set_small(&o, cases[i].family, cases[i].name, cases[i].value);
        json_t *config = family_find(cases[i].family)->write(&o.model, DTYPE_F32);
        if (model_read_config(m, config, "config.json", NULL, &e) != 0)
            fail_msg("%s", e.text);
        json_decref(config);
        bool used = generate_used(&o, m, &e) == 0;
        if (used != !cases[i].error || (!used && !strstr(e.text, cases[i].error)))
            fail_msg("%s %s=%s: %s", cases[i].family, cases[i].name, cases[i].value, e.text);
        o.ignore_unused = true;
        assert_int_equal(generate_used(&o, m, &e), 0);
    }
    free(m);
}

/* The family's own defaults do not undo what was chosen before it. */
static void test_family_last(void **state)
{
    (void)state;
    struct generate_options o;
    struct err e;
    set_small(&o, "gpt_oss", "window", "32");
    assert_true(o.model.window == 32 && o.model.kv_heads == 8 && o.packing == PACKING_MXFP4);
    set_small(&o, "gpt_oss", "dtype", "bf16");
    assert_true(o.model.window == 128 && o.packing == PACKING_NONE && o.dtype == DTYPE_BF16);
    assert_int_equal(generate_set(&o, "unused", "never", &e), -1);
    assert_non_null(strstr(e.text, "unused must be error or ignore, not \"never\""));
}

static int make(void **state)
{
    (void)state;
    fixture_make(top);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    fixture_remove(top);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seed_decides),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_config_round_trip),
        cmocka_unit_test(test_numbers_are_of_ordinary_size),
        cmocka_unit_test(test_fp8_blocks),
        cmocka_unit_test(test_tokenizer_is_copied),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_unused),
        cmocka_unit_test(test_family_last),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
