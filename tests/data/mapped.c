/* Files that are mapped: what happens to them while they are is said with their name. */
#include "data/mapped.h"

#include "tests/data/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
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

int main(void)
{
#ifdef __SANITIZE_ADDRESS__
    return 0; /* it keeps the signal for itself */
#endif
    scratch_begin();
    const struct CMUnitTest tests[] = {cmocka_unit_test(cut_off_while_mapped)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
