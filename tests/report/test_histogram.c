/* Percentiles of the report against sorted values. */
#include "report/histogram.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define N 20000

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void test_percentiles(void **state)
{
    (void)state;
    static double values[N];
    struct histogram h = {0};
    uint64_t seed = 7;
    for (int i = 0; i < N; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        values[i] = exp((double)(seed >> 40) / 0x1p24 * 20 - 9); /* 0.0001 to 60,000 */
        histogram_add(&h, values[i]);
    }
    qsort(values, N, sizeof *values, by_value);
    static const double shares[] = {0.0001, 0.1, 0.5, 0.9, 0.99, 1};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        double wanted = values[(int)ceil(shares[i] * N) - 1],
               found = histogram_percentile(&h, shares[i]);
        if (!(fabs(found - wanted) <= 0.02 * wanted))
            fail_msg("%g: %g instead of %g", shares[i], found, wanted);
    }
    assert_true(h.least == values[0] && h.most == values[N - 1]);
    assert_int_equal(histogram_between(&h, -1, INFINITY), N);
}

static void test_few_values(void **state)
{
    (void)state;
    struct histogram h = {0};
    assert_true(histogram_percentile(&h, 0.5) == 0 && histogram_mean(&h) == 0);
    histogram_add(&h, 0);
    histogram_add(&h, 7);
    assert_true(histogram_percentile(&h, 0.5) == 0 && histogram_percentile(&h, 1) == 7);
    assert_true(histogram_mean(&h) == 3.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_percentiles),
                                       cmocka_unit_test(test_few_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
