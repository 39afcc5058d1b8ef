/* The probe: whatever a prompts file does to the library that reads it, this process lives and says so. */
#include "roles/probe.h"

#include "base/mem.h"
#include "data/h5.h"
#include "data/prompts.h"

#include <hdf5.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

enum { ROWS = 5000 };

static char path[64];

/* What the library does at a read, in the child. */
static enum { WORKS, CRASHES, LOOPS, EATS, LEAVES } library;
static pid_t parent;

/* HDF5 reads with this one. */
ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    static int reads;
    if (getpid() != parent && ++reads > 10) { /* the file is open */
        if (library == CRASHES) {
            signal(SIGSEGV, SIG_DFL); /* not the test's */
            raise(SIGSEGV);
        }
        while (library == LOOPS)
            ;
        for (char *p = NULL; library == EATS;) {
            p = malloc((size_t)64 << 20);
            if (!p)
                return -1;
            memset(p, 1, 4096);
        }
        if (library == LEAVES)
            exit(0);
    }
    return syscall(SYS_pread64, fd, to, n, at);
}

static void write_prompts(void)
{
    static char text[ROWS][40];
    const char *rows[ROWS];
    hsize_t n = ROWS;
    for (size_t i = 0; i < ROWS; i++) {
        snprintf(text[i], sizeof text[i], "prompt %zu", i);
        rows[i] = text[i];
    }
    h5_quiet();
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), type = h5_string_type();
    hid_t space = H5Screate_simple(1, &n, NULL);
    hid_t set = H5Dcreate2(file, "text", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Tclose(type);
    H5Fclose(file);
}

static int probe(struct probe *p, uint64_t first, int64_t count, struct err *e)
{
    struct job job = {.prompts = {.file = path, .first = first, .count = count}};
    /* A sanitizer's report of a crash may take a busy machine seconds. */
    const struct probe_limits limits = {.bytes = (size_t)512 << 20,
                                        .seconds = library == LOOPS ? 1 : 60};
    *e = (struct err){""};
    return probe_prompts(p, &job, &limits, e);
}

static void says_the_hash_of_the_rows(void **state)
{
    (void)state;
    static const struct {
        uint64_t first;
        int64_t count;
        uint64_t n;
    } cases[] = {{0, -1, ROWS}, {7, 1000, 1000}, {4000, 5000, 1000}, {ROWS, -1, 0}};
    library = WORKS;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct probe found;
        struct prompts *p;
        struct err e;
        if (probe(&found, cases[i].first, cases[i].count, &e) != 0)
            fail_msg("%s", e.text);
        assert_true(found.done);
        assert_int_equal(found.n, cases[i].n);
        assert_int_equal(prompts_open(&p, path, &e), 0);
        uint64_t hash = prompts_hash_start(p);
        assert_int_equal(prompts_hash(p, cases[i].first, cases[i].n, &hash, &e), 0);
        assert_true(hash == found.hash);
        prompts_close(p);
    }
}

static void a_broken_library_is_wrong_input(void **state)
{
    (void)state;
    const char *words[] = {[CRASHES] = "crashed (Segmentation fault)",
                           [LOOPS] = "did not come to an end",
                           [EATS] = "cannot be read",
                           [LEAVES] = "ended the program"};
#ifdef __SANITIZE_ADDRESS__ /* takes signals and failed allocations, and ends the child itself */
    words[CRASHES] = words[EATS] = "ended the program";
#endif
    for (int kind = CRASHES; kind <= LEAVES; kind++) {
        struct probe found;
        struct err e;
        library = kind;
        int status = probe(&found, 0, -1, &e);
        if (kind == EATS && status == 0) /* a read that failed for want of memory is a bad row */
            continue;
        assert_int_equal(status, -1);
        assert_false(found.done);
        assert_non_null(strstr(e.text, path));
        if (!strstr(e.text, words[kind]))
            fail_msg("wanted \"%s\": %s", words[kind], e.text);
    }
}

static void wrong_files_are_said_as_ever(void **state)
{
    (void)state;
    struct probe found;
    struct err e;
    FILE *f = fopen(path, "w");
    fputs("not HDF5", f);
    fclose(f);
    library = WORKS;
    assert_int_equal(probe(&found, 0, -1, &e), -1);
    assert_non_null(strstr(e.text, "wanted an HDF5 file"));
    unlink(path);
    assert_int_equal(probe(&found, 0, -1, &e), -1);
    assert_non_null(strstr(e.text, "cannot be opened"));
}

int main(void)
{
    parent = getpid();
    snprintf(path, sizeof path, "/tmp/tandem-probe-%d.h5", (int)parent);
    write_prompts();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_the_hash_of_the_rows),
        cmocka_unit_test(a_broken_library_is_wrong_input),
        cmocka_unit_test(wrong_files_are_said_as_ever),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
