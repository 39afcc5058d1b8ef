/* Import of lines of the batch format: what is in `body` arrives, and what is not used there is said. */
#include "data/import.h"

#include "tests/data/imported.h"
#include "tests/data/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct import_options plain = {.format = RECORDS_GUESS};

static void settings_of_batch(void **state)
{
    (void)state;
    const char *in = scratch_path("batch.jsonl"), *out = scratch_path("batch.h5");
    struct err e;
    scratch_text(in, "{\"custom_id\": \"a\", \"body\": {\"messages\": [], \"top_p\": 0.5, "
                     "\"logprobs\": true, \"top_logprobs\": 3, \"bad_words\": [\"no\"], "
                     "\"response_format\": {\"type\": \"json_schema\", \"json_schema\": "
                     "{\"name\": \"n\", \"schema\": {\"type\": \"null\"}}}}}\n"
                     "{\"custom_id\": \"b\", \"body\": {\"messages\": [], \"logprobs\": false}}\n");
    expect_ok(import_prompts(in, out, &plain, NULL, &e), &e);
    struct prompts *p = open_prompts(out, 2);
    expect_settings(p, 0,
                    "{\"ban\":[\"no\"],\"format\":{\"json_schema\":{\"type\":\"null\"}},"
                    "\"logprobs\":3,\"top_p\":0.5}",
                    NULL);
    expect_settings(p, 1, "{}", NULL);
    prompts_close(p);
    /* Prompts instead of messages, and the limit by either of its names. */
    const char *lines = scratch_path("lines.jsonl"), *texts = scratch_path("lines.h5");
    scratch_text(lines, "{\"custom_id\": \"a\", \"body\": {\"prompt\": \"one\", \"top_p\": 0.5, "
                        "\"max_tokens\": 3}}\n"
                        "{\"custom_id\": \"b\", \"body\": {\"prompt\": \"two\", "
                        "\"max_completion_tokens\": 4}}\n"
                        "{\"custom_id\": \"c\", \"body\": {\"prompt\": \"three\", "
                        "\"max_completion_tokens\": null, \"max_tokens\": 5}}\n");
    expect_ok(import_prompts(lines, texts, &plain, NULL, &e), &e);
    p = open_prompts(texts, 3);
    expect_settings(p, 0, "{\"top_p\":0.5}", NULL);
    for (size_t i = 0; i < 3; i++) {
        static const char *const wanted[] = {"one", "two", "three"};
        struct prompt row;
        expect_ok(prompts_read(p, i, &row, &e), &e);
        assert_string_equal(row.text, wanted[i]);
        assert_int_equal(row.max_new_tokens, 3 + i);
        prompt_free(&row);
    }
    prompts_close(p);
    /* Tokens as prompts, which must be named. */
    const struct import_options tokens = {.tokens_field = "body.prompt"};
    scratch_text(lines, "{\"custom_id\": \"a\", \"body\": {\"prompt\": [5, 7], \"top_p\": 0.5, "
                        "\"max_tokens\": 3}}\n");
    expect_error(import_prompts(lines, scratch_path("never.h5"), &plain, NULL, &e), &e,
                 "say --tokens body.prompt", NULL);
    expect_ok(import_prompts(lines, scratch_path("batch-ids.h5"), &tokens, NULL, &e), &e);
    p = open_prompts(scratch_path("batch-ids.h5"), 1);
    expect_settings(p, 0, "{\"top_p\":0.5}", NULL);
    struct prompt ids;
    expect_ok(prompts_read(p, 0, &ids, &e), &e);
    assert_true(ids.n_tokens == 2 && ids.tokens[1] == 7 && ids.max_new_tokens == 3);
    char *id = prompts_id(p, 0);
    assert_string_equal(id, "a");
    free(id);
    prompt_free(&ids);
    prompts_close(p);
}

/* What lines ask for and do not get is said once a field, with the number of lines, wherever it is. */
static void unused_of_batch(void **state)
{
    (void)state;
    const char *in = scratch_path("unused.jsonl"), *out = scratch_path("unused.h5");
    char *notes = NULL;
    size_t n;
    struct err e;
    scratch_text(in, "{\"custom_id\": \"a\", \"body\": {\"prompt\": \"one\", \"echo\": null}}\n"
                     "not JSON\n"
                     "{\"custom_id\": \"b\", \"body\": {\"prompt\": \"two\", \"n\": 2, "
                     "\"suffix\": \"x\", \"best_of\": 1, \"stream\": false, \"top_k\": 5}}\n"
                     "{\"custom_id\": \"c\", \"body\": {\"prompt\": \"three\", \"n\": 3}}\n"
                     "{\"custom_id\": \"d\", \"body\": {\"prompt\": \"four\", \"n\": 1}}\n");
    const struct import_options o = {.notes = open_memstream(&notes, &n)};
    expect_ok(import_prompts(in, out, &o, NULL, &e), &e);
    assert_int_equal(fclose(o.notes), 0);
    assert_non_null(strstr(
        notes, "\"body.n\", in 2 of 4 lines, is not used; the job's sampling.samples sets it\n"));
    assert_non_null(strstr(notes, "\"body.suffix\", in 1 of 4 lines, is not used\n"));
    assert_null(strstr(notes, "echo"));
    assert_null(strstr(notes, "best_of"));
    assert_null(strstr(notes, "stream"));
    assert_null(strstr(notes, "top_k"));
    free(notes);
}

int main(void)
{
    scratch_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_of_batch),
        cmocka_unit_test(unused_of_batch),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
