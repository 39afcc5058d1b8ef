/* The table of angles, against its formula in long double. */
#include "model/rope.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

static void check_table(size_t positions, size_t head_dim, double theta)
{
    float *table = malloc(positions * head_dim * sizeof *table);
    const struct rope_spec rope = {.dim = head_dim, .theta = theta, .magnitude = 1};
    rope_angles(table, positions, &rope);
    for (size_t p = 0; p < positions; p += p < 50 ? 1 : 97) {
        for (size_t j = 0; j < head_dim / 2; j++) {
            long double power = 2.0L * (long double)j / (long double)head_dim;
            long double angle = (long double)p / powl((long double)theta, power);
            const float *found = table + p * head_dim + 2 * j;
            if (!(fabsl(found[0] - cosl(angle)) <= 6e-8L) ||
                !(fabsl(found[1] - sinl(angle)) <= 6e-8L))
                fail_msg("position %zu, pair %zu of %zu, theta %g: %.9g %.9g, wanted %.9Lg %.9Lg",
                         p, j, head_dim, theta, (double)found[0], (double)found[1], cosl(angle),
                         sinl(angle));
        }
    }
    free(table);
}

static void test_table(void **state)
{
    (void)state;
    check_table(301, 6, 10000);
    check_table(65536, 14, 500000); /* far positions are as good as near ones */
    check_table(40, 256, 500000);
    check_table(1, 2, 3);
}

/* As the formula reads: position 1 turns the first pair by 1 radian, and pairs get slower. */
static void test_known_values(void **state)
{
    (void)state;
    float t[3 * 4];
    const struct rope_spec rope = {.dim = 4, .theta = 10000, .magnitude = 1};
    rope_angles(t, 3, &rope);
    const double wanted[12] = {1,
                               0,
                               1,
                               0,
                               0.5403023058681398,
                               0.8414709848078965,
                               0.9999500004166653,
                               0.009999833334166664,
                               -0.4161468365471424,
                               0.9092974268256817,
                               0.9998000066665778,
                               0.01999866669333308};
    for (int i = 0; i < 12; i++)
        assert_true(fabs(t[i] - wanted[i]) < 6e-8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_known_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
