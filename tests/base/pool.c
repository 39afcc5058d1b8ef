/* Blocks of a pool: apart, aligned, and their chunks freed with the last of them (seen under sanitizers, and by how
 * much memory the process has). */
#include "base/pool.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define BLOCKS 200

/* Pages that the process has. */
static long resident(void)
{
    long all = 0, here = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &all, &here), 2);
    fclose(f);
    return here;
}

static size_t bytes_of(size_t i)
{
    return i % 50 == 49 ? (size_t)9 << 20 : i * 7919 % 1000003;
}

static void blocks_are_apart(void **state)
{
    (void)state;
    struct pool p = {0};
    uint8_t *block[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        block[i] = pool_take(&p, bytes_of(i));
        assert_int_equal((uintptr_t)block[i] % MEM_ALIGN, 0);
        memset(block[i], (int)i, bytes_of(i));
    }
    for (size_t i = 0; i < BLOCKS; i++)
        for (size_t at = 0; at < bytes_of(i); at += 61)
            assert_int_equal(block[i][at], i % 256);
    for (size_t i = 0; i < BLOCKS; i++)
        pool_give(&p, block[i * 7 % BLOCKS]);
    assert_null(p.chunk);
    pool_give(&p, NULL);
}

static void memory_is_given_back(void **state)
{
    (void)state;
    struct pool p = {0};
    long before = 0;
    for (int turn = 0; turn < 20; turn++) {
        void *block[BLOCKS];
        for (size_t i = 0; i < BLOCKS; i++) {
            block[i] = pool_take(&p, bytes_of(i));
            memset(block[i], 1, bytes_of(i));
        }
        for (size_t i = BLOCKS; i > 0; i--)
            pool_give(&p, block[i - 1]);
        if (turn == 1)
            before = resident();
    }
#ifndef __SANITIZE_ADDRESS__ /* keeps what is freed for a while */
    assert_true(resident() - before < (64 << 20) / 4096);
#else
    (void)before;
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_apart),
        cmocka_unit_test(memory_is_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
