/* Chat templates: what is refused and where, and whose every byte of a prompt is. That the text is
 * Jinja2's is shown by chat.sh. */
#include "chat/chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void refuses_templates(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"a\n {{ x | indent }}", "2:9: the filter 'indent' is not supported"},
        {"{{ x is callable }}", "1:9: the test 'callable' is not supported"},
        {"{% include 'x' %}", "1:4: the statement 'include' is not supported"},
        {"{% call f() %}{% endcall %}", "1:4: the statement 'call' is not supported"},
        {"{% for a in b recursive %}{% endfor %}", "1:15: recursive loops are not supported"},
        {"{{ 2 ** 3 }}", "1:6: the operator ** is not supported"},
        {"\xe6\xbc\xa2{{ f(*a) }}", "1:7: * and ** before an argument are not supported"},
        {"{% if x %}\n", "ends where elif is wanted"},
        {"{% endif %}", "1:4: the statement 'endif'"},
        {"{{ 'a }}", "1:4: a string that does not end"},
        {"{{ a", "a tag that does not end with }}"},
        {"{{ a) }}", "1:5: ')' closes nothing"},
        {"{# a", "1:1: a comment that does not end"},
        {"{{ a ! }}", "1:6: '!' has no meaning"},
        {"{{ 12345678901234567890 }}", "at most 18"},
        {"{{ '\\N{DASH}' }}", "1:5: the escape \\N is not supported"},
        {"{{ }}", "wanted a value"},
        {"a\xff", "1:2: the template is not UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct chat *c;
        struct err e = {{0}};
        assert_int_equal(chat_parse(cases[i][0], strlen(cases[i][0]), &c, &e), -1);
        assert_null(c);
        if (!strstr(e.text, cases[i][1]))
            fail_msg("wanted \"%s\", found \"%s\"", cases[i][1], e.text);
    }
}

static void refuses_depth(void **state)
{
    (void)state;
    static const char *const parts[] = {"(", "[", "not ", "-", "{% if 1 %}", "1 if ", "{{ {1:"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t n = strlen(parts[i]);
        char *text = calloc(3 + 5000 * n + 1, 1);
        strcpy(text, "{{ ");
        for (size_t k = 0; k < 5000; k++)
            memcpy(text + 3 + k * n, parts[i], n);
        struct chat *c;
        struct err e = {{0}};
        assert_int_equal(chat_parse(text, strlen(text), &c, &e), -1);
        free(text);
    }
}

static int render(const char *template, const char *messages, const char *variables, char **text,
                  char **marks, struct err *e)
{
    struct chat *c;
    size_t n;
    assert_int_equal(chat_parse(template, strlen(template), &c, e), 0);
    json_t *m = json_loads(messages, 0, NULL), *v = json_loads(variables, 0, NULL);
    struct chat_input input = {.messages = m, .variables = v};
    int status = chat_render(c, &input, text, marks, &n, e);
    json_decref(m);
    json_decref(v);
    chat_free(c);
    return status;
}

static void refuses_values(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{{ none.x.y }}", "1:11: 'x' is undefined"},
        {"\n{{ 'a' + 1 }}", "2:8: '+' is not for a string and an integer"},
        {"{{ nobody() }}", "1:4: 'nobody' is undefined and cannot be called"},
        {"{{ 'a'.format(1) }}", "1:8: the method 'format' is not supported"},
        {"{{ raise_exception('no tools') }}", "the template refuses the conversation: no tools"},
        {"{{ messages.append(1) }}", "cannot be changed by a template"},
        {"{{ strftime_now('%Y') }}", "chat.date"},
        {"{{ 1 // 0 }}", "division by zero"},
        {"{{ range(1000000) }}", "more than 100000"},
        {"{% set a.b = 1 %}", "only members of a namespace can be set"},
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "more than 200 macros"},
        {"{% for a in range(99999) %}{% for b in range(99) %}x{% endfor %}{% endfor %}",
         "does not come to an end"},
        {"{{ '\xc3\xa9' | upper }}", "not ASCII"},
        {"{{ ('a' | safe) + 'b' }}", "safe"},
        {"{{ undefined | tojson }}", "tojson of undefined"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text, *marks;
        struct err e = {{0}};
        assert_int_equal(render(cases[i][0], "[]", "{}", &text, &marks, &e), -1);
        assert_null(text);
        if (!strstr(e.text, cases[i][1]))
            fail_msg("%s: wanted \"%s\", found \"%s\"", cases[i][0], cases[i][1], e.text);
    }
}

/* '#' under what a message wrote. */
static void knows_who_wrote(void **state)
{
    (void)state;
    static const char messages[] = "[{\"role\": \"user\", \"content\": \" <b> x,y \"}]";
    static const char *const cases[][3] = {
        {"<b>{{ messages[0].content }}</b>", "<b> <b> x,y </b>", "   #########    "},
        {"{{ bos_token + messages[0].content | trim + '.' }}", "<s><b> x,y.", "   ####### "},
        {"{{ messages[0].content[1:4] * 2 }}", "<b><b>", "######"},
        {"{{ messages[0].content.split(',')[1] ~ '<b>' }}", "y <b>", "##   "},
        {"{{ messages[0].content | tojson }}", "\" <b> x,y \"", " ######### "},
        {"{{ messages | join }}", "{'role': 'user', 'content': ' <b> x,y '}",
         "  ####    ####    #######    #########  "},
        {"{{ messages[0].content.replace('x', '<s>') | upper }}", " <B> <S>,Y ", "#####   ###"},
        {"{% set a %}<s>{{ messages[0].role }}{% endset %}{{ a }}", "<s>user", "   ####"},
        {"{% macro f(x) %}<s>{{ x }}{% endmacro %}{{ f(messages[0].role) }}", "<s>user", "   ####"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text, *marks;
        struct err e = {{0}};
        if (render(cases[i][0], messages, "{\"bos_token\": \"<s>\"}", &text, &marks, &e) != 0)
            fail_msg("%s", e.text);
        assert_string_equal(text, cases[i][1]);
        for (size_t k = 0; text[k]; k++)
            text[k] = marks[k] ? '#' : ' ';
        assert_string_equal(text, cases[i][2]);
        free(text);
        free(marks);
    }
}

static void numbers_may_be_as_large_as_they_get(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{{ range(1, most, most) | list }}", "[1]"},
        {"{{ range(-2, -most, -most) | list }}", "[-2]"},
        {"{{ [1, 2, 3][1::most] }}", "[2]"},
        {"{{ 'abc'[1::least] }}", "b"},
        {"{{ 'abc'[least:] }}{{ 'abc'[:most] }}", "abcabc"},
    };
    static const char variables[] =
        "{\"most\": 9223372036854775807, \"least\": -9223372036854775808}";
    char *text, *marks;
    struct err e = {{0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (render(cases[i][0], "[]", variables, &text, &marks, &e) != 0)
            fail_msg("%s", e.text);
        assert_string_equal(text, cases[i][1]);
        free(text);
        free(marks);
    }
    assert_int_equal(render("{{ -least }}", "[]", variables, &text, &marks, &e), -1);
    assert_non_null(strstr(e.text, "more than 64 bits"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_templates),
        cmocka_unit_test(refuses_depth),
        cmocka_unit_test(refuses_values),
        cmocka_unit_test(knows_who_wrote),
        cmocka_unit_test(numbers_may_be_as_large_as_they_get),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
