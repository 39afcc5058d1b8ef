/* seats.c - every thread of a team has a core of its own, wherever the first one goes. */
#include "kernels/cpu/seats.h"

#include <omp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static cpu_set_t mine;

/* The first thread is moved to each core in turn. */
static void test_apart(void **state)
{
    int n = CPU_COUNT(&mine), at[CPU_SETSIZE];
    (void)state;
    if (n < 2)
        skip();
    struct seats *s = seats_new(n);
    assert_non_null(s);
    for (size_t core = 0; core < CPU_SETSIZE; core++) {
        cpu_set_t one, used;
        if (!CPU_ISSET(core, &mine))
            continue;
        CPU_ZERO(&one);
        CPU_ZERO(&used);
        CPU_SET(core, &one);
        assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
        seats_take(s);
#pragma omp parallel num_threads(n)
        at[omp_get_thread_num()] = sched_getcpu();
        for (int i = 0; i < n; i++)
            CPU_SET((size_t)at[i], &used);
        assert_int_equal(CPU_COUNT(&used), n);
        assert_int_equal(at[0], (int)core);
    }
    assert_int_equal(sched_setaffinity(0, sizeof mine, &mine), 0);
    seats_free(s);
}

static void test_nothing(void **state)
{
    int n = CPU_COUNT(&mine);
    (void)state;
    assert_null(seats_new(1));
    if (n > 2)
        assert_null(seats_new(n - 1));
    seats_take(NULL);
    seats_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_apart),
                                       cmocka_unit_test(test_nothing)};
    if (sched_getaffinity(0, sizeof mine, &mine) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
