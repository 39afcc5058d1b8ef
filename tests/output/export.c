/* Export: what is in the output, and in the journals of a job that is not finished, as JSON Lines; and
 * as a file (`tandem merge --partial`). */
#include "output/export.h"

#include "tests/data/scratch.h"
#include "tests/output/rows.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void expect_scores(const json_t *o, const struct completion *wanted, bool logprobs)
{
    const json_t *top = json_object_get(o, "top_tokens"),
                 *each = json_object_get(o, "top_logprobs"),
                 *scores = json_object_get(o, "prompt_logprobs"),
                 *tops = json_object_get(o, "prompt_top_tokens");
    assert_int_equal(json_integer_value(json_object_get(o, "scored")), wanted->n_scored);
    assert_true(!wanted->n_scored || json_real_value(json_object_get(o, "score")) == wanted->score);
    assert_int_equal(json_array_size(top), wanted->n_top && logprobs ? wanted->n_tokens : 0);
    assert_int_equal(json_array_size(scores), logprobs ? wanted->n_scored : 0);
    assert_int_equal(json_array_size(tops),
                     wanted->n_prompt_top && logprobs ? wanted->n_scored : 0);
    for (uint32_t i = 0; logprobs && i < wanted->n_prompt_top; i++)
        assert_int_equal(json_integer_value(json_array_get(json_array_get(tops, i / 3), i % 3)),
                         wanted->prompt_top_tokens[i]);
    for (size_t i = 0; i < 2 * json_array_size(top); i++) {
        const json_t *token = json_array_get(json_array_get(top, i / 2), i % 2),
                     *logprob = json_array_get(json_array_get(each, i / 2), i % 2);
        assert_int_equal(json_integer_value(token), wanted->top_tokens[i]);
        assert_true((float)json_real_value(logprob) == wanted->top_logprobs[i]);
    }
    for (size_t i = 0; i < json_array_size(scores); i++)
        assert_true((float)json_real_value(json_array_get(scores, i)) ==
                    wanted->prompt_logprobs[i]);
}

/* One line of the export against rows_completion(). */
static void expect_line(const char *line, size_t unit, size_t samples, bool tokens, bool logprobs)
{
    json_error_t why;
    json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, &why);
    if (!o)
        fail_msg("unit %zu: %s: %s", unit, why.text, line);
    struct completion wanted = rows_completion(unit, 0, samples);
    char id[32];
    snprintf(id, sizeof id, "p%zu", unit / samples);
    const char *found = json_string_value(json_object_get(o, "id"));
    assert_string_equal(found, id);
    assert_int_equal(json_integer_value(json_object_get(o, "prompt")), unit / samples);
    assert_int_equal(json_integer_value(json_object_get(o, "sample")), unit % samples);
    assert_string_equal(json_string_value(json_object_get(o, "text")), wanted.text);
    assert_string_equal(json_string_value(json_object_get(o, "finish")),
                        finish_name(wanted.finish));
    const char *reasoning = json_string_value(json_object_get(o, "reasoning"));
    assert_string_equal(reasoning, wanted.reasoning ? wanted.reasoning : "");
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
    expect_scores(o, &wanted, logprobs);
    unsigned scores = (wanted.n_scored ? 3u + logprobs : 0) + (wanted.n_top && logprobs ? 2u : 0) +
                      (wanted.n_prompt_top && logprobs ? 2u : 0);
    assert_int_equal(json_object_size(o), 8u + tokens + logprobs + scores);
    table_free(&completion_table, &wanted);
    json_decref(o);
}

/* Exports; checks that the units u with keep(u % 3) are there, each once and in order. */
static void expect_export(const char *path, const struct export_options *options, size_t units,
                          size_t samples, const bool keep[3])
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
        expect_line(line, unit, samples, o.tokens, o.logprobs);
    }
    while (unit < units && !keep[unit % 3])
        unit++;
    assert_int_equal(unit, units);
    assert_int_equal(rows, lines);
    free(text);
}

/* All of a new job of these units. */
static void rows_finish_new(const char *path, uint64_t units, uint64_t samples)
{
    struct err e;
    struct output *o = rows_open(path, units, samples);
    unlink(scratch_path("export.steps.h5")); /* another output's */
    assert_int_equal(rows_push(o, 0, 1, units, units, samples, &e), OUTPUT_FINE);
    rows_finish(o);
}

static void finished_and_unfinished_jobs(void **state)
{
    (void)state;
    enum { UNITS = 99, SAMPLES = 3 };
    const char *path = scratch_path("export.h5"), *to = scratch_path("so-far.h5");
    const bool some[3] = {true, false, true}, all[3] = {true, true, true};
    struct err e;
    struct export_options o = {0};
    expect_error(export_completions(path, stdout, &o, &e), &e, path, "does not exist", NULL);
    struct output *c = rows_open(path, UNITS, SAMPLES);
    assert_int_equal(rows_push(c, 2, 3, UNITS, UNITS, SAMPLES, &e), OUTPUT_FINE);
    assert_int_equal(rows_push(c, 0, 3, UNITS, UNITS, SAMPLES, &e), OUTPUT_FINE);
    expect_error(export_completions(path, stdout, &o, &e), &e, path, "--partial", NULL);
    o.partial = true; /* beside the job that has the lock */
    expect_export(path, &o, UNITS, SAMPLES, some);
    o.tokens = o.logprobs = true;
    expect_export(path, &o, UNITS, SAMPLES, some);
    uint64_t rows = 0, of = 0; /* the same as a file */
    expect_ok(output_merge_partial(path, to, &rows, &of, &e), &e);
    assert_int_equal(rows, 2 * UNITS / 3);
    assert_int_equal(of, UNITS);
    expect_export(to, &o, UNITS, SAMPLES, some);
    expect_error(output_merge_partial(path, to, &rows, &of, &e), &e, to, "exists", NULL);
    assert_int_equal(rows_push(c, 1, 3, UNITS, UNITS, SAMPLES, &e), OUTPUT_FINE);
    expect_export(path, &o, UNITS, SAMPLES, all);
    rows_finish(c);
    expect_export(path, &o, UNITS, SAMPLES, all);
    o = (struct export_options){.logprobs = true};
    expect_export(path, &o, UNITS, SAMPLES, all);
    o = (struct export_options){.tokens = true};
    expect_export(path, &o, UNITS, SAMPLES, all);
    o = (struct export_options){0};
    expect_export(path, &o, UNITS, SAMPLES, all);

    expect_error(export_completions(scratch_path("export.steps.h5"), stdout, &o, &e), &e,
                 "export.steps.h5", "\"id\"", NULL);
    FILE *full = fopen("/dev/full", "w");
    if (full) {
        expect_error(export_completions(path, full, &o, &e), &e, "cannot be written", NULL);
        fclose(full);
    }
    o.tokens = true; /* siblings are found when both are renamed, and only the right ones */
    const char *other = scratch_path("renamed.h5"), *tokens = scratch_path("renamed.tokens.h5");
    assert_int_equal(rename(path, other), 0);
    expect_export(other, &o, UNITS, SAMPLES, all);
    assert_int_equal(rename(scratch_path("export.tokens.h5"), tokens), 0);
    expect_export(other, &o, UNITS, SAMPLES, all);
    rows_finish_new(path, UNITS, SAMPLES);
    expect_export(other, &o, UNITS, SAMPLES, all);
    unlink(tokens);
    expect_error(export_completions(other, stdout, &o, &e), &e, "export.tokens.h5",
                 "belongs to another output", NULL);
    unlink(scratch_path("export.tokens.h5"));
    expect_error(export_completions(path, stdout, &o, &e), &e, "export.tokens.h5", "No such file",
                 NULL);
}

static void text_and_numbers_json_cannot_hold(void **state)
{
    (void)state;
    const char *path = scratch_path("odd.h5");
    struct output *o = rows_open(path, 1, 1);
    struct err e;
    static char text[] = "\x01\x7f\\\"\t\r a\xff\xf0\x9f z";
    static int32_t tokens[] = {1, 2, 3, 4, 5};
    static float logprobs[] = {-0.1f, -1.0f / 0.0f, -3.40282347e38f, -1.17549435e-38f, -0.0f};
    logprobs[0] = nextafterf(logprobs[0], 0);
    const struct completion row = {
        .text = text, .tokens = tokens, .logprobs = logprobs, .n_tokens = 5};
    struct bytes batch = {0};
    journal_put(&batch, RECORD_COMPLETION, 0, &completion_table, &row, 1);
    output_push(o, &batch);
    output_close(o);
    char *line = NULL;
    size_t bytes;
    FILE *out = open_memstream(&line, &bytes);
    const struct export_options options = {.partial = true, .logprobs = true};
    expect_ok(export_completions(path, out, &options, &e), &e);
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
