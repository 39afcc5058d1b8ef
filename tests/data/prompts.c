/* Prompts: every way the schema allows to store them reads the same; what is wrong is named. */
#include "data/prompts.h"

#include "base/mem.h"
#include "data/h5.h"
#include "tests/data/scratch.h"

#include <fcntl.h>
#include <hdf5.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <cmocka.h>

enum { N = 1337 }; /* more than what is read ahead, and no multiple of it */

/* Row i: 0 to about 90 bytes, some not UTF-8. */
static void row_text(size_t i, char out[100])
{
    size_t n = i % 3 == 0 ? i % 11 : i % 83;
    for (size_t k = 0; k < n; k++)
        out[k] = (char)('a' + (i + k * 5) % 26);
    if (n > 2 && i % 7 == 0)
        memcpy(out, "\xff\xc3", 2);
    out[n] = 0;
}

static hid_t create(const char *path)
{
    h5_quiet();
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    return file;
}

/* chunk 0: contiguous. shape: n, and a second dimension when it is not 0. */
static void put(hid_t file, const char *name, hid_t type, size_t n, size_t second, size_t chunk,
                const void *data)
{
    hsize_t shape[2] = {n, second}, chunks[1] = {chunk};
    hid_t space = H5Screate_simple(second ? 2 : 1, shape, NULL);
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    if (chunk) {
        H5Pset_chunk(plist, 1, chunks);
        H5Pset_deflate(plist, 3);
    }
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    assert_true(set >= 0);
    if (data)
        assert_true(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(set);
    H5Pclose(plist);
    H5Sclose(space);
}

static hid_t fixed(size_t size, H5T_str_t padding)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, size);
    H5Tset_strpad(type, padding);
    return type;
}

static void write_variable(const char *path, size_t chunk)
{
    char(*rows)[100] = mem_new(N, sizeof *rows);
    const char **pointers = mem_new(N, sizeof *pointers);
    for (size_t i = 0; i < N; i++) {
        row_text(i, rows[i]);
        pointers[i] = rows[i];
    }
    hid_t file = create(path), type = h5_string_type();
    put(file, "text", type, N, 0, chunk, pointers);
    H5Tclose(type);
    H5Fclose(file);
    free(rows);
    free(pointers);
}

static void write_fixed(const char *path, H5T_str_t padding, size_t chunk)
{
    char(*rows)[100] = mem_new(N, sizeof *rows);
    for (size_t i = 0; i < N; i++) {
        char text[100];
        row_text(i, text);
        memset(rows[i], padding == H5T_STR_SPACEPAD ? ' ' : 0, sizeof rows[i]);
        memcpy(rows[i], text, strlen(text));
        if (padding == H5T_STR_NULLTERM) /* what follows the NUL is not looked at */
            memset(rows[i] + strlen(text) + 1, 'x', sizeof rows[i] - strlen(text) - 1);
    }
    hid_t file = create(path), type = fixed(sizeof *rows, padding);
    put(file, "text", type, N, 0, chunk, rows);
    H5Tclose(type);
    H5Fclose(file);
    free(rows);
}

static uint64_t hash_of(struct prompts *p)
{
    struct err e;
    uint64_t hash = prompts_hash_start(p);
    expect_ok(prompts_hash(p, 0, prompts_count(p), &hash, &e), &e);
    return hash;
}

static void expect_row(struct prompts *p, size_t i)
{
    char text[100];
    row_text(i, text);
    struct prompt row;
    struct err e;
    expect_ok(prompts_read(p, i, &row, &e), &e);
    assert_int_equal(row.text_bytes, strlen(text));
    assert_string_equal(row.text, text);
    assert_null(row.tokens);
    assert_int_equal(row.max_new_tokens, 0);
    prompt_free(&row);
}

static void every_storage_reads_the_same(void **state)
{
    (void)state;
    const char *path = scratch_path("text.h5");
    uint64_t hash = 0;
    for (int kind = 0; kind < 6; kind++) {
        if (kind == 0)
            write_variable(path, 0);
        else if (kind == 1)
            write_variable(path, 100);
        else if (kind == 2)
            write_fixed(path, H5T_STR_NULLPAD, 0);
        else if (kind == 3)
            write_fixed(path, H5T_STR_NULLTERM, 77);
        else if (kind == 4)
            write_fixed(path, H5T_STR_SPACEPAD, N);
        else
            write_fixed(path, H5T_STR_NULLPAD, 1);
        struct prompts *p;
        struct err e;
        expect_ok(prompts_open(&p, path, &e), &e);
        assert_int_equal(prompts_count(p), N);
        assert_false(prompts_are_tokens(p));
        if (kind == 0)
            hash = hash_of(p);
        assert_true(hash_of(p) == hash);
        for (size_t i = 0; i < N; i++)
            expect_row(p, i);
        for (size_t i = N, end = N - (size_t)scratch_trials(300); i-- > end;)
            expect_row(p, i);
        for (int i = scratch_trials(500); i > 0; i--)
            expect_row(p, scratch_random() % N);
        char *id = prompts_id(p, 1200);
        assert_string_equal(id, "1200");
        free(id);
        prompts_close(p);
    }
}

static void hash_sees_one_byte(void **state)
{
    (void)state;
    const char *path = scratch_path("hash.h5");
    uint64_t hashes[5];
    const char *rows[5][2] = {{"ab", "c"}, {"a", "bc"}, {"ab", "d"}, {"ab", "c"}, {"ab", "c"}};
    const int64_t ids[2] = {0, 1}, limits[2] = {0, 3};
    for (size_t i = 0; i < 5; i++) {
        hid_t file = create(path), type = h5_string_type();
        put(file, "text", type, 2, 0, 0, rows[i]);
        if (i == 3)
            put(file, "id", H5T_NATIVE_INT64, 2, 0, 0, ids);
        if (i == 4)
            put(file, "max_new_tokens", H5T_NATIVE_INT64, 2, 0, 0, limits);
        H5Tclose(type);
        H5Fclose(file);
        struct prompts *p;
        struct err e;
        expect_ok(prompts_open(&p, path, &e), &e);
        hashes[i] = hash_of(p);
        prompts_close(p);
        for (size_t k = 0; k < i; k++)
            assert_true(hashes[k] != hashes[i]);
    }
}

/* Rows 0, 3, 1, 0 tokens; types[] as numpy would make them. */
static void tokens_of_any_integer_type(void **state)
{
    (void)state;
    const char *path = scratch_path("tokens.h5");
    const int32_t tokens[4] = {5, 129279, 0, 77};
    const int64_t offsets[5] = {0, 0, 3, 4, 4};
    const hid_t types[] = {H5T_STD_I32LE, H5T_STD_U16BE, H5T_STD_I64BE, H5T_STD_U64LE};
    for (size_t t = 0; t < 4; t++) {
        hid_t file = create(path);
        hsize_t n = 4;
        hid_t space = H5Screate_simple(1, &n, NULL);
        hid_t set =
            H5Dcreate2(file, "tokens", types[t], space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        H5Dwrite(set, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, tokens);
        H5Dclose(set);
        H5Sclose(space);
        put(file, "offsets", H5T_NATIVE_INT64, 5, 0, 0, offsets);
        H5Fclose(file);
        struct prompts *p;
        struct err e;
        expect_ok(prompts_open(&p, path, &e), &e);
        assert_true(prompts_are_tokens(p));
        assert_int_equal(prompts_count(p), 4);
        for (size_t i = 4; i-- > 0;) {
            struct prompt row;
            expect_ok(prompts_read(p, i, &row, &e), &e);
            assert_null(row.text);
            assert_int_equal(row.n_tokens, offsets[i + 1] - offsets[i]);
            for (size_t k = 0; k < row.n_tokens; k++)
                if (types[t] != H5T_STD_U16BE) /* which cannot hold 129279 */
                    assert_int_equal(row.tokens[k], tokens[(size_t)offsets[i] + k]);
            prompt_free(&row);
        }
        prompts_close(p);
    }
}

static void a_bad_row_is_its_own_error(void **state)
{
    (void)state;
    const char *path = scratch_path("rows.h5");
    const int64_t tokens[5] = {1, -2, 3, 4294967296, 5};
    const int64_t offsets[8] = {0, 1, 2, 1, 3, 4, 9, 5}; /* row 2 goes back, 5 and 6 beyond */
    const int64_t limits[7] = {0, 1, 1, -1, 1, 1, 1};
    hid_t file = create(path);
    put(file, "tokens", H5T_NATIVE_INT64, 5, 0, 0, tokens);
    put(file, "offsets", H5T_NATIVE_INT64, 8, 0, 0, offsets);
    put(file, "max_new_tokens", H5T_NATIVE_INT64, 7, 0, 0, limits);
    H5Fclose(file);
    struct prompts *p;
    struct err e;
    expect_ok(prompts_open(&p, path, &e), &e);
    struct prompt row;
    expect_ok(prompts_read(p, 0, &row, &e), &e);
    assert_int_equal(row.tokens[0], 1);
    prompt_free(&row);
    expect_error(prompts_read(p, 1, &row, &e), &e, "prompt 1", "token 0 is -2", NULL);
    expect_error(prompts_read(p, 2, &row, &e), &e, "prompt 2", "offsets 2 to 1", NULL);
    expect_error(prompts_read(p, 3, &row, &e), &e, "prompt 3", "token 0 is -2", NULL);
    expect_error(prompts_read(p, 4, &row, &e), &e, "prompt 4", "4294967296", NULL);
    expect_error(prompts_read(p, 5, &row, &e), &e, "prompt 5", "offsets 4 to 9", NULL);
    expect_error(prompts_read(p, 6, &row, &e), &e, "prompt 6", "offsets 9 to 5", NULL);
    assert_null(row.tokens);
    assert_true(hash_of(p) == hash_of(p));
    prompts_close(p);
}

static void ids_and_limits(void **state)
{
    (void)state;
    const char *path = scratch_path("ids.h5");
    const char *text[3] = {"one", "", "three"};
    const char *names[3] = {"first", "", "third"};
    const uint8_t numbers[3] = {7, 0, 255};
    const uint16_t limits[3] = {0, 12, 65535};
    for (int kind = 0; kind < 2; kind++) {
        hid_t file = create(path), type = h5_string_type();
        put(file, "text", type, 3, 0, 0, text);
        if (kind == 0)
            put(file, "id", type, 3, 0, 0, names);
        else
            put(file, "id", H5T_NATIVE_UINT8, 3, 0, 2, numbers);
        put(file, "max_new_tokens", H5T_NATIVE_UINT16, 3, 0, 0, limits);
        put(file, "unrelated", H5T_NATIVE_FLOAT, 2, 0, 0, NULL);
        H5Tclose(type);
        H5Fclose(file);
        struct prompts *p;
        struct err e;
        expect_ok(prompts_open(&p, path, &e), &e);
        static const char *const wanted[2][3] = {{"first", "", "third"}, {"7", "0", "255"}};
        for (size_t i = 0; i < 3; i++) {
            struct prompt row;
            expect_ok(prompts_read(p, i, &row, &e), &e);
            assert_string_equal(row.text, text[i]);
            assert_int_equal(row.max_new_tokens, limits[i]);
            prompt_free(&row);
            char *id = prompts_id(p, i);
            assert_string_equal(id, wanted[kind][i]);
            free(id);
        }
        prompts_close(p);
    }
}

static void no_prompts_is_no_error(void **state)
{
    (void)state;
    const char *path = scratch_path("none.h5");
    hid_t file = create(path), type = h5_string_type();
    put(file, "text", type, 0, 0, 0, NULL);
    H5Tclose(type);
    H5Fclose(file);
    struct prompts *p;
    struct err e;
    expect_ok(prompts_open(&p, path, &e), &e);
    assert_int_equal(prompts_count(p), 0);
    (void)hash_of(p);
    prompts_close(p);
    prompts_close(NULL);
}

/* Files that end the job. set: makes what is wrong. */
static void wrong_nothing(hid_t f)
{
    put(f, "prompt", H5T_NATIVE_INT32, 2, 0, 0, NULL);
}
static void wrong_both(hid_t f)
{
    put(f, "text", fixed(4, H5T_STR_NULLPAD), 2, 0, 0, NULL);
    put(f, "tokens", H5T_NATIVE_INT32, 2, 0, 0, NULL);
}
static void wrong_text_numbers(hid_t f)
{
    put(f, "text", H5T_NATIVE_INT32, 2, 0, 0, NULL);
}
static void wrong_text_shape(hid_t f)
{
    put(f, "text", fixed(4, H5T_STR_NULLPAD), 2, 3, 0, NULL);
}
static void wrong_text_group(hid_t f)
{
    H5Gclose(H5Gcreate2(f, "text", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}
static void wrong_text_opaque(hid_t f)
{
    put(f, "text", H5Tcreate(H5T_OPAQUE, 3), 2, 0, 0, NULL);
}
static void wrong_text_scalar(hid_t f)
{
    hid_t type = h5_string_type();
    H5Dclose(
        H5Dcreate2(f, "text", type, H5Screate(H5S_SCALAR), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}
static void wrong_no_offsets(hid_t f)
{
    put(f, "tokens", H5T_NATIVE_INT32, 2, 0, 0, NULL);
}
static void wrong_empty_offsets(hid_t f)
{
    put(f, "tokens", H5T_NATIVE_INT32, 2, 0, 0, NULL);
    put(f, "offsets", H5T_NATIVE_INT32, 0, 0, 0, NULL);
}
static void wrong_float_tokens(hid_t f)
{
    put(f, "tokens", H5T_NATIVE_FLOAT, 2, 0, 0, NULL);
    put(f, "offsets", H5T_NATIVE_INT32, 2, 0, 0, NULL);
}
static void wrong_id_count(hid_t f)
{
    put(f, "text", fixed(4, H5T_STR_NULLPAD), 2, 0, 0, NULL);
    put(f, "id", H5T_NATIVE_INT32, 3, 0, 0, NULL);
}
static void wrong_id_kind(hid_t f)
{
    put(f, "text", fixed(4, H5T_STR_NULLPAD), 2, 0, 0, NULL);
    put(f, "id", H5T_NATIVE_DOUBLE, 2, 0, 0, NULL);
}
static void wrong_limit_count(hid_t f)
{
    put(f, "text", fixed(4, H5T_STR_NULLPAD), 2, 0, 0, NULL);
    put(f, "max_new_tokens", H5T_NATIVE_INT32, 1, 0, 0, NULL);
}
static void wrong_limit_kind(hid_t f)
{
    put(f, "text", fixed(4, H5T_STR_NULLPAD), 2, 0, 0, NULL);
    put(f, "max_new_tokens", fixed(4, H5T_STR_NULLPAD), 2, 0, 0, NULL);
}

static size_t pass_through(unsigned flags, size_t n, const unsigned *values, size_t bytes,
                           size_t *room, void **data)
{
    (void)flags, (void)n, (void)values, (void)room, (void)data;
    return bytes;
}

/* A compression this library lacks once it is taken away again. */
static void wrong_filter(hid_t f)
{
    const H5Z_class2_t filter = {H5Z_CLASS_T_VERS, 400, 1, 1, "strange", NULL, NULL, pass_through};
    H5Zregister(&filter);
    hsize_t n = 2;
    hid_t space = H5Screate_simple(1, &n, NULL), plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(plist, 1, &n);
    H5Pset_filter(plist, 400, H5Z_FLAG_MANDATORY, 0, NULL);
    hid_t set =
        H5Dcreate2(f, "text", fixed(4, H5T_STR_NULLPAD), space, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5Dwrite(set, fixed(4, H5T_STR_NULLPAD), H5S_ALL, H5S_ALL, H5P_DEFAULT, "ab\0\0cd\0");
    H5Dclose(set);
    H5Fflush(f, H5F_SCOPE_LOCAL);
    H5Pclose(plist);
    H5Sclose(space);
}

static void names_what_is_wrong_with_a_file(void **state)
{
    (void)state;
    static const struct {
        void (*set)(hid_t);
        const char *dataset, *message;
    } wrong[] = {
        {wrong_nothing, "\"text\"", "found \"prompt\""},
        {wrong_both, "\"tokens\"", "has both"},
        {wrong_text_numbers, "\"text\"", "wanted strings, found integers of 32 bits"},
        {wrong_text_shape, "\"text\"", "wanted one dimension, found 2"},
        {wrong_text_group, "\"text\"", "cannot be opened as a dataset"},
        {wrong_text_opaque, "\"text\"", "found opaque bytes"},
        {wrong_text_scalar, "\"text\"", "wanted one dimension, found 0"},
        {wrong_no_offsets, "\"offsets\"", "is not in the file"},
        {wrong_empty_offsets, "\"offsets\"", "is empty"},
        {wrong_float_tokens, "\"tokens\"", "wanted integers, found floating-point"},
        {wrong_id_count, "\"id\"", "has 3 rows, the prompts are 2"},
        {wrong_id_kind, "\"id\"", "wanted strings or integers"},
        {wrong_limit_count, "\"max_new_tokens\"", "has 1 rows"},
        {wrong_limit_kind, "\"max_new_tokens\"", "wanted integers, found strings"},
        {wrong_filter, "\"text\"", "filter 400 (strange)"},
    };
    const char *path = scratch_path("wrong.h5");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        hid_t file = create(path);
        wrong[i].set(file);
        H5Fclose(file);
        H5Zunregister(400);
        struct prompts *p;
        struct err e;
        expect_error(prompts_open(&p, path, &e), &e, path, wrong[i].dataset, wrong[i].message,
                     NULL);
    }
}

static void files_that_are_none(void **state)
{
    (void)state;
    struct prompts *p;
    struct err e;
    const char *path = scratch_path("none.txt");
    expect_error(prompts_open(&p, scratch_path("absent.h5"), &e), &e, "absent.h5", "No such file",
                 NULL);
    expect_error(prompts_open(&p, scratch_path("."), &e), &e, "found a directory", NULL);
    scratch_text(path, "text\n");
    expect_error(prompts_open(&p, path, &e), &e, path, "wanted an HDF5 file", NULL);
    scratch_text(path, "");
    expect_error(prompts_open(&p, path, &e), &e, path, "(0 bytes)", NULL);
    write_variable(path, 0);
    size_t n;
    char *whole = scratch_read(path, &n);
    for (size_t cut = 1; cut < n;
         cut = cut * 3 / 2 + 1) { /* cut off: always an error, never a crash */
        scratch_write(path, whole, cut);
        expect_error(prompts_open(&p, path, &e), &e, path, NULL);
    }
    free(whole);
}

static void a_lock_names_the_way_out(void **state)
{
    (void)state;
    const char *path = scratch_path("locked.h5");
    write_variable(path, 0);
    int fd = open(path, O_RDWR);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    struct prompts *p;
    struct err e;
    expect_error(prompts_open(&p, path, &e), &e, path, "HDF5_USE_FILE_LOCKING=FALSE", NULL);
    close(fd);
    expect_ok(prompts_open(&p, path, &e), &e);
    prompts_close(p);
}

/* A chunk that cannot be read costs its own rows. */
static void damaged_rows_do_not_take_their_neighbours(void **state)
{
    (void)state;
    const char *path = scratch_path("heap.h5");
    write_fixed(path, H5T_STR_NULLPAD, 10); /* chunks of 10 rows, deflated */
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT),
          set = H5Dopen2(file, "text", H5P_DEFAULT);
    hsize_t row = 40 * 10, bytes;
    haddr_t at;
    unsigned mask;
    assert_true(H5Dget_chunk_info_by_coord(set, &row, &mask, &at, &bytes) >= 0);
    H5Dclose(set);
    H5Fclose(file);
    size_t n;
    char *whole = scratch_read(path, &n);
    memset(whole + at, 0x55, bytes); /* can no longer be inflated */
    scratch_write(path, whole, n);
    free(whole);
    struct prompts *p;
    struct err e;
    expect_ok(prompts_open(&p, path, &e), &e);
    size_t bad = 0;
    for (size_t i = 0; i < N; i++) {
        struct prompt row_read;
        if (prompts_read(p, i, &row_read, &e) != 0) {
            bad++;
            assert_non_null(strstr(e.text, "\"text\""));
            assert_null(row_read.text);
            assert_int_equal(i / 10, 40);
            continue;
        }
        prompt_free(&row_read);
        expect_row(p, i);
    }
    assert_int_equal(bad, 10);
    prompts_close(p);
}

/* A string of variable length is a reference: one that leads nowhere costs one row. */
static void a_lost_string_is_one_row(void **state)
{
    (void)state;
    const char *path = scratch_path("reference.h5");
    write_variable(path, 0);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT),
          set = H5Dopen2(file, "text", H5P_DEFAULT);
    size_t at = (size_t)H5Dget_offset(set) + 700 * 16 + 4; /* length, address, index */
    H5Dclose(set);
    H5Fclose(file);
    size_t n;
    char *whole = scratch_read(path, &n);
    memset(whole + at, 0x11, 2);
    scratch_write(path, whole, n);
    free(whole);
    struct prompts *p;
    struct err e;
    struct prompt row;
    expect_ok(prompts_open(&p, path, &e), &e);
    for (size_t i = 0; i < N; i++) {
        if (i == 700)
            expect_error(prompts_read(p, i, &row, &e), &e, path, "\"text\"", "row 700", NULL);
        else
            expect_row(p, i);
    }
    prompts_close(p);
}

static void the_demo_prompts(void **state)
{
    (void)state;
    struct prompts *p; /* written by h5py */
    struct err e;
    expect_ok(prompts_open(&p, "input/prompts.h5", &e), &e);
    assert_int_equal(prompts_count(p), 300);
    for (size_t i = 0; i < 300; i++) {
        struct prompt row;
        expect_ok(prompts_read(p, i, &row, &e), &e);
        char *id = prompts_id(p, i), *word = strchr(id, '/');
        assert_non_null(word); /* "noun/harbor" and "harbor, noun: .." */
        assert_int_equal(strncmp(row.text, word + 1, strlen(word + 1)), 0);
        free(id);
        prompt_free(&row);
    }
    prompts_close(p);
}

int main(void)
{
    scratch_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_storage_reads_the_same),
        cmocka_unit_test(hash_sees_one_byte),
        cmocka_unit_test(tokens_of_any_integer_type),
        cmocka_unit_test(a_bad_row_is_its_own_error),
        cmocka_unit_test(ids_and_limits),
        cmocka_unit_test(no_prompts_is_no_error),
        cmocka_unit_test(names_what_is_wrong_with_a_file),
        cmocka_unit_test(files_that_are_none),
        cmocka_unit_test(a_lock_names_the_way_out),
        cmocka_unit_test(damaged_rows_do_not_take_their_neighbours),
        cmocka_unit_test(a_lost_string_is_one_row),
        cmocka_unit_test(the_demo_prompts),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
