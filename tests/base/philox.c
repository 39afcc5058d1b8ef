/* Philox against the known answers published with Random123 (kat_vectors, philox4x32 10), and the
 * promises of philox_uniform(). */
#include "base/philox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_known_answers(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        philox4x32(known[i].counter, known[i].key, out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

/* The words of the last known answer, put together as the header says. */
static void test_uniform_layout(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)0x299f31d0 << 32 | 0xa4093822;
    uint64_t prompt = (uint64_t)0x85a308d3 << 32 | 0x243f6a88;
    float u = philox_uniform(seed, prompt, 0x13198a2e, 0x03707344);
    assert_true(u == (float)(0xd16cfe09u >> 8) / 16777216.0f);
}

/* In [0, 1), a multiple of 2^-24, moved by each argument, and spread evenly: chi-square of 64 bins
 * over 65536 draws is below 120 (63 expected; the chance of more is below 2e-5, and draws are
 * fixed). */
static void test_uniform_spread(void **state)
{
    (void)state;
    int bins[64] = {0};
    for (uint32_t i = 0; i < 65536; i++) {
        float u = philox_uniform(42, i / 256, i % 16, i / 16 % 16);
        assert_true(u >= 0.0f && u < 1.0f);
        float scaled = u * 16777216.0f;
        assert_true(scaled == (float)(uint32_t)scaled);
        bins[(int)(u * 64.0f)]++;
    }
    double chi = 0;
    for (int b = 0; b < 64; b++)
        chi += (bins[b] - 1024.0) * (bins[b] - 1024.0) / 1024.0;
    assert_true(chi < 120.0);
    assert_true(chi > 25.0); /* and not evener than chance */
}

static void test_uniform_every_argument_counts(void **state)
{
    (void)state;
    float base = philox_uniform(1, 2, 3, 4);
    assert_true(base == philox_uniform(1, 2, 3, 4));
    assert_true(base != philox_uniform(2, 2, 3, 4));
    assert_true(base != philox_uniform(1 + (1ull << 32), 2, 3, 4));
    assert_true(base != philox_uniform(1, 3, 3, 4));
    assert_true(base != philox_uniform(1, 2 + (1ull << 32), 3, 4));
    assert_true(base != philox_uniform(1, 2, 4, 4));
    assert_true(base != philox_uniform(1, 2, 3, 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_uniform_layout),
        cmocka_unit_test(test_uniform_spread),
        cmocka_unit_test(test_uniform_every_argument_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
