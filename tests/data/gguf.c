/* GGUF files: what was written is read, every defect is named. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),
        cmocka_unit_test(test_names_defects),
        cmocka_unit_test(test_parts),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
