/* cmocka.h - as much of it as tests/kernels/parity.c uses, where there is no cmocka for the machine that is
 * compiled for. A test that asserts wrongly ends the program.
 */
#ifndef TANDEM_TESTS_AARCH64_CMOCKA_H
#define TANDEM_TESTS_AARCH64_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>

struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
    void *initial_state;
};

#define assert_int_equal(a, b)                                                                     \
    do {                                                                                           \
        if ((a) != (b)) {                                                                          \
            printf("FAILED: %s:%d: %s is not %s\n", __FILE__, __LINE__, #a, #b);                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static inline int _cmocka_run_group_tests(const char *group, struct CMUnitTest *tests, size_t n,
                                          void *setup, void *teardown)
{
    (void)setup;
    (void)teardown;
    for (size_t i = 0; i < n; i++) {
        printf("%s %s\n", group, tests[i].name);
        fflush(stdout);
        tests[i].test_func(&tests[i].initial_state);
    }
    return n == 0;
}

#endif
