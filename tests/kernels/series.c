/* series.c - what limits.h keeps of a long run is a fair sample of all of it. */
#include "kernels/cpu/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static struct limits_series s;

static void test_few(void **state)
{
    (void)state;
    assert_true(limits_median(&s) == 0);
    for (int i = 0; i < LIMITS_KEPT; i++)
        assert_true(limits_keep(&s, i) == i);
    assert_true(limits_median(&s) == LIMITS_KEPT / 2);
}

/* Times that rise all the time, and by turns in two threads: a fifth of the kept is of each fifth, and half of
 * each thread. Five standard deviations are allowed. */
static void test_whole_run(void **state)
{
    enum { RUN = 200000, FIFTHS = 5, WITHIN = 64, WITHIN_HALF = 80 };
    int of_fifth[FIFTHS] = {0}, even = 0;
    (void)state;
    s.n = 0;
    for (int i = 0; i < RUN; i++)
        limits_keep(&s, i);
    assert_int_equal(s.n, RUN);
    for (int i = 0; i < LIMITS_KEPT; i++) {
        of_fifth[(int)s.value[i] * FIFTHS / RUN]++;
        even += (int)s.value[i] % 2 == 0;
    }
    for (int i = 0; i < FIFTHS; i++)
        assert_in_range(of_fifth[i], LIMITS_KEPT / FIFTHS - WITHIN, LIMITS_KEPT / FIFTHS + WITHIN);
    assert_in_range(even, LIMITS_KEPT / 2 - WITHIN_HALF, LIMITS_KEPT / 2 + WITHIN_HALF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_few),
                                       cmocka_unit_test(test_whole_run)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
