/* The cost model against figures that were not made here: the Step-3 report's tables (inside
 * tables_print), the models' published parameter counts, and steps that were worked out by hand. */
#include "plan/plan.h"
#include "plan/tables.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void near(double value, double wanted, double tolerance)
{
    if (!(fabs(value - wanted) <= tolerance * fabs(wanted)))
        fail_msg("%.9g instead of %.9g", value, wanted);
}

static struct model_shape shape(const char *name)
{
    static struct model_shape s;
    assert_int_equal(shape_published(&s, name), 0);
    return s;
}

/* Every figure of tables 2, 3, 5, 6 and 7 in all digits the report prints. */
static void test_tables_of_the_report(void **state)
{
    (void)state;
    FILE *out = fopen("/dev/null", "w");
    assert_int_equal(tables_print(out), 0);
    fclose(out);
}

static double parameters(const char *name)
{
    struct model_shape s = shape(name);
    return shape_projections(&s) + shape_routers(&s) + shape_ffn_stored(&s) + 2 * shape_head(&s);
}

static void test_published_parameters(void **state)
{
    (void)state;
    near(parameters("step3"), 316e9, 0.005);
    near(parameters("deepseek-v3"), 671e9, 0.005);
    near(parameters("kimi-k2"), 1.03e12, 0.01);
    near(parameters("qwen3-235b"), 235e9, 0.005);
    near(parameters("qwen3-32b"), 32.8e9, 0.005);
}

static void test_step3_by_hand(void **state)
{
    (void)state;
    struct model_shape s = shape("step3");
    near(shape_kv_values(&s, 1), 31232, 0);
    near(shape_sparsity(&s), 4.0 / 49, 1e-12);
    s.layer[0].window = 512; /* one layer forgets */
    near(shape_kv_values(&s, 1024), 512 * (60 * 1024 + 512), 0);
}

/* One layer, one card a role; figures chosen so that each bound can be worked out in the head. */
static void test_a_step_by_hand(void **state)
{
    (void)state;
    struct model_shape s = {.name = "t", .layers = 1, .hidden = 128, .vocab = 100};
    s.layer[0] = (struct layer_shape){
        .projections = 1000, .kv_values = 10, .context_flops = 40, .dense = 3000};
    struct cluster c = {.per_instance = 1};
    c.attention = c.ffn = (struct card){"t", 1e6, 0, 1e3, 1e6, 1e3, 3.6};
    struct formats f = {.weights = 8, .kv = 8, .out = 16, .back = 16};
    struct split p = {1, 1, 2, 4};
    struct step_cost t = cost_step(&s, &c, &f, &p, 50);
    near(t.attention, 1000 / 1e3 + 4 * 50 * 10 / 1e3, 1e-12); /* both bound by bytes */
    near(t.ffn, 3000 / 1e3, 1e-12);
    near(t.out, 4 * 128 * 2 / 1e3, 1e-12);
    near(t.back, 4 * 128 * 2 / 1e3, 1e-12);
    near(t.head, 100 * 128 * 2 / 1e3, 1e-12);
    /* 2 micro-batches of the busiest station (3 s) are shorter than one through all of them. */
    near(t.step, 3 + 3 + 1.024 + 1.024 + 2 * 25.6, 1e-12);
    near(t.tokens, 8 / t.step / 2, 1e-12);
    near(t.usd, 2 * 3.6 / 3600 / (8 / t.step) * 1e6, 1e-12);
    near(t.attention_bytes, 1000 + 4.0 * 12800 + 8 * 50 * 10, 1e-12);
    p.micro_batches = 4;
    near(cost_step(&s, &c, &f, &p, 50).step, 4 * 3 + 4 * 25.6, 1e-12);
}

static void test_search_keeps_its_limits(void **state)
{
    (void)state;
    struct model_shape s = shape("step3");
    struct plan_choice best[5];
    struct cluster c;
    struct err e;
    struct formats f = {.weights = 8, .kv = 8, .out = 8, .back = 16};
    assert_int_equal(cluster_read(&c, "h20+h800", &e), 0);
    c.instances = 6;
    int n = cost_search(&s, &c, &f, 4096, 50e-3, best, 5);
    assert_int_equal(n, 5);
    for (int i = 0; i < n; i++) {
        assert_true(best[i].cost.fits && best[i].cost.step <= 50e-3);
        assert_true(best[i].split.attention + best[i].split.ffn <= 6);
        assert_true(i == 0 || best[i].cost.tokens <= best[i - 1].cost.tokens);
        struct split more = best[i].split;
        more.rows++;
        struct step_cost t = cost_step(&s, &c, &f, &more, 4096);
        assert_true(!t.fits || t.step > 50e-3);
    }
    assert_int_equal(cost_search(&s, &c, &f, 4096, 1e-3, best, 5), 0);
}

static void bad_cluster(const char *text, const char *wanted)
{
    char path[] = "/tmp/tandem-cluster-XXXXXX";
    struct cluster c;
    struct err e = {{0}};
    int file = mkstemp(path);
    assert_true(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text));
    close(file);
    int status = cluster_read(&c, path, &e);
    unlink(path);
    if (!wanted) {
        assert_int_equal(status, 0);
        assert_int_equal(c.per_instance, 4);
        near(c.ffn.memory, 96e9, 1e-9);
        return;
    }
    assert_int_equal(status, -1);
    if (!strstr(e.text, wanted))
        fail_msg("'%s' does not say '%s'", e.text, wanted);
}

static void test_clusters(void **state)
{
    (void)state;
    bad_cluster("attention: h20\nper_instance: 4\nffn: {bf16: 4e14, bandwidth: 3e12, memory: 96 "
                "GB, link: 50e9}",
                NULL);
    bad_cluster("attention: h21\n", ":1:12: wanted a card that is known");
    bad_cluster("ffn: h20\n", "wanted attention: a card");
    bad_cluster("attention: {bf16: 4e14}\n", "bandwidth, memory and link above 0");
    bad_cluster("attention: {bf16: -1}\n", "not negative");
    bad_cluster("attention: {tflops: 1}\n", "bf16, fp8, bandwidth");
    bad_cluster("attention: h20\nper_instance: 0\n", "from 1 to");
    bad_cluster("[h20]\n", "wanted a cluster");
    bad_cluster("attention: h20\nnodes: 3\n", "per_instance or instances, found 'nodes'");
}

static void test_options(void **state)
{
    (void)state;
    struct plan_options o;
    struct err e;
    plan_defaults(&o);
    assert_int_equal(plan_set(&o, "context", "4K", &e), 0);
    near(o.context, 4096, 0);
    assert_int_equal(plan_set(&o, "tpot", "0.1s", &e), 0);
    near(o.tpot, 0.1, 1e-12);
    assert_int_equal(plan_set(&o, "tpot", "fast", &e), -1);
    assert_int_equal(plan_set(&o, "context", "-1", &e), -1);
    assert_int_equal(plan_set(&o, "kv", "int4", &e), -1);
    assert_int_equal(plan_set(&o, "weights", "int4", &e), 0);
    o.model = "no-such-model";
    assert_int_equal(plan_print(&o, stdout, &e), -1);
    assert_non_null(strstr(e.text, "deepseek-v3"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables_of_the_report),
        cmocka_unit_test(test_published_parameters),
        cmocka_unit_test(test_step3_by_hand),
        cmocka_unit_test(test_a_step_by_hand),
        cmocka_unit_test(test_search_keeps_its_limits),
        cmocka_unit_test(test_clusters),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
