/* `tandem generate` into GGUF: read back it is the model that the same settings make in safetensors,
 * number for number where the format is dense; blocks of every format have the deviation asked for. */
#include "model/generate.h"
#include "model/tensors.h"
#include "tests/model/files.h"

#include "base/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char directory[FILES_PATH];

/* One of the two. */
struct made {
    struct model m;
    struct checkpoint *c;
};

static struct made *make_model(const char *name, const char *const *settings)
{
    struct generate_options o;
    struct err e = {""};
    struct made *made = mem_zeroed(1, sizeof *made);
    char path[FILES_PATH];
    fixture_join(path, directory, name);
    generate_defaults(&o);
    o.ignore_unused = true; /* one list for all families */
    for (; *settings; settings += 2)
        if (generate_set(&o, settings[0], settings[1], &e) != 0)
            fail_msg("%s", e.text);
    o.directory = path;
    if (generate_checkpoint(&o, &e) != 0 || model_read(&made->m, path, NULL, &e) != 0 ||
        checkpoint_open(&made->c, path, &e) != 0 || model_check(&made->m, made->c, &e) != 0)
        fail_msg("%s", e.text);
    return made;
}

static void drop(struct made *made)
{
    checkpoint_close(made->c);
    free(made);
}

struct both {
    const struct made *plain, *gguf;
};

/* llama's rows of a head stand in pairs. */
static size_t row_in_gguf(const struct both *b, enum model_tensor kind, size_t row)
{
    size_t d = (size_t)b->plain->m.layer[0].attention.attn.key_dim, in = row % d;
    if (strcmp(b->plain->m.family, "llama") != 0 || (kind != TENSOR_Q_UP && kind != TENSOR_K))
        return row;
    return row - in + (in < d / 2 ? 2 * in : 2 * (in - d / 2) + 1);
}

static void compare_expert(const struct both *b, const struct member *member, size_t layer,
                           size_t expert)
{
    struct weight_part p = tensors_part(&b->plain->m, b->plain->c, member->tensor, layer, expert);
    struct weight_part g = tensors_part(&b->gguf->m, b->gguf->c, member->tensor, layer, expert);
    float *x = mem_new(p.k, sizeof *x), *y = mem_new(p.k, sizeof *y);
    bool gain = member->use == USE_GAIN;
    assert_int_equal(p.n, g.n);
    assert_int_equal(p.k, g.k);
    for (size_t r = 0; r < p.n; r++) {
        weight_row(&p, r, x);
        weight_row(&g, row_in_gguf(b, member->tensor, r), y);
        for (size_t i = 0; gain && i < p.k; i++) {
            x[i] += b->plain->m.gain_offset;
            y[i] += b->gguf->m.gain_offset;
        }
        if (memcmp(x, y, p.k * sizeof *x) != 0)
            fail_msg("%s: tensor %d of layer %zu, row %zu differs", b->plain->m.family,
                     (int)member->tensor, layer, r);
    }
    free(x);
    free(y);
}

static void compare(void *context, const struct member *member, size_t layer)
{
    const struct both *b = context;
    size_t experts = (size_t)b->plain->m.layer[layer].ffn.router.experts;
    bool each = member->dims == 3 || member->dim[0] == DIM_EXPERTS;
    /* gpt-oss's own files have gate and up in one tensor, and experts as MXFP4: other numbers. */
    bool mxfp4 = strcmp(b->plain->m.family, "gpt_oss") == 0 && member->as == AS_FFN &&
                 member->tensor != TENSOR_EXPERT_DOWN_BIAS;
    for (size_t e = 0; !mxfp4 && e < (each && member->as == AS_FFN ? experts : 1); e++)
        compare_expert(b, member, layer, e);
}

/* What decides a logit besides the tensors. */
static void compare_specs(const struct both *b)
{
    const struct model *p = &b->plain->m, *g = &b->gguf->m;
    assert_string_equal(p->family, g->family);
    assert_int_equal(p->layers, g->layers);
    assert_int_equal(p->mtp.layers, g->mtp.layers);
    assert_int_equal(p->hidden, g->hidden);
    assert_int_equal(p->context, g->context);
    assert_int_equal(p->tied, g->tied);
    assert_int_equal(p->eos[0], g->eos[0]);
    assert_int_equal(p->bos, g->bos);
    assert_true(p->norm_eps == g->norm_eps);
    for (size_t l = 0; l < p->layers + p->mtp.layers; l++) {
        const struct attention_spec *a = &p->layer[l].attention, *c = &g->layer[l].attention;
        const struct ffn_spec *f = &p->layer[l].ffn, *h = &g->layer[l].ffn;
        assert_memory_equal(&a->attn, &c->attn, offsetof(struct attn_spec, pairs));
        assert_int_equal(a->attn.window, c->attn.window);
        assert_true(fabsf(a->attn.scale - c->attn.scale) <= 1e-6f * a->attn.scale);
        assert_int_equal(a->sinks, c->sinks);
        assert_int_equal(f->inter, h->inter);
        assert_int_equal(f->shared_inter, h->shared_inter);
        assert_true(f->limit == h->limit && f->shared_limit == h->shared_limit);
        assert_true(f->alpha == h->alpha);
        assert_int_equal(f->router.score, h->router.score);
        assert_int_equal(f->router.experts, h->router.experts);
        assert_int_equal(f->router.topk, h->router.topk);
        assert_int_equal(f->router.groups, h->router.groups);
        assert_int_equal(f->router.topk_groups, h->router.topk_groups);
        assert_int_equal(f->router.renormalize, h->router.renormalize);
        assert_true(f->router.factor == h->router.factor || f->router.experts == 0);
        const struct rope_spec *r = &p->ropes[a->rope], *s = &g->ropes[c->rope];
        float *x = mem_new(100 * r->dim, sizeof *x), *y = mem_new(100 * r->dim, sizeof *y);
        assert_int_equal(r->dim, s->dim);
        rope_angles(x, 100, r);
        rope_angles(y, 100, s);
        for (size_t i = 0; i < 100 * r->dim; i++)
            assert_true(fabsf(x[i] - y[i]) <= 2e-5f);
        free(x);
        free(y);
    }
}

static void check_family(const char *const *settings)
{
    struct made *plain = make_model("plain", settings), *gguf = make_model("m.gguf", settings);
    struct both b = {plain, gguf};
    compare_specs(&b);
    members_visit(&plain->m, compare, &b);
    members_visit_mtp(&plain->m, compare, &b);
    drop(plain);
    drop(gguf);
    fixture_remove(directory);
    fixture_make(directory);
}

#define SIZES                                                                                      \
    "hidden", "76", "layers", "5", "vocab", "211", "context", "320", "heads", "6", "kv_heads",     \
        "2", "head_dim", "20", "dense", "53", "experts", "12", "topk", "3", "expert", "39",        \
        "dtype", "f32"
#define FAMILY(...) check_family((const char *const[]){"family", __VA_ARGS__, NULL, NULL})

static void test_families(void **state)
{
    (void)state;
    FAMILY("llama", SIZES, "rope_factor", "8");
    FAMILY("qwen3", SIZES, "tied", "true");
    FAMILY("qwen3_moe", SIZES, "rope_factor", "3");
    FAMILY("step3p5", SIZES, "rope_factor", "1", "window", "13", "limit", "0.5", "shared", "29",
           "mtp", "3");
    FAMILY("deepseek_v3", SIZES, "q_rank", "34", "kv_rank", "43", "nope_dim", "11", "rope_dim", "6",
           "value_dim", "13", "groups", "4", "topk_groups", "2", "shared", "39", "rope_factor",
           "4");
    FAMILY("deepseek_v3", SIZES, "q_rank", "0", "kv_rank", "43", "nope_dim", "11", "rope_dim", "6",
           "value_dim", "13", "groups", "1", "topk_groups", "1", "shared", "39", "mtp", "1");
    FAMILY("glm4_moe", SIZES, "shared", "78", "groups", "4", "topk_groups", "2");
    FAMILY("minimax_m2", SIZES);
    FAMILY("gpt_oss", SIZES, "hidden", "96", "expert", "64", "window", "13", "rope_factor", "4");
}

/* Rows of whole blocks, and of none. */
static void test_formats(void **state)
{
    (void)state;
    static const char *const formats[] = {"f32",  "bf16",   "f16",    "q8_0", "q4_0", "q4_1",
                                          "q5_0", "q5_1",   "q2_k",   "q3_k", "q4_k", "q5_k",
                                          "q6_k", "iq4_nl", "iq4_xs", "mxfp4"};
    for (size_t i = 0; i < 2 * sizeof formats / sizeof *formats; i++) {
        const char *format = formats[i / 2], *hidden = i % 2 ? "288" : "256";
        struct made *made = make_model(
            "m.gguf",
            (const char *const[]){"family",   "qwen3_moe", "hidden",   hidden, "layers", "1",
                                  "vocab",    "67",        "context",  "64",   "heads",  "4",
                                  "experts",  "3",         "topk",     "2",    "expert", "33",
                                  "head_dim", "32",        "kv_heads", "2",    "dtype",  format,
                                  NULL,       NULL});
        struct weight_part p = tensors_part(&made->m, made->c, TENSOR_EXPERT_UP, 0, 2);
        float row[288];
        double squares = 0, sum = 0, n = (double)(p.n * p.k);
        for (size_t r = 0; r < p.n; r++) {
            weight_row(&p, r, row);
            for (size_t j = 0; j < p.k; j++) {
                squares += (double)row[j] * (double)row[j];
                sum += (double)row[j];
            }
        }
        double deviation = sqrt(squares / n * (double)p.k), mean = sum / n * sqrt((double)p.k);
        if (!(deviation > 0.7 && deviation < 1.6) || !(fabs(mean) < 0.2))
            fail_msg("%s, rows of %s: deviation %g, mean %g", format, hidden, deviation, mean);
        if (i % 2 == 0 && strcasecmp(p.codec->name, format) != 0)
            fail_msg("%s became %s", format, p.codec->name);
        drop(made);
        fixture_remove(directory);
        fixture_make(directory);
    }
}

static void expect_error(const char *name, const char *text, const char *const *settings)
{
    struct generate_options o;
    struct err e = {""};
    char path[FILES_PATH];
    fixture_join(path, directory, name);
    generate_defaults(&o);
    for (; *settings; settings += 2)
        assert_int_equal(generate_set(&o, settings[0], settings[1], &e), 0);
    o.directory = path;
    if (generate_checkpoint(&o, &e) == 0)
        fail_msg("%s was written", name);
    if (!strstr(e.text, text))
        fail_msg("no \"%s\" in \"%s\"", text, e.text);
    assert_int_equal(access(path, F_OK), -1);
}

#define ERROR(name, text, ...)                                                                     \
    expect_error(name, text, (const char *const[]){"family", __VA_ARGS__, NULL, NULL})

static void test_refused(void **state)
{
    (void)state;
    ERROR("m.gguf", "has no GGUF of this family", "step3", SIZES, "kv_heads", "1");
    ERROR("m.gguf", "dtype must be one of GGUF", "llama", SIZES, "dtype", "fp8");
    ERROR("m.gguf", "dtype must be one of GGUF", "llama", SIZES, "dtype", "awq");
    ERROR("m.gguf", "moe_layers must be all", "qwen3_moe", SIZES, "moe_layers", "1-3");
    ERROR("m.gguf", "renormalize must be true", "qwen3_moe", SIZES, "renormalize", "false");
    ERROR("m.gguf", "rope_factor must be 1", "step3p5", SIZES);
    ERROR("plain", "dtype Q4_K is for GGUF", "llama", SIZES, "dtype", "q4_k");
}

static int make(void **state)
{
    (void)state;
    fixture_make(directory);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    fixture_remove(directory);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families),
                                       cmocka_unit_test(test_formats),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, make, clean);
}
