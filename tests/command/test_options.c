/* The command line as tables: parsing, and that everything explains itself. */
#include "command/manual.h"
#include "command/options.h"
#include "job/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct target {
    bool flag;
    const char *text;
    struct texts many;
    int number;
};

static int read_number(void *member, const char *name, const char *value, struct err *e)
{
    *(int *)member = atoi(value);
    return *value == 'x' ? err_set(e, "--%s wants a number", name) : 0;
}

static const struct option_row rows[] = {
    {"flag", NULL, "a flag", OPTION_FLAG, .offset = offsetof(struct target, flag)},
    {"text", "TEXT", "a text", OPTION_TEXT, .offset = offsetof(struct target, text)},
    {"many", "TEXT", "texts", OPTION_TEXTS, .offset = offsetof(struct target, many)},
    {"number", "N", "a number", OPTION_READ, .offset = offsetof(struct target, number),
     read_number},
    {.name = NULL},
};
static const struct usage usage = {"try", "A [B]", 1, 2, "tries", NULL, rows};

static int parse(struct target *t, char ***operands, struct err *e, const char *line)
{
    static char text[256], *argv[32];
    int argc = 0;
    snprintf(text, sizeof text, "try %s", line);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    *t = (struct target){.number = 0};
    return options_parse(&usage, argc, argv, t, operands, e);
}

static void test_options_anywhere(void **state)
{
    (void)state;
    struct target t;
    struct err e;
    char **operands;
    assert_int_equal(
        parse(&t, &operands, &e, "--many=1 a --text --flag --many 2 b --flag --number 7"), 0);
    assert_true(t.flag);
    assert_string_equal(t.text, "--flag"); /* a value is a value */
    assert_int_equal(t.many.n, 2);
    assert_string_equal(t.many.items[0], "1");
    assert_string_equal(t.many.items[1], "2");
    assert_int_equal(t.number, 7);
    assert_string_equal(operands[0], "a");
    assert_string_equal(operands[1], "b");
    assert_null(operands[2]);
    free(t.many.items);
    assert_int_equal(parse(&t, &operands, &e, "- -- --flag"), 0);
    assert_false(t.flag);
    assert_string_equal(operands[0], "-");
    assert_string_equal(operands[1], "--flag");
}

static void wrong(const char *line, const char *words)
{
    struct target t;
    struct err e = {{0}};
    char **operands;
    assert_int_equal(parse(&t, &operands, &e, line), -1);
    if (!strstr(e.text, words))
        fail_msg("%s: '%s' does not say '%s'", line, e.text, words);
}

static void test_wrong_options(void **state)
{
    (void)state;
    wrong("a --flga", "has no option --flga; was --flag meant?");
    wrong("a --entirely-different", "has no option --entirely-different; see `tandem try --help`");
    wrong("a --text", "--text wants a value: --text TEXT");
    wrong("a --flag=1", "--flag takes no value");
    wrong("a --number x", "wants a number");
    wrong("a -x", "has no option -x");
    wrong("", "wanted `tandem try A [B]`, found 0 operands");
    wrong("a b c", "found 3 operands");
}

/* `tandem keys`, the manual and jobs/example.yaml are as good as this. */
static void test_every_key_is_explained(void **state)
{
    (void)state;
    for (size_t i = 0; i < keys_count; i++) {
        char path[64];
        if (!keys[i].help || !*keys[i].help)
            fail_msg("%s has no help", keys_path(&keys[i], path, sizeof path));
        if (!keys[i].preset && !keys[i].example)
            fail_msg("%s is required and has no example", keys_path(&keys[i], path, sizeof path));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_anywhere),
        cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_every_key_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
