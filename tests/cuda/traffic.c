/* traffic.c - bytes and operations at Step-3's shapes as a table, and the bounds that the design
 * promises: attention and the experts within 1.15 of the least bytes. The experts keep it up to 512
 * rows; above, the running sum of rows (f32, [rows][7168]) counts for more, as long as one assumes
 * that the L2 cache holds nothing of it. */
#include "tests/cuda/traffic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define BOUND 1.15

static double show(const char *name, struct traffic t)
{
    printf("  %-46s %10.3f %10.3f %7.3f %10.2f\n", name, t.least / 1e6, t.moved / 1e6,
           t.moved / t.least, t.flops / 1e9);
    return t.moved / t.least;
}

static void table(void **state)
{
    char name[64];
    (void)state;
    printf("  %-46s %10s %10s %7s %10s\n", "operation", "least MB", "moved MB", "ratio", "GFLOP");
    show("q_proj 2048x7168 fp8, 64 rows", traffic_linear(64, 2048, 7168, 1, 2));
    show("k_proj 256x7168 fp8, 64 rows", traffic_linear(64, 256, 7168, 1, 2));
    show("wq 16384x2048 fp8, 64 rows", traffic_linear(64, 16384, 2048, 1, 2));
    show("o_proj 7168x16384 fp8, 64 rows", traffic_linear(64, 7168, 16384, 1, 4));
    show("lm_head 128815x7168 bf16, 64 rows", traffic_linear(64, 128815, 7168, 2, 4));
    for (int context = 4096; context <= 65536; context *= 2)
        for (int type = 1; type <= 2; type++) {
            snprintf(name, sizeof name, "attend 64 rows, %d tokens, %s cache", context,
                     type == 1 ? "bf16" : "fp8");
            assert_true(show(name, traffic_attend(64, context, 64, 256, type)) <= BOUND);
        }
    for (int rows = 64; rows <= 2048; rows *= 2) {
        /* One of 2 instances of 8: 24 experts cut to 640, a 16th of the shared one. */
        snprintf(name, sizeof name, "experts 24 x 640 + 320, %d rows", rows);
        double ratio = show(name, traffic_ffn(rows, 7168, 24, 640, 320, 1.5));
        assert_true(ratio <= BOUND || rows > 512);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
