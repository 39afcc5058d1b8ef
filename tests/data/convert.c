/* Export of completions: what goes in comes out, and errors name the line. */
#include "data/export.h"

#include "base/mem.h"
#include "data/files.h"
#include "data/h5.h"
#include "tests/data/output.h"
#include "tests/data/scratch.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* One line of the export against scratch_completion(). */
static void expect_line(const char *line, size_t unit, size_t samples, bool with_id, bool tokens,
                        bool logprobs)
{
    json_error_t why;
    json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, &why);
    if (!o)
        fail_msg("unit %zu: %s: %s", unit, why.text, line);
    struct completion wanted = scratch_completion(unit);
    char id[32];
    snprintf(id, sizeof id, "p%zu", unit / samples);
    const char *found = json_string_value(json_object_get(o, "id"));
    assert_int_equal(found != NULL, with_id);
    if (with_id)
        assert_string_equal(found, id);
    assert_int_equal(json_integer_value(json_object_get(o, "prompt")), unit / samples);
    assert_int_equal(json_integer_value(json_object_get(o, "sample")), unit % samples);
    assert_string_equal(json_string_value(json_object_get(o, "text")), wanted.text);
    assert_string_equal(json_string_value(json_object_get(o, "finish")),
                        finish_name(wanted.finish));
    if (wanted.error)
        assert_string_equal(json_string_value(json_object_get(o, "error")), wanted.error);
    else
        assert_true(json_is_null(json_object_get(o, "error")));
    assert_int_equal(json_integer_value(json_object_get(o, "prompt_tokens")),
                     wanted.n_prompt_tokens);
    const json_t *t = json_object_get(o, "tokens"), *l = json_object_get(o, "logprobs");
    assert_int_equal(t != NULL, tokens);
    assert_int_equal(l != NULL, logprobs);
    for (uint32_t i = 0; i < wanted.n_tokens; i++) {
        if (t)
            assert_int_equal(json_integer_value(json_array_get(t, i)), wanted.tokens[i]);
        if (l) /* the same bits again */
            assert_true((float)json_number_value(json_array_get(l, i)) == wanted.logprobs[i]);
    }
    assert_int_equal(json_array_size(t), tokens ? wanted.n_tokens : 0);
    assert_int_equal(json_object_size(o), 6u + with_id + tokens + logprobs);
    completion_free(&wanted);
    json_decref(o);
}

/* Exports; checks that the units u with keep(u % 3) are there, each once and in order. */
static void expect_export(const char *path, const struct export_options *options, size_t units,
                          size_t samples, const bool keep[3], bool with_id)
{
    char *text = NULL;
    size_t bytes = 0, unit = 0, rows = 0, lines = 0;
    FILE *out = open_memstream(&text, &bytes);
    struct export_options o = *options;
    struct err e;
    o.rows = &rows;
    expect_ok(export_completions(path, out, &o, &e), &e);
    fclose(out);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++, unit++) {
        while (!keep[unit % 3])
            unit++;
        expect_line(line, unit, samples, with_id, o.tokens, o.logprobs);
    }
    while (unit < units && !keep[unit % 3])
        unit++;
    assert_int_equal(unit, units);
    assert_int_equal(rows, lines);
    free(text);
}

static void finished_and_unfinished_jobs(void **state)
{
    (void)state;
    enum { UNITS = 99, SAMPLES = 3 };
    const char *path = scratch_path("export.h5"), *from = scratch_path("export-prompts.h5");
    const bool some[3] = {true, false, true}, all[3] = {true, true, true};
    const struct completions_identity id = scratch_identity(UNITS, SAMPLES);
    struct prompts *prompts = output_prompts(from, UNITS / SAMPLES);
    struct completions *c;
    struct err e;
    bool finished;
    struct export_options o = {0};
    expect_error(export_completions(path, stdout, &o, &e), &e, path, "does not exist", NULL);
    expect_ok(completions_open(&c, path, &id, &finished, &e), &e);
    expect_ok(output_seal(c, 2, 3, UNITS, &e), &e);
    expect_ok(output_seal(c, 0, 3, UNITS, &e), &e);
    expect_error(export_completions(path, stdout, &o, &e), &e, path, "--partial", NULL);
    o.partial = true; /* beside the job that has the lock */
    expect_export(path, &o, UNITS, SAMPLES, some, false);
    o.prompts = from;
    o.tokens = o.logprobs = true;
    expect_export(path, &o, UNITS, SAMPLES, some, true);
    expect_ok(output_seal(c, 1, 3, UNITS, &e), &e);
    expect_export(path, &o, UNITS, SAMPLES, all, true);
    expect_ok(completions_merge(c, prompts, NULL, 0, &e), &e);
    completions_close(c);
    prompts_close(prompts);
    expect_export(path, &o, UNITS, SAMPLES, all, true);
    o = (struct export_options){.logprobs = true};
    expect_export(path, &o, UNITS, SAMPLES, all, true);
    o = (struct export_options){.tokens = true};
    expect_export(path, &o, UNITS, SAMPLES, all, true);
    o = (struct export_options){0};
    expect_export(path, &o, UNITS, SAMPLES, all, true);

    expect_error(export_completions(from, stdout, &o, &e), &e, from, "wanted a completions file",
                 NULL);
    FILE *full = fopen("/dev/full", "w");
    if (full) {
        expect_error(export_completions(path, full, &o, &e), &e, "cannot be written", NULL);
        fclose(full);
    }
    o.tokens = true;
    unlink(scratch_path("export.tokens.h5"));
    expect_error(export_completions(path, stdout, &o, &e), &e, "export.tokens.h5", "No such file",
                 NULL);
}

static void text_and_numbers_json_cannot_hold(void **state)
{
    (void)state;
    const char *path = scratch_path("odd.h5");
    const struct completions_identity id = scratch_identity(1, 1);
    struct completions *c;
    struct err e;
    bool finished;
    expect_ok(completions_open(&c, path, &id, &finished, &e), &e);
    static char text[] = "\x01\x7f\\\"\t\r a\xff\xf0\x9f z";
    static int32_t tokens[] = {1, 2, 3, 4, 5};
    static float logprobs[] = {-0.1f, -1.0f / 0.0f, -3.40282347e38f, -1.17549435e-38f, -0.0f};
    logprobs[0] = nextafterf(logprobs[0], 0);
    const struct completion row = {
        .text = text, .tokens = tokens, .logprobs = logprobs, .n_tokens = 5};
    expect_ok(completions_seal(c, &row, 1, NULL, 0, &e), &e);
    completions_close(c);
    char *line = NULL;
    size_t bytes;
    FILE *out = open_memstream(&line, &bytes);
    const struct export_options o = {.partial = true, .logprobs = true};
    expect_ok(export_completions(path, out, &o, &e), &e);
    fclose(out);
    json_t *root = json_loads(line, 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "text")),
                        "\x01\x7f\\\"\t\r a\xef\xbf\xbd\xef\xbf\xbd z");
    const json_t *found = json_object_get(root, "logprobs");
    assert_true(json_is_null(json_array_get(found, 1)));
    for (size_t i = 0; i < 5; i++)
        if (i != 1) {
            float value = (float)json_number_value(json_array_get(found, i));
            assert_memory_equal(&value, &logprobs[i], sizeof value);
        }
    json_decref(root);
    free(line);
}

int main(void)
{
    scratch_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finished_and_unfinished_jobs),
        cmocka_unit_test(text_and_numbers_json_cannot_hold),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
