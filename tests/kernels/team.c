/* Whether one thread or all do an operation is learned from what both take: the faster way gets nearly all
 * of the time, whichever it is, and the choice follows when the machine changes. */
#include "kernels/cpu/team.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define NUMBERS 100000

/* `n` operations that take so long alone and together; returns the time over that of the better way. */
static double run(struct team_class *c, int n, double alone, double together)
{
    static double wake = TEAM_WAKE;
    double spent = 0;
    for (int i = 0; i < n; i++) {
        bool team = team_choose(c, wake, NUMBERS);
        double seconds = team ? together : alone;
        team_learn(c, &wake, team, NUMBERS, seconds);
        spent += seconds;
    }
    return spent / (n * (alone < together ? alone : together));
}

static void test_faster_way(void **state)
{
    (void)state;
    static const double together[] = {5e-6, 9e-6, 11e-6, 40e-6, 3e-3};
    for (size_t i = 0; i < sizeof together / sizeof *together; i++) {
        struct team_class c = {.spent = 0};
        run(&c, 1000, 10e-6, together[i]); /* what a trial costs at the start is forgiven */
        double ratio = run(&c, 100000, 10e-6, together[i]);
        if (!(ratio < 1.02))
            fail_msg("%g us together, 10 alone: %.3f of the better way's time", 1e6 * together[i],
                     ratio);
    }
}

/* Strangers come and go. */
static void test_changes(void **state)
{
    (void)state;
    struct team_class c = {.spent = 0};
    run(&c, 1000, 10e-6, 6e-6);
    double busy = run(&c, 1000, 10e-6, 2e-3), quiet = run(&c, 60000, 10e-6, 6e-6);
    double after = run(&c, 10000, 10e-6, 6e-6);
    if (!(busy < 2))
        fail_msg("a busy machine: %.3f of the better way's time", busy);
    if (!(quiet < 1.7 && after < 1.02))
        fail_msg("quiet again: %.3f, and then %.3f of the better way's time", quiet, after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_faster_way),
                                       cmocka_unit_test(test_changes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
