/* The tensors of a checkpoint against its config.json: defects planted in generated checkpoints. */
#include "data/checkpoint.h"
#include "model/tensors.h"
#include "model/model.h"

#include "tests/model/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char directory[FILES_PATH];

enum base { PLAIN, FP8, TIED };

/* A new checkpoint in the test's directory, in place of the one before. */
static void generate(enum base base)
{
    struct generate_options o;
    struct err e;
    fixture_remove(directory);
    files_odd_model(&o, directory);
    o.dtype = base == FP8 ? DTYPE_F8E4M3 : DTYPE_BF16;
    o.model.tied = base == TIED;
    if (base == FP8)
        o.model.hidden = 133; /* two columns of blocks */
    if (generate_checkpoint(&o, &e) != 0)
        die("%s", e.text);
}

static int check(struct err *e)
{
    struct model m;
    struct checkpoint *c;
    if (model_read(&m, directory, NULL, e) != 0 || checkpoint_open(&c, directory, e) != 0)
        die("%s", e->text);
    memset(e->text, 'x', sizeof e->text - 1);
    int status = model_check(&m, c, e);
    checkpoint_close(c);
    return status;
}

static void test_good_ones_fit(void **state)
{
    (void)state;
    struct err e;
    for (int base = PLAIN; base <= TIED; base++) {
        generate((enum base)base);
        if (check(&e) != 0)
            fail_msg("%s", e.text);
    }
}

#define L1 "model.layers.1."

/* One edit of the header or of config.json, and lines of the message. */
static const struct {
    enum base base;
    const char *tensor, *name, *dtype, *shape; /* fixture_tensor(); tensor NULL: fixture_config() */
    const char *field, *value;
    const char *lines[3];
    int problems;
} defects[] = {
    {PLAIN,
     L1 "self_attn.wq.weight",
     "vision_model.wq",
     NULL,
     NULL,
     NULL,
     NULL,
     {L1 "self_attn.wq.weight [30,19] is missing"},
     1},
    {PLAIN,
     "model.norm.weight",
     "model.norm.gain",
     NULL,
     NULL,
     NULL,
     NULL,
     {"model.norm.weight [37] is missing", "model.norm.gain (", "is not a tensor of this model"},
     2},
    {PLAIN,
     "lm_head.weight",
     "vit_downsampler.weight",
     NULL,
     NULL,
     NULL,
     NULL,
     {"lm_head.weight [61,37] is missing"},
     1},
    {PLAIN,
     L1 "moe.gate.weight",
     "model.layers.01.moe.gate.weight",
     NULL,
     NULL,
     NULL,
     NULL,
     {L1 "moe.gate.weight [7,37] is missing", "model.layers.01.moe.gate.weight ("},
     2},
    {PLAIN,
     L1 "moe.gate.weight",
     "model.layers.9.moe.gate.weight",
     NULL,
     NULL,
     NULL,
     NULL,
     {"model.layers.9.moe.gate.weight ("},
     2},
    {PLAIN,
     L1 "moe.gate.weight",
     "model.layers.0.moe.gate.weight",
     NULL,
     NULL,
     NULL,
     NULL,
     {"model.layers.0.moe.gate.weight (", "is not a tensor of this model"},
     2},
    {PLAIN,
     L1 "self_attn.q_proj.weight",
     NULL,
     NULL,
     "[37,19]",
     NULL,
     NULL,
     {L1 "self_attn.q_proj.weight (", "has shape [37,19]; config.json makes it [19,37]"},
     1},
    {PLAIN,
     L1 "input_layernorm.weight",
     NULL,
     NULL,
     "[1,37]",
     NULL,
     NULL,
     {"has shape [1,37]; config.json makes it [37]"},
     1},
    {PLAIN,
     L1 "moe.down_proj.weight",
     NULL,
     NULL,
     "[7,35,37]",
     NULL,
     NULL,
     {"has shape [7,35,37]; config.json makes it [7,37,35]"},
     1},
    {PLAIN,
     L1 "self_attn.q_proj.weight",
     NULL,
     "I16",
     NULL,
     NULL,
     NULL,
     {L1 "self_attn.q_proj.weight (", "is I16; supported: F32, BF16"},
     1},
    {PLAIN,
     "lm_head.weight",
     NULL,
     "F8_E4M3",
     "[122,37]",
     NULL,
     NULL,
     {"has shape [122,37]; config.json makes it [61,37]", "is F8_E4M3; it must be F32, BF16 or F16",
      "lm_head.weight_scale_inv is missing"},
     3},
    {PLAIN,
     L1 "self_attn.v_proj.weight",
     L1 "self_attn.wq.weight_scale_inv",
     NULL,
     NULL,
     NULL,
     NULL,
     {L1 "self_attn.v_proj.weight [6,37] is missing", L1 "self_attn.wq.weight_scale_inv (",
      "is BF16 and has no block scales"},
     2},
    {PLAIN,
     L1 "self_attn.v_proj.weight",
     L1 "self_attn.vq.weight_scale_inv",
     NULL,
     NULL,
     NULL,
     NULL,
     {L1 "self_attn.vq.weight_scale_inv (", "is not a tensor of this model"},
     2},
    {FP8,
     L1 "self_attn.wq.weight_scale_inv",
     "vision_model.scale",
     NULL,
     NULL,
     NULL,
     NULL,
     {L1 "self_attn.wq.weight_scale_inv is missing: the block scales of"},
     1},
    {FP8,
     L1 "moe.gate_proj.weight_scale_inv",
     NULL,
     NULL,
     "[7,2,1]",
     NULL,
     NULL,
     {L1 "moe.gate_proj.weight_scale_inv (", "has shape [7,2,1]; config.json makes it [7,1,2]"},
     1},
    {FP8,
     L1 "moe.down_proj.weight_scale_inv",
     NULL,
     NULL,
     "[14,1]",
     NULL,
     NULL,
     {"has shape [14,1]; config.json makes it [7,2,1]"},
     1},
    {FP8,
     L1 "self_attn.wq.weight_scale_inv",
     NULL,
     "I32",
     NULL,
     NULL,
     NULL,
     {L1 "self_attn.wq.weight_scale_inv (", "is I32; block scales must be F32"},
     1},
    {FP8,
     L1 "self_attn.wq.weight",
     NULL,
     "F8_E5M2",
     NULL,
     NULL,
     NULL,
     {"is F8_E5M2; supported", "has no block scales"},
     2},
    {TIED,
     NULL,
     NULL,
     NULL,
     NULL,
     "tie_word_embeddings",
     "false",
     {"lm_head.weight [61,37] is missing"},
     1},
    {PLAIN,
     NULL,
     NULL,
     NULL,
     NULL,
     "tie_word_embeddings",
     "true",
     {"lm_head.weight (", "is not a tensor of this model"},
     1},
    {PLAIN,
     NULL,
     NULL,
     NULL,
     NULL,
     "moe_num_experts",
     "6",
     {"has shape [7,37]; config.json makes it [6,37]"},
     8},
    {PLAIN,
     NULL,
     NULL,
     NULL,
     NULL,
     "num_hidden_layers",
     "3",
     {"model.layers.3.", "is not a tensor of this model", "and 6 more"},
     11},
    {PLAIN,
     NULL,
     NULL,
     NULL,
     NULL,
     "share_expert_dim",
     "0",
     {"share_expert.", "is not a tensor of this model"},
     6},
};

static int count_lines(const char *text)
{
    int n = 0;
    for (const char *p = text; (p = strchr(p, '\n')); p++)
        n++;
    return n;
}

static void test_defects(void **state)
{
    (void)state;
    struct err e;
    for (size_t i = 0; i < sizeof defects / sizeof *defects; i++) {
        generate(defects[i].base);
        if (defects[i].tensor)
            fixture_tensor(directory, defects[i].tensor, defects[i].name, defects[i].dtype,
                           defects[i].shape);
        else
            fixture_config(directory, defects[i].field, defects[i].value);
        if (check(&e) == 0)
            fail_msg("defect %zu was not found", i);
        for (size_t l = 0; l < 3 && defects[i].lines[l]; l++)
            if (!strstr(e.text, defects[i].lines[l]))
                fail_msg("defect %zu: no \"%s\" in: %s", i, defects[i].lines[l], e.text);
        int shown = defects[i].problems > 5 ? 6 : defects[i].problems;
        if (count_lines(e.text) != shown || strncmp(e.text, directory, strlen(directory)) != 0)
            fail_msg("defect %zu: %d lines wanted: %s", i, shown, e.text);
    }
}

/* FP8 tensors without a quantization_config are every projection of every layer. */
static void test_fp8_needs_its_config(void **state)
{
    (void)state;
    struct err e;
    generate(FP8);
    fixture_config(directory, "quantization_config", NULL);
    assert_int_equal(check(&e), -1);
    assert_non_null(strstr(e.text, "is F8_E4M3, but config.json has no quantization_config"));
    assert_non_null(strstr(e.text, "\n  and "));
}

/* A bf16 tensor among FP8 ones is fine as long as it has no scales: files mix them. */
static void test_formats_may_mix(void **state)
{
    (void)state;
    struct err e;
    generate(PLAIN);
    fixture_config(directory, "quantization_config",
                   "{\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]}");
    if (check(&e) != 0)
        fail_msg("%s", e.text);
}

/* MTP layers are checked like the others, may be left out, may be passed over, and of their tensors only
 * copies of the model's are passed over by name. */
static void test_mtp(void **state)
{
    (void)state;
    static const struct {
        const char *tensor, *name, *shape, *line;
    } cases[] = {
        {NULL, NULL, NULL, NULL},
        {"model.layers.5.eh_proj.weight", NULL, "[74,37]",
         "has shape [74,37]; config.json makes it [37,74]"},
        {"model.layers.4.enorm.weight", "model.layers.4.unorm.weight", NULL,
         "model.layers.4.enorm.weight [37] is missing"},
        {"model.layers.5.transformer.shared_head.output.weight",
         "model.layers.5.transformer.shared_head.OUTPUT.weight", NULL,
         "model.layers.5.transformer.shared_head.output.weight [61,37] is missing"},
    };
    struct generate_options o;
    struct model m;
    struct checkpoint *c;
    struct err e;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fixture_remove(directory);
        files_odd_model(&o, directory);
        if (generate_set(&o, "family", "step3p5", &e) != 0 ||
            generate_set(&o, "kv_heads", "1", &e) != 0 ||
            generate_set(&o, "head_dim", "20", &e) != 0 || generate_set(&o, "mtp", "2", &e) != 0 ||
            generate_checkpoint(&o, &e) != 0)
            die("%s", e.text);
        if (cases[i].tensor)
            fixture_tensor(directory, cases[i].tensor, cases[i].name, NULL, cases[i].shape);
        if ((check(&e) == 0) != !cases[i].line || (cases[i].line && !strstr(e.text, cases[i].line)))
            fail_msg("case %zu: %s", i, e.text);
        assert_int_equal(model_read(&m, directory, NULL, &e), 0);
        assert_int_equal(checkpoint_open(&c, directory, &e), 0);
        assert_true(model_has_mtp(&m, c) && m.mtp.layers == 2);
        m.mtp.layers = 0;
        assert_int_equal(model_check(&m, c, &e), 0);
        checkpoint_close(c);
    }
}

static void test_tensors_are_found(void **state)
{
    (void)state;
    struct err e;
    struct model m;
    struct checkpoint *c;
    generate(FP8);
    assert_int_equal(model_read(&m, directory, NULL, &e), 0);
    assert_int_equal(checkpoint_open(&c, directory, &e), 0);
    struct found f;
    char name[FAMILY_NAME_MAX];
    assert_int_equal(tensors_find(&m, c, TENSOR_EXPERT_DOWN, 2, 0, &f, name), 0);
    assert_string_equal(f.tensor->name, "model.layers.2.moe.down_proj.weight");
    assert_string_equal(f.scale->name, "model.layers.2.moe.down_proj.weight_scale_inv");
    assert_int_equal(tensors_find(&m, c, TENSOR_ROUTER, 1, 0, &f, name), 0);
    assert_string_equal(f.tensor->name, "model.layers.1.moe.gate.weight");
    assert_null(f.scale);
    assert_int_equal(tensors_find(&m, c, TENSOR_LM_HEAD, 3, 0, &f, name), 0);
    assert_string_equal(f.tensor->name, "lm_head.weight");
    m.tied = true;
    assert_int_equal(tensors_find(&m, c, TENSOR_LM_HEAD, 0, 0, &f, name), 0);
    assert_string_equal(f.tensor->name, "model.embed_tokens.weight");
    checkpoint_close(c);
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
        cmocka_unit_test(test_good_ones_fit),
        cmocka_unit_test(test_defects),
        cmocka_unit_test(test_fp8_needs_its_config),
        cmocka_unit_test(test_formats_may_mix),
        cmocka_unit_test(test_mtp),
        cmocka_unit_test(test_tensors_are_found),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
