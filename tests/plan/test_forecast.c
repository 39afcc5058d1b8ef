/* A job played through against steps counted by hand: waves, chunks of prompts, the tail, layouts. */
#include "plan/forecast.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void near(double value, double wanted)
{
    if (!(fabs(value - wanted) <= 1e-9 * fabs(wanted)))
        fail_msg("%.12g instead of %.12g", value, wanted);
}

/* A step of n rows: 1 + 0.25 n of attention, 2 + 0.5 n of FFN, 0.125 n of sampling, straight lines. */
static struct forecast_times straight(void)
{
    struct forecast_times t = {.n = 3, .context = 10, .layers = 4};
    const int rows[] = {1, 4, 16};
    for (int i = 0; i < 3; i++) {
        t.rows[i] = rows[i];
        t.attention[i] = 1 + 0.25 * rows[i];
        t.ffn[i] = 2 + 0.5 * rows[i];
        t.sample[i] = 0.125 * rows[i];
    }
    return t;
}

static const struct layout alone = {1, 1, 1, .colocated = true}, two = {2, 1, 1, .colocated = true},
                           apart = {1, 1, 1, .colocated = false},
                           wide = {2, 2, 1, .colocated = false};

static void test_steps(void **state)
{
    (void)state;
    struct forecast_times t = straight();
    near(forecast_step(&t, &alone, 8, 8, 10), 3 + 8 * 0.875);
    near(forecast_step(&t, &alone, 100, 8, 10), 3 + 100 * 0.75 + 8 * 0.125); /* beyond the points */
    near(forecast_step(&t, &two, 8, 8, 10), 2 * 3 + 8 * 0.875); /* both read all weights */
    near(forecast_step(&t, &wide, 8, 8, 10),
         2 * 1 + 2 + 8 * 0.875);                        /* attention twice, the FFN once */
    near(forecast_step(&t, &two, 1, 1, 10), 3 + 0.875); /* one of them is idle */
    t.handover = 0.5;
    near(forecast_step(&t, &apart, 8, 8, 10),
         3 + 8 * 0.875 + 8 * 0.5 + 0.5); /* 4 layers, a contract */
    t.row_context = 0.01;
    near(forecast_step(&t, &alone, 8, 8, 110), 3 + 8 * 0.875 + 8 * 100 * 0.01);
}

static void test_waves(void **state)
{
    (void)state;
    const struct forecast_times t = straight();
    uint32_t prompt[10], completion[10];
    for (int i = 0; i < 10; i++) {
        prompt[i] = 1;
        completion[i] = 5;
    }
    const struct forecast_job job = {prompt, completion, 10, 4, 64};
    struct forecast f = forecast_run(&t, &job, &alone);
    /* Three waves of five steps: 4, 4 and 2 rows. */
    near(f.seconds, 10 * (3 + 4 * 0.875) + 5 * (3 + 2 * 0.875));
    near(f.tokens_per_second, 50 / f.seconds);
    near(f.rows, 50.0 / 15);
    f = forecast_run(&t, &job, &two); /* eight places: one wave of eight, one of two in two ranks */
    near(f.seconds, 5 * (6 + 8 * 0.875) + 5 * (6 + 2 * 0.875));
}

static void test_prompts(void **state)
{
    (void)state;
    const struct forecast_times t = straight();
    const uint32_t prompt[] = {7, 2}, completion[] = {2, 1};
    const struct forecast_job job = {prompt, completion, 2, 2, 4};
    /* Steps: 4 rows of the first; its last 3 (a token) and 1 of the second; its second token and the
     * second's last row (a token). */
    struct forecast f = forecast_run(&t, &job, &alone);
    near(f.seconds, (3 + 4 * 0.75) + (3 + 4 * 0.75 + 0.125) + (3 + 2 * 0.75 + 2 * 0.125));
    /* Nothing is generated: prompts are read all the same. */
    const uint32_t none[] = {0, 0};
    const struct forecast_job scored = {prompt, none, 2, 2, 16};
    f = forecast_run(&t, &scored, &alone);
    near(f.seconds, 3 + 9 * 0.75 + 2 * 0.125);
    near(f.tokens_per_second, 0);
}

/* Of a long job a part is played; its time is in proportion. */
static void test_long_jobs(void **state)
{
    (void)state;
    const struct forecast_times t = straight();
    static uint32_t ones[100000];
    for (size_t i = 0; i < 100000; i++)
        ones[i] = 1;
    const struct forecast_job job = {ones, ones, 100000, 10, 64};
    struct forecast f = forecast_run(&t, &job, &alone);
    near(f.seconds, 10000 * (3 + 10 * 0.875));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps), cmocka_unit_test(test_waves),
                                       cmocka_unit_test(test_prompts),
                                       cmocka_unit_test(test_long_jobs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
