/* config.json: what is understood, and what is refused with a message that says where. */
#include "model/block.h"
#include "model/model.h"

#include "tests/model/files.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The published file's text_config, with other numbers. */
static const char text_config[] =
    "{\"architectures\": [\"Step3TextForCausalLM\"], \"model_type\": \"step3_text\","
    " \"hidden_size\": 56, \"intermediate_size\": 144, \"num_hidden_layers\": 7,"
    " \"max_seq_len\": 640, \"max_position_embedding\": 640, \"vocab_size\": 1288,"
    " \"torch_dtype\": \"bfloat16\", \"moe_layers_enum\": \"2,3,5\","
    " \"num_attention_heads\": 12, \"num_attention_groups\": 1, \"head_dim\": 10,"
    " \"share_q_dim\": 20, \"moe_num_experts\": 48, \"moe_top_k\": 3,"
    " \"moe_intermediate_size\": 40, \"share_expert_dim\": 44, \"norm_expert_weight\": false,"
    " \"rope_theta\": 70000}";

static const char vision_config[] =
    "{\"architectures\": [\"Step3VLForConditionalGeneration\"], \"model_type\": \"step3_vl\","
    " \"auto_map\": {\"AutoConfig\": \"configuration_step3.Step3VLConfig\"},"
    " \"im_end_token\": \"<im_end>\", \"im_patch_token\": \"<im_patch>\","
    " \"im_start_token\": \"<im_start>\", \"image_token_len\": 169, \"patch_token_len\": 81,"
    " \"understand_projector_stride\": 2, \"projector_bias\": false, \"image_token_id\": 1281,"
    " \"bos_token_id\": 0, \"eos_token_id\": 1285,"
    " \"vision_config\": {\"hidden_size\": 1792, \"hidden_act\": \"quick_gelu\"}}";

static char directory[FILES_PATH];

static json_t *parse(const char *text)
{
    json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);
    if (!j)
        die("the test's own JSON is wrong: %s", text);
    return j;
}

/* Writes the base with the fields of `change` over it, those of `without` (blanks between) gone. */
static void write_config(bool vision, const char *change, const char *without)
{
    json_t *text = parse(text_config), *more = parse(change);
    json_object_update(text, more);
    char name[64];
    for (const char *p = without; sscanf(p, "%63s", name) == 1; p = strstr(p, name) + strlen(name))
        json_object_del(text, name);
    json_t *root = text;
    if (vision) {
        root = parse(vision_config);
        json_object_set_new(root, "text_config", text);
    }
    char *out = json_dumps(root, JSON_INDENT(2));
    fixture_write(directory, "config.json", out, strlen(out));
    free(out);
    json_decref(more);
    json_decref(root);
}

static int read_with(struct model *m, bool vision, const char *change, const char *without,
                     struct err *e)
{
    write_config(vision, change, without);
    memset(m, 0xa5, sizeof *m);
    memset(e->text, 'x', sizeof e->text - 1);
    return model_read(m, directory, NULL, e);
}

static void must_read(struct model *m, bool vision, const char *change, const char *without)
{
    struct err e;
    if (read_with(m, vision, change, without, &e) != 0)
        fail_msg("%s without \"%s\": %s", change, without, e.text);
}

static void test_text_form(void **state)
{
    (void)state;
    static struct model m;
    must_read(&m, false, "{}", "");
    assert_string_equal(m.family, "step3");
    assert_ptr_equal(m.layer[0].attention.block, &block_qkv);
    assert_int_equal(m.hidden, 56);
    assert_int_equal(m.layers, 7);
    assert_int_equal(m.vocab, 1288);
    assert_int_equal(m.context, 640);
    assert_int_equal(m.layer[0].attention.attn.heads, 12);
    assert_int_equal(m.layer[0].attention.attn.kv_heads, 1);
    assert_int_equal(m.layer[0].attention.attn.key_dim, 10);
    assert_int_equal(m.layer[0].attention.q_rank, 20);
    assert_int_equal(m.most.dense_inter, 144);
    assert_int_equal(m.most.inter, 40);
    assert_int_equal(m.most.shared_inter, 44);
    assert_int_equal(m.layer[2].ffn.router.score, ROUTER_SOFTMAX);
    assert_int_equal(m.layer[2].ffn.router.experts, 48);
    assert_int_equal(m.layer[2].ffn.router.topk, 3);
    assert_false(m.layer[2].ffn.router.renormalize);
    for (size_t l = 0; l < MODEL_MAX_LAYERS; l++)
        assert_int_equal(m.moe[l], l == 2 || l == 3 || l == 5);
    assert_false(m.tied);
    assert_false(m.fp8_blocks);
    assert_true(m.norm_eps == 1e-5f);
    assert_true(m.ropes[0].theta == 70000);
    assert_int_equal(m.bos, -1);
    assert_int_equal(m.n_eos, 0);
}

static void test_vision_form(void **state)
{
    (void)state;
    static struct model m, text;
    must_read(&m, true, "{\"bos_token_id\": 5, \"eos_token_id\": 7}", "");
    assert_int_equal(m.bos, 0);
    assert_int_equal(m.n_eos, 1);
    assert_int_equal(m.eos[0], 1285);
    must_read(&text, false, "{\"bos_token_id\": 0, \"eos_token_id\": [1285]}", "");
    assert_memory_equal(&m, &text, sizeof m);
}

static void test_moe_layers(void **state)
{
    (void)state;
    static struct model m;
    must_read(&m, false, "{\"moe_layers_enum\": [0, 6]}", "");
    for (size_t l = 0; l < 7; l++)
        assert_int_equal(m.moe[l], l == 0 || l == 6);
    must_read(&m, false, "{\"moe_layers_enum\": \" 1 , 4\"}", "");
    for (size_t l = 0; l < 7; l++)
        assert_int_equal(m.moe[l], l == 1 || l == 4);
    must_read(&m, false, "{\"moe_layers_enum\": null}", "");
    for (size_t l = 0; l < 7; l++)
        assert_int_equal(m.moe[l], l > 0);
    must_read(&m, false, "{\"num_hidden_layers\": 61}", "moe_layers_enum");
    for (size_t l = 0; l < MODEL_MAX_LAYERS; l++)
        assert_int_equal(m.moe[l], l >= 4 && l <= 59);
    must_read(&m, false, "{}", "moe_layers_enum");
    for (size_t l = 0; l < MODEL_MAX_LAYERS; l++)
        assert_int_equal(m.moe[l], l >= 4 && l < 7);
}

static void test_variants(void **state)
{
    (void)state;
    static struct model m;
    must_read(&m, false,
              "{\"max_seq_len\": 500, \"rope_scaling\": null, \"rms_norm_eps\": 2e-6,"
              " \"norm_expert_weight\": true, \"tie_word_embeddings\": true, \"bos_token_id\": 3,"
              " \"eos_token_id\": [1, 2, 1287], \"share_expert_dim\": 0, \"hidden_act\": \"silu\","
              " \"attention_bias\": false, \"sliding_window\": null, \"use_cache\": true,"
              " \"transformers_version\": \"4.54.0\", \"initializer_range\": 0.02}",
              "rope_theta");
    assert_int_equal(m.context, 500);
    assert_true(m.norm_eps == 2e-6f);
    assert_true(m.layer[2].ffn.router.renormalize);
    assert_true(m.tied);
    assert_int_equal(m.bos, 3);
    assert_int_equal(m.n_eos, 3);
    assert_int_equal(m.eos[2], 1287);
    assert_int_equal(m.most.shared_inter, 0);
    assert_true(m.ropes[0].theta == 500000);
    must_read(&m, false,
              "{\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 9000}}",
              "rope_theta max_position_embedding");
    assert_true(m.ropes[0].theta == 9000);
    must_read(&m, true,
              "{\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e4m3\","
              " \"activation_scheme\": \"dynamic\", \"weight_block_size\": [128, 128],"
              " \"ignored_layers\": [\"lm_head\"]}}",
              "");
    assert_true(m.fp8_blocks);
}

/* What is put over the base, what is taken away, and words the message must have. */
static const struct {
    const char *change, *without, *words[3];
} defects[] = {
    {"{}", "hidden_size", {"hidden_size is missing"}},
    {"{}", "head_dim", {"head_dim is missing"}},
    {"{}", "max_seq_len max_position_embedding", {"max_position_embedding is missing"}},
    {"{\"hidden_size\": \"56\"}", "", {"hidden_size must be an integer", "\"56\""}},
    {"{\"hidden_size\": 56.0}", "", {"hidden_size must be an integer", "56.0"}},
    {"{\"hidden_size\": 0}", "", {"hidden_size is 0", "1 to"}},
    {"{\"hidden_size\": -4}", "", {"hidden_size is -4"}},
    {"{\"vocab_size\": 99999999999}", "", {"vocab_size is 99999999999"}},
    {"{\"num_hidden_layers\": 513}", "", {"num_hidden_layers is 513", "1 to 512"}},
    {"{\"share_q_dim\": null}", "", {"share_q_dim must be an integer", "null"}},
    {"{\"head_dim\": 11}", "", {"head_dim is 11", "even"}},
    {"{\"num_attention_heads\": 1000000}", "", {"num_attention_heads is 1000000"}},
    {"{\"moe_top_k\": 49}", "", {"moe_top_k is 49", "moe_num_experts is 48"}},
    {"{\"moe_top_k\": 0}", "", {"moe_top_k is 0"}},
    {"{\"moe_num_experts\": 1025}", "", {"moe_num_experts is 1025", "1 to 1024"}},
    {"{\"norm_expert_weight\": 1}", "", {"norm_expert_weight must be true or false", "1"}},
    {"{\"rms_norm_eps\": 0}", "", {"rms_norm_eps must be a number above 0"}},
    {"{\"rms_norm_eps\": \"1e-5\"}", "", {"rms_norm_eps must be a number", "\"1e-5\""}},
    {"{\"rope_theta\": [1, 2]}", "", {"rope_theta must be a number", "[1,2]"}},
    {"{\"rope_scaling\": {\"type\": \"yarn\"}}",
     "",
     {"rope_scaling is {\"type\":\"yarn\"}", "null"}},
    {"{\"rope_parameters\": {\"rope_type\": \"llama3\"}}",
     "",
     {"rope_parameters must mean plain rotary embedding"}},
    {"{\"rope_parameters\": {\"factor\": 2}}", "", {"rope_parameters.factor", "unknown"}},
    {"{\"rope_parameters\": 5}", "", {"rope_parameters must be an object"}},
    {"{\"num_attention_groups\": 8}", "", {"num_attention_groups is 8", "only 1"}},
    {"{\"hidden_act\": \"gelu\"}", "", {"hidden_act is \"gelu\"", "only \"silu\""}},
    {"{\"attention_bias\": true}", "", {"attention_bias is true", "without bias"}},
    {"{\"sliding_window\": 512}", "", {"sliding_window is 512"}},
    {"{\"moe_router_activation\": \"sigmoid\"}", "", {"moe_router_activation is \"sigmoid\""}},
    {"{\"num_nextn_predict_layers\": 3}", "", {"num_nextn_predict_layers is 3"}},
    {"{\"swiglu_limits\": [7]}", "", {"swiglu_limits ([7]) is unknown"}},
    {"{\"use_qk_norm\": true}", "", {"use_qk_norm (true) is unknown"}},
    {"{\"model_type\": \"mamba\"}", "", {"model_type is \"mamba\""}},
    {"{\"moe_layers_enum\": \"1,7\"}", "", {"moe_layers_enum names layer 7", "is 7"}},
    {"{\"moe_layers_enum\": \"1;2\"}", "", {"moe_layers_enum must be", "1;2"}},
    {"{\"moe_layers_enum\": \"1 2\"}", "", {"moe_layers_enum must be", "1 2"}},
    {"{\"moe_layers_enum\": \"1,\"}", "", {"moe_layers_enum must be"}},
    {"{\"moe_layers_enum\": \"-1\"}", "", {"moe_layers_enum must be"}},
    {"{\"moe_layers_enum\": \"99999999999999999999\"}", "", {"moe_layers_enum names layer"}},
    {"{\"moe_layers_enum\": 3}", "", {"moe_layers_enum must be", "not 3"}},
    {"{\"moe_layers_enum\": [1, \"2\"]}", "", {"moe_layers_enum names layer -1"}},
    {"{\"eos_token_id\": 1288}", "", {"eos_token_id must be a token below vocab_size 1288"}},
    {"{\"eos_token_id\": [1, -1]}", "", {"eos_token_id must be a token", "-1"}},
    {"{\"eos_token_id\": [1,2,3,4,5,6,7,8,9]}", "", {"eos_token_id has 9 tokens", "8"}},
    {"{\"bos_token_id\": \"<s>\"}", "", {"bos_token_id must be a token", "<s>"}},
    {"{\"tie_word_embeddings\": null}", "", {"tie_word_embeddings must be true or false"}},
    {"{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4}}",
     "",
     {"quantization_config.quant_method is gptq", "only \"fp8\""}},
    {"{\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [64,128]}}",
     "",
     {"quantization_config.weight_block_size is [64,128]", "[128,128]"}},
    {"{\"quantization_config\": {\"quant_method\": \"fp8\"}}",
     "",
     {"quantization_config.weight_block_size is missing", "[128,128]"}},
    {"{\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [128,128],"
     " \"activation_scheme\": \"static\"}}",
     "",
     {"quantization_config.activation_scheme is \"static\""}},
    {"{\"quantization_config\": \"fp8\"}", "", {"quantization_config must be an object"}},
};

static void test_defects(void **state)
{
    (void)state;
    static struct model m;
    struct err e;
    for (size_t i = 0; i < sizeof defects / sizeof *defects; i++) {
        for (int vision = 0; vision < 2; vision++) {
            if (vision && strstr(defects[i].change, "_token_id"))
                continue; /* the top level of the base has them, and comes first */
            if (read_with(&m, vision, defects[i].change, defects[i].without, &e) == 0)
                fail_msg("accepted: %s without \"%s\"", defects[i].change, defects[i].without);
            const char *begin = strstr(e.text, "config.json: ");
            if (!begin || strncmp(e.text, directory, strlen(directory)) != 0)
                fail_msg("%s: the message does not begin with the file: %s", defects[i].change,
                         e.text);
            bool inside = strncmp(begin + 13, "text_config.", 12) == 0;
            if (inside != vision)
                fail_msg("%s: where is it? %s", defects[i].change, e.text);
            for (size_t w = 0; w < 3 && defects[i].words[w]; w++)
                if (!strstr(e.text, defects[i].words[w]))
                    fail_msg("%s: no \"%s\" in: %s", defects[i].change, defects[i].words[w],
                             e.text);
        }
    }
}

static void expect_error(const char *file, const char *words)
{
    static struct model m;
    struct err e;
    fixture_write(directory, "config.json", file, strlen(file));
    assert_int_equal(model_read(&m, directory, NULL, &e), -1);
    if (!strstr(e.text, words))
        fail_msg("no \"%s\" in: %s", words, e.text);
}

static void test_other_files(void **state)
{
    (void)state;
    static struct model m;
    struct err e;
    expect_error("", "config.json:1:");
    expect_error("{\n \"a\": 1,\n \"a\": 2}", "config.json:3:");
    expect_error("[1]", "must be a JSON object");
    expect_error("{}", "model_type is missing");
    expect_error("{\"model_type\": \"step9\"}", "model_type is \"step9\"");
    expect_error("{\"model_type\": \"qwen3_next\"}",
                 "\"qwen3_next\", which is not supported: it needs layers");
    expect_error("{\"model_type\": \"deepseek_v32\"}",
                 "needs attention to the tokens that an indexer");
    expect_error("{\"model_type\": \"step3_vl\"}", "text_config must be an object");
    expect_error("{\"model_type\": \"step3_vl\", \"text_config\": []}", "text_config must be");
    assert_int_equal(model_read(&m, "/no/such/place", NULL, &e), -1);
    assert_non_null(strstr(e.text, "/no/such/place/config.json: cannot be read"));
}

static void test_unknown_outside_text_config(void **state)
{
    (void)state;
    static struct model m;
    struct err e;
    must_read(&m, true, "{}", "");
    fixture_config(directory, "window", "5");
    assert_int_equal(model_read(&m, directory, NULL, &e), -1);
    assert_non_null(strstr(e.text, "config.json: window (5) is unknown"));
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_form),
        cmocka_unit_test(test_vision_form),
        cmocka_unit_test(test_moe_layers),
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_defects),
        cmocka_unit_test(test_other_files),
        cmocka_unit_test(test_unknown_outside_text_config),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
