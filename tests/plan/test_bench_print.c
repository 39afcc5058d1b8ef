/* `tandem bench --json`: all of what was measured, or an error and nothing. */
#include "roles/bench.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct bench_result measured(void)
{
    struct bench_result r = {
        .what = "a model", .backend = "plain", .unit = "mul+add", .threads = 2};
    r.operations = r.steps = r.layouts = 1;
    r.operation[0].share[0] = (struct metered){.seconds = 1, .low = 0.5, .share = 0.6, .high = 0.7};
    r.step[0] = (struct bench_step){.batch = 1, .context = 512, .seconds = 1, .low = 1, .high = 1};
    r.layout[0] = (struct forecast){.layout = {.attention = 1, .expert = 1, .tensor = 1}};
    return r;
}

static int print(const struct bench_result *r, char **text)
{
    struct err e = {{0}};
    size_t bytes;
    FILE *out = open_memstream(text, &bytes);
    int status = bench_print_json(r, out, &e);
    fclose(out);
    assert_int_equal(status == 0, e.text[0] == 0);
    return status;
}

static void refuses(const struct bench_result *r)
{
    char *text;
    assert_int_equal(print(r, &text), -1);
    assert_string_equal(text, "");
    free(text);
}

static void prints_all(void **state)
{
    (void)state;
    struct bench_result r = measured();
    char *text;
    assert_int_equal(print(&r, &text), 0);
    json_t *all = json_loads(text, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(all, "steps")), 1);
    json_decref(all);
    free(text);
}

static void refuses_what_json_cannot_hold(void **state)
{
    (void)state;
    struct bench_result name = measured(), whole = measured(), share = measured(),
                        step = measured(), layout = measured();
    name.what = "\xff";
    refuses(&name);
    whole.peak = INFINITY;
    refuses(&whole);
    share.operation[0].share[0].share = NAN;
    refuses(&share);
    step.step[0].part.head = INFINITY;
    refuses(&step);
    layout.layout[0].step = NAN;
    refuses(&layout);
}

static void reads(struct bench_operation *o, double bytes, double faster)
{
    *o = (struct bench_operation){.bytes = bytes};
    o->share[0] = (struct metered){.seconds = 1, .share = 1, .memory = true, .faster = faster};
}

/* A matrix that stays in caches says nothing of those that do not, nor of steps. */
static void tells_caches_from_memory(void **state)
{
    (void)state;
    struct bench_result r = {.operations = 4};
    reads(&r.operation[0], 6e6, 2.8);
    reads(&r.operation[1], 5e6, 1.4);
    reads(&r.operation[2], 500e6, 1.05);
    reads(&r.operation[3], 900e6, 1);
    bench_caches(&r, 3);
    static const bool cached[] = {true, true, false, false};
    static const double share[] = {1, 0.5, 1, 1};
    for (size_t i = 0; i < r.operations; i++) {
        assert_int_equal(r.operation[i].cached, cached[i]);
        assert_true(fabs(r.operation[i].share[0].share - share[i]) < 1e-12);
    }
    assert_true(r.faster_memory == 1);

    /* All weights do, whatever attention reads. */
    reads(&r.operation[0], 6e6, 2.8);
    reads(&r.operation[2], 5e6, 1);
    bench_caches(&r, 3);
    assert_true(r.faster_memory == 2.8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(prints_all),
                                       cmocka_unit_test(refuses_what_json_cannot_hold),
                                       cmocka_unit_test(tells_caches_from_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
