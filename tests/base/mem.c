/* Memory: sizes that cannot be are the end, all others give usable memory. */
#include "base/mem.h"

#include "base/err.h"
#include "tests/base/death.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__)
#define ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ADDRESS_SANITIZER
#endif
#endif

/* Kept from the optimizer, which knows that these cannot be allocated. */
static volatile size_t huge = SIZE_MAX / 2;

static void multiplies_too_much(void)
{
    mem_mul(huge, 3);
}

static void asks_for_too_much(void)
{
    free(mem_new(huge, 1));
}

static void asks_for_too_much_aligned(void)
{
    free(mem_aligned(huge + huge + 1, 1));
}

static void *kept; /* still reachable when the child ends, so not a leak */

static void resizes_too_much(void)
{
    kept = mem_new(1, 1);
    kept = mem_resize(kept, huge, 16);
}

static void test_impossible_sizes_die(void **state)
{
    (void)state;
    char text[4096];
    assert_int_equal(death_of(multiplies_too_much, text, sizeof text), EXIT_RUN);
    assert_non_null(strstr(text, "overflows"));
    assert_int_equal(death_of(asks_for_too_much_aligned, text, sizeof text), EXIT_RUN);
    assert_non_null(strstr(text, "overflows"));
    assert_int_equal(death_of(resizes_too_much, text, sizeof text), EXIT_RUN);
    assert_non_null(strstr(text, "overflows"));
#ifndef ADDRESS_SANITIZER /* which ends the program itself */
    assert_int_equal(death_of(asks_for_too_much, text, sizeof text), EXIT_RUN);
    assert_non_null(strstr(text, "out of memory"));
#else
    (void)asks_for_too_much;
#endif
}

static void test_mul(void **state)
{
    (void)state;
    assert_true(mem_mul(0, SIZE_MAX) == 0);
    assert_true(mem_mul(SIZE_MAX, 1) == SIZE_MAX);
    assert_true(mem_mul((size_t)1 << 31, (size_t)1 << 31) == (size_t)1 << 62);
}

static void test_zeroed_and_empty(void **state)
{
    (void)state;
    for (size_t n = 8; n < 3000; n += 40) {
        unsigned char *p = mem_new(n, 3); /* memory that was used before, likely to come back */
        memset(p, 0xa5, 3 * n);
        free(p);
        p = mem_zeroed(n, 3);
        for (size_t i = 0; i < 3 * n; i++)
            assert_int_equal(p[i], 0);
        free(p);
    }
    void *empty[] = {mem_new(0, 8), mem_zeroed(8, 0), mem_aligned(0, 0), mem_resize(NULL, 0, 1)};
    for (size_t i = 0; i < 4; i++) {
        assert_non_null(empty[i]);
        free(empty[i]);
    }
}

static void test_aligned(void **state)
{
    (void)state;
    for (size_t n = 0; n < 200; n += 7) {
        unsigned char *p = mem_aligned(n, 3);
        assert_int_equal((uintptr_t)p % MEM_ALIGN, 0);
        memset(p, 1, 3 * n);
        free(p);
    }
}

/* Whether the kernel was asked for huge pages where p is; also true where it knows none. */
static bool is_asked_huge(const void *p)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long begin, end;
    bool there = false, known = false, asked = false;
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
            there = begin <= (uintptr_t)p && (uintptr_t)p < end;
        known = known || strncmp(line, "THPeligible:", 12) == 0;
        if (there && strncmp(line, "VmFlags:", 8) == 0)
            asked = strstr(line, " hg") != NULL;
    }
    if (f)
        fclose(f);
    return asked || !known;
}

static void test_huge(void **state)
{
    (void)state;
    size_t bytes = (size_t)64 << 20;
    unsigned char *p = mem_zeroed_huge(bytes, 1), *small = mem_zeroed_huge(100, 7);
    assert_true(is_asked_huge(p + bytes / 2));
    for (size_t i = 0; i < bytes; i += 4000)
        assert_int_equal(p[i], 0);
    memset(p, 1, 3 << 20);
    memset(small, 1, 700);
    free(p);
    free(small);
    p = mem_aligned(bytes, 1);
    assert_true(is_asked_huge(p + bytes / 2));
    free(p);
}

static void test_resize_keeps(void **state)
{
    (void)state;
    int *p = NULL;
    for (int n = 1; n < 5000; n += 617) {
        p = mem_resize(p, (size_t)n, sizeof *p);
        p[n - 1] = n;
    }
    for (int n = 1; n < 5000; n += 617)
        assert_int_equal(p[n - 1], n);
    free(p);
}

static void test_strings(void **state)
{
    (void)state;
    char *a = mem_string("tandem"), *b = mem_string_n("tandem", 3), *c = mem_string_n(NULL, 0);
    assert_string_equal(a, "tandem");
    assert_string_equal(b, "tan");
    assert_string_equal(c, "");
    free(a);
    free(b);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_impossible_sizes_die),
        cmocka_unit_test(test_mul),
        cmocka_unit_test(test_zeroed_and_empty),
        cmocka_unit_test(test_aligned),
        cmocka_unit_test(test_huge),
        cmocka_unit_test(test_resize_keeps),
        cmocka_unit_test(test_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
