/* Matrices that stand in a checkpoint as several tensors (AWQ, compressed-tensors): a small Llama
 * whose q_proj is one, read and checked; every defect named. Values are recomputed here by the
 * formats' definitions. */
#include "model/tensors.h"

#include "base/mem.h"
#include "tests/model/files.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define H     64
#define GROUP 32
#define Q     "model.layers.0.self_attn.q_proj."

static char directory[FILES_PATH];

/* model.safetensors at work. */
static struct {
    json_t *header;
    uint8_t data[1 << 18];
    size_t n;
} file;

/* Data of 8-byte multiples only, so that everything is aligned; bytes are a function of the place. */
static void add(const char *name, const char *dtype, size_t size, size_t rows, size_t columns)
{
    size_t bytes = rows * columns * size, begin = file.n;
    assert_true(file.n + bytes + 8 < sizeof file.data);
    for (size_t i = 0; i < bytes; i++)
        file.data[file.n + i] = (uint8_t)((file.n + i) * 2654435761u >> 13);
    if (size == 2) /* numbers between 0.0078 and 2 */
        for (size_t i = 1; i < bytes; i += 2)
            file.data[file.n + i] = 0x3c | (file.data[file.n + i] & 3);
    file.n += (bytes + 7) / 8 * 8;
    assert_int_equal(bytes % 8, 0);
    json_t *shape = columns > 1 || strstr(name, "scale")
                        ? json_pack("[I,I]", (json_int_t)rows, (json_int_t)columns)
                        : json_pack("[I]", (json_int_t)rows);
    json_object_set_new(file.header, name,
                        json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtype, "shape", shape,
                                  "data_offsets", (json_int_t)begin, (json_int_t)(begin + bytes)));
}

static void write_file(void)
{
    char *text = json_dumps(file.header, JSON_COMPACT);
    uint64_t n = (strlen(text) + 7) / 8 * 8;
    uint8_t *bytes = mem_new(8 + n + file.n, 1);
    memcpy(bytes, &n, 8);
    memset(bytes + 8, ' ', n);
    memcpy(bytes + 8, text, strlen(text));
    memcpy(bytes + 8 + n, file.data, file.n);
    fixture_write(directory, "model.safetensors", bytes, 8 + n + file.n);
    json_decref(file.header);
    free(bytes);
    free(text);
}

static void begin_file(const char *quantization)
{
    static const char *const norms[] = {"model.norm", "model.layers.0.input_layernorm",
                                        "model.layers.0.post_attention_layernorm"};
    static const char *const squares[] = {"k_proj", "v_proj", "o_proj"};
    char config[2048], name[96];
    snprintf(config, sizeof config,
             "{\"model_type\": \"llama\", \"hidden_size\": 64, \"num_hidden_layers\": 1,"
             " \"vocab_size\": 8, \"num_attention_heads\": 2, \"num_key_value_heads\": 2,"
             " \"intermediate_size\": 16, \"tie_word_embeddings\": true,"
             " \"quantization_config\": %s}",
             quantization);
    fixture_write(directory, "config.json", config, strlen(config));
    file.header = json_object();
    file.n = 0;
    add("model.embed_tokens.weight", "BF16", 2, 8, H);
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.weight", norms[i]);
        add(name, "BF16", 2, H, 1);
        snprintf(name, sizeof name, "model.layers.0.self_attn.%s.weight", squares[i]);
        add(name, "BF16", 2, H, H);
    }
    add("model.layers.0.mlp.gate_proj.weight", "BF16", 2, 16, H);
    add("model.layers.0.mlp.up_proj.weight", "BF16", 2, 16, H);
    add("model.layers.0.mlp.down_proj.weight", "BF16", 2, H, 16);
}

static const uint8_t *data_of(const char *name)
{
    const json_t *entry = json_object_get(file.header, name);
    return file.data +
           json_integer_value(json_array_get(json_object_get(entry, "data_offsets"), 0));
}

static void say_shape(int64_t rows, int64_t columns)
{
    const int64_t said[2] = {rows, columns};
    add(Q "weight_shape", "I64", 8, 2, 1);
    memcpy((uint8_t *)data_of(Q "weight_shape"), said, sizeof said);
}

/* ---- right ones ------------------------------------------------------------------------------- */

static uint32_t word(const uint8_t *from, size_t i)
{
    uint32_t w;
    memcpy(&w, from + 4 * i, 4);
    return w;
}

static float half(const uint8_t *from, size_t i)
{
    return f32_from_f16((f16_t)(from[2 * i] | from[2 * i + 1] << 8));
}

static float bf16_at(const uint8_t *from, size_t i)
{
    return f32_from_bf16((bf16_t)(from[2 * i] | from[2 * i + 1] << 8));
}

static const char awq[] = "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 32,"
                          " \"zero_point\": true, \"version\": \"gemm\","
                          " \"modules_to_not_convert\": null}";
#define COMPRESSED(format, bits, strategy, type)                                                   \
    "{\"quant_method\": \"compressed-tensors\", \"format\": \"" format                             \
    "\", \"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"weights\":"                \
    " {\"num_bits\": " bits ", \"type\": \"" type                                                  \
    "\", \"symmetric\": true, \"strategy\": \"" strategy                                           \
    "\", \"group_size\": 32, \"actorder\": null, \"dynamic\": false},"                             \
    " \"input_activations\": null, \"output_activations\": null}}, \"ignore\": [\"lm_head\"],"     \
    " \"kv_cache_scheme\": null, \"quantization_status\": \"compressed\"}"

static void make_awq(void)
{
    begin_file(awq);
    add(Q "qweight", "I32", 4, H, H / 8);
    add(Q "qzeros", "I32", 4, H / GROUP, H / 8);
    add(Q "scales", "F16", 2, H / GROUP, H);
}

static float awq_value(size_t o, size_t i)
{
    static const int place[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    uint32_t q = word(data_of(Q "qweight"), i * (H / 8) + o / 8) >> 4 * place[o % 8] & 15;
    uint32_t z = word(data_of(Q "qzeros"), i / GROUP * (H / 8) + o / 8) >> 4 * place[o % 8] & 15;
    return (float)((int)q - (int)z) * half(data_of(Q "scales"), i / GROUP * H + o);
}

static void make_packed4(void)
{
    begin_file(COMPRESSED("pack-quantized", "4", "group", "int"));
    add(Q "weight_packed", "I32", 4, H, H / 8);
    add(Q "weight_scale", "BF16", 2, H, H / GROUP);
    add(Q "weight_zero_point", "I32", 4, H / 8, H / GROUP);
    say_shape(H, H);
}

static float packed4_value(size_t o, size_t i)
{
    uint32_t q = word(data_of(Q "weight_packed"), o * (H / 8) + i / 8) >> 4 * (i % 8) & 15;
    uint32_t z = word(data_of(Q "weight_zero_point"), o / 8 * 2 + i / GROUP) >> 4 * (o % 8) & 15;
    return (float)((int)q - (int)z) * bf16_at(data_of(Q "weight_scale"), o * 2 + i / GROUP);
}

static void make_packed8(void)
{
    begin_file(COMPRESSED("pack-quantized", "8", "channel", "int"));
    add(Q "weight_packed", "I32", 4, H, H / 4);
    add(Q "weight_scale", "BF16", 2, H, 1);
    say_shape(H, H);
}

static float packed8_value(size_t o, size_t i)
{
    uint32_t q = word(data_of(Q "weight_packed"), o * (H / 4) + i / 4) >> 8 * (i % 4) & 255;
    return (float)((int)q - 128) * bf16_at(data_of(Q "weight_scale"), o);
}

static void make_int8(void)
{
    begin_file(COMPRESSED("int-quantized", "8", "channel", "int"));
    add(Q "weight", "I8", 1, H, H);
    add(Q "weight_scale", "BF16", 2, H, 1);
}

static float int8_value(size_t o, size_t i)
{
    return (float)(int8_t)data_of(Q "weight")[o * H + i] * bf16_at(data_of(Q "weight_scale"), o);
}

static void make_fp8(void)
{
    begin_file(COMPRESSED("float-quantized", "8", "channel", "float"));
    add(Q "weight", "F8_E4M3", 1, H, H);
    add(Q "weight_scale", "BF16", 2, H, 1);
}

static float fp8_value(size_t o, size_t i)
{
    return f32_from_f8e4m3(data_of(Q "weight")[o * H + i]) * bf16_at(data_of(Q "weight_scale"), o);
}

static int check(struct model *m, struct checkpoint **c, struct err *e)
{
    if (model_read(m, directory, NULL, e) != 0 || checkpoint_open(c, directory, e) != 0)
        return -2;
    int rc = model_check(m, *c, e);
    if (rc != 0)
        checkpoint_close(*c);
    return rc;
}

static void test_values(void **state)
{
    (void)state;
    static const struct {
        void (*make)(void);
        float (*value)(size_t o, size_t i);
    } kinds[] = {{make_awq, awq_value},
                 {make_packed4, packed4_value},
                 {make_packed8, packed8_value},
                 {make_int8, int8_value},
                 {make_fp8, fp8_value}};
    static struct model m;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct checkpoint *c;
        struct err e;
        float want[H * H], row[H];
        kinds[k].make();
        for (size_t i = 0; i < H * H; i++)
            want[i] = kinds[k].value(i / H, i % H);
        write_file();
        if (check(&m, &c, &e) != 0)
            fail_msg("kind %zu: %s", k, e.text);
        struct weight_part p = tensors_part(&m, c, TENSOR_Q_UP, 0, 0);
        assert_true(p.n == H && p.k == H);
        for (size_t o = 0; o < H; o++) {
            weight_row(&p, o, row);
            for (size_t i = 0; i < H; i++)
                if (!(row[i] == want[o * H + i] || (isnan(row[i]) && isnan(want[o * H + i]))))
                    fail_msg("kind %zu: [%zu][%zu] is %g, wanted %g", k, o, i, (double)row[i],
                             (double)want[o * H + i]);
        }
        checkpoint_close(c);
    }
}

/* ---- wrong ones ------------------------------------------------------------------------------- */

static void no_zeros(void)
{
    begin_file(awq);
    add(Q "qweight", "I32", 4, H, H / 8);
    add(Q "scales", "F16", 2, H / GROUP, H);
}

static void no_scales(void)
{
    begin_file(awq);
    add(Q "qweight", "I32", 4, H, H / 8);
}

static void narrow_awq(void)
{
    begin_file(awq);
    add(Q "qweight", "I32", 4, H, H / 8 - 2);
    add(Q "qzeros", "I32", 4, H / GROUP, H / 8);
    add(Q "scales", "F16", 2, H / GROUP, H);
}

static void small_groups(void)
{
    begin_file(awq);
    add(Q "qweight", "I32", 4, H, H / 8);
    add(Q "qzeros", "I32", 4, H / 8, H / 8);
    add(Q "scales", "F16", 2, H / 8, H);
}

static void other_dtype(void)
{
    begin_file(awq);
    add(Q "qweight", "F32", 4, H, H / 8);
    add(Q "qzeros", "I32", 4, H / GROUP, H / 8);
    add(Q "scales", "F16", 2, H / GROUP, H);
}

static void other_shape_said(void)
{
    begin_file(COMPRESSED("pack-quantized", "4", "group", "int"));
    add(Q "weight_packed", "I32", 4, H, H / 8);
    add(Q "weight_scale", "BF16", 2, H, H / GROUP);
    say_shape(H, 2 * H);
}

static void no_shape_said(void)
{
    begin_file(COMPRESSED("pack-quantized", "4", "group", "int"));
    add(Q "weight_packed", "I32", 4, H, H / 8);
    add(Q "weight_scale", "BF16", 2, H, H / GROUP);
}

static void order_of_groups(void)
{
    make_packed4();
    add(Q "weight_g_idx", "I32", 4, H, 1);
}

static void odd_groups(void)
{
    begin_file(COMPRESSED("pack-quantized", "4", "group", "int"));
    add(Q "weight_packed", "I32", 4, H, H / 8);
    add(Q "weight_scale", "BF16", 2, H, 3);
    say_shape(H, H);
}

static void packed_norm(void)
{
    make_int8();
    add("model.norm.weight_scale", "BF16", 2, H, 1);
}

static void activations_too(void)
{
    make_int8();
    fixture_config(directory, "quantization_config",
                   "{\"quant_method\": \"compressed-tensors\", \"format\": \"int-quantized\","
                   " \"config_groups\": {\"group_0\": {\"weights\": {\"num_bits\": 8},"
                   " \"input_activations\": {\"num_bits\": 8}}}}");
}

static void test_defects(void **state)
{
    (void)state;
    static const struct {
        void (*make)(void);
        const char *message[3];
    } wrong[] = {
        {no_zeros, {Q "qweight", "model.safetensors", "no .qzeros"}},
        {no_scales, {Q "qweight", "no scales", ""}},
        {narrow_awq, {Q "qweight", "has shape [64,6]", "wanted [64,8]"}},
        {small_groups, {Q "scales", "64 inputs in 8 groups", "multiple of 16"}},
        {other_dtype, {Q "qweight", "is F32", "I32"}},
        {other_shape_said, {Q "weight_shape", "says [64,128]", "makes it [64,64]"}},
        {no_shape_said, {Q "weight_packed", "no .weight_shape", ""}},
        {order_of_groups, {Q "weight_g_idx", "not a tensor of this model", ""}},
        {odd_groups, {Q "weight_scale", "64 inputs in 3 groups", ""}},
        {packed_norm, {"model.norm.weight", "is packed", "only projections"}},
        {activations_too, {"group_0.input_activations", "only null", ""}},
    };
    static struct model m;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct checkpoint *c;
        struct err e;
        wrong[i].make();
        write_file();
        if (check(&m, &c, &e) == 0)
            fail_msg("defect %zu passes", i);
        for (size_t j = 0; j < 3; j++)
            if (!strstr(e.text, wrong[i].message[j]))
                fail_msg("defect %zu: \"%s\" is not in: %s", i, wrong[i].message[j], e.text);
    }
}

static int begin(void **state)
{
    (void)state;
    fixture_make(directory);
    return 0;
}

static int end(void **state)
{
    (void)state;
    fixture_remove(directory);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_defects),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
