/* Pools of KV blocks: what rows look at, and how memory is divided. */
#include "schedule/pools.h"

#include "kernels/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Against counting, token for token. */
static void a_row_looks_at_its_window(void **state)
{
    (void)state;
    const int windows[] = {0, 1, 2, 63, 64, 65, 66, 128, 129, 500};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        const struct kv_pool p = {1, windows[i]};
        for (size_t pos = 0; pos < 700; pos++) {
            size_t first = 0;
            for (size_t t = 0; t <= pos; t++)
                if (p.window == 0 || pos - t < (size_t)p.window) {
                    first = t / KV_BLOCK;
                    break;
                }
            assert_int_equal(pool_first(&p, pos), first);
        }
    }
}

static void a_table_is_as_wide_as_the_worst_rows(void **state)
{
    (void)state;
    const int windows[] = {0, 1, 2, 64, 65, 66, 129};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++)
        for (size_t rows = 1; rows < 140; rows++) {
            const struct kv_pool p = {1, windows[i]};
            size_t most = 0, context = 600;
            for (size_t pos = 0; pos + rows <= context; pos++) {
                size_t n = blocks_for(pos + rows) - pool_first(&p, pos);
                most = n > most ? n : most;
            }
            assert_int_equal(pool_span(&p, rows, context), most);
        }
    const struct kv_pool ring = {1, 512}; /* the paper's successors */
    assert_int_equal(pool_span(&ring, 1, 32768), 512 / KV_BLOCK + 1);
}

static size_t bytes_of(const struct kv_pool *pool, int pools, const size_t *bytes)
{
    size_t sum = 0;
    for (int i = 0; i < pools; i++)
        sum += pool[i].blocks * bytes[i];
    return sum;
}

/* How many sequences of so many tokens run at once. */
static size_t at_once(const struct kv_pool *pool, int pools, size_t tokens, size_t slots)
{
    for (int i = 0; i < pools; i++) {
        size_t n = pool[i].blocks / pool_span(&pool[i], 1, tokens);
        slots = n < slots ? n : slots;
    }
    return slots;
}

static void memory_is_divided_for_any_lengths(void **state)
{
    (void)state;
    const struct pools_use use = {.slots = 100, .context = 10000, .chunk = 256};
    const size_t bytes[] = {1000, 3000, 500};
    for (size_t memory = 320000; memory < 40000000; memory += memory / 3) {
        struct kv_pool pool[] = {{0, 0}, {0, 512}, {0, 100}};
        for (int n = 3; n > 1; n--) {
            assert_true(pools_divide(pool, n, bytes, &use, memory));
            assert_true(bytes_of(pool, n, bytes) <= memory);
            for (int i = 0; i < n; i++)
                assert_in_range(pool[i].blocks, pool_least(&pool[i], &use),
                                pool_most(&pool[i], &use));
        }
        for (size_t tokens = 100; tokens <= use.context; tokens += 900) {
            size_t each = 0, best, got = at_once(pool, 2, tokens, use.slots);
            for (int i = 0; i < 2; i++)
                each += pool_span(&pool[i], 1, tokens) * bytes[i];
            best = memory / each < use.slots ? memory / each : use.slots;
            if (got + 1 < best / 2)
                fail_msg("%zu bytes: %zu sequences of %zu tokens, not %zu", memory, got, tokens,
                         best);
        }
    }
}

/* More memory than is of use; none to spare; too little; one pool. */
static void the_ends_of_division(void **state)
{
    (void)state;
    const struct pools_use use = {.slots = 8, .context = 1000, .chunk = 128};
    const size_t bytes[] = {10, 30};
    struct kv_pool pool[] = {{0, 0}, {0, 100}};
    assert_true(pools_divide(pool, 2, bytes, &use, 1000000));
    assert_int_equal(pool[0].blocks, 8 * 16);
    assert_int_equal(pool[1].blocks, 8 * 3 + 2 + 3 + 1);
    assert_true(pools_divide(pool, 2, bytes, &use, 16 * 10 + 3 * 30));
    assert_int_equal(pool[0].blocks, 16);
    assert_int_equal(pool[1].blocks, 3);
    assert_false(pools_divide(pool, 2, bytes, &use, 16 * 10 + 3 * 30 - 1));
    assert_int_equal(pool[0].blocks, 16);
    assert_true(pools_divide(pool, 1, bytes, &use, 1000));
    assert_int_equal(pool[0].blocks, 100);
    assert_true(pools_divide(&pool[1], 1, &bytes[1], &use, 600));
    assert_in_range(pool[1].blocks, 19, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_looks_at_its_window),
        cmocka_unit_test(a_table_is_as_wide_as_the_worst_rows),
        cmocka_unit_test(memory_is_divided_for_any_lengths),
        cmocka_unit_test(the_ends_of_division),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
