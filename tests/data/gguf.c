/* GGUF files: what was written is read, every defect is named, damage never hurts; the view has the
 * names, values and tokenizer that the checkpoint had.
 *
 *     gguf FILE       prints config, tokenizer and tensors of a model: for other programs to compare */
#include "data/gguf_view.h"

#include "base/mem.h"
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

static const uint64_t square[] = {32, 4};
static float numbers[4 * 32 * 8];

/* A file with one of everything. */
static void fill(struct gguf_file *f)
{
    static const uint8_t pairs[] = {4, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
                                    1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0};
    static const char *const texts[] = {"a", "", "long text"};
    gguf_file_text(f, "general.architecture", "llama");
    gguf_file_u32(f, "a.u32", 4000000000u);
    gguf_file_f32(f, "a.f32", 0.5f);
    gguf_file_raw(f, "a.i8", 1, "\xff", 1);
    gguf_file_raw(f, "a.u16", 2, "\x34\x12", 2);
    gguf_file_raw(f, "a.bool", 7, "\1", 1);
    gguf_file_raw(f, "a.u64", 10, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    gguf_file_raw(f, "a.f64", 12, "\0\0\0\0\0\0\xf0\x3f", 8);
    gguf_file_raw(f, "a.list", 9, pairs, sizeof pairs);
    gguf_file_texts(f, "a.texts", texts, 3);
    gguf_file_tensor(f, "one", 2, square, 0, numbers, 512);
    gguf_file_tensor(f, "two", 1, square, 1, numbers, 64);
    gguf_file_tensor(f, "three", 3, (const uint64_t[]){32, 2, 3}, 2, numbers, 6 * 18);
}

static void test_reads(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct gguf_file f = {.version = version};
        struct gguf *g;
        struct err e;
        int64_t n;
        double x;
        char text[32];
        fill(&f);
        gguf_file_write(&f, scratch_path("right.gguf"));
        expect_ok(gguf_open(&g, scratch_path("right.gguf"), &e), &e);
        assert_true(gguf_integer(gguf_find(g, "a.u32"), 0, &n) && n == 4000000000);
        assert_true(gguf_integer(gguf_find(g, "a.i8"), 0, &n) && n == -1);
        assert_true(gguf_integer(gguf_find(g, "a.u16"), 0, &n) && n == 0x1234);
        assert_true(gguf_integer(gguf_find(g, "a.bool"), 0, &n) && n == 1);
        assert_false(gguf_integer(gguf_find(g, "a.u64"), 0, &n)); /* does not fit */
        assert_false(gguf_integer(gguf_find(g, "a.f32"), 0, &n));
        assert_true(gguf_number(gguf_find(g, "a.f32"), 0, &x) && x == 0.5);
        assert_true(gguf_number(gguf_find(g, "a.f64"), 0, &x) && x == 1);
        assert_true(gguf_integer(gguf_find(g, "a.list"), 2, &n) && n == 3);
        assert_false(gguf_integer(gguf_find(g, "a.list"), 3, &n));
        assert_string_equal(gguf_type_text(gguf_find(g, "a.texts"), text), "array of string");
        assert_int_equal(gguf_find(g, "a.texts")->strings[2].bytes, 9);
        assert_null(gguf_find(g, "a"));
        assert_int_equal(gguf_count(g), 3);
        const struct tensor *t = gguf_at(g, 2);
        assert_string_equal(t->name, "three");
        assert_string_equal(t->dtype_text, "Q4_0");
        assert_ptr_equal(t->codec, &codec_q4_0);
        assert_true(t->dims == 3 && t->shape[0] == 3 && t->shape[1] == 2 && t->shape[2] == 32);
        assert_int_equal(t->bytes, 6 * 18);
        assert_int_equal(gguf_at(g, 1)->dtype, DTYPE_F16);
        gguf_close(g);
    }
}

/* ---- defects ---------------------------------------------------------------------------------- */

static void none(struct gguf_file *f)
{
    (void)f;
}

static void version_1(struct gguf_file *f)
{
    f->version = 1;
}

static void version_4(struct gguf_file *f)
{
    f->version = 4;
}

static void big_endian(struct gguf_file *f)
{
    f->version = 3u << 24;
}

static void more_values(struct gguf_file *f)
{
    f->wrong_values = INT64_MAX / 2;
}

static void one_value_more(struct gguf_file *f)
{
    f->wrong_values = 1;
}

static void more_tensors(struct gguf_file *f)
{
    f->wrong_tensors = INT64_MAX / 2;
}

static void one_tensor_more(struct gguf_file *f)
{
    f->wrong_tensors = 1;
}

static void same_key(struct gguf_file *f)
{
    gguf_file_u32(f, "a.u32", 1);
}

static void empty_key(struct gguf_file *f)
{
    gguf_file_u32(f, "", 1);
}

static void strange_type(struct gguf_file *f)
{
    gguf_file_raw(f, "b", 13, "", 0);
}

static void list_of_lists(struct gguf_file *f)
{
    gguf_file_raw(f, "b", 9, "\x09\0\0\0\1\0\0\0\0\0\0\0", 12);
}

static void endless_list(struct gguf_file *f)
{
    gguf_file_raw(f, "b", 9, "\x04\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 12);
}

static void endless_text(struct gguf_file *f)
{
    gguf_file_raw(f, "b", 8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
}

static void endless_texts(struct gguf_file *f)
{
    gguf_file_raw(f, "b", 9, "\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\x1f", 12);
}

static void odd_alignment(struct gguf_file *f)
{
    gguf_file_u32(f, "general.alignment", 24);
}

static void no_alignment(struct gguf_file *f)
{
    gguf_file_u32(f, "general.alignment", 0);
}

static void same_tensor(struct gguf_file *f)
{
    gguf_file_tensor(f, "one", 2, square, 0, numbers, 512);
}

static void long_name(struct gguf_file *f)
{
    gguf_file_tensor(f, "0123456789012345678901234567890123456789012345678901234567890123", 2,
                     square, 0, numbers, 512);
}

static void no_name(struct gguf_file *f)
{
    gguf_file_tensor(f, "", 2, square, 0, numbers, 512);
}

static void five_dimensions(struct gguf_file *f)
{
    gguf_file_tensor(f, "t", 5, (const uint64_t[]){1, 1, 1, 1, 1}, 0, numbers, 4);
}

static void no_size(struct gguf_file *f)
{
    gguf_file_tensor(f, "t", 2, (const uint64_t[]){32, 0}, 0, numbers, 0);
}

static void huge_size(struct gguf_file *f)
{
    gguf_file_tensor(f, "t", 3, (const uint64_t[]){1ull << 32, 1ull << 32, 2}, 0, numbers, 0);
}

static void huge_bytes(struct gguf_file *f)
{
    gguf_file_tensor(f, "t", 1, (const uint64_t[]){1ull << 62}, 0, numbers, 0);
}

static void part_block(struct gguf_file *f)
{
    gguf_file_tensor(f, "t", 1, (const uint64_t[]){48}, 2, numbers, 27);
}

static void unknown_tensor_type(struct gguf_file *f)
{
    gguf_file_tensor(f, "t", 1, square, 77, numbers, 128);
}

static void refused_tensor_type(struct gguf_file *f)
{
    gguf_file_tensor(f, "t", 1, (const uint64_t[]){256}, 16, numbers, 66);
}

static void hole(struct gguf_file *f)
{
    gguf_bytes_add(&f->data, numbers, 64);
    gguf_file_tensor(f, "t", 1, square, 0, numbers, 128);
}

static void cut_off_data(struct gguf_file *f)
{
    gguf_file_tensor(f, "t", 2, (const uint64_t[]){32, 1000}, 0, numbers, 128);
}

static void part_of_two(struct gguf_file *f)
{
    gguf_file_raw(f, "split.no", 2, "\0\0", 2);
    gguf_file_raw(f, "split.count", 2, "\2\0", 2);
}

static void negative_parts(struct gguf_file *f)
{
    gguf_file_raw(f, "split.count", 5, "\xff\xff\xff\xff", 4);
}

static void test_names_defects(void **state)
{
    (void)state;
    static const struct {
        void (*spoil)(struct gguf_file *f);
        const char *message;
    } wrong[] = {
        {version_1, "version 1"},
        {version_4, "version 4"},
        {big_endian, "big-endian"},
        {more_values, "keys do not fit"},
        {one_value_more, "cut off or damaged"},
        {more_tensors, "tensors do not fit"},
        {one_tensor_more, ""},
        {same_key, "\"a.u32\" stands there twice"},
        {empty_key, "is empty"},
        {strange_type, "key \"b\" has type 13"},
        {list_of_lists, "elements of type 9"},
        {endless_list, "key \"b\": 18446744073709551615 elements"},
        {endless_text, "cut off"},
        {endless_texts, "elements do not fit"},
        {odd_alignment, "general.alignment"},
        {no_alignment, "general.alignment"},
        {same_tensor, "\"one\" stands there twice"},
        {long_name, "has 64 bytes"},
        {no_name, "has 0 bytes"},
        {five_dimensions, "tensor \"t\": has 5 dimensions"},
        {no_size, "size 1 is 0"},
        {huge_size, "tensor \"t\": size 1"},
        {huge_bytes, "tensor \"t\": has"},
        {part_block, "rows of 48 numbers; Q4_0 wants multiples of 32"},
        {unknown_tensor_type, "unknown type 77"},
        {refused_tensor_type, "IQ2_XXS, which is not supported"},
        {hole, "tensor \"t\": its data begins at"},
        {cut_off_data, "reach beyond the file"},
        {part_of_two, "must end in \"-00001-of-00002.gguf\""},
        {negative_parts, "split.count"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct gguf_file f = {0};
        struct gguf *g;
        struct err e;
        fill(&f);
        wrong[i].spoil(&f);
        gguf_file_write(&f, scratch_path("wrong.gguf"));
        expect_error(gguf_open(&g, scratch_path("wrong.gguf"), &e), &e, "wrong.gguf",
                     wrong[i].message, NULL);
    }
    struct gguf_file empty = {0};
    struct gguf *g;
    struct err e;
    none(&empty);
    gguf_file_write(&empty, scratch_path("wrong.gguf"));
    expect_error(gguf_open(&g, scratch_path("wrong.gguf"), &e), &e, "no tensors", NULL);
    scratch_text(scratch_path("wrong.gguf"), "PK\3\4 and something else that is long enough");
    expect_error(gguf_open(&g, scratch_path("wrong.gguf"), &e), &e, "is no GGUF file", NULL);
    expect_error(gguf_open(&g, scratch_path("absent.gguf"), &e), &e, "absent.gguf", NULL);
}

/* ---- parts ------------------------------------------------------------------------------------ */

static void write_part(int number, int count, int says, int total, const char *name)
{
    struct gguf_file f = {0};
    char path[64];
    uint16_t no = (uint16_t)says, of = (uint16_t)count;
    gguf_file_raw(&f, "split.no", 2, &no, 2);
    gguf_file_raw(&f, "split.count", 2, &of, 2);
    gguf_file_raw(&f, "split.tensors.count", 5, &(int32_t){total}, 4);
    if (number > 0)
        gguf_file_tensor(&f, name, 2, square, 0, numbers, 512);
    snprintf(path, sizeof path, "m-%05d-of-%05d.gguf", number + 1, count);
    gguf_file_write(&f, scratch_path(path));
}

static void test_parts(void **state)
{
    (void)state;
    struct gguf *g;
    struct err e;
    const char *first = "m-00001-of-00003.gguf";
    for (int i = 0; i < 3; i++)
        write_part(i, 3, i, 2, i == 1 ? "b" : "a");
    expect_ok(gguf_open(&g, scratch_path(first), &e), &e);
    assert_int_equal(gguf_count(g), 2);
    assert_string_equal(gguf_at(g, 0)->name, "b");
    gguf_close(g);
    expect_error(gguf_open(&g, scratch_path("m-00002-of-00003.gguf"), &e), &e, "part 2 of 3",
                 "name the first one", NULL);
    write_part(2, 3, 1, 2, "a");
    expect_error(gguf_open(&g, scratch_path(first), &e), &e, "m-00003-of-00003.gguf",
                 "is part 2 of 3; wanted part 3 of 3", NULL);
    write_part(2, 3, 2, 2, "b");
    expect_error(gguf_open(&g, scratch_path(first), &e), &e, "\"b\" stands there twice",
                 "m-00002-of-00003.gguf", NULL);
    write_part(0, 3, 0, 5, "");
    write_part(2, 3, 2, 2, "a");
    expect_error(gguf_open(&g, scratch_path(first), &e), &e, "split.tensors.count is 5", NULL);
    assert_int_equal(unlink(scratch_path("m-00002-of-00003.gguf")), 0);
    expect_error(gguf_open(&g, scratch_path(first), &e), &e, "m-00002-of-00003.gguf", NULL);
}

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

static void common(struct gguf_file *f, const char *arch)
{
    static const char *const tokens[VOCAB] = {"a", "b",      "\u0120",  "ab", "<|im_end|>", "<x>",
                                              "'", "[PAD7]", "\u0120a", "1",  "<|eot_id|>"};
    static const int32_t types[VOCAB] = {1, 1, 1, 1, 3, 4, 1, 5, 1, 1, 3};
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
    gguf_file_i32s(f, "tokenizer.ggml.token_type", types, VOCAB);
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
    static const char *const pres[] = {"deepseek-v3", "qwen2", "llama-bpe", "smollm",    "gpt-2",
                                       "chatglm-bpe", "glm4",  "gpt-4o",    "minimax-m2"};
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
        gguf_file_tensor(&f, "t", 2, square, 0, numbers, 512);
        gguf_file_write(&f, scratch_path("model.gguf"));
        tokenizer_close(tokenizer_of(scratch_path("model.gguf")));
    }
}

/* ---- damage ----------------------------------------------------------------------------------- */

/* Any byte changed, or the end cut off: an error or a model, and no access outside the file. */
static void test_damage(void **state)
{
    (void)state;
    struct gguf_file f = {0};
    size_t n, rejected = 0;
    const char *path = scratch_path("damaged.gguf");
    common(&f, "llama");
    uint8_t *bytes = gguf_file_bytes(&f, &n), *copy = mem_new(n, 1);
    int trials = scratch_trials(3000);
    for (int i = 0; i < trials; i++) {
        struct gguf_view *v;
        struct err e = {""};
        memcpy(copy, bytes, n);
        /* Mostly the beginning, where lengths, counts and types are. */
        size_t head = i % 4 ? 1700 : n, size = i % 8 ? n : scratch_random() % n;
        for (int j = 0; j < 1 + i % 3; j++)
            copy[scratch_random() % head] = (uint8_t)(i % 2 ? 0xff : scratch_random());
        scratch_write(path, copy, size);
        if (gguf_view_open(&v, path, &e) != 0) {
            assert_non_null(strstr(e.text, path));
            rejected++;
            continue;
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
    assert_true(rejected > (size_t)trials / 10);
    free(copy);
    free(bytes);
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
        cmocka_unit_test(test_reads),     cmocka_unit_test(test_names_defects),
        cmocka_unit_test(test_parts),     cmocka_unit_test(test_llama),
        cmocka_unit_test(test_qwen3moe),  cmocka_unit_test(test_step35),
        cmocka_unit_test(test_deepseek2), cmocka_unit_test(test_view_refuses),
        cmocka_unit_test(test_tokenizer), cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
