/* Import of prompts and export of completions: what goes in comes out, and errors name the line. */
#include "data/export.h"
#include "data/import.h"

#include "base/mem.h"
#include "data/files.h"
#include "data/h5.h"
#include "data/prompts.h"
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

static const struct import_options plain = {.format = IMPORT_GUESS};

static struct prompts *open_prompts(const char *path, size_t count)
{
    struct prompts *p;
    struct err e;
    expect_ok(prompts_open(&p, path, &e), &e);
    assert_int_equal(prompts_count(p), count);
    return p;
}

static void expect_prompt(struct prompts *p, size_t i, const char *text, const char *id, int limit)
{
    struct prompt row;
    struct err e;
    expect_ok(prompts_read(p, i, &row, &e), &e);
    assert_string_equal(row.text, text);
    assert_int_equal(row.text_bytes, strlen(text));
    assert_int_equal(row.max_new_tokens, limit);
    prompt_free(&row);
    char *found = prompts_id(p, i);
    assert_string_equal(found, id);
    free(found);
}

static void json_lines(void **state)
{
    (void)state;
    const char *in = scratch_path("in.jsonl"), *out = scratch_path("in.h5");
    struct err e;
    size_t rows = 0;
    scratch_text(in, "\xef\xbb\xbf{\"text\": \"one \\u00e9\\n\\\"\", \"id\": \"a\"}\r\n"
                     "\n  \t\n"
                     "{\"id\": -7, \"text\": \"\", \"other\": [1]}\n"
                     "{\"max_new_tokens\": 33, \"text\": \"three\", \"id\": \"\"}\n"
                     "{\"text\": \"four\", \"id\": \"d\"}"); /* no newline at the end */
    struct import_options o = plain;
    o.rows = &rows;
    expect_ok(import_prompts(in, out, &o, &e), &e);
    assert_int_equal(rows, 4);
    struct prompts *p = open_prompts(out, 4);
    expect_prompt(p, 0, "one \xc3\xa9\n\"", "a", 0);
    expect_prompt(p, 1, "", "-7", 0);
    expect_prompt(p, 2, "three", "", 33);
    expect_prompt(p, 3, "four", "d", 0);
    prompts_close(p);
}

static void json_lines_with_other_fields(void **state)
{
    (void)state;
    const char *in = scratch_path("fields.txt"), *out = scratch_path("fields.h5");
    struct err e;
    scratch_text(in, "{\"question\": \"q\", \"id\": 1, \"key\": \"k\", \"n\": 5}\n");
    const struct import_options o = {
        .format = IMPORT_JSON, .text_field = "question", .id_field = "key", .limit_field = "n"};
    expect_ok(import_prompts(in, out, &o, &e), &e);
    struct prompts *p = open_prompts(out, 1);
    expect_prompt(p, 0, "q", "k", 5);
    prompts_close(p);
}

static void token_ids(void **state)
{
    (void)state;
    const char *in = scratch_path("ids.jsonl"), *out = scratch_path("ids.h5");
    struct err e;
    scratch_text(in, "{\"ids\": [5, 0, 2147483647]}\n{\"ids\": []}\n{\"ids\": [7]}\n");
    const struct import_options o = {.tokens_field = "ids"};
    expect_ok(import_prompts(in, out, &o, &e), &e);
    struct prompts *p = open_prompts(out, 3);
    assert_true(prompts_are_tokens(p));
    static const size_t counts[3] = {3, 0, 1};
    static const int32_t wanted[3][3] = {{5, 0, INT32_MAX}, {0}, {7}};
    for (size_t i = 0; i < 3; i++) {
        struct prompt row;
        expect_ok(prompts_read(p, i, &row, &e), &e);
        assert_int_equal(row.n_tokens, counts[i]);
        for (size_t k = 0; k < counts[i]; k++)
            assert_int_equal(row.tokens[k], wanted[i][k]);
        prompt_free(&row);
    }
    char *id = prompts_id(p, 2);
    assert_string_equal(id, "2");
    free(id);
    prompts_close(p);
}

static void plain_text(void **state)
{
    (void)state;
    const char *in = scratch_path("in.txt"), *out = scratch_path("text.h5");
    struct err e;
    scratch_text(in, "first {\"text\"}\n\n  second \xf0\x9f\x8c\x8d\r\nthird");
    expect_ok(import_prompts(in, out, &plain, &e), &e);
    struct prompts *p = open_prompts(out, 3);
    expect_prompt(p, 0, "first {\"text\"}", "1", 0);
    expect_prompt(p, 1, "  second \xf0\x9f\x8c\x8d", "3", 0);
    expect_prompt(p, 2, "third", "4", 0);
    prompts_close(p);
}

/* Many rows: more than one chunk of every dataset, a limit that begins late. */
static void many_lines(void **state)
{
    (void)state;
    enum { N = 5000 };
    const char *in = scratch_path("many.jsonl"), *out = scratch_path("many.h5");
    FILE *f = fopen(in, "w");
    for (int i = 0; i < N; i++)
        fprintf(f, "{\"text\": \"row %d%*s\"%s}\n", i, i % 91, "",
                i % 100 == 99 ? ", \"max_new_tokens\": 9" : "");
    fclose(f);
    struct err e;
    expect_ok(import_prompts(in, out, &plain, &e), &e);
    struct prompts *p = open_prompts(out, N);
    for (int i = 0; i < N; i++) {
        char text[200], id[20];
        snprintf(text, sizeof text, "row %d%*s", i, i % 91, "");
        snprintf(id, sizeof id, "%d", i);
        expect_prompt(p, (size_t)i, text, id, i % 100 == 99 ? 9 : 0);
    }
    prompts_close(p);
}

static void names_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
        bool json, tokens;
    } wrong[] = {
        {"{\"text\": \"a\"}\n{\"text\": \n", "in.x:2:", true, false},
        {"{\"text\": \"a\"} x\n", "in.x:1:", true, false},
        {"\n\n{\"txt\": \"a\"}\n", "in.x:3: wanted \"text\" as a string, found nothing", true,
         false},
        {"{\"text\": 5}\n", "in.x:1: wanted \"text\" as a string, found an integer", true, false},
        {"{\"text\": null}\n", "found null", true, false},
        {"[1]\n", "in.x:1: wanted one JSON object a line, found an array", true, false},
        {"{\"text\": \"a\\u0000b\"}\n", "in.x:1:", true, false},
        {"{\"text\": \"a\xff\"}\n", "in.x:1:", true, false},
        {"{\"text\": \"a\", \"text\": \"b\"}\n", "duplicate", true, false},
        {"{\"text\": \"a\", \"id\": 1}\n{\"text\": \"b\"}\n",
         "in.x:2: wanted \"id\" as a string or integer, found nothing", true, false},
        {"{\"text\": \"a\"}\n{\"text\": \"b\", \"id\": 1}\n", "in.x:2: field \"id\" appears here",
         true, false},
        {"{\"text\": \"a\", \"id\": 1.5}\n", "found a fraction", true, false},
        {"{\"text\": \"a\", \"max_new_tokens\": 0}\n", "1 or more", true, false},
        {"{\"text\": \"a\", \"max_new_tokens\": \"9\"}\n", "found a string", true, false},
        {"{\"tokens\": 5}\n", "an array of token ids", true, true},
        {"{\"tokens\": [5, -1]}\n", "\"tokens\"[1] is out of range", true, true},
        {"{\"tokens\": [5, 2147483648]}\n", "\"tokens\"[1] is out of range", true, true},
        {"{\"tokens\": [\"a\"]}\n", "\"tokens\"[0] is a string", true, true},
        {"{\"text\": \"a\"}\n", "found nothing", true, true},
        {"fine\nbad \xc3(\n", "in.x:2: wanted UTF-8, found byte 0xc3 in column 5", false, false},
        {"\xff\xfe"
         "a",
         "in.x:1: wanted UTF-8, found byte 0xff in column 1", false, false},
        {"", "no prompts", false, false},
        {"\n \n", "no prompts (2 lines", true, false},
    };
    const char *in = scratch_path("in.x"), *out = scratch_path("never.h5");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err e;
        scratch_text(in, wrong[i].text);
        const struct import_options o = {.format = wrong[i].json ? IMPORT_JSON : IMPORT_TEXT,
                                         .tokens_field = wrong[i].tokens ? "tokens" : NULL};
        expect_error(import_prompts(in, out, &o, &e), &e, in, wrong[i].message, NULL);
        assert_false(files_exist(out));
    }
    struct err e;
    scratch_write(in, "a\0b\n", 4);
    expect_error(import_prompts(in, out, &plain, &e), &e, "in.x:1", "NUL byte in column 2", NULL);
    expect_error(import_prompts(scratch_path("absent"), out, &plain, &e), &e, "absent",
                 "cannot be opened", NULL);
    scratch_text(in, "a\n");
    expect_error(import_prompts(in, scratch_path("no/such/dir.h5"), &plain, &e), &e,
                 "no/such/dir.h5", "No such file", NULL);
    const struct import_options tokens = {.format = IMPORT_TEXT, .tokens_field = "t"};
    expect_error(import_prompts(in, out, &tokens, &e), &e, "JSON Lines", NULL);
}

static void replaces_only_when_asked(void **state)
{
    (void)state;
    const char *in = scratch_path("again.txt"), *out = scratch_path("again.h5");
    struct err e;
    scratch_text(in, "one\n");
    expect_ok(import_prompts(in, out, &plain, &e), &e);
    scratch_text(in, "one\ntwo\n");
    expect_error(import_prompts(in, out, &plain, &e), &e, out, "exists already", NULL);
    prompts_close(open_prompts(out, 1));
    const struct import_options force = {.force = true};
    scratch_text(scratch_path("bad.jsonl"), "{");
    expect_error(import_prompts(scratch_path("bad.jsonl"), out, &force, &e), &e,
                 "bad.jsonl:1:", NULL);
    prompts_close(open_prompts(out, 1)); /* a failed import leaves the old file */
    expect_ok(import_prompts(in, out, &force, &e), &e);
    prompts_close(open_prompts(out, 2));
}

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
        cmocka_unit_test(json_lines),
        cmocka_unit_test(json_lines_with_other_fields),
        cmocka_unit_test(token_ids),
        cmocka_unit_test(plain_text),
        cmocka_unit_test(many_lines),
        cmocka_unit_test(names_the_line),
        cmocka_unit_test(replaces_only_when_asked),
        cmocka_unit_test(finished_and_unfinished_jobs),
        cmocka_unit_test(text_and_numbers_json_cannot_hold),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
