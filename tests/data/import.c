/* Import of prompts: what goes in comes out, bad records keep their place, errors name the line. */
#include "data/import.h"

#include "base/mem.h"
#include "data/column.h"
#include "base/files.h"
#include "data/h5.h"
#include "data/keep.h"
#include "data/prompts.h"
#include "tests/data/imported.h"
#include "tests/data/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static const struct import_options plain = {.format = RECORDS_GUESS};

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
    struct import_result result;
    scratch_text(in, "\xef\xbb\xbf{\"text\": \"one \\u00e9\\n\\\"\", \"id\": \"a\"}\r\n"
                     "\n  \t\n"
                     "{\"id\": -7, \"text\": \"\", \"other\": [1]}\n"
                     "{\"max_new_tokens\": 33, \"text\": \"three\", \"id\": \"\"}\n"
                     "{\"text\": \"four\", \"id\": \"d\"}"); /* no newline at the end */
    expect_ok(import_prompts(in, out, &plain, &result, &e), &e);
    assert_int_equal(result.rows, 4);
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
        .format = RECORDS_JSON, .text_field = "question", .id_field = "key", .limit_field = "n"};
    expect_ok(import_prompts(in, out, &o, NULL, &e), &e);
    struct prompts *p = open_prompts(out, 1);
    expect_prompt(p, 0, "q", "k", 5);
    prompts_close(p);
}

/* Fields that go before the job's sampling section, unless the user keeps them. */
static void settings(void **state)
{
    (void)state;
    const char *in = scratch_path("settings.jsonl"), *out = scratch_path("settings.h5");
    struct err e;
    struct import_result result;
    scratch_text(in,
                 "{\"text\": \"a\", \"mine\": 1}\n"
                 "{\"text\": \"b\", \"stop\": [\"x\", 5], \"temperature\": 0.5, \"seed\": null}\n"
                 "{\"text\": \"c\", \"stop\": \"7\", \"format\": {\"choice\": [\"y\"]}}\n"
                 "{\"text\": \"d\", \"continuation\": \" \\\"e\\\"\"}\n"
                 "{\"text\": \"f\", \"continuation\": 5}\n");
    expect_ok(import_prompts(in, out, &plain, &result, &e), &e);
    assert_int_equal(result.bad, 1);
    struct prompts *p = open_prompts(out, 5);
    expect_settings(p, 0, "{}", "");
    expect_settings(p, 1, "{\"stop\":[\"x\",5],\"temperature\":0.5}", "");
    expect_settings(p, 2, "{\"format\":{\"choice\":[\"y\"]},\"stop\":\"7\"}", "");
    expect_settings(p, 3, "{}", " \"e\"");
    prompts_close(p);
    const struct import_options kept = {.keep = "stop,format", .force = true};
    expect_ok(import_prompts(in, out, &kept, &result, &e), &e);
    p = open_prompts(out, 5);
    expect_settings(p, 1, "{\"temperature\":0.5}", "");
    prompts_close(p);
}

static void settings_of_a_table(void **state)
{
    (void)state;
    const char *csv = scratch_path("cells.csv"), *cells = scratch_path("cells.h5");
    struct err e;
    scratch_text(csv, "text,temperature,stop\na,0.25,end\nb,,\"[\"\"x\"\", 1]\"\n");
    expect_ok(import_prompts(csv, cells, &plain, NULL, &e), &e);
    struct prompts *p = open_prompts(cells, 2);
    expect_settings(p, 0, "{\"stop\":\"end\",\"temperature\":0.25}", NULL);
    expect_settings(p, 1, "{\"stop\":[\"x\",1]}", NULL);
    prompts_close(p);
}

static void token_ids(void **state)
{
    (void)state;
    const char *in = scratch_path("ids.jsonl"), *out = scratch_path("ids.h5");
    struct err e;
    scratch_text(in, "{\"ids\": [5, 0, 2147483647]}\n{\"ids\": []}\n{\"ids\": [7]}\n");
    const struct import_options o = {.tokens_field = "ids"};
    expect_ok(import_prompts(in, out, &o, NULL, &e), &e);
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
    expect_ok(import_prompts(in, out, &plain, NULL, &e), &e);
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
    expect_ok(import_prompts(in, out, &plain, NULL, &e), &e);
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
        {"\n\n{\"txt\": \"a\", \"x\": 1}\n",
         "in.x:3: wanted \"text\" as a string, found nothing; the record has \"txt\", \"x\"", true,
         false},
        {"{\"text\": [5, 7]}\n",
         "in.x:1: wanted \"text\" as a string, found an array of integers; if they are token ids, "
         "say --tokens text",
         true, false},
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
        {"{\"text\": \"a\", \"max_new_tokens\": 0}\n", "an integer from 1", true, false},
        {"{\"text\": \"a\", \"max_new_tokens\": \"9\"}\n", "found a string", true, false},
        {"{\"tokens\": 5}\n", "an array of token ids", true, true},
        {"{\"tokens\": [5, -1]}\n", "\"tokens\"[1] is out of range", true, true},
        {"{\"tokens\": [5, 2147483648]}\n", "\"tokens\"[1] is out of range", true, true},
        {"{\"tokens\": [\"a\"]}\n", "\"tokens\"[0] is a string", true, true},
        {"{\"text\": \"a\"}\n", "found nothing", true, true},
        {"fine\nbad \xc3(\n", "in.x:2: wanted UTF-8, found byte 0xc3 in column 5", false, false},
        {"\xff\xfd"
         "a",
         "in.x:1: wanted UTF-8, found byte 0xff in column 1", false, false},
        {"", "no prompts", false, false},
        {"\n \n", "no prompts (2 lines", true, false},
    };
    const char *in = scratch_path("in.x"), *out = scratch_path("never.h5");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err e;
        scratch_text(in, wrong[i].text);
        const struct import_options o = {.format = wrong[i].json ? RECORDS_JSON : RECORDS_TEXT,
                                         .tokens_field = wrong[i].tokens ? "tokens" : NULL,
                                         .strict = true};
        expect_error(import_prompts(in, out, &o, NULL, &e), &e, in, wrong[i].message, NULL);
        assert_false(files_exist(out));
    }
    struct err e;
    scratch_text(in, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n");
    expect_error(import_prompts(in, out, &plain, NULL, &e), &e, "in.x: is a Git LFS pointer", NULL);
    struct prompts *p;
    expect_error(prompts_open(&p, in, &e), &e, "in.x: is a Git LFS pointer", NULL);
    scratch_write(in, "a\0b\n", 4);
    expect_error(import_prompts(in, out, &plain, NULL, &e), &e, "in.x:1", "a NUL character", NULL);
    expect_error(import_prompts(scratch_path("absent"), out, &plain, NULL, &e), &e, "absent",
                 "cannot be opened", NULL);
    scratch_text(in, "a\n");
    expect_error(import_prompts(in, scratch_path("no/such/dir.h5"), &plain, NULL, &e), &e,
                 "no/such/dir.h5", "No such file", NULL);
    const struct import_options tokens = {.format = RECORDS_TEXT, .tokens_field = "t"};
    expect_error(import_prompts(in, out, &tokens, NULL, &e), &e, "JSON Lines", NULL);
}

static void replaces_only_when_asked(void **state)
{
    (void)state;
    const char *in = scratch_path("again.txt"), *out = scratch_path("again.h5");
    struct err e;
    scratch_text(in, "one\n");
    expect_ok(import_prompts(in, out, &plain, NULL, &e), &e);
    scratch_text(in, "one\ntwo\n");
    expect_error(import_prompts(in, out, &plain, NULL, &e), &e, out, "exists already", NULL);
    prompts_close(open_prompts(out, 1));
    const struct import_options force = {.force = true};
    scratch_text(scratch_path("bad.jsonl"), "{");
    expect_error(import_prompts(scratch_path("bad.jsonl"), out, &force, NULL, &e), &e,
                 "bad.jsonl:1:", NULL);
    prompts_close(open_prompts(out, 1)); /* a failed import leaves the old file */
    expect_ok(import_prompts(in, out, &force, NULL, &e), &e);
    prompts_close(open_prompts(out, 2));
}

/* ---- formats -------------------------------------------------------------------------------- */

static void expect_rows(const char *in, const struct import_options *o, size_t n,
                        const char *const *texts)
{
    const char *out = scratch_path("rows.h5");
    struct import_options force = *o;
    struct err e;
    force.force = true;
    expect_ok(import_prompts(in, out, &force, NULL, &e), &e);
    struct prompts *p = open_prompts(out, n);
    for (size_t i = 0; i < n; i++) {
        struct prompt row;
        expect_ok(prompts_read(p, i, &row, &e), &e);
        assert_string_equal(row.text, texts[i]);
        prompt_free(&row);
    }
    prompts_close(p);
}

/* `{` is JSON Lines whatever the name; gzip is seen through. */
static void told_by_content(void **state)
{
    (void)state;
    static const char lines[] = "\n {\"text\": \"a\"}\n{\"text\": \"b\"}\n";
    static const char *const texts[] = {"a", "b"};
    static const char *const names[] = {"c.txt", "c.JSONL", "c.bak", "c"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        scratch_text(scratch_path(names[i]), lines);
        expect_rows(scratch_path(names[i]), &plain, 2, texts);
    }
    gzFile f = gzopen(scratch_path("c.gz"), "wb");
    assert_int_equal(gzwrite(f, lines, sizeof lines - 1), (int)sizeof lines - 1);
    gzclose(f);
    expect_rows(scratch_path("c.gz"), &plain, 2, texts);
    struct err e;
    struct import_options force = {.force = true};
    assert_int_equal(truncate(scratch_path("c.gz"), 30), 0);
    expect_error(import_prompts(scratch_path("c.gz"), scratch_path("rows.h5"), &force, NULL, &e),
                 &e, "c.gz", "unexpected end of file", NULL);
}

static void tables(void **state)
{
    (void)state;
    static const char *const texts[] = {"harbor, noun:", "two\nlines, a \"quote\"", "", "last"};
    const char *in = scratch_path("t.CSV");
    scratch_text(in, "\xef\xbb\xbfid,text,n\r\n1,\"harbor, noun:\",5\r\n"
                     "2,\"two\nlines, a \"\"quote\"\"\",\n\n3,,7\n4,last,\"\"");
    expect_rows(in, &plain, 4, texts);
    scratch_text(scratch_path("t.tsv"), "question\ta\nx, \"y\"\t1\n");
    expect_rows(scratch_path("t.tsv"), &(struct import_options){.text_field = "question"}, 1,
                (const char *const[]){"x, \"y\""});
    struct err e;
    struct import_options force = {.force = true};
    scratch_text(in, "id,text\n1,\"open\n2,x\n");
    expect_error(import_prompts(in, scratch_path("rows.h5"), &force, NULL, &e), &e, "t.CSV:2",
                 "a quote is not closed", NULL);
}

static void foreign_files_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *head, *words;
    } files[] = {{"PAR1....", "read_parquet"},
                 {"ARROW1..", "read_feather"},
                 {"PK\3\4....", "zip"},
                 {"\x28\xb5\x2f\xfd....", "zstd"},
                 {"BZh9....", "bzip2"},
                 {"\xfd"
                  "7zXZ...",
                  "xz"},
                 {"SQLite format 3", "sqlite3"},
                 {"\x89HDF\r\n\x1a\n", "prompts.file"},
                 {" [\n {\"text\": 1}]", "jq -c"}};
    const char *in = scratch_path("foreign"), *out = scratch_path("foreign.h5");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct err e;
        scratch_text(in, files[i].head);
        expect_error(import_prompts(in, out, &plain, NULL, &e), &e, in, files[i].words, NULL);
    }
}

static void paths_and_templates(void **state)
{
    (void)state;
    const char *in = scratch_path("p.jsonl");
    scratch_text(
        in,
        "{\"body\": {\"m\": [{\"c\": \"deep\"}]}, \"a.b\": \"dotted\", \"n\": 7, \"t\": true}\n");
    expect_rows(in, &(struct import_options){.text_field = "body.m.0.c"}, 1,
                (const char *const[]){"deep"});
    expect_rows(in, &(struct import_options){.text_field = "a.b"}, 1,
                (const char *const[]){"dotted"});
    expect_rows(in, &(struct import_options){.text_template = "{{{a.b}}}\\n{n} {t}\\\\"}, 1,
                (const char *const[]){"{dotted}\n7 true\\"});
    struct err e;
    const struct import_options absent = {.text_template = "{x}", .force = true};
    expect_error(import_prompts(in, scratch_path("rows.h5"), &absent, NULL, &e), &e, "p.jsonl:1",
                 "\"x\"", NULL);
    const struct import_options open = {.text_template = "{a.b", .force = true};
    expect_error(import_prompts(in, scratch_path("rows.h5"), &open, NULL, &e), &e, "without '}'",
                 NULL);
}

/* ---- records that are wrong ----------------------------------------------------------------- */

static void expect_bad(struct prompts *p, size_t i, const char *words)
{
    struct prompt row;
    struct err e = {{0}};
    assert_int_equal(prompts_read(p, i, &row, &e), -1);
    if (!strstr(e.text, words))
        fail_msg("row %zu: '%s' does not say '%s'", i, e.text, words);
}

static void bad_records_are_rows(void **state)
{
    (void)state;
    const char *in = scratch_path("bad.jsonl"), *out = scratch_path("bad.h5");
    struct import_result result;
    struct err e;
    scratch_text(in, "{\"text\": \"x \\ud83d\", \"id\": 1}\n" /* before anything is known */
                     "{\"text\": \"fine\", \"id\": 2, \"x\": NaN, \"y\": -Infinity, \"z\": 1e400}\n"
                     "{\"text\": \"a\\u0000\", \"id\": 2}\n"
                     "{\"text\": null, \"id\": 12345678901234567890123}\n"
                     "{\"text\": \"late\", \"id\": 4, \"max_new_tokens\": 3, \"x\": 5}\n"
                     "{\"text\": \"bad byte \xff\", \"id\": 5}\n"
                     "{\"text\": \"cut");
    expect_ok(import_prompts(in, out, &plain, &result, &e), &e);
    assert_int_equal(result.rows, 7);
    assert_int_equal(result.bad, 5);
    assert_int_equal(result.duplicates, 1);
    struct prompts *p = open_prompts(out, 7);
    expect_bad(p, 0, "Unicode");
    expect_prompt(p, 1, "fine", "2", 0);
    expect_bad(p, 2, "NUL");
    expect_bad(p, 3, "found null");
    char *id = prompts_id(p, 3);
    assert_string_equal(id, "12345678901234567890123");
    free(id);
    expect_prompt(p, 4, "late", "4", 3);
    expect_bad(p, 5, "UTF-8");
    expect_bad(p, 6, "not valid JSON");
    prompts_close(p);
    const struct import_options strict = {.strict = true, .force = true};
    expect_error(import_prompts(in, out, &strict, NULL, &e), &e, "bad.jsonl:1", "Unicode", NULL);
}

static void never_onto_its_source(void **state)
{
    (void)state;
    const char *in = scratch_path("source.jsonl"), *linked = scratch_path("linked.h5");
    struct err e;
    const struct import_options force = {.force = true};
    scratch_text(in, "{\"text\": \"precious\"}\n");
    unlink(linked);
    assert_int_equal(link(in, linked), 0);
    expect_error(import_prompts(in, in, &force, NULL, &e), &e, "source.jsonl",
                 "is the file that is read", NULL);
    expect_error(import_prompts(in, linked, &force, NULL, &e), &e, "is the file that is read",
                 NULL);
    expect_rows(in, &plain, 1, (const char *const[]){"precious"});
}

/* ---- columns that travel -------------------------------------------------------------------- */

static void expect_column(const char *path, const char *name, const char *encoding,
                          const char *const *rows, size_t n)
{
    hid_t file;
    struct err e;
    struct column *c;
    char full[64];
    snprintf(full, sizeof full, KEEP_GROUP "/%s", name);
    expect_ok(h5_open(&file, path, &e), &e);
    hid_t d = H5Dopen2(file, full, H5P_DEFAULT);
    char *found = h5_get_string(d, "encoding");
    assert_string_equal(found, encoding);
    free(found);
    H5Dclose(d);
    expect_ok(column_open(&c, file, path, full, &e), &e);
    assert_int_equal(column_count(c), n);
    for (size_t i = 0; i < n; i++) {
        char *text;
        size_t bytes;
        expect_ok(column_string(c, i, &text, &bytes, &e), &e);
        assert_string_equal(text, rows[i]);
        free(text);
    }
    column_close(c);
    H5Fclose(file);
}

static void columns_travel(void **state)
{
    (void)state;
    const char *in = scratch_path("own.jsonl"), *out = scratch_path("own.h5");
    struct err e;
    const struct import_options some = {.keep = "answer,n", .force = true};
    FILE *f = fopen(in, "w");
    fprintf(f, "{\"text\": \"a\", \"answer\": \"x\", \"n\": 1, \"long\": \"%5000s\"}\n", "");
    fprintf(f, "{\"text\": \"b\", \"n\": \"two\", \"late/r\": [1, {\"k\": null}]}\nbroken\n");
    fclose(f);
    expect_ok(import_prompts(in, out, &plain, NULL, &e), &e);
    expect_column(out, "answer", "text", (const char *const[]){"x", "", ""}, 3);
    expect_column(out, "n", "json", (const char *const[]){"1", "\"two\"", "null"}, 3);
    expect_column(out, "late_r", "json", (const char *const[]){"null", "[1,{\"k\":null}]", "null"},
                  3);
    hid_t file;
    expect_ok(h5_open(&file, out, &e), &e);
    assert_false(h5_has(file, KEEP_GROUP "/long"));
    assert_false(h5_has(file, KEEP_GROUP "/text"));
    H5Fclose(file);
    expect_ok(import_prompts(in, out, &some, NULL, &e), &e);
    expect_ok(h5_open(&file, out, &e), &e);
    assert_true(h5_has(file, KEEP_GROUP "/n"));
    assert_false(h5_has(file, KEEP_GROUP "/late_r"));
    H5Fclose(file);
}

int main(void)
{
    scratch_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_lines),
        cmocka_unit_test(json_lines_with_other_fields),
        cmocka_unit_test(settings),
        cmocka_unit_test(settings_of_a_table),
        cmocka_unit_test(token_ids),
        cmocka_unit_test(plain_text),
        cmocka_unit_test(many_lines),
        cmocka_unit_test(names_the_line),
        cmocka_unit_test(replaces_only_when_asked),
        cmocka_unit_test(told_by_content),
        cmocka_unit_test(tables),
        cmocka_unit_test(foreign_files_are_named),
        cmocka_unit_test(paths_and_templates),
        cmocka_unit_test(bad_records_are_rows),
        cmocka_unit_test(never_onto_its_source),
        cmocka_unit_test(columns_travel),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
