#include "tests/data/output.h"

#include "base/mem.h"
#include "data/column.h"
#include "data/files.h"
#include "data/h5.h"
#include "data/import.h"
#include "data/merge.h"
#include "tests/data/scratch.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct prompts *output_prompts(const char *path, size_t n)
{
    char from[500];
    snprintf(from, sizeof from, "%s.jsonl", path);
    FILE *f = fopen(from, "w");
    for (size_t i = 0; i < n; i++)
        fprintf(f, "{\"text\": \"prompt %zu\", \"id\": \"p%zu\"}\n", i, i);
    fclose(f);
    struct err e;
    const struct import_options options = {.force = true};
    struct prompts *p;
    if (import_prompts(from, path, &options, NULL, &e) != 0 || prompts_open(&p, path, &e) != 0)
        die("%s", e.text);
    return p;
}

int output_seal(struct completions *c, uint64_t begin, uint64_t stride, uint64_t end, struct err *e)
{
    size_t n = 0;
    struct completion *rows = mem_new((size_t)((end - begin) / stride + 1), sizeof *rows);
    for (uint64_t unit = begin; unit < end; unit += stride)
        if (!(completions_done(c)[unit / 8] >> unit % 8 & 1))
            rows[n++] = scratch_completion(unit);
    for (size_t i = 0; 2 * i + 1 < n; i++) { /* any order is allowed: backwards */
        struct completion first = rows[i];
        rows[i] = rows[n - 1 - i];
        rows[n - 1 - i] = first;
    }
    const struct step_timing step = {(uint32_t)begin, (int32_t)(begin % 5), 9, 1, 2, 3, 4, 10.5f};
    int rc = n ? completions_seal(c, rows, n, &step, 1, e) : 0;
    for (size_t i = 0; i < n; i++)
        completion_free(&rows[i]);
    free(rows);
    return rc;
}

struct output {
    hid_t main_file, ragged_file;
    struct column *strings[4], *integers[6], *reals[3], *tokens, *logprobs;
};

static const char *const strings[] = {"text", "id", "finish", "error"};
static const char *const integers[] = {"prompt",      "sample",      "rank",
                                       "token_start", "token_count", "prompt_tokens"};
static const char *const reals[] = {"admitted", "first_token", "last_token"};

static struct column *open_column(hid_t file, const char *path, const char *name, size_t count)
{
    struct column *c;
    struct err e;
    expect_ok(column_open(&c, file, path, name, &e), &e);
    if (count != SIZE_MAX)
        assert_int_equal(column_count(c), count);
    return c;
}

static void open_output(struct output *o, const char *path, size_t units)
{
    struct err e;
    expect_ok(h5_open(&o->main_file, path, &e), &e);
    char *tokens = merge_tokens_path(path), *named = h5_get_string(o->main_file, "ragged");
    assert_string_equal(named, files_name(tokens));
    expect_ok(h5_open(&o->ragged_file, tokens, &e), &e);
    for (size_t k = 0; k < 4; k++)
        o->strings[k] = open_column(o->main_file, path, strings[k], units);
    for (size_t k = 0; k < 6; k++)
        o->integers[k] = open_column(o->main_file, path, integers[k], units);
    for (size_t k = 0; k < 3; k++)
        o->reals[k] = open_column(o->main_file, path, reals[k], units);
    o->tokens = open_column(o->ragged_file, tokens, "tokens", SIZE_MAX);
    o->logprobs = open_column(o->ragged_file, tokens, "logprobs", column_count(o->tokens));
    free(tokens);
    free(named);
}

static void close_output(struct output *o)
{
    for (size_t k = 0; k < 4; k++)
        column_close(o->strings[k]);
    for (size_t k = 0; k < 6; k++)
        column_close(o->integers[k]);
    for (size_t k = 0; k < 3; k++)
        column_close(o->reals[k]);
    column_close(o->tokens);
    column_close(o->logprobs);
    H5Fclose(o->ragged_file);
    H5Fclose(o->main_file);
}

static void expect_ragged(struct output *o, const struct completion *wanted, size_t start)
{
    struct err e;
    size_t n = wanted->n_tokens;
    int64_t *tokens = mem_new(n, sizeof *tokens);
    double *logprobs = mem_new(n, sizeof *logprobs);
    expect_ok(column_integers(o->tokens, start, n, tokens, &e), &e);
    expect_ok(column_reals(o->logprobs, start, n, logprobs, &e), &e);
    for (size_t i = 0; i < n; i++)
        if (tokens[i] != wanted->tokens[i] || (float)logprobs[i] != wanted->logprobs[i])
            fail_msg("unit %" PRIu64 " token %zu", wanted->unit, i);
    free(tokens);
    free(logprobs);
}

static void expect_row(struct output *o, size_t first, size_t unit, size_t samples, size_t start)
{
    const size_t prompt = first + unit / samples;
    struct err e;
    struct completion wanted = scratch_completion(unit);
    char id[32], *text[4];
    int64_t number[6];
    double real[3];
    size_t bytes;
    for (size_t k = 0; k < 4; k++)
        expect_ok(column_string(o->strings[k], unit, &text[k], &bytes, &e), &e);
    for (size_t k = 0; k < 6; k++)
        expect_ok(column_integers(o->integers[k], unit, 1, &number[k], &e), &e);
    for (size_t k = 0; k < 3; k++)
        expect_ok(column_reals(o->reals[k], unit, 1, &real[k], &e), &e);
    snprintf(id, sizeof id, "p%zu", prompt);
    assert_string_equal(text[0], wanted.text);
    assert_string_equal(text[1], id);
    assert_string_equal(text[2], finish_name(wanted.finish));
    assert_string_equal(text[3], wanted.error ? wanted.error : "");
    assert_int_equal(number[0], prompt);
    assert_int_equal(number[1], unit % samples);
    assert_int_equal(number[2], wanted.rank);
    assert_int_equal(number[3], start);
    assert_int_equal(number[4], wanted.n_tokens);
    assert_int_equal(number[5], wanted.n_prompt_tokens);
    assert_true(real[0] == wanted.admitted);
    assert_true(real[1] == wanted.first_token);
    assert_true(real[2] == wanted.last_token);
    expect_ragged(o, &wanted, start);
    for (size_t k = 0; k < 4; k++)
        free(text[k]);
    completion_free(&wanted);
}

void expect_output_from(const char *path, size_t first, size_t units, size_t samples)
{
    struct output o;
    open_output(&o, path, units);
    size_t start = 0;
    for (size_t unit = 0; unit < units; unit++) {
        expect_row(&o, first, unit, samples, start);
        struct completion c = scratch_completion(unit);
        start += c.n_tokens;
        completion_free(&c);
    }
    assert_int_equal(column_count(o.tokens), start);
    close_output(&o);
    char partial[500];
    snprintf(partial, sizeof partial, "%s.partial", path);
    assert_false(files_exist(partial));
}

void expect_output(const char *path, size_t units, size_t samples)
{
    expect_output_from(path, 0, units, samples);
}
