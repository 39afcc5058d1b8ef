/* Fields of config.json in every family: those that mean the default change nothing, others are
 * refused by name, and model_ignore makes fields absent. */
#include "model/family.h"
#include "model/generate.h"
#include "model/model.h"

#include "tests/model/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static json_t *parse(const char *text)
{
    json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);
    if (!j)
        die("the test's own JSON is wrong: %s", text);
    return j;
}

/* The config.json of a small model of the family, with the fields of `change` over it. */
static json_t *config_with(const char *family, const char *change)
{
    struct generate_options o;
    struct err e;
    generate_defaults(&o);
    if (generate_set(&o, "family", family, &e) != 0)
        die("%s", e.text);
    json_t *config = family_find(family)->write(&o.model, DTYPE_F32), *more = parse(change);
    json_object_update(config, more);
    json_decref(more);
    return config;
}

static int read_with(struct model *m, const char *family, const char *change, const char *ignore,
                     struct err *e)
{
    json_t *config = config_with(family, change), *names = ignore ? parse(ignore) : NULL;
    memset(m, 0x5a, sizeof *m);
    int status = model_read_config(m, config, "config.json", names, e);
    json_decref(names);
    json_decref(config);
    return status;
}

/* Those of windows and layers are another matter for Step-3.5, which has both. */
static const char *const defaults[] = {
    "{\"attention_bias\": null}",
    "{\"mlp_bias\": false}",
    "{\"mlp_bias\": null}",
    "{\"hidden_act\": \"silu\"}",
    "{\"rope_scaling\": null}",
    "{\"rope_parameters\": null}",
    "{\"do_sample\": true, \"max_length\": 20, \"temperature\": 0.6, \"top_k\": 50, \"top_p\": "
    "0.9}",
    "{\"tokenizer_class\": \"LlamaTokenizer\", \"torchscript\": false, \"use_cache\": false}",
    "{\"attention_dropout\": 0.0, \"initializer_range\": 0.02, \"pad_token_id\": null}",
    "{\"transformers_version\": \"4.57.1\", \"dtype\": \"bfloat16\", \"_name_or_path\": \"x\"}",
    "{\"id2label\": {\"0\": \"a\"}, \"return_dict\": true, \"is_decoder\": false}",
    "{\"quantization_config\": null}",
    "{\"final_logit_softcapping\": null, \"attn_logit_softcapping\": null}",
    "{\"output_router_logits\": false, \"router_aux_loss_coef\": 0.001, \"ep_size\": 1}",
};
static const char *const full_defaults[] = {
    "{\"sliding_window\": 0}",
    "{\"sliding_window\": null, \"use_sliding_window\": false}",
    "{\"sliding_window\": 4096, \"use_sliding_window\": false, \"max_window_layers\": 28}",
    "{\"layer_types\": null}",
    "{\"layer_types\": [\"full_attention\", \"full_attention\"]}",
};
/* Where the base has a scaling of its own, "default" is a change. (GLM's base has biases.) */
static const char *const plain_ropes[] = {
    "{\"rope_scaling\": {\"type\": \"default\"}}",
    "{\"rope_scaling\": {\"rope_type\": \"default\"}}",
    "{\"rope_parameters\": {\"rope_type\": \"default\"}}",
};

static void same_model(const char *family, const char *change)
{
    static struct model plain, changed;
    struct err e;
    if (read_with(&plain, family, "{}", NULL, &e) != 0)
        fail_msg("%s: %s", family, e.text);
    if (read_with(&changed, family, change, NULL, &e) != 0)
        fail_msg("%s: %s: %s", family, change, e.text);
    if (memcmp(&plain, &changed, sizeof plain) != 0)
        fail_msg("%s: %s changes the model", family, change);
}

#define COUNT(list) (sizeof(list) / sizeof *(list))

static void test_defaults(void **state)
{
    (void)state;
    for (size_t f = 0; family_all()[f]; f++) {
        const char *name = family_all()[f]->name;
        json_t *base = config_with(name, "{}");
        bool scaled = json_is_object(json_object_get(base, "rope_scaling"));
        bool slides = json_object_get(base, "sliding_window") != NULL;
        for (size_t i = 0; i < COUNT(defaults); i++)
            if ((!strstr(defaults[i], "rope_scaling") || !scaled) &&
                (!strstr(defaults[i], "attention_bias") || strcmp(name, "glm4_moe") != 0))
                same_model(name, defaults[i]);
        for (size_t i = 0; i < COUNT(full_defaults); i++)
            if (!slides)
                same_model(name, full_defaults[i]);
        for (size_t i = 0; i < COUNT(plain_ropes); i++)
            if (!scaled && strcmp(name, "step3p5") != 0)
                same_model(name, plain_ropes[i]);
        json_decref(base);
    }
}

static const struct {
    const char *change, *words;
} refused[] = {
    {"{\"hidden_act\": \"gelu\"}", "hidden_act is \"gelu\""},
    {"{\"mlp_bias\": true}", "mlp_bias is true"},
    {"{\"final_logit_softcapping\": 30.0}", "final_logit_softcapping is 30.0"},
    {"{\"some_new_thing\": 3}", "some_new_thing (3) is unknown"},
    {"{\"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 4}}", "longrope"},
    {"{\"layer_types\": [\"chunked_attention\"]}", "layer_types"},
    {"{\"layer_types\": \"full\"}", "layer_types"},
    {"{\"sliding_window\": \"wide\"}", "sliding_window"},
};

static void test_refused(void **state)
{
    (void)state;
    static struct model m;
    for (size_t f = 0; family_all()[f]; f++)
        for (size_t i = 0; i < COUNT(refused); i++) {
            const char *name = family_all()[f]->name;
            struct err e;
            if (strstr(refused[i].change, "longrope") && strcmp(name, "step3") == 0)
                continue; /* says only which are possible */
            if (read_with(&m, name, refused[i].change, NULL, &e) == 0)
                fail_msg("%s: accepted: %s", name, refused[i].change);
            if (!strstr(e.text, refused[i].words))
                fail_msg("%s: no \"%s\" in: %s", name, refused[i].words, e.text);
        }
}

static void test_ignore(void **state)
{
    (void)state;
    static struct model plain, m;
    struct err e;
    for (size_t f = 0; family_all()[f]; f++) {
        const char *name = family_all()[f]->name;
        assert_int_equal(read_with(&plain, name, "{}", NULL, &e), 0);
        assert_string_equal(plain.ignored, "");
        if (read_with(&m, name, "{\"some_new_thing\": 3, \"mlp_bias\": true}",
                      "[\"some_new_thing\", \"mlp_bias\"]", &e) != 0)
            fail_msg("%s: %s", name, e.text);
        assert_string_equal(m.ignored, "some_new_thing (3), mlp_bias (true)");
        m.ignored[0] = '\0';
        memset(m.ignored, 0, sizeof m.ignored);
        assert_memory_equal(&plain, &m, sizeof m);
        /* one alone is not enough, and a name that is nowhere is a slip */
        assert_int_equal(read_with(&m, name, "{\"some_new_thing\": 3, \"mlp_bias\": true}",
                                   "[\"mlp_bias\"]", &e),
                         -1);
        assert_non_null(strstr(e.text, "some_new_thing (3) is unknown"));
        assert_int_equal(read_with(&m, name, "{}", "[\"some_new_thing\"]", &e), -1);
        assert_non_null(strstr(e.text, "there is no field some_new_thing that model_ignore"));
        assert_int_equal(read_with(&m, name, "{}", "[\"hidden_size\"]", &e), -1);
        assert_non_null(strstr(e.text, "hidden_size is missing"));
    }
}

/* A field of an object inside, by the path that messages have. */
static void test_ignore_inside(void **state)
{
    (void)state;
    static struct model m;
    struct err e;
    static const char change[] =
        "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2.0,"
        " \"original_max_position_embeddings\": 64, \"truncated\": false, \"extra\": 1}}";
    assert_int_equal(read_with(&m, "qwen3", change, NULL, &e), -1);
    assert_non_null(strstr(e.text, "rope_scaling.truncated (false) is unknown"));
    assert_int_equal(read_with(&m, "qwen3", change, "[\"truncated\", \"extra\"]", &e), -1);
    if (read_with(&m, "qwen3", change, "[\"rope_scaling.truncated\", \"rope_scaling.extra\"]", &e))
        fail_msg("%s", e.text);
    assert_string_equal(m.ignored, "rope_scaling.truncated (false), rope_scaling.extra (1)");
    assert_int_equal(m.ropes[0].scaling, ROPE_YARN);
    assert_int_equal(read_with(&m, "qwen3", "{}", "[5]", &e), -1);
    assert_non_null(strstr(e.text, "there is no field 5"));
}

/* Where the share of a head that turns is said, once or twice, it is the same. */
static void test_partial_rotation(void **state)
{
    (void)state;
    static struct model m;
    struct err e;
    static const struct {
        const char *family, *change;
        size_t turns; /* of 60 */
    } cases[] = {
        {"llama", "{}", 60},
        {"llama", "{\"partial_rotary_factor\": 0.5}", 30},
        {"llama", "{\"rope_parameters\": {\"partial_rotary_factor\": 0.3}}", 18},
        {"llama",
         "{\"partial_rotary_factor\": 0.5, \"rope_parameters\": {\"partial_rotary_factor\": 0.5}}",
         30},
        {"glm4_moe", "{\"partial_rotary_factor\": null}", 30},
        {"glm4_moe", "{\"partial_rotary_factor\": 1.0}", 60},
        {"minimax_m2", "{\"rotary_dim\": 20}", 20},
        {"minimax_m2",
         "{\"rotary_dim\": 20, \"rope_parameters\": {\"partial_rotary_factor\": "
         "0.3333333333333333}}",
         20},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        json_t *config = config_with(cases[i].family, cases[i].change);
        json_object_set_new(config, "head_dim", json_integer(60));
        if (model_read_config(&m, config, "config.json", NULL, &e) != 0)
            fail_msg("%s: %s", cases[i].change, e.text);
        json_decref(config);
        if (m.ropes[0].dim != cases[i].turns ||
            m.layer[0].attention.attn.rope_dim != (int)cases[i].turns)
            fail_msg("%s %s: %zu turn, not %zu", cases[i].family, cases[i].change, m.ropes[0].dim,
                     cases[i].turns);
    }
}

/* What newer tools write beside the fields it follows from. */
static void test_derived(void **state)
{
    (void)state;
    static struct model m;
    struct err e;
    same_model("deepseek_v3", "{\"qk_head_dim\": 96}");
    assert_int_equal(read_with(&m, "deepseek_v3", "{\"qk_head_dim\": 97}", NULL, &e), -1);
    assert_non_null(strstr(e.text, "qk_head_dim must be qk_nope_head_dim and qk_rope_head_dim"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),         cmocka_unit_test(test_refused),
        cmocka_unit_test(test_ignore),           cmocka_unit_test(test_ignore_inside),
        cmocka_unit_test(test_partial_rotation), cmocka_unit_test(test_derived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
