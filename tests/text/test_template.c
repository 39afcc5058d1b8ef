/* The prompt template. */
#include "text/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void fills_in(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        /* template, prompt, result */
        {"{prompt}", "hi", "hi"},
        {"a{prompt}b", "", "ab"},
        {"{{{prompt}}}", "x", "{x}"},
        {"{{prompt}} {prompt}", "x", "{prompt} x"},
        {"<|BOT|>user\n{prompt}<|EOT|>", "{prompt} {} {{", "<|BOT|>user\n{prompt} {} {{<|EOT|>"},
        {"}}{{{prompt}", "\xe4\xb8\xad", "}{\xe4\xb8\xad"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct template *t;
        struct err e = {{0}};
        size_t n;
        assert_int_equal(template_parse(cases[i][0], &t, &e), 0);
        char *text = template_apply(t, cases[i][1], strlen(cases[i][1]), &n);
        assert_string_equal(text, cases[i][2]);
        assert_int_equal(n, strlen(cases[i][2]));
        free(text);
        template_free(t);
    }
}

static void keeps_nul(void **state)
{
    (void)state;
    struct template *t;
    struct err e;
    size_t n;
    assert_int_equal(template_parse("[{prompt}]", &t, &e), 0);
    char *text = template_apply(t, "a\0b", 3, &n);
    assert_int_equal(n, 5);
    assert_memory_equal(text, "[a\0b]", 6);
    free(text);
    template_free(t);
    template_free(NULL);
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        /* template, column, part of the message */
        {"", "column 1:", "without {prompt}"},
        {"no placeholder", "column 15:", "without {prompt}"},
        {"{{prompt}}", "column 11:", "without {prompt}"},
        {"{prompt} {prompt}", "column 10:", "second {prompt}; the first is at column 1"},
        {"{prompt", "column 1:", "'{' is not closed"},
        {"{prompt} {", "column 10:", "'{' is not closed"},
        {"\xe4\xb8\xad }{prompt}", "column 3:", "'}' stands alone"},
        {"{Prompt}", "column 1:", "unknown placeholder \"{Prompt}\""},
        {"{prompt}{}", "column 9:", "unknown placeholder \"{}\""},
        {"{ prompt }", "column 1:", "unknown placeholder"},
        {"{prompt}}", "column 9:", "'}' stands alone"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct template *t = (struct template *)&cases;
        struct err e = {{0}};
        assert_int_equal(template_parse(cases[i][0], &t, &e), -1);
        assert_null(t);
        if (strncmp(e.text, cases[i][1], strlen(cases[i][1])) != 0 || !strstr(e.text, cases[i][2]))
            fail_msg("\"%s\": %s", cases[i][0], e.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_in),
        cmocka_unit_test(keeps_nul),
        cmocka_unit_test(says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
