/* Messages, and the end of the world. */
#include "base/err.h"

#include "base/utf8.h"
#include "tests/base/death.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void test_set_and_prefix(void **state)
{
    (void)state;
    struct err e = {""};
    assert_int_equal(err_set(&e, "wanted %d, found %s", 3, "four"), -1);
    assert_string_equal(e.text, "wanted 3, found four");
    assert_int_equal(err_prefix(&e, "%s:%d", "job.yaml", 7), -1);
    assert_string_equal(e.text, "job.yaml:7: wanted 3, found four");
}

/* Too long a message is cut at the end, terminated, and writes nothing beyond the structure. */
static void test_long_messages_are_cut(void **state)
{
    (void)state;
    static char words[3 * ERR_TEXT_MAX];
    memset(words, 'w', sizeof words - 1);
    struct {
        struct err e;
        char guard[16];
    } box;
    memset(&box, '#', sizeof box);
    assert_int_equal(err_set(&box.e, "%s", words), -1);
    assert_int_equal(strlen(box.e.text), ERR_TEXT_MAX - 1);
    assert_int_equal(err_prefix(&box.e, "before"), -1);
    assert_int_equal(strlen(box.e.text), ERR_TEXT_MAX - 1);
    assert_memory_equal(box.e.text, "before: www", 11);
    assert_int_equal(err_prefix(&box.e, "%s", words), -1);
    assert_int_equal(strlen(box.e.text), ERR_TEXT_MAX - 1);
    for (size_t i = 0; i < sizeof box.guard; i++)
        assert_int_equal(box.guard[i], '#');
}

/* Nothing that a name brings along reaches a terminal, breaks our line or is no UTF-8. */
static void test_foreign_names_are_harmless(void **state)
{
    (void)state;
    struct err e;
    err_set(&e, "tensor \"%s\"",
            "a\033[31m\r\n\tb\x7f\xc2\x9b"
            "2J");
    assert_string_equal(e.text, "tensor \"a?[31m???b???2J\"");
    err_set(&e, "%s",
            "\x9b"
            "31m caf\xe9 \xe6\xb8\xaf \xf0\x9f");
    assert_string_equal(e.text, "?31m caf? \xe6\xb8\xaf ??");
    err_prefix(&e, "%s", "\033]0;title\007");
    assert_string_equal(e.text, "?]0;title?: ?31m caf? \xe6\xb8\xaf ??");
    err_set(&e, "problems:\n  one\n  two\nthree");
    assert_string_equal(e.text, "problems:\n  one\n  two?three");
    static char long_name[2 * ERR_TEXT_MAX];
    for (size_t i = 0; i + 3 < sizeof long_name; i += 3)
        memcpy(long_name + i, "\xe6\xb8\xaf", 3);
    err_set(&e, "%s", long_name); /* cut inside a character */
    assert_int_equal(utf8_check(e.text, strlen(e.text), NULL), 0);
}

static void dies_of_a_name(void)
{
    die("file \033[31m%s", "x\ny");
}

static void test_die_is_one_harmless_line(void **state)
{
    (void)state;
    char text[4096];
    assert_int_equal(death_of(dies_of_a_name, text, sizeof text), EXIT_RUN);
    assert_string_equal(text, "tandem: file ?[31mx?y\n");
}

static void dies(void)
{
    die("the %s broke", "world");
}

static void test_die_without_context(void **state)
{
    (void)state;
    char text[4096];
    assert_int_equal(death_of(dies, text, sizeof text), EXIT_RUN);
    assert_string_equal(text, "tandem: the world broke\n");
}

static void dies_in_step(void)
{
    die_context_rank(3, "ffn", 1);
    die_context_step(71);
    die("the %s broke", "world");
}

static void test_die_says_who_and_when(void **state)
{
    (void)state;
    char text[4096], expected[256], host[64] = "";
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    snprintf(expected, sizeof expected,
             "tandem: rank 3 (ffn 1, host %s): step 71: the world broke\n", host);
    assert_int_equal(death_of(dies_in_step, text, sizeof text), EXIT_RUN);
    assert_string_equal(text, expected);
}

static void end_all(int status)
{
    _exit(40 + status);
}

static void dies_with_abort(void)
{
    die_context_abort(end_all);
    die("gone");
}

static void test_die_ends_the_others(void **state)
{
    (void)state;
    char text[4096];
    assert_int_equal(death_of(dies_with_abort, text, sizeof text), 40 + EXIT_RUN);
    assert_string_equal(text, "tandem: gone\n");
}

static void dies_at_length(void)
{
    static char words[3 * ERR_TEXT_MAX];
    memset(words, 'w', sizeof words - 1);
    die("%s", words);
}

/* One line whatever its length: cut, and still ended by a newline. */
static void test_die_cuts_its_line(void **state)
{
    (void)state;
    char text[4 * ERR_TEXT_MAX];
    assert_int_equal(death_of(dies_at_length, text, sizeof text), EXIT_RUN);
    size_t n = strlen(text);
    assert_true(n > ERR_TEXT_MAX && n < ERR_TEXT_MAX + 512);
    assert_int_equal(text[n - 1], '\n');
    assert_null(memchr(text, '\n', n - 1));
    assert_int_equal(text[n - 2], 'w');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_names_are_harmless),
        cmocka_unit_test(test_die_is_one_harmless_line),
        cmocka_unit_test(test_set_and_prefix),
        cmocka_unit_test(test_long_messages_are_cut),
        cmocka_unit_test(test_die_without_context),
        cmocka_unit_test(test_die_says_who_and_when),
        cmocka_unit_test(test_die_ends_the_others),
        cmocka_unit_test(test_die_cuts_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
