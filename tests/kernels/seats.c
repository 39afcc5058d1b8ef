/* seats.c - every thread of a team has a core of its own, wherever the first one goes. */
#include "kernels/cpu/seats.h"

#include <omp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static cpu_set_t mine;

static void on_core(size_t core)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
}

static void on_all_cores(void)
{
    assert_int_equal(sched_setaffinity(0, sizeof mine, &mine), 0);
}

/* Every thread of the team has a core of its own, the first one `core`. */
static void assert_apart(int n, size_t core)
{
    int at[CPU_SETSIZE];
    cpu_set_t used;
    CPU_ZERO(&used);
#pragma omp parallel num_threads(n)
    at[omp_get_thread_num()] = sched_getcpu();
    for (int i = 0; i < n; i++)
        CPU_SET((size_t)at[i], &used);
    assert_int_equal(CPU_COUNT(&used), n);
    assert_int_equal(at[0], (int)core);
}

/* How many cores each thread but the first may run on: the same number for all. */
static int cores_of_others(int n)
{
    int cores[CPU_SETSIZE];
#pragma omp parallel num_threads(n)
    {
        cpu_set_t mask;
        cores[omp_get_thread_num()] =
            sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : -1;
    }
    for (int i = 2; i < n; i++)
        assert_int_equal(cores[i], cores[1]);
    return cores[1];
}

static int team(void)
{
    int n = CPU_COUNT(&mine);
    if (n < 2 || omp_get_proc_bind() != omp_proc_bind_false) {
        printf("not tried: seats of a team, with one core or threads that are bound\n");
        skip();
    }
    return n;
}

/* The first thread is moved to each core in turn, and two devices notice it by turns. */
static void test_apart(void **state)
{
    int n = team(), turn = 0;
    (void)state;
    struct seats *s[2] = {seats_new(n), seats_new(n)};
    assert_non_null(s[0]);
    assert_non_null(s[1]);
    for (int round = 0; round < 3; round++)
        for (size_t core = 0; core < CPU_SETSIZE; core++) {
            if (!CPU_ISSET(core, &mine))
                continue;
            on_core(core);
            seats_take(s[turn++ / 2 % 2]);
            assert_apart(n, core);
        }
    on_all_cores();
    seats_free(s[0]);
    assert_int_equal(cores_of_others(n), 1);
    seats_free(s[1]);
    assert_int_equal(cores_of_others(n), n);
}

/* Another thread ends the team's: those of the next one are left where they are. */
static void test_new_team(void **state)
{
    int n = team();
    (void)state;
    struct seats *s = seats_new(n);
    assert_non_null(s);
    omp_pause_resource_all(omp_pause_soft);
    for (size_t core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, &mine)) {
            on_core(core);
            seats_take(s);
        }
    on_all_cores();
    assert_int_equal(cores_of_others(n), n);
    seats_free(s);
    assert_int_equal(cores_of_others(n), n);
}

/* Seats that are in use are for other cores. */
static void test_other_cores(void **state)
{
    int n = team();
    (void)state;
    struct seats *s = seats_new(n);
    assert_non_null(s);
    if (n < 3) {
        printf("not tried: seats for other cores, which takes three\n");
        seats_free(s);
        skip();
    }
    cpu_set_t fewer = mine;
    for (size_t core = 0; CPU_COUNT(&fewer) == n; core++)
        CPU_CLR(core, &fewer);
    assert_int_equal(sched_setaffinity(0, sizeof fewer, &fewer), 0);
    assert_null(seats_new(n - 1));
    on_all_cores();
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apart), cmocka_unit_test(test_new_team),
        cmocka_unit_test(test_other_cores), cmocka_unit_test(test_nothing)};
    if (sched_getaffinity(0, sizeof mine, &mine) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
