/* A rank waits awake as long as that ends in time: one wait that is late changes nothing, strangers do, and when they
 * are gone it is awake again. */
#include "exchange/turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* Of n waits those awake, each of which ends so late. */
static int awake(struct turns *t, int n, double late)
{
    int found = 0;
    for (int i = 0; i < n; i++)
        if (turns_awake(t)) {
            turns_learn(t, late);
            found++;
        }
    return found;
}

/* The same where every fifth of them is later. */
static int every_fifth(struct turns *t, int n, double late, double later)
{
    int found = 0;
    for (int i = 0; i < n; i++)
        found += awake(t, 1, found % 5 ? late : later);
    return found;
}

static void test_turns(void **state)
{
    enum { MANY = 100 * TURNS_WAITS };
    struct turns t = {0};
    (void)state;
    assert_int_equal(awake(&t, 100, 15e-6), 100);
    assert_int_equal(awake(&t, 1, 10e-3), 1);
    assert_int_equal(awake(&t, 100, 15e-6), 100);
    assert_in_range(awake(&t, MANY, 3e-3), 100, 110);
    assert_in_range(awake(&t, MANY, 15e-6), 98 * TURNS_WAITS, MANY);
    assert_in_range(every_fifth(&t, MANY, 15e-6, 3e-3), 100, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_turns)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
