/* generation_config.json: end tokens in every form publishers write them, and what is wrong with others. */
#include "model/generation_config.h"

#include "tests/model/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void reads_every_form(void **state)
{
    (void)state;
    static const struct {
        const char *text; /* NULL: no file */
        int n;
        int32_t eos[2];
    } good[] = {
        {NULL, 0, {0}},
        {"{}", 0, {0}},
        {"{\"eos_token_id\": null, \"temperature\": 1}", 0, {0}},
        {"{\"eos_token_id\": 7}", 1, {7}},
        {"{\"eos_token_id\": [1, 99]}", 2, {1, 99}},
    };
    static const char *const bad[][2] = {
        {"{\"eos_token_id\": 100}", "token 100 is not in the vocabulary"},
        {"{\"eos_token_id\": -1}", "token -1 is not in the vocabulary"},
        {"{\"eos_token_id\": [1, \"2\"]}", "wanted a token id"},
        {"{\"eos_token_id\": [1,1,1,1,1,1,1,1,1]}", "more than 8"},
        {"{\"eos_token_id\": ", "not valid JSON"},
    };
    char directory[FILES_PATH];
    struct model m = {.vocab = 100};
    fixture_make(directory);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int32_t eos[MODEL_MAX_EOS];
        struct err e = {""};
        int n = -1;
        if (good[i].text)
            fixture_write(directory, "generation_config.json", good[i].text, strlen(good[i].text));
        assert_int_equal(generation_config_eos(&m, directory, eos, &n, &e), 0);
        assert_int_equal(n, good[i].n);
        for (int k = 0; k < n; k++)
            assert_int_equal(eos[k], good[i].eos[k]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int32_t eos[MODEL_MAX_EOS];
        struct err e = {""};
        int n;
        fixture_write(directory, "generation_config.json", bad[i][0], strlen(bad[i][0]));
        assert_int_equal(generation_config_eos(&m, directory, eos, &n, &e), -1);
        assert_non_null(strstr(e.text, "generation_config.json"));
        assert_non_null(strstr(e.text, bad[i][1]));
    }
    fixture_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_every_form)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
