#include "tests/output/rows.h"

#include "base/mem.h"
#include "data/column.h"
#include "base/files.h"
#include "data/h5.h"
#include "output/merge.h"
#include "output/seal.h"
#include "tests/data/scratch.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct completion rows_completion(uint64_t unit, uint64_t first, uint64_t samples)
{
    /* 0 tokens are there, as are rows longer than a read of the journal (4 KiB). */
    uint32_t n = unit % 5 == 3 ? 0 : (uint32_t)(unit * 37 % 61);
    if (unit % 211 == 20)
        n = 20011;
    struct completion c = {
        .unit = unit,
        .prompt = (int64_t)(first + unit / samples),
        .sample = (int32_t)(unit % samples),
        .finish = n == 0     ? FINISH_ERROR
                  : unit % 2 ? FINISH_STOP
                             : FINISH_LENGTH,
        .n_tokens = n,
        .n_prompt_tokens = (uint32_t)(unit * 3 + 1),
        .admitted = 1.7e9 + (double)unit / 3,
        .first_token = n ? 1.7e9 + (double)unit / 3 + 0.1 : 0,
        .last_token = n ? 1.7e9 + (double)unit / 3 + 0.7 : 0,
        .rank = (int32_t)(unit % 7),
    };
    char text[100];
    snprintf(text, sizeof text, "p%" PRIu64, first + unit / samples);
    c.id = mem_string(text);
    snprintf(text, sizeof text, "unit %" PRIu64 ": \xc3\xa9\n\"\xf0\x9f\x8c\x8d\" ", unit);
    size_t copies = unit % 4, bytes = strlen(text);
    c.text = mem_zeroed(copies * bytes + 1, 1);
    for (size_t i = 0; i < copies; i++)
        memcpy(c.text + i * bytes, text, bytes);
    if (unit % 3 == 1)
        c.reasoning = mem_string(text);
    if (c.finish == FINISH_ERROR)
        c.error = mem_string(text);
    c.tokens = mem_new(n, sizeof *c.tokens);
    c.logprobs = mem_new(n, sizeof *c.logprobs);
    for (uint32_t i = 0; i < n; i++) {
        c.tokens[i] = (int32_t)((unit * 1009 + i * 31) % 129280);
        c.logprobs[i] = -(float)(i + 1) / (float)(unit + 3);
    }
    c.n_top = unit % 3 == 2 ? 2 * n : 0;
    c.top_tokens = mem_new(c.n_top, sizeof *c.top_tokens);
    c.top_logprobs = mem_new(c.n_top, sizeof *c.top_logprobs);
    for (uint32_t i = 0; i < c.n_top; i++) {
        c.top_tokens[i] = (int32_t)(unit + i);
        c.top_logprobs[i] = -(float)(unit + i) / 7;
    }
    c.n_scored = c.finish == FINISH_ERROR ? 0 : (uint32_t)(unit % 4);
    c.score = (double)c.n_scored / -3;
    c.greedy = unit % 8 == 3;
    c.prompt_logprobs = mem_new(c.n_scored, sizeof *c.prompt_logprobs);
    for (uint32_t i = 0; i < c.n_scored; i++)
        c.prompt_logprobs[i] = -(float)(unit + 2 * i) / 11;
    c.n_prompt_top = unit % 8 == 5 ? 3 * c.n_scored : 0;
    c.prompt_top_tokens = mem_new(c.n_prompt_top, sizeof *c.prompt_top_tokens);
    c.prompt_top_logprobs = mem_new(c.n_prompt_top, sizeof *c.prompt_top_logprobs);
    for (uint32_t i = 0; i < c.n_prompt_top; i++) {
        c.prompt_top_tokens[i] = (int32_t)(2 * unit + i);
        c.prompt_top_logprobs[i] = -(float)(3 * unit + i) / 13;
    }
    return c;
}

const struct output_job *rows_job(const char *path, uint64_t first, uint64_t units,
                                  uint64_t samples, int seed)
{
    static struct identity identity, attributes;
    static struct output_job job;
    char text[20];
    snprintf(text, sizeof text, "%d", seed);
    identity_add(&identity, "model", "1234567890abcdef");
    identity_add(&identity, "sampling.seed", text);
    identity_add(&attributes, "job", "model: demo\n");
    job = (struct output_job){.path = path,
                              .identity = &identity,
                              .attributes = &attributes,
                              .first_prompt = first,
                              .samples = samples,
                              .units = units};
    return &job;
}

struct output *rows_open(const char *path, uint64_t units, uint64_t samples)
{
    struct output *o;
    struct err e;
    bool finished = true;
    expect_ok(output_open(&o, rows_job(path, 0, units, samples, 11), &finished, &e), &e);
    assert_false(finished);
    expect_ok(output_start(o, NULL, &e), &e);
    return o;
}

enum output_state rows_push(struct output *o, uint64_t begin, uint64_t stride, uint64_t end,
                            uint64_t units, uint64_t samples, struct err *e)
{
    struct bytes batch = {0};
    uint8_t *done = mem_zeroed((size_t)units / 8 + 1, 1);
    output_done(o, done);
    for (uint64_t n = (end - begin + stride - 1) / stride; n-- > 0;) {
        uint64_t unit = begin + n * stride;
        if (done[unit / 8] >> unit % 8 & 1)
            continue;
        struct completion c = rows_completion(unit, 0, samples);
        journal_put(&batch, RECORD_COMPLETION, unit, &completion_table, &c, 1);
        table_free(&completion_table, &c);
    }
    const struct timing t = {
        (double)begin, (int32_t)(begin % 5), 3, 9, 1, 2, 3, 4, 10.5f, 5, 6, 7, -1, -1, 0};
    journal_put(&batch, RECORD_TIMING, 0, &timing_table, &t, 1);
    free(done);
    output_push(o, &batch);
    return output_drain(o, e);
}

void rows_finish(struct output *o)
{
    struct err e = {{0}};
    output_merge(o);
    if (output_drain(o, &e) != OUTPUT_FINE)
        fail_msg("%s", e.text);
    output_close(o);
}

/* ---- what a finished output has -------------------------------------------------------------- */

static const char *const strings[] = {"text", "id", "finish", "error", "reasoning"};
static const char *const integers[] = {"prompt",      "sample",      "rank",
                                       "token_start", "token_count", "prompt_tokens"};
static const char *const reals[] = {"admitted", "first_token", "last_token"};

struct files {
    hid_t main_file, ragged_file;
    struct column *strings[5], *integers[6], *reals[3], *tokens, *logprobs;
};

static struct column *open_column(hid_t file, const char *path, const char *name, size_t count)
{
    struct column *c;
    struct err e;
    expect_ok(column_open(&c, file, path, name, &e), &e);
    if (count != SIZE_MAX)
        assert_int_equal(column_count(c), count);
    return c;
}

static void expect_seal(const char *path)
{
    struct err e;
    bool sealed;
    expect_ok(seal_check(path, &sealed, &e), &e);
    assert_true(sealed);
}

static void open_files(struct files *o, const char *path, size_t units)
{
    struct err e;
    expect_ok(h5_open(&o->main_file, path, &e), &e);
    char *tokens = merge_sibling(path, "tokens"), *steps = merge_sibling(path, "steps");
    char *named = h5_get_string(o->main_file, "ragged");
    assert_string_equal(named, files_name(tokens));
    expect_seal(path);
    expect_seal(tokens);
    expect_seal(steps);
    expect_ok(h5_open(&o->ragged_file, tokens, &e), &e);
    for (size_t k = 0; k < 5; k++)
        o->strings[k] = open_column(o->main_file, path, strings[k], units);
    for (size_t k = 0; k < 6; k++)
        o->integers[k] = open_column(o->main_file, path, integers[k], units);
    for (size_t k = 0; k < 3; k++)
        o->reals[k] = open_column(o->main_file, path, reals[k], units);
    o->tokens = open_column(o->ragged_file, tokens, "tokens", SIZE_MAX);
    o->logprobs = open_column(o->ragged_file, tokens, "logprobs", column_count(o->tokens));
    free(tokens);
    free(steps);
    free(named);
}

static void close_files(struct files *o)
{
    for (size_t k = 0; k < 5; k++)
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

static void expect_ragged(struct files *o, const struct completion *wanted, size_t start)
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

static void expect_row(struct files *o, const struct completion *wanted, size_t start)
{
    struct err e;
    const size_t unit = (size_t)wanted->unit;
    char *text[5];
    int64_t number[6];
    double real[3];
    size_t bytes;
    for (size_t k = 0; k < 5; k++)
        expect_ok(column_string(o->strings[k], unit, &text[k], &bytes, &e), &e);
    for (size_t k = 0; k < 6; k++)
        expect_ok(column_integers(o->integers[k], unit, 1, &number[k], &e), &e);
    for (size_t k = 0; k < 3; k++)
        expect_ok(column_reals(o->reals[k], unit, 1, &real[k], &e), &e);
    assert_string_equal(text[0], wanted->text);
    assert_string_equal(text[1], wanted->id);
    assert_string_equal(text[2], finish_name(wanted->finish));
    assert_string_equal(text[3], wanted->error ? wanted->error : "");
    assert_string_equal(text[4], wanted->reasoning ? wanted->reasoning : "");
    assert_int_equal(number[0], wanted->prompt);
    assert_int_equal(number[1], wanted->sample);
    assert_int_equal(number[2], wanted->rank);
    assert_int_equal(number[3], start);
    assert_int_equal(number[4], wanted->n_tokens);
    assert_int_equal(number[5], wanted->n_prompt_tokens);
    assert_true(real[0] == wanted->admitted);
    assert_true(real[1] == wanted->first_token);
    assert_true(real[2] == wanted->last_token);
    expect_ragged(o, wanted, start);
    for (size_t k = 0; k < 5; k++)
        free(text[k]);
}

void rows_expect(const char *path, uint64_t first, uint64_t units, uint64_t samples)
{
    struct files o;
    open_files(&o, path, (size_t)units);
    size_t start = 0;
    for (uint64_t unit = 0; unit < units; unit++) {
        struct completion c = rows_completion(unit, first, samples);
        expect_row(&o, &c, start);
        start += c.n_tokens;
        table_free(&completion_table, &c);
    }
    assert_int_equal(column_count(o.tokens), start);
    close_files(&o);
    char *partial = output_directory(path);
    assert_false(files_exist(partial));
    free(partial);
}
