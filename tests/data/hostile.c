/* Prompts files that mean harm, and disks that fail: no other file is read, no memory is taken for rows
 * that cannot be decoded, and a failed read is neither data nor a property of its row. */
#include "data/prompts.h"

#include "base/mem.h"
#include "data/h5.h"
#include "tests/data/scratch.h"

#include <errno.h>
#include <hdf5.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a disk that fails ---------------------------------------------------------------------- */

static int fail_at = -1, reads; /* the read, counted from 0, that gives EIO; -1: none */

/* HDF5 reads with this one. */
ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    if (reads++ == fail_at) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, to, n, at);
}

/* ---- files ---------------------------------------------------------------------------------- */

static hid_t create(const char *path)
{
    h5_quiet();
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(file >= 0);
    return file;
}

static void put(hid_t file, const char *name, hid_t type, hid_t memory, size_t n, hid_t plist,
                const void *data)
{
    hsize_t shape = n;
    hid_t space = H5Screate_simple(1, &shape, NULL);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    assert_true(set >= 0);
    if (data)
        assert_true(H5Dwrite(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(set);
    H5Sclose(space);
}

static void put_texts(hid_t file, const char *const *texts, size_t n)
{
    hid_t type = h5_string_type();
    put(file, "text", type, type, n, H5P_DEFAULT, texts);
    H5Tclose(type);
}

static hid_t fixed(size_t bytes)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, bytes);
    return type;
}

/* ---- other files ---------------------------------------------------------------------------- */

static const char *const two[] = {"one", "two"};

static void id_from_outside(hid_t f)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    scratch_text(scratch_path("secret"), "root:x:0:0:root:/root:/bin/bash");
    H5Pset_external(plist, scratch_path("secret"), 0, 30);
    put(f, "id", fixed(15), -1, 2, plist, NULL);
    H5Pclose(plist);
}

/* `text` of another file, which is a pipe: opening it would wait for ever. */
static void id_is_a_link(hid_t f)
{
    unlink(scratch_path("pipe.h5"));
    assert_int_equal(mkfifo(scratch_path("pipe.h5"), 0600), 0);
    H5Lcreate_external(scratch_path("pipe.h5"), "/text", f, "id", H5P_DEFAULT, H5P_DEFAULT);
}

static void id_is_a_link_to_a_link(hid_t f)
{
    H5Lcreate_external("other.h5", "/group", f, "away", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/away/text", f, "id", H5P_DEFAULT, H5P_DEFAULT);
}

static void id_is_virtual(hid_t f)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t n = 2;
    hid_t space = H5Screate_simple(1, &n, NULL);
    H5Pset_virtual(plist, space, "absent.h5", "/id", space);
    H5Sclose(space);
    put(f, "id", H5T_NATIVE_INT64, -1, 2, plist, NULL);
    H5Pclose(plist);
}

static void id_is_very_wide(hid_t f)
{
    put(f, "id", fixed(1u << 30), -1, 2, H5P_DEFAULT, NULL);
}

static void other_files_are_not_read(void **state)
{
    (void)state;
    static const struct {
        void (*make)(hid_t);
        const char *message;
    } cases[] = {
        {id_from_outside, "external storage"},
        {id_is_a_link, "a link into another file"},
        {id_is_a_link_to_a_link, "a link into another file"},
        {id_is_virtual, "a virtual dataset"},
        {id_is_very_wide, "fixed length of 1073741824 bytes"},
    };
    const char *path = scratch_path("outside.h5");
    alarm(20);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct prompts *p;
        struct err e;
        hid_t file = create(path);
        put_texts(file, two, 2);
        cases[i].make(file);
        H5Fclose(file);
        expect_error(prompts_open(&p, path, &e), &e, path, "\"id\"", cases[i].message, NULL);
    }
    alarm(0);
}

/* A link inside the file is as good as the dataset. */
static void links_inside_are_followed(void **state)
{
    (void)state;
    struct prompts *p;
    struct err e;
    hid_t file = create(scratch_path("inside.h5"));
    put_texts(file, two, 2);
    H5Lcreate_soft("/text", file, "id", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    expect_ok(prompts_open(&p, scratch_path("inside.h5"), &e), &e);
    char *id = prompts_id(p, 1);
    assert_string_equal(id, "two");
    free(id);
    prompts_close(p);
}

/* ---- too much ------------------------------------------------------------------------------- */

/* The memory this process may still get while f runs. */
static void with_memory(size_t bytes, void (*f)(struct prompts *), struct prompts *p)
{
    struct rlimit before, now;
    char statm[64] = "";
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(fgets(statm, sizeof statm, file));
    fclose(file);
    getrlimit(RLIMIT_AS, &before);
    now = before;
    now.rlim_cur = strtoull(statm, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE) + bytes;
    setrlimit(RLIMIT_AS, &now);
    f(p);
    setrlimit(RLIMIT_AS, &before);
}

static void expect_long_texts(struct prompts *p)
{
    struct prompt row;
    struct err e;
    for (int round = 0; round < 2; round++) {
        expect_error(prompts_read(p, 1, &row, &e), &e, "row 1", "has 50000000 bytes",
                     "at most 100 fit the context", NULL);
        assert_int_equal(prompts_fault(p), 0);
        expect_ok(prompts_read(p, 0, &row, &e), &e);
        assert_string_equal(row.text, "short");
        prompt_free(&row);
        expect_ok(prompts_read(p, 2, &row, &e), &e);
        assert_int_equal(row.text_bytes, 100);
        prompt_free(&row);
    }
}

static void long_texts_take_no_memory(void **state)
{
    (void)state;
    enum { LONG = 50000000 };
    char *giant = mem_zeroed(LONG + 1, 1), hundred[101] = "";
    memset(giant, 'a', LONG);
    memset(hundred, 'b', 100);
    const char *texts[] = {"short", giant, hundred};
    hid_t file = create(scratch_path("long.h5"));
    put_texts(file, texts, 3);
    H5Fclose(file);
    free(giant);
    struct prompts *p;
    struct err e;
    expect_ok(prompts_open(&p, scratch_path("long.h5"), &e), &e);
    prompts_limit(p, 100, 100);
    expect_long_texts(p);
    prompts_close(p);
}

static void expect_long_tokens(struct prompts *p)
{
    struct prompt row;
    struct err e;
    expect_error(prompts_read(p, 1, &row, &e), &e, "1099511627773 tokens",
                 "at most 100 fit the context", NULL);
    expect_ok(prompts_read(p, 0, &row, &e), &e);
    assert_int_equal(row.n_tokens, 3);
    prompt_free(&row);
}

/* 2^40 tokens in a file of some KiB. */
static void many_tokens_take_no_memory(void **state)
{
    (void)state;
    const int64_t offsets[] = {0, 3, (int64_t)1 << 40};
    hsize_t chunk = 1024;
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(plist, 1, &chunk);
    hid_t file = create(scratch_path("many.h5"));
    put(file, "tokens", H5T_NATIVE_INT32, -1, (size_t)1 << 40, plist, NULL);
    put(file, "offsets", H5T_NATIVE_INT64, H5T_NATIVE_INT64, 3, H5P_DEFAULT, offsets);
    H5Pclose(plist);
    H5Fclose(file);
    struct prompts *p;
    struct err e;
    expect_ok(prompts_open(&p, scratch_path("many.h5"), &e), &e);
    prompts_limit(p, 100, 100);
    with_memory(64u << 20, expect_long_tokens, p);
    prompts_close(p);
}

/* ---- nothing is lost ------------------------------------------------------------------------ */

static void offsets_cover_all_tokens(void **state)
{
    (void)state;
    static const int32_t tokens[5] = {1, 2, 3, 4, 5};
    static const int64_t wrong[][2] = {{3, 5}, {0, 3}, {0, 6}, {-1, 5}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct prompts *p;
        struct err e;
        char begins[64];
        hid_t file = create(scratch_path("ends.h5"));
        put(file, "tokens", H5T_NATIVE_INT32, H5T_NATIVE_INT32, 5, H5P_DEFAULT, tokens);
        put(file, "offsets", H5T_NATIVE_INT64, H5T_NATIVE_INT64, 2, H5P_DEFAULT, wrong[i]);
        H5Fclose(file);
        snprintf(begins, sizeof begins, "begins with %d and ends with %d", (int)wrong[i][0],
                 (int)wrong[i][1]);
        expect_error(prompts_open(&p, scratch_path("ends.h5"), &e), &e, "\"offsets\"", begins,
                     "the first is 0", NULL);
    }
}

static void large_ids_stay_apart(void **state)
{
    (void)state;
    static const uint64_t ids[3] = {((uint64_t)1 << 63) + 5, UINT64_MAX, 7};
    static const char *const wanted[3] = {"9223372036854775813", "18446744073709551615", "7"};
    static const char *const three[] = {"a", "b", "c"};
    struct prompts *p;
    struct err e;
    hid_t file = create(scratch_path("large.h5"));
    put_texts(file, three, 3);
    put(file, "id", H5T_STD_U64BE, H5T_NATIVE_UINT64, 3, H5P_DEFAULT, ids);
    put(file, "max_new_tokens", H5T_STD_U64LE, H5T_NATIVE_UINT64, 3, H5P_DEFAULT, ids);
    H5Fclose(file);
    expect_ok(prompts_open(&p, scratch_path("large.h5"), &e), &e);
    for (size_t i = 0; i < 3; i++) {
        char *id = prompts_id(p, i);
        struct prompt row;
        assert_string_equal(id, wanted[i]);
        free(id);
        assert_int_equal(prompts_read(p, i, &row, &e), i == 2 ? 0 : -1);
        prompt_free(&row);
    }
    prompts_close(p);
}

/* Reads all rows twice, the second time what failed; the failed ones say that it was the disk. */
static int read_all(struct prompts *p, size_t n, char wanted[][40])
{
    int faults = 0;
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < n; i++) {
            struct prompt row;
            struct err e;
            if (prompts_read(p, i, &row, &e) != 0) {
                assert_int_equal(prompts_fault(p), EIO);
                faults++;
                i--;
                continue;
            }
            assert_string_equal(row.text, wanted[i]);
            prompt_free(&row);
        }
    return faults;
}

/* Every single read fails once. */
static void a_failed_read_is_no_data(void **state)
{
    (void)state;
    enum { N = 400 };
    char text[N][40];
    const char *texts[N];
    for (size_t i = 0; i < N; i++) {
        snprintf(text[i], sizeof text[i], "prompt %zu of the file", i);
        texts[i] = text[i];
    }
    for (int kind = 0; kind < 2; kind++) {
        const char *path = scratch_path("disk.h5");
        hid_t file = create(path);
        if (kind == 0)
            put_texts(file, texts, N);
        else
            put(file, "text", fixed(40), fixed(40), N, H5P_DEFAULT, text);
        H5Fclose(file);
        int failed = 0, total = 1;
        for (int at = -1; at < total; at++) {
            struct prompts *p;
            struct err e;
            fail_at = at;
            reads = 0;
            int rc = prompts_open(&p, path, &e);
            if (rc == 0) {
                failed += read_all(p, N, text);
                prompts_close(p);
            }
            if (at == -1)
                total = reads;
        }
        fail_at = -1;
        assert_true(total > 3);
        assert_true(failed > 0);
    }
}

int main(void)
{
    scratch_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_files_are_not_read),  cmocka_unit_test(links_inside_are_followed),
        cmocka_unit_test(long_texts_take_no_memory), cmocka_unit_test(many_tokens_take_no_memory),
        cmocka_unit_test(offsets_cover_all_tokens),  cmocka_unit_test(large_ids_stay_apart),
        cmocka_unit_test(a_failed_read_is_no_data),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
