/* Which rank holds what: every item once, in order, evenly, in whole granules. */
#include "schedule/placement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static const size_t granules[] = {1, 2, 3, 32, 128};

static void check_slices(size_t width, int parts, size_t granule)
{
    size_t at = 0, least = SIZE_MAX, most = 0;
    for (int p = 0; p < parts; p++) {
        struct span s = placement_slice(width, parts, p, granule);
        bool right = s.first == at && (s.first % granule == 0 || s.count == 0);
        at += s.count;
        right = right && (s.count % granule == 0 || at == width);
        if (!right)
            fail_msg("%zu in %d parts of granule %zu: part %d is [%zu, +%zu), at %zu", width, parts,
                     granule, p, s.first, s.count, at);
        least = s.count < least ? s.count : least;
        most = s.count > most ? s.count : most;
    }
    if (at != width || most - least > 2 * granule - (granule > 1))
        fail_msg("%zu in %d parts of granule %zu: ends at %zu, sizes %zu to %zu", width, parts,
                 granule, at, least, most);
    if (width % granule == 0)
        assert_true(most - least <= granule);
}

static void test_slices(void **state)
{
    (void)state;
    for (size_t g = 0; g < sizeof granules / sizeof *granules; g++)
        for (size_t width = 0; width < 1100; width += width < 300 ? 1 : 37)
            for (int parts = 1; parts <= 33; parts++)
                check_slices(width, parts, granules[g]);
    check_slices(18432, 40, 128);
    check_slices((size_t)1 << 40, 7, 128);
}

static void test_granules(void **state)
{
    (void)state;
    assert_int_equal(placement_granule(5120, 8, 0), 128);
    assert_int_equal(placement_granule(5120, 40, 0), 128);
    assert_int_equal(placement_granule(5120, 41, 0), 32);
    assert_int_equal(placement_granule(129, 5, 0), 16);
    assert_int_equal(placement_granule(160, 5, 0), 32);
    assert_int_equal(placement_granule(96, 4, 0), 16);
    assert_int_equal(placement_granule(5, 9, 0), 16);
    assert_int_equal(placement_granule(96, 4, 16), 16);
    assert_int_equal(placement_granule(5120, 41, 128), 128);
    assert_int_equal(placement_granule(5120, 2, 48), 48);
    for (size_t width = 1; width < 700; width++)
        for (int parts = 1; parts <= 40; parts++) {
            size_t granule = placement_granule(width, parts, 0);
            if (granule % 16) /* kernels cut runs of whole rows nowhere else (ops.h) */
                fail_msg("%zu in %d parts: in multiples of %zu", width, parts, granule);
            for (int p = 0; p < parts && width >= 16 * (size_t)parts; p++)
                if (placement_slice(width, parts, p, granule).count == 0)
                    fail_msg("%zu in %d parts: part %d is empty", width, parts, p);
        }
}

static void test_ranks(void **state)
{
    (void)state;
    const struct layout split = {3, 2, 4, false, 0}, one = {5, 2, 4, true, 0};
    assert_int_equal(layout_ffn_ranks(&split), 8);
    assert_int_equal(layout_ranks(&split), 11);
    assert_int_equal(layout_ffn_ranks(&one), 1);
    assert_int_equal(layout_ranks(&one), 5);
}

/* Every (expert, column) of a routed expert and every column of the shared one is on one rank. */
static void check_layout(int expert, int tensor, size_t experts, size_t inter)
{
    static unsigned char routed[64][600], shared[600];
    const struct layout l = {1, expert, tensor, false, 0};
    for (size_t e = 0; e < experts; e++)
        for (size_t i = 0; i < inter; i++)
            routed[e][i] = shared[i] = 0;
    for (int r = 0; r < layout_ffn_ranks(&l); r++) {
        struct span e = placement_experts(experts, &l, r);
        struct span c = placement_expert_inter(inter, &l, r);
        struct span s = placement_shared_inter(inter, &l, r);
        for (size_t i = 0; i < e.count; i++)
            for (size_t j = 0; j < c.count; j++)
                routed[e.first + i][c.first + j]++;
        for (size_t j = 0; j < s.count; j++)
            shared[s.first + j]++;
    }
    for (size_t i = 0; i < inter; i++) {
        if (shared[i] != 1)
            fail_msg("%d x %d: column %zu of the shared expert is on %d ranks", expert, tensor, i,
                     shared[i]);
        for (size_t e = 0; e < experts; e++)
            if (routed[e][i] != 1)
                fail_msg("%d x %d: column %zu of expert %zu is on %d ranks", expert, tensor, i, e,
                         routed[e][i]);
    }
}

static void test_layouts(void **state)
{
    (void)state;
    for (int expert = 1; expert <= 9; expert++)
        for (int tensor = 1; tensor <= 9; tensor++) {
            check_layout(expert, tensor, 48, 512);
            check_layout(expert, tensor, 7, 301);
            check_layout(expert, tensor, 1, 3);
        }
}

/* The paper's: experts over two instances, eight ranks inside each; slices of whole FP8 blocks. */
static void test_step3(void **state)
{
    (void)state;
    const struct layout l = {2, 2, 8, false, 0};
    struct span e = placement_experts(48, &l, 11), c = placement_expert_inter(5120, &l, 11);
    struct span s = placement_shared_inter(18432, &l, 11);
    assert_int_equal(e.first, 24);
    assert_int_equal(e.count, 24);
    assert_int_equal(c.first, 3 * 640);
    assert_int_equal(c.count, 640);
    assert_int_equal(s.first, 11 * 1152);
    assert_int_equal(s.count, 1152);
}

static void test_colocated_holds_all(void **state)
{
    (void)state;
    const struct layout l = {4, 3, 2, true, 0};
    struct span all[] = {placement_experts(48, &l, 0), placement_expert_inter(301, &l, 0),
                         placement_shared_inter(77, &l, 0)};
    const size_t wanted[] = {48, 301, 77};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(all[i].first, 0);
        assert_int_equal(all[i].count, wanted[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slices), cmocka_unit_test(test_granules),
        cmocka_unit_test(test_ranks),  cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_step3),  cmocka_unit_test(test_colocated_holds_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
