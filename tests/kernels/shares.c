/* Every unit of work is taken once, whichever threads come for it and whenever; a thread has its own in order. */
#include "kernels/cpu/fast/shares.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define MOST_UNITS   3000
#define MOST_THREADS 8

static struct share room[MOST_THREADS];

static void test_in_order(void **state)
{
    (void)state;
    struct shares s = shares_of(room, 30, 3);
    size_t unit;
    for (size_t i = 0; i < 10; i++) {
        assert_true(shares_take(&s, 1, &unit));
        assert_int_equal(unit, 10 + i);
    }
    for (size_t i = 0; i < 5; i++) { /* the later half of what another has left */
        assert_true(shares_take(&s, 1, &unit));
        assert_int_equal(unit, 5 + i);
    }
}

/* One thread does what nobody comes for. */
static void test_absent(void **state)
{
    (void)state;
    for (size_t total = 0; total < 40; total++) {
        struct shares s = shares_of(room, total, MOST_THREADS);
        bool taken[40] = {false};
        size_t unit, count = 0;
        while (shares_take(&s, 3, &unit)) {
            assert_in_range(unit, 0, total - 1);
            assert_false(taken[unit]);
            taken[unit] = true;
            count++;
        }
        assert_int_equal(count, total);
        assert_false(shares_take(&s, 0, &unit));
    }
}

static void test_at_once(void **state)
{
    (void)state;
    static _Atomic unsigned char times[MOST_UNITS];
    for (size_t turn = 0; turn < 400; turn++) {
        size_t total = turn * 7919 % MOST_UNITS, threads = 1 + turn % MOST_THREADS;
        memset(times, 0, sizeof times);
        struct shares s = shares_of(room, total, threads);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
        for (size_t thread = 0; thread < threads; thread++) {
            size_t unit;
            while (shares_take(&s, thread, &unit))
                times[unit]++;
        }
        for (size_t i = 0; i < total; i++)
            if (times[i] != 1)
                fail_msg("unit %zu of %zu, %zu threads: taken %d times", i, total, threads,
                         times[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_in_order),
                                       cmocka_unit_test(test_absent),
                                       cmocka_unit_test(test_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
