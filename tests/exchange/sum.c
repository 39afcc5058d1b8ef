/* wire_sum() adds as ops->sum of the reference does, to the last bit: whoever adds an instance's partial
 * sums, a row's bits are the same. */
#include "base/philox.h"
#include "exchange/exchange.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { PARTS = 5, MOST = 7168 * 3 };

static void check(enum dtype dtype, int n_parts, int n, int width)
{
    static double data[PARTS][MOST], wanted[MOST], found[MOST];
    const void *parts[PARTS];
    struct err e;
    struct device *device;
    const struct backend *b = backend_find("cpu", "plain", &e);
    struct device_config config = {.threads = 1, .act = DTYPE_F32, .kv = DTYPE_F32};
    size_t count = (size_t)n * (size_t)width;
    assert_non_null(b);
    assert_int_equal(b->device->open(&config, &device, &e), 0);
    for (int p = 0; p < n_parts; p++) {
        parts[p] = data[p];
        for (size_t i = 0; i < count; i++) {
            uint32_t bits =
                (uint32_t)(philox_uniform(5, (uint64_t)p, (uint32_t)i, 0) * 16777216.0f);
            float v = ((float)bits - 8388608.0f) * (i % 3 ? 1e-4f : 1e3f);
            v = i % 11 == 0 ? -0.0f : v;
            if (dtype == DTYPE_F64)
                data[p][i] = (double)v * 0x1p-32;
            else if (dtype == DTYPE_F32)
                ((float *)data[p])[i] = v;
            else
                ((bf16_t *)data[p])[i] = bf16_from_f32(v);
        }
    }
    memset(found, 0xff, sizeof found);
    memset(wanted, 0xff, sizeof wanted);
    b->ops->sum(device, NULL, parts, n_parts, dtype, n, width, wanted);
    wire_sum(dtype, parts, n_parts, count, found);
    assert_memory_equal(wanted, found, sizeof found);
    b->device->close(device);
}

static void test_sums(void **state)
{
    (void)state;
    static const int shape[][2] = {{1, 1}, {1, 2047}, {1, 2048}, {7, 293}, {3, 7168}, {0, 8}};
    for (int p = 1; p <= PARTS; p++)
        for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
            check(DTYPE_F32, p, shape[i][0], shape[i][1]);
            check(DTYPE_BF16, p, shape[i][0], shape[i][1]);
            check(DTYPE_F64, p, shape[i][0], shape[i][1]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
