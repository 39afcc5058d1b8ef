/* Checkpoints: one written by the safetensors library, and files that are wrong in one way each. */
#include "data/checkpoint.h"
#include "data/safetensors.h"

#include "base/mem.h"
#include "tests/data/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURE "tests/data/checkpoint"

/* Writes a safetensors file: header length, header padded with blanks to a multiple of 8 (nothing
 * stays nothing), n data bytes of value 1, 2, 3 ... length 0: the right one. */
static void write_file(const char *path, const char *header, uint64_t length, size_t n)
{
    size_t used = strlen(header), text = (used + 7) / 8 * 8;
    unsigned char *all = mem_zeroed(8 + text + n, 1);
    for (int i = 0; i < 8; i++)
        all[i] = (unsigned char)((length ? length : text) >> 8 * i);
    memset(all + 8, ' ', text);
    memcpy(all + 8, header, used);
    for (size_t i = 0; i < n; i++)
        all[8 + text + i] = (unsigned char)(i + 1);
    scratch_write(path, all, 8 + text + n);
    free(all);
}

static float element(const struct tensor *t, size_t i)
{
    if (t->dtype == DTYPE_F32)
        return ((const float *)t->data)[i];
    if (t->dtype == DTYPE_BF16)
        return f32_from_bf16(((const bf16_t *)t->data)[i]);
    return f32_from_f8e4m3(((const f8e4m3_t *)t->data)[i]);
}

static void reads_what_the_library_wrote(void **state)
{
    (void)state;
    static const struct {
        const char *name, *dtype;
        int dims;
        size_t shape[3], elements;
        bool known;
    } wanted[] = {
        {"layers.0.w", "BF16", 2, {3, 5}, 15, true},
        {"layers.0.scale", "F32", 1, {7}, 7, true},
        {"layers.1.w", "F8_E4M3", 3, {2, 3, 4}, 24, true},
        {"scalar", "F32", 0, {0}, 1, true},
        {"nothing", "F32", 2, {0, 4}, 0, true},
        {"ids", "I64", 1, {3}, 3, false},
    };
    struct checkpoint *c;
    struct err e;
    expect_ok(checkpoint_open(&c, FIXTURE, &e), &e);
    assert_string_equal(checkpoint_directory(c), FIXTURE);
    assert_int_equal(checkpoint_count(c), 6);
    for (size_t k = 0; k < 6; k++) {
        const struct tensor *t = checkpoint_find(c, wanted[k].name);
        assert_non_null(t);
        assert_string_equal(t->dtype_text, wanted[k].dtype);
        assert_int_equal(t->known, wanted[k].known);
        assert_int_equal(t->dims, wanted[k].dims);
        for (int d = 0; d < t->dims; d++)
            assert_int_equal(t->shape[d], wanted[k].shape[d]);
        if (!t->known)
            continue;
        assert_int_equal(t->bytes, wanted[k].elements * dtype_size(t->dtype));
        for (size_t i = 0; i < wanted[k].elements; i++) {
            int v = (int)((i * 7 + strlen(t->name)) % 64) - 31;
            if (t->dtype == DTYPE_F8E4M3)
                v = (v + 32) / 4 * 4 - 32; /* rounded down, as the script does */
            assert_true(element(t, i) == (float)v);
        }
        checkpoint_prefetch(t->data, t->bytes);
        checkpoint_release(t->data, t->bytes);
    }
    assert_null(checkpoint_find(c, "layers.0"));
    assert_null(checkpoint_find(c, ""));
    const struct tensor *ids = checkpoint_find(c, "ids");
    assert_int_equal(ids->dtype, DTYPE_COUNT);
    assert_non_null(strstr(ids->file, "/a.safetensors"));
    size_t in_order = 0; /* every tensor once, files one after the other, rising in each */
    for (size_t i = 0; i < checkpoint_count(c); i++)
        in_order += checkpoint_find(c, checkpoint_at(c, i)->name) == checkpoint_at(c, i);
    assert_int_equal(in_order, 6);
    checkpoint_close(c);
}

static uint64_t hash_of(const char *directory)
{
    struct checkpoint *c;
    struct err e;
    expect_ok(checkpoint_open(&c, directory, &e), &e);
    uint64_t h = checkpoint_hash(c);
    checkpoint_close(c);
    return h;
}

static void hash_sees_names_shapes_and_contents(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2500],\"data_offsets\":[0,10000]}}",
        "{\"b\":{\"dtype\":\"F32\",\"shape\":[2500],\"data_offsets\":[0,10000]}}",
        "{\"a\":{\"dtype\":\"I32\",\"shape\":[2500],\"data_offsets\":[0,10000]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[50,50],\"data_offsets\":[0,10000]}}",
    };
    uint64_t hashes[6];
    scratch_directory("hash");
    const char *file = scratch_path("hash/model.safetensors");
    for (size_t i = 0; i < 4; i++) {
        write_file(file, headers[i], 0, 10000);
        hashes[i] = hash_of(scratch_path("hash"));
    }
    write_file(file, headers[0], 0, 10000);
    FILE *f = fopen(file, "r+");
    assert_non_null(f);
    for (int end = 0; end < 2; end++) { /* a byte near the beginning, then one at the end */
        assert_int_equal(fseek(f, end ? -1 : 4000, end ? SEEK_END : SEEK_SET), 0);
        fputc(0x5a, f);
        fflush(f);
        hashes[4 + end] = hash_of(scratch_path("hash"));
    }
    fclose(f);
    for (size_t i = 0; i < 6; i++)
        for (size_t k = 0; k < i; k++)
            assert_true(hashes[i] != hashes[k]);
}

static void hash_does_not_depend_on_files(void **state)
{
    (void)state;
    scratch_directory("one");
    scratch_directory("two");
    static const char whole[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                                "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}";
    static const char first[] = "{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    static const char second[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    write_file(scratch_path("one/model.safetensors"), whole, 0, 16);
    write_file(scratch_path("two/1.safetensors"), first, 0, 8);
    write_file(scratch_path("two/2.safetensors"), second, 0, 8);
    FILE *f = fopen(scratch_path("two/1.safetensors"), "r+");
    fseek(f, -8, SEEK_END);
    for (int i = 9; i <= 16; i++)
        fputc(i, f);
    fclose(f);
    scratch_text(scratch_path("two/model.safetensors.index.json"),
                 "{\"weight_map\": {\"a\": \"2.safetensors\", \"b\": \"1.safetensors\"}}");
    assert_true(hash_of(scratch_path("one")) == hash_of(scratch_path("two")));
}

#define T(dtype, shape, range)                                                                     \
    "{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" range "}"
#define F32_8 T("\"F32\"", "[2]", "[0,8]")

/* data: bytes behind the header. length: written instead of the header's when not 0. */
static const struct {
    const char *what, *header;
    size_t data;
    uint64_t length;
    const char *message, *tensor;
} defects[] = {
    {"header longer than the file", "{\"a\":" F32_8 "}", 8, 5000, "header length 5000", NULL},
    {"header above the limit", "{}", 0, 100000001, "limit of 100000000", NULL},
    {"header length 2^64 - 1", "{}", 0, UINT64_MAX, "limit of 100000000", NULL},
    {"no JSON", "{\"a\":}", 0, 0, "not valid JSON", NULL},
    {"JSON cut off", "{\"a\":" F32_8, 8, 0, "not valid JSON", NULL},
    {"empty header", "", 0, 0, "not valid JSON", NULL},
    {"JSON, no object", "[1,2]", 0, 0, "not an object", NULL},
    {"a name twice", "{\"a\":" F32_8 ",\"a\":" F32_8 "}", 8, 0, "duplicate", NULL},
    {"metadata no object", "{\"__metadata__\":3}", 0, 0, "__metadata__", NULL},
    {"entry no object", "{\"a\":[1]}", 0, 0, "wanted an object", "a"},
    {"no dtype", "{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, 0, "\"dtype\"", "a"},
    {"dtype a number", "{\"a\":" T("4", "[2]", "[0,8]") "}", 8, 0, "\"dtype\"", "a"},
    {"no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, 0, "\"shape\"", "a"},
    {"negative size", "{\"a\":" T("\"F32\"", "[-2]", "[0,8]") "}", 8, 0, "shape[0]", "a"},
    {"fractional size", "{\"a\":" T("\"F32\"", "[1,2.0]", "[0,8]") "}", 8, 0, "shape[1]", "a"},
    {"nine dimensions", "{\"a\":" T("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]") "}", 8, 0,
     "9 dimensions", "a"},
    {"product overflows", "{\"a\":" T("\"F32\"", "[4294967296,4294967296,4]", "[0,8]") "}", 8, 0,
     "64 bits", "a"},
    {"bits overflow", "{\"a\":" T("\"F32\"", "[4611686018427387904]", "[0,8]") "}", 8, 0,
     "do not make the 8 bytes", "a"},
    {"bytes too few", "{\"a\":" T("\"F32\"", "[3]", "[0,8]") "}", 8, 0, "do not make the 8 bytes",
     "a"},
    {"half bytes", "{\"a\":" T("\"F4\"", "[3]", "[0,1]") "}", 1, 0, "do not make the 1 bytes", "a"},
    {"other dtype's bytes", "{\"a\":" T("\"I64\"", "[2]", "[0,8]") "}", 8, 0, "do not make", "a"},
    {"one offset", "{\"a\":" T("\"F32\"", "[2]", "[8]") "}", 8, 0, "[begin, end]", "a"},
    {"offsets no numbers", "{\"a\":" T("\"F32\"", "[2]", "[\"0\",\"8\"]") "}", 8, 0, "[begin, end]",
     "a"},
    {"negative offset", "{\"a\":" T("\"F32\"", "[2]", "[-8,0]") "}", 8, 0, "not a range", "a"},
    {"reversed offsets", "{\"a\":" T("\"F32\"", "[2]", "[8,0]") "}", 8, 0, "not a range", "a"},
    {"beyond the file", "{\"a\":" T("\"F32\"", "[2]", "[0,8]") "}", 7, 0, "beyond the file", "a"},
    {"offset of 2^63", "{\"a\":" T("\"F32\"", "[2]", "[0,9223372036854775808]") "}", 8, 0,
     "not valid JSON", NULL},
    {"overlap", "{\"a\":" F32_8 ",\"b\":" T("\"F32\"", "[2]", "[4,12]") "}", 12, 0,
     "overlaps that of tensor \"a\"", "b"},
    {"the same bytes", "{\"a\":" F32_8 ",\"b\":" F32_8 "}", 8, 0, "overlaps", "b"},
    {"hole", "{\"a\":" F32_8 ",\"b\":" T("\"F32\"", "[1]", "[12,16]") "}", 16, 0,
     "4 bytes before its data", "b"},
    {"hole at the start", "{\"a\":" T("\"F32\"", "[1]", "[4,8]") "}", 8, 0, "4 bytes before", "a"},
    {"bytes left over", "{\"a\":" F32_8 "}", 11, 0, "3 bytes at the end", NULL},
    {"unaligned", "{\"a\":" T("\"U8\"", "[1]", "[0,1]") ",\"b\":" T("\"BF16\"", "[2]", "[1,5]") "}",
     5, 0, "2-byte element", "b"},
};

static void names_every_defect(void **state)
{
    (void)state;
    const char *path = scratch_path("bad.safetensors");
    for (size_t i = 0; i < sizeof defects / sizeof *defects; i++) {
        char tensor[40] = "";
        write_file(path, defects[i].header, defects[i].length, defects[i].data);
        struct safetensors *s = NULL;
        struct err e = {"no message"};
        int rc = safetensors_open(&s, path, &e);
        if (defects[i].tensor)
            snprintf(tensor, sizeof tensor, "tensor \"%s\"", defects[i].tensor);
        if (rc != -1)
            print_error("accepted: %s\n", defects[i].what);
        expect_error(rc, &e, path, defects[i].message, tensor, NULL);
    }
}

static void short_files(void **state)
{
    (void)state;
    const char *path = scratch_path("short.safetensors");
    struct safetensors *s;
    struct err e;
    scratch_write(path, "", 0);
    expect_error(safetensors_open(&s, path, &e), &e, path, "has 0 bytes", NULL);
    scratch_write(path, "\x01\0\0\0\0\0\0", 7);
    expect_error(safetensors_open(&s, path, &e), &e, path, "has 7 bytes", NULL);
    scratch_text(path, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n");
    expect_error(safetensors_open(&s, path, &e), &e, path, "git lfs pull", NULL);
    expect_error(safetensors_open(&s, scratch_path("absent"), &e), &e, "absent", "cannot be opened",
                 NULL);
    expect_error(safetensors_open(&s, scratch_path("."), &e), &e, "not a regular file", NULL);
}

/* Every prefix of a good file is an error, and none reads beyond the end. */
static void every_cut_is_an_error(void **state)
{
    (void)state;
    size_t n;
    char *whole = scratch_read(FIXTURE "/b.safetensors", &n);
    const char *path = scratch_path("cut.safetensors");
    struct safetensors *s;
    struct err e;
    for (size_t k = 0; k < n; k++) {
        scratch_write(path, whole, k);
        expect_error(safetensors_open(&s, path, &e), &e, path, NULL);
    }
    scratch_write(path, whole, n);
    expect_ok(safetensors_open(&s, path, &e), &e);
    safetensors_close(s);
    free(whole);
}

/* Any byte of the header changed: an error or a file that is still consistent, never a crash. */
static void damaged_headers_do_no_harm(void **state)
{
    (void)state;
    size_t n, rejected = 0;
    char *whole = scratch_read(FIXTURE "/a.safetensors", &n);
    const char *path = scratch_path("damaged.safetensors");
    int trials = scratch_trials(2000);
    for (int i = 0; i < trials; i++) {
        size_t at = scratch_random() % 200;
        char old = whole[at];
        whole[at] = (char)scratch_random();
        scratch_write(path, whole, n);
        whole[at] = old;
        struct safetensors *s;
        struct err e;
        if (safetensors_open(&s, path, &e) != 0) {
            rejected++;
            assert_non_null(strstr(e.text, path));
            continue;
        }
        unsigned sum = 0;
        for (size_t t = 0; t < safetensors_count(s); t++)
            for (size_t b = 0; b < safetensors_at(s, t)->bytes; b++)
                sum += ((const unsigned char *)safetensors_at(s, t)->data)[b];
        assert_true(sum > 0);
        safetensors_close(s);
    }
    assert_true(rejected > (size_t)trials / 3);
    free(whole);
}

static int open_index(const char *json, struct err *e)
{
    scratch_directory("index");
    static const char a[] = "{\"a\":" F32_8 "}",
                      ab[] = "{\"a\":" F32_8 ",\"b\":" T("\"F32\"", "[1]", "[8,12]") "}";
    write_file(scratch_path("index/a.safetensors"), a, 0, 8);
    write_file(scratch_path("index/ab.safetensors"), ab, 0, 12);
    write_file(scratch_path("outside.safetensors"), a, 0, 8);
    scratch_text(scratch_path("index/model.safetensors.index.json"), json);
    struct checkpoint *c;
    int rc = checkpoint_open(&c, scratch_path("index"), e);
    if (rc == 0)
        checkpoint_close(c);
    return rc;
}

static void names_every_defect_of_an_index(void **state)
{
    (void)state;
    static const struct {
        const char *json, *message[3];
    } wrong[] = {
        {"", {"index.json:", "not valid JSON"}},
        {"{\"weight_map\": [", {"index.json:", "not valid JSON"}},
        {"{}", {"index.json", "weight_map"}},
        {"{\"weight_map\": [1]}", {"index.json", "weight_map"}},
        {"{\"weight_map\": {}}", {"no tensors"}},
        {"{\"weight_map\": {\"a\": 1}}", {"index.json", "\"a\"", "file name"}},
        {"{\"weight_map\": {\"a\": \"../outside.safetensors\"}}",
         {"index.json", "\"a\"", "not the name of a file"}},
        {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", {"\"a\"", "not the name of a file"}},
        {"{\"weight_map\": {\"a\": \"..\"}}", {"\"a\"", "not the name of a file"}},
        {"{\"weight_map\": {\"a\": \"\"}}", {"\"a\"", "not the name of a file"}},
        {"{\"weight_map\": {\"a\": \"none.safetensors\"}}",
         {"index.json", "none.safetensors", "cannot be opened"}},
        {"{\"weight_map\": {\"x\": \"a.safetensors\"}}",
         {"index.json", "\"x\" is not in a.safetensors"}},
        {"{\"weight_map\": {\"a\": \"a.safetensors\", \"b\": \"ab.safetensors\"}}",
         {"\"a\"", "ab.safetensors", "as well"}},
        {"{\"weight_map\": {\"b\": \"ab.safetensors\", \"b\": \"a.safetensors\"}}",
         {"index.json:", "duplicate"}},
    };
    struct err e;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        expect_error(open_index(wrong[i].json, &e), &e, wrong[i].message[0], wrong[i].message[1],
                     wrong[i].message[2], NULL);
    expect_ok(
        open_index("{\"weight_map\": {\"b\": \"ab.safetensors\", \"a\": \"ab.safetensors\"}}", &e),
        &e);
}

static void index_names_the_file_a_tensor_is_really_in(void **state)
{
    (void)state;
    struct err e;
    struct checkpoint *c;
    scratch_directory("swapped");
    static const char a[] = "{\"a\":" F32_8 "}", b[] = "{\"b\":" F32_8 "}";
    write_file(scratch_path("swapped/1.safetensors"), a, 0, 8);
    write_file(scratch_path("swapped/2.safetensors"), b, 0, 8);
    scratch_text(scratch_path("swapped/model.safetensors.index.json"),
                 "{\"weight_map\": {\"a\": \"2.safetensors\", \"b\": \"1.safetensors\"}}");
    expect_error(checkpoint_open(&c, scratch_path("swapped"), &e), &e,
                 "\"a\" is not in 2.safetensors but in", "1.safetensors", NULL);
}

static void directories(void **state)
{
    (void)state;
    struct err e;
    struct checkpoint *c;
    expect_error(checkpoint_open(&c, scratch_path("absent"), &e), &e, "absent", "cannot be opened",
                 NULL);
    expect_error(checkpoint_open(&c, FIXTURE "/a.safetensors", &e), &e, "a.safetensors",
                 "wanted a checkpoint directory", NULL);
    scratch_directory("empty");
    expect_error(checkpoint_open(&c, scratch_path("empty"), &e), &e, "empty", "has neither", NULL);
    static const char none[] = "{}";
    write_file(scratch_path("empty/model.safetensors"), none, 0, 0);
    expect_error(checkpoint_open(&c, scratch_path("empty"), &e), &e, "no tensors", NULL);
    checkpoint_close(NULL);
}

/* Links into another directory are how the Hugging Face cache stores a checkpoint. */
static void follows_links(void **state)
{
    (void)state;
    struct err e;
    struct checkpoint *c;
    scratch_directory("linked");
    char *target = realpath(FIXTURE "/b.safetensors", NULL);
    assert_int_equal(symlink(target, scratch_path("linked/model.safetensors")), 0);
    free(target);
    expect_ok(checkpoint_open(&c, scratch_path("linked"), &e), &e);
    assert_int_equal(checkpoint_count(c), 3);
    checkpoint_close(c);
}

/* What a snapshot looks like whose blobs were cleaned up: said as it is. */
static void links_to_nothing_are_named(void **state)
{
    (void)state;
    struct err e;
    struct checkpoint *c;
    scratch_directory("gone");
    assert_int_equal(symlink("../blobs/0123", scratch_path("gone/model.safetensors")), 0);
    expect_error(checkpoint_open(&c, scratch_path("gone"), &e), &e, "gone/model.safetensors",
                 "is a link to ../blobs/0123, which does not exist", NULL);
}

/* A pipe in the place of weights is an error at once, not something to wait for. */
static void pipes_are_not_waited_for(void **state)
{
    (void)state;
    struct err e;
    struct checkpoint *c;
    scratch_directory("pipe");
    assert_int_equal(mkfifo(scratch_path("pipe/model.safetensors"), 0600), 0);
    alarm(5);
    expect_error(checkpoint_open(&c, scratch_path("pipe"), &e), &e, "model.safetensors",
                 "not a regular file", NULL);
    alarm(0);
}

int main(void)
{
    scratch_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_the_library_wrote),
        cmocka_unit_test(hash_sees_names_shapes_and_contents),
        cmocka_unit_test(hash_does_not_depend_on_files),
        cmocka_unit_test(names_every_defect),
        cmocka_unit_test(short_files),
        cmocka_unit_test(every_cut_is_an_error),
        cmocka_unit_test(damaged_headers_do_no_harm),
        cmocka_unit_test(names_every_defect_of_an_index),
        cmocka_unit_test(index_names_the_file_a_tensor_is_really_in),
        cmocka_unit_test(directories),
        cmocka_unit_test(follows_links),
        cmocka_unit_test(links_to_nothing_are_named),
        cmocka_unit_test(pipes_are_not_waited_for),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
