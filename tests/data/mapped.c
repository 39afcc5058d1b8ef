/* Files that are mapped: what happens to them while they are is said with their name; headers that another
 * rank has read are not read again. */
#include "data/mapped.h"

#include "base/file_cache.h"
#include "base/files.h"
#include "base/mem.h"
#include "tests/data/scratch.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Weights that are cut off while they are mapped end the job with their name. */
static void cut_off_while_mapped(void **state)
{
    (void)state;
    struct err e;
    struct mapped other, m;
    char text[2048] = "";
    int ends[2], status;
    scratch_write(scratch_path("other"), "other", 5);
    scratch_write(scratch_path("cut"), "weights", 7);
    expect_ok(mapped_open(&m, scratch_path("cut"), 1, &e), &e);
    expect_ok(mapped_open(&other, scratch_path("other"), 1, &e), &e);
    assert_int_equal(truncate(scratch_path("cut"), 0), 0);
    assert_int_equal(pipe(ends), 0);
    if (fork() == 0) {
        dup2(ends[1], STDERR_FILENO);
        _exit(100 + *(const volatile uint8_t *)(m.data + 3));
    }
    close(ends[1]);
    for (ssize_t n, used = 0; (n = read(ends[0], text + used, sizeof text - 1 - used)) > 0;)
        used += n;
    close(ends[0]);
    assert_true(wait(&status) > 0 && WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), EXIT_RUN);
    assert_non_null(strstr(text, "cut: byte 3 cannot be read any more"));
    mapped_close(&m);
    mapped_close(&other);
}

/* The bytes of the file become other ones, and its stamp stays. */
static void change_unseen(const char *path, const char *data, size_t n)
{
    struct stat st;
    int fd = open(path, O_WRONLY);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pwrite(fd, data, n, 0), (ssize_t)n);
    const struct timespec times[] = {st.st_atim, st.st_mtim};
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

/* What one rank has read is what another finds, as long as it is the same file. */
static void read_by_another_rank(void **state)
{
    (void)state;
    struct err e;
    struct mapped m;
    const char *path = scratch_path("weights"), *small = scratch_path("small.json");
    size_t page = (size_t)sysconf(_SC_PAGESIZE), header = 2 * page + 10, bytes = 3 * page + 5, n;
    char *data = mem_new(bytes, 1);
    memset(data, 'a', bytes);
    scratch_write(path, data, bytes);
    scratch_write(small, "{}", 2);
    file_cache_open();
    expect_ok(mapped_open(&m, path, 1, &e), &e);
    mapped_had_header(&m, header);
    mapped_close(&m);
    free(files_read(small, 10, &n, &e));
    void *packed = file_cache_pack(&n);
    file_cache_close();

    memset(data, 'b', bytes);
    change_unseen(path, data, bytes);
    change_unseen(small, "[]", 2);
    file_cache_open();
    file_cache_unpack(packed, n);
    expect_ok(mapped_open(&m, path, 1, &e), &e);
    char *text = files_read(small, 10, &n, &e);
    assert_string_equal(text, "{}");
    assert_null(files_read(small, 1, &n, &e)); /* more than is wanted is still refused */
    file_cache_close();
    for (size_t i = 0; i < 2 * page; i++)
        assert_int_equal(m.data[i], 'a');
    for (size_t i = 2 * page; i < bytes; i++) /* the header's last page is also that of data */
        assert_int_equal(m.data[i], 'b');
    mapped_close(&m);
    free(text);
    free(packed);
    free(data);
}

/* A copy of its own, or one that was written again, is read. */
static void not_that_file_any_more(void **state)
{
    (void)state;
    struct err e;
    size_t n, packed_bytes;
    const char *path = scratch_path("again.json");
    scratch_write(path, "[1]", 3);
    file_cache_open();
    free(files_read(path, 10, &n, &e));
    void *packed = file_cache_pack(&packed_bytes);
    file_cache_close();
    unlink(path);
    scratch_write(path, "[2]", 3);
    const struct timespec later[] = {{2000000000, 0}, {2000000000, 0}};
    assert_int_equal(utimensat(AT_FDCWD, path, later, 0), 0);
    file_cache_open();
    file_cache_unpack(packed, packed_bytes);
    char *text = files_read(path, 10, &n, &e);
    assert_string_equal(text, "[2]");
    file_cache_close();
    free(text);
    free(packed);
}

int main(void)
{
#ifdef __SANITIZE_ADDRESS__
    return 0; /* it keeps the signal for itself */
#endif
    scratch_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_off_while_mapped),
        cmocka_unit_test(read_by_another_rank),
        cmocka_unit_test(not_that_file_any_more),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
