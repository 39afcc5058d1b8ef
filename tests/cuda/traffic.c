/* traffic.c - bytes and operations at Step-3's shapes as a table, and the bounds that the design
 * promises: attention and the experts within 1.15 of the least bytes, the experts for every number
 * of rows from 64 to 2048. Assumed of the experts: one of two instances of 8 GPUs, 24 of 48
 * experts, each row choosing 3 of the 48 with equal chances; that the L2 cache keeps nothing from
 * one kernel to the next, nor a running sum from one expert to the next. The device with the
 * smallest shared memory of those the kernels are built for (A100) decides; others are shown with
 * it. */
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
}

static void experts(void **state)
{
    static const struct {
        const char *name;
        int processors, kilobytes; /* of shared memory for a block */
    } devices[] = {{"A100", 108, 163}, {"H800", 132, 227}, {"H20", 78, 227}, {"B200", 148, 227}};
    (void)state;
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++) {
        double worst = 0;
        struct traffic_experts x = {
            7168, 24, 48, 3, 640, 320, devices[d].processors, (size_t)devices[d].kilobytes * 1024};
        struct cuda_down_place place = cuda_down_place(2, x.hidden, x.processors, x.memory);
        printf("%s: %d columns a block, %d slots\n", devices[d].name, place.warps * 16,
               place.slots);
        assert_true((7168 + place.warps * 16 - 1) / (place.warps * 16) <= x.processors);
        for (int rows = 64; rows <= 2048; rows++) {
            char name[64];
            struct traffic t = traffic_ffn(rows, &x);
            snprintf(name, sizeof name, "experts 24 x 640 + 320, %d rows, %s", rows,
                     cuda_down_early(2, rows, 24, 320, place.slots) ? "early" : "late");
            if ((rows & (rows - 1)) == 0)
                show(name, t);
            if (t.moved / t.least > BOUND)
                show(name, t);
            assert_true(t.moved / t.least <= BOUND);
            worst = t.moved / t.least > worst ? t.moved / t.least : worst;
        }
        printf("  the most of 64 to 2048 rows: %.3f\n", worst);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(table), cmocka_unit_test(experts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
