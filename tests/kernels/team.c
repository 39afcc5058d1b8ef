/* Whether one thread or all do an operation is learned from what both take: the faster way gets nearly all
 * of the time, whichever it is, and the choice follows when the machine changes. */
#include "kernels/cpu/team.h"

#include "base/philox.h"
#include "kernels/device.h"

#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define NUMBERS 100000

/* `n` operations that take so long alone and together; returns the time over that of the better way. */
static double run(struct team_class *c, struct team_costs *all, int n, double alone,
                  double together)
{
    double spent = 0;
    for (int i = 0; i < n; i++) {
        bool team = team_choose(c, all, NUMBERS);
        double seconds = team ? together : alone;
        team_learn(c, all, team, NUMBERS, seconds);
        spent += seconds;
    }
    return spent / (n * (alone < together ? alone : together));
}

static void test_faster_way(void **state)
{
    (void)state;
    static const double together[] = {5e-6, 9e-6, 11e-6, 40e-6, 3e-3};
    for (size_t i = 0; i < sizeof together / sizeof *together; i++) {
        struct team_class c = {.since = 0};
        struct team_costs all = TEAM_COSTS;
        run(&c, &all, 1000, 10e-6, together[i]); /* what a trial costs at the start is forgiven */
        double ratio = run(&c, &all, 100000, 10e-6, together[i]);
        if (!(ratio < 1.03))
            fail_msg("%g us together, 10 alone: %.3f of the better way's time", 1e6 * together[i],
                     ratio);
    }
}

/* Strangers come and go. */
static void test_changes(void **state)
{
    (void)state;
    struct team_class c = {.since = 0};
    struct team_costs all = TEAM_COSTS;
    run(&c, &all, 1000, 10e-6, 6e-6);
    double busy = run(&c, &all, 1000, 10e-6, 2e-3), quiet = run(&c, &all, 60000, 10e-6, 6e-6);
    double after = run(&c, &all, 10000, 10e-6, 6e-6);
    if (!(busy < 2))
        fail_msg("a busy machine: %.3f of the better way's time", busy);
    if (!(quiet < 1.7 && after < 1.02))
        fail_msg("quiet again: %.3f, and then %.3f of the better way's time", quiet, after);
}

/* What operations of a small model's FFN take alone, and how often a round has them. */
static const struct {
    double alone;
    int times;
} operation[] = {{3100e-6, 1}, {1150e-6, 4}, {550e-6, 4}, {210e-6, 12}, {104e-6, 6}, {20e-6, 4}};
#define OPERATIONS (sizeof operation / sizeof *operation)

/* A machine: one in 1 / often teams is `late` seconds late, on average. first: so late is the first of all. */
struct machine {
    double speedup, wake, often, late, first;
};

/* `rounds` of all operations: over the time of the better of always alone and always together. */
static double job(const struct machine *m, int rounds, struct team_class *class,
                  struct team_costs *all)
{
    double spent = 0, alone = 0, together = 0, first = m->first;
    uint64_t draws = 0;
    for (int r = 0; r < rounds; r++)
        for (size_t i = 0; i < OPERATIONS; i++)
            for (int k = 0; k < operation[i].times; k++, draws++) {
                size_t numbers = (size_t)(operation[i].alone * 4e9);
                double one = operation[i].alone,
                       most = m->late * -log(philox_uniform(2, draws, 0, 0));
                double late = philox_uniform(1, draws, 0, 0) < m->often ? most : 0;
                double all_of_them = one / m->speedup + m->wake + late;
                bool team = team_choose(&class[i], all, numbers);
                double seconds = team ? all_of_them + first : one;
                first = team ? 0 : first;
                team_learn(&class[i], all, team, numbers, seconds);
                spent += seconds;
                alone += one;
                together += all_of_them;
            }
    return spent / (alone < together ? alone : together);
}

/* A whole job, from nothing known: classes learn from a few operations each, some of them bad. */
static void test_jobs(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct machine machine;
        double most; /* of the better setting's time */
    } jobs[] = {{"quiet", {1.85, 6e-6, 0.01, 300e-6, 300e-6}, 1.03},
                {"quiet, and the first team 9 ms late", {1.85, 6e-6, 0.01, 300e-6, 9e-3}, 1.03},
                {"now and then 3 ms late", {1.85, 6e-6, 0.01, 3e-3, 1e-3}, 1.04},
                {"cores that sleep", {1.85, 120e-6, 0.02, 1e-3, 1e-3}, 0.95},
                {"busy", {1.5, 50e-6, 0.4, 700e-6, 1e-3}, 1.03},
                {"very busy", {1.3, 100e-6, 0.5, 4e-3, 9e-3}, 1.04}};
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        struct team_class class[OPERATIONS] = {{.since = 0}};
        struct team_costs all = TEAM_COSTS;
        double ratio = job(&jobs[i].machine, 500, class, &all);
        if (!(ratio < jobs[i].most))
            fail_msg("%s: %.3f of the better setting's time", jobs[i].name, ratio);
    }
}

/* What was learned on a busy machine does not last. */
static void test_job_changes(void **state)
{
    (void)state;
    static const struct machine quiet = {1.85, 6e-6, 0.01, 300e-6, 300e-6},
                                busy = {1.3, 100e-6, 0.5, 4e-3, 9e-3};
    struct team_class class[OPERATIONS] = {{.since = 0}};
    struct team_costs all = TEAM_COSTS;
    for (int i = 0; i < 4; i++) {
        double ratio = job(i % 2 ? &quiet : &busy, 500, class, &all);
        if (!(ratio < 1.15))
            fail_msg("%s, turn %d: %.3f of the better setting's time", i % 2 ? "quiet" : "busy", i,
                     ratio);
    }
}

enum { THREADS = 3 };

static void note_thread(void *context)
{
    int *calls = context;
    calls[omp_get_thread_num()]++;
}

/* A wait of the whole team. */
static void test_together(void **state)
{
    struct device_config config = {.threads = THREADS, .act = DTYPE_F32, .kv = DTYPE_F32};
    struct device *d;
    struct err e;
    int calls[THREADS] = {0};
    (void)state;
    const struct backend *b = backend_find("cpu", "plain", &e);
    assert_int_equal(b->device->open(&config, &d, &e), 0);
    b->device->together(d, note_thread, calls);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(calls[i], 1);
    b->device->close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_faster_way),
                                       cmocka_unit_test(test_changes), cmocka_unit_test(test_jobs),
                                       cmocka_unit_test(test_job_changes),
                                       cmocka_unit_test(test_together)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
