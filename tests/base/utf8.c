/* UTF-8 checking, reading, writing and repairing; the cases are those of the Unicode standard,
 * table 3-8 and section 3.9, and every code point. */
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void every_character_survives(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c++) {
        char s[5] = "";
        uint32_t back = 0;
        size_t length, n = utf8_write(s, c), bad = 99;
        bool surrogate = c >= 0xd800 && c < 0xe000;
        assert_int_equal(utf8_read(s, n, &back, &length), !surrogate);
        assert_int_equal(utf8_check(s, n, &bad), surrogate ? -1 : 0);
        if (surrogate)
            continue;
        assert_int_equal(back, c);
        assert_int_equal(length, n);
        /* Cut short it is one invalid sequence, as long as what is there. */
        if (n > 1) {
            assert_false(utf8_read(s, n - 1, &back, &length));
            assert_int_equal(length, n - 1);
        }
    }
}

struct repair {
    const char *in, *out;
    size_t bad; /* offset of the first wrong byte; SIZE_MAX none */
};

#define R "\xef\xbf\xbd"

static void invalid_sequences(void **state)
{
    (void)state;
    static const struct repair cases[] = {
        {"", "", SIZE_MAX},
        {"plain", "plain", SIZE_MAX},
        {"eight bytes and more \xe4\xb8\xad", "eight bytes and more \xe4\xb8\xad", SIZE_MAX},
        {"0123456789\x80", "0123456789" R, 10},
        {"a\xf0\x80\x80\x41", "a" R R R "A", 1},
        {"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", R R R R R R R R "A", 0},
        {"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", R R R R R R R R "A", 0},
        {"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", R R R R R "A" R R "B", 0},
        {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", R R R R "A", 0},
        {"ok\xe4\xb8", "ok" R, 2},
        {"\xf0\x9f\x98x", R "x", 0},
        {"\xf5\x80", R R, 0},
        {"\xc1\xbf\xc2", R R R, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t bad = SIZE_MAX, n;
        char *out;
        int rc = utf8_check(cases[i].in, strlen(cases[i].in), &bad);
        assert_int_equal(rc, cases[i].bad == SIZE_MAX ? 0 : -1);
        assert_true(bad == cases[i].bad);
        assert_int_equal(utf8_check(cases[i].in, strlen(cases[i].in), NULL), rc);
        utf8_lossy(cases[i].in, strlen(cases[i].in), &out, &n);
        assert_string_equal(out, cases[i].out);
        assert_int_equal(n, strlen(cases[i].out));
        assert_int_equal(utf8_check(out, n, NULL), 0);
        free(out);
    }
}

static void nul_and_nothing(void **state)
{
    (void)state;
    char *out;
    size_t n;
    assert_int_equal(utf8_check(NULL, 0, NULL), 0);
    assert_int_equal(utf8_check("a\0b", 3, NULL), 0);
    utf8_lossy("a\0\xff", 3, &out, &n);
    assert_int_equal(n, 5);
    assert_memory_equal(out, "a\0" R, 6);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_survives),
        cmocka_unit_test(invalid_sequences),
        cmocka_unit_test(nul_and_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
