/* The output: what is on disk is found again and merged, what was begun is continued, and every
 * refusal says what to do. */
#include "output/output.h"

#include "base/files.h"
#include "base/mem.h"
#include "data/h5.h"
#include "output/merge.h"
#include "tests/data/scratch.h"
#include "tests/output/rows.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int open_again(struct output **o, const char *path, uint64_t units, uint64_t samples,
                      bool *finished, struct err *e)
{
    return output_open(o, rows_job(path, 0, units, samples, 11), finished, e);
}

static void expect_finished(const char *path, uint64_t units, uint64_t samples)
{
    struct output *o;
    struct err e;
    bool finished = false;
    expect_ok(open_again(&o, path, units, samples, &finished, &e), &e);
    assert_true(finished);
    assert_null(o);
}

static void push(struct output *o, uint64_t begin, uint64_t stride, uint64_t end, uint64_t units,
                 uint64_t samples)
{
    struct err e;
    if (rows_push(o, begin, stride, end, units, samples, &e) != OUTPUT_FINE)
        fail_msg("%s", e.text);
}

/* A finished output of `units` units. */
static void finish_job(const char *path, uint64_t units, uint64_t samples)
{
    struct output *o = rows_open(path, units, samples);
    push(o, 0, 1, units, units, samples);
    rows_finish(o);
}

static void survives_reopening(void **state)
{
    (void)state;
    enum { UNITS = 507, SAMPLES = 3 };
    const char *path = scratch_path("reopen.h5");
    struct output *o = rows_open(path, UNITS, SAMPLES);
    uint8_t wanted[(UNITS + 7) / 8] = {0}, found[(UNITS + 7) / 8];
    struct err e;
    uint64_t count = 0;
    for (uint64_t begin = 0; begin < 40; begin++) {
        push(o, begin, 40, UNITS, UNITS, SAMPLES);
        for (uint64_t unit = begin; unit < UNITS; unit += 40, count++)
            wanted[unit / 8] |= (uint8_t)(1u << unit % 8);
        if (begin % 3 == 0) {
            output_close(o);
            o = rows_open(path, UNITS, SAMPLES);
        }
        output_done(o, found);
        assert_memory_equal(found, wanted, sizeof wanted);
        assert_int_equal(output_done_count(o), count);
    }
    assert_int_equal(count, UNITS);
    rows_finish(o);
    rows_expect(path, 0, UNITS, SAMPLES);
    expect_finished(path, UNITS, SAMPLES);

    hid_t file;
    expect_ok(h5_open(&file, path, &e), &e);
    char *job = h5_get_string(file, "job"), *identity = h5_get_string(file, "identity");
    uint64_t units = 0;
    assert_string_equal(job, "model: demo\n");
    assert_string_equal(identity, "{\"model\": \"1234567890abcdef\", \"sampling.seed\": \"11\"}");
    assert_true(h5_get_u64(file, "units", &units) && units == UNITS);
    H5Fclose(file);
    free(job);
    free(identity);

    expect_ok(h5_open(&file, scratch_path("reopen.steps.h5"), &e), &e); /* as they were pushed */
    double times[40];
    hid_t set = H5Dopen2(file, "time", H5P_DEFAULT);
    assert_true(H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, times) >= 0);
    H5Dclose(set);
    H5Fclose(file);
    for (int i = 0; i < 40; i++)
        assert_true(times[i] == i);
}

static void another_job_is_refused(void **state)
{
    (void)state;
    const char *path = scratch_path("other.h5");
    struct err e;
    bool finished;
    struct output *o = rows_open(path, 12, 2), *none;
    push(o, 0, 2, 12, 12, 2);
    output_close(o);
    for (int done = 0; done < 2; done++) { /* the unfinished job's directory, then the output */
        expect_error(output_open(&none, rows_job(path, 0, 12, 2, 12), &finished, &e), &e, path,
                     "sampling.seed 11 instead of 12", "name another output", NULL);
        if (done)
            break;
        expect_error(output_open(&none, rows_job(path, 3, 12, 2, 11), &finished, &e), &e, path,
                     "first prompt", NULL);
        o = rows_open(path, 12, 2);
        assert_int_equal(output_done_count(o), 6);
        push(o, 1, 2, 12, 12, 2);
        rows_finish(o);
    }
    expect_finished(path, 12, 2);
}

static void files_in_the_way_are_not_overwritten(void **state)
{
    (void)state;
    const char *path = scratch_path("way.h5"), *tokens = scratch_path("way.tokens.h5");
    struct output *o;
    struct err e;
    bool finished;
    scratch_text(path, "my notes");
    expect_error(open_again(&o, path, 3, 1, &finished, &e), &e, path, "not overwritten", NULL);
    unlink(path);
    scratch_text(tokens, "my notes");
    expect_error(open_again(&o, path, 3, 1, &finished, &e), &e, tokens, "not overwritten", NULL);
    unlink(tokens);
    finish_job(path, 3, 1);
    unlink(tokens);
    expect_error(open_again(&o, path, 3, 1, &finished, &e), &e, path, tokens, "is missing", NULL);
    unlink(path);
    finish_job(path, 3, 1);
    unlink(path); /* siblings of another job, alone */
    expect_error(output_open(&o, rows_job(path, 0, 3, 1, 12), &finished, &e), &e, tokens, "seed",
                 NULL);
    finish_job(path, 3, 1); /* but those of this job are replaced */
    rows_expect(path, 0, 3, 1);
    expect_error(open_again(&o, scratch_path("no/such/out.h5"), 3, 1, &finished, &e), &e,
                 "no/such/out.h5.partial", "create the directory", NULL);
}

static void one_job_at_a_time(void **state)
{
    (void)state;
    const char *path = scratch_path("lock.h5");
    struct output *o, *second;
    struct err e;
    bool finished;
    char process[40];
    snprintf(process, sizeof process, "process %ld on ", (long)getpid());
    o = rows_open(path, 3, 1);
    expect_error(open_again(&second, path, 3, 1, &finished, &e), &e, "lock.h5.partial",
                 "another job is writing", process, NULL);
    push(o, 0, 1, 1, 3, 1);
    output_close(o);
    pid_t child = fork(); /* a killed job does not keep its lock */
    if (child == 0) {
        if (open_again(&o, path, 3, 1, &finished, &e) == 0)
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    o = rows_open(path, 3, 1);
    assert_int_equal(output_done_count(o), 1);
    output_close(o);
}

/* Links that somebody plants are not followed; a directory that others can write to is refused. */
static void links_and_others(void **state)
{
    (void)state;
    const char *path = scratch_path("link.h5"), *partial = scratch_path("link.h5.partial");
    const char *victim = scratch_path("victim");
    struct output *o;
    struct err e;
    bool finished;
    size_t n;
    scratch_text(victim, "precious");
    scratch_directory("link.h5.partial");
    assert_int_equal(symlink(victim, scratch_path("link.h5.partial/lock")), 0);
    expect_error(open_again(&o, path, 3, 1, &finished, &e), &e, "link.h5.partial/lock", NULL);
    unlink(scratch_path("link.h5.partial/lock"));
    char tmp[100];
    for (int i = 0; i < 3; i++) {
        snprintf(tmp, sizeof tmp, "link.h5.partial/merge-%ld-%d.tmp", (long)getpid(), i);
        assert_int_equal(symlink(victim, scratch_path(tmp)), 0);
    }
    assert_int_equal(chmod(partial, 0777), 0);
    expect_error(open_again(&o, path, 3, 1, &finished, &e), &e, partial, "others may write", NULL);
    assert_int_equal(chmod(partial, 0755), 0);
    finish_job(path, 3, 1);
    rows_expect(path, 0, 3, 1);
    char *text = scratch_read(victim, &n);
    assert_string_equal(text, "precious");
    free(text);
    assert_int_equal(symlink(scratch_path(""), scratch_path("link2.h5.partial")), 0);
    expect_error(open_again(&o, scratch_path("link2.h5"), 3, 1, &finished, &e), &e,
                 "link2.h5.partial", "wanted a directory", NULL);
}

/* Tokens of unit 5 that runs come to: each writes what is new. */
static void push_piece(struct output *o, uint32_t begin, uint32_t n)
{
    struct err e;
    struct bytes batch = {0};
    int32_t tokens[100];
    float logprobs[100], top_logprobs[200];
    int32_t top[200];
    for (uint32_t i = 0; i < n; i++) {
        tokens[i] = 700 + (int)(begin + i);
        logprobs[i] = (float)(begin + i) / 3;
        for (uint32_t k = 0; k < 2; k++) {
            top[2 * i + k] = (int)(2 * (begin + i) + k);
            top_logprobs[2 * i + k] = -(float)(begin + i) - (float)k;
        }
    }
    const struct piece p = {5, begin, n, 1, 2, tokens, logprobs, 2 * n, top, top_logprobs};
    journal_put(&batch, RECORD_PIECE, 5, &piece_table, &p, 1);
    output_push(o, &batch);
    assert_int_equal(output_drain(o, &e), OUTPUT_FINE);
}

static void expect_begun(struct output *o, uint32_t n)
{
    struct err e;
    struct bytes batch = {0};
    struct piece p;
    size_t at = 0;
    expect_ok(output_begun(o, &batch, &e), &e);
    struct journal_record *r = journal_next(&batch, &at);
    assert_int_equal(r != NULL, n > 0);
    if (n) {
        assert_null(journal_next(&batch, &at));
        assert_int_equal(r->unit, 5);
        assert_int_equal(table_unpack(&piece_table, r + 1, r->bytes, &p), 0);
        assert_int_equal(p.begin, 0);
        assert_int_equal(p.n_tokens, n);
        assert_true(p.admitted == 1 && p.first_token == 2);
        for (uint32_t i = 0; i < n; i++)
            assert_true(p.tokens[i] == 700 + (int)i && p.logprobs[i] == (float)i / 3);
        assert_int_equal(p.n_top, 2 * n);
        for (uint32_t i = 0; i < 2 * n; i++)
            assert_true(p.top_tokens[i] == (int)i &&
                        p.top_logprobs[i] == -(float)(i / 2) - (float)(i % 2));
        table_free(&piece_table, &p);
    }
    free(batch.data);
}

static void what_was_begun_is_continued(void **state)
{
    (void)state;
    const char *path = scratch_path("begun.h5");
    struct output *o = rows_open(path, 9, 1);
    push_piece(o, 0, 10);
    push_piece(o, 10, 30);
    output_close(o);
    o = rows_open(path, 9, 1);
    expect_begun(o, 40);
    push_piece(o, 40, 1);
    push_piece(o, 50, 9); /* behind a gap: what damage leaves */
    output_close(o);
    o = rows_open(path, 9, 1);
    expect_begun(o, 41);
    push_piece(o, 38, 20); /* the lost part again, and what was behind */
    output_close(o);
    o = rows_open(path, 9, 1);
    expect_begun(o, 59);
    push(o, 5, 1, 6, 9, 1); /* finished: nothing is begun any more */
    output_close(o);
    o = rows_open(path, 9, 1);
    expect_begun(o, 0);
    push(o, 0, 1, 9, 9, 1);
    rows_finish(o);
    rows_expect(path, 0, 9, 1);
}

static void error_rows_are_tried_again(void **state)
{
    (void)state;
    const char *path = scratch_path("retry.h5");
    struct output *o = rows_open(path, 10, 1);
    struct err e;
    bool finished;
    push(o, 0, 1, 9, 10, 1); /* 0, 3 and 8 are errors */
    assert_int_equal(output_done_count(o), 9);
    output_close(o);
    struct output_job job = *rows_job(path, 0, 10, 1, 11);
    job.retry_errors = true;
    expect_ok(output_open(&o, &job, &finished, &e), &e);
    uint8_t done[2];
    output_done(o, done);
    assert_int_equal(done[0] | done[1] << 8, 0x0f6);
    assert_int_equal(output_done_count(o), 6);
    expect_ok(output_start(o, NULL, &e), &e);
    push(o, 0, 1, 10, 10, 1);
    output_close(o);
    o = rows_open(path, 10, 1);
    assert_int_equal(output_done_count(o), 10);
    rows_finish(o);
    rows_expect(path, 0, 10, 1);
}

/* A second journal with a unit that is done: a completion stays the one that was there first. */
static void what_is_done_stays(void **state)
{
    (void)state;
    const char *path = scratch_path("stays.h5");
    struct output *o = rows_open(path, 9, 1), *other;
    struct err e;
    push(o, 1, 1, 2, 9, 1);
    expect_ok(output_join(&other, rows_job(path, 0, 9, 1, 11), output_number(o) + 1, &e), &e);
    struct completion c = rows_completion(1, 0, 1);
    struct bytes batch = {0};
    free(c.text);
    c.text = mem_string("another text");
    journal_put(&batch, RECORD_COMPLETION, 1, &completion_table, &c, 1);
    output_push(other, &batch);
    assert_int_equal(output_drain(other, &e), OUTPUT_FINE);
    output_close(other);
    table_free(&completion_table, &c);
    expect_ok(output_reread(o, &e), &e);
    assert_int_equal(output_done_count(o), 1);
    output_close(o);
    o = rows_open(path, 9, 1);
    push(o, 0, 1, 9, 9, 1);
    rows_finish(o);
    rows_expect(path, 0, 9, 1);
}

static void a_merge_can_be_stopped(void **state)
{
    (void)state;
    const char *path = scratch_path("stop.h5");
    struct output *o = rows_open(path, 9, 1);
    struct err e;
    push(o, 0, 1, 9, 9, 1);
    output_merge_stop(o);
    output_merge(o);
    assert_int_equal(output_drain(o, &e), OUTPUT_LATER);
    output_close(o);
    assert_false(files_exist(path));
    o = rows_open(path, 9, 1);
    assert_int_equal(output_done_count(o), 9);
    rows_finish(o);
    rows_expect(path, 0, 9, 1);
}

static void a_removed_journal_is_noticed(void **state)
{
    (void)state;
    const char *path = scratch_path("removed.h5");
    struct output *o = rows_open(path, 9, 1);
    struct err e;
    scratch_remove(scratch_path("removed.h5.partial"));
    assert_int_equal(rows_push(o, 0, 1, 9, 9, 1, &e), OUTPUT_BROKEN);
    assert_non_null(strstr(e.text, "was removed while the job was running"));
    output_close(o);
}

/* The largest file a process may write is a full disk in miniature. */
static void a_full_disk_loses_nothing(void **state)
{
    (void)state;
    enum { UNITS = 64 };
    const char *path = scratch_path("full.h5");
    struct output *o = rows_open(path, UNITS, 1);
    struct err e;
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    push(o, 0, 2, UNITS, UNITS, 1);
    size_t refused = 0;
    enum output_state state_of = OUTPUT_BROKEN;
    for (rlim_t limit = 100; state_of != OUTPUT_FINE; limit = limit * 5 / 3) {
        const struct rlimit small = {limit, before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        state_of = rows_push(o, 1, 2, UNITS, UNITS, 1, &e); /* unit 21 has 20,011 tokens */
        setrlimit(RLIMIT_FSIZE, &before);
        if (state_of == OUTPUT_FINE)
            break;
        refused++;
        assert_int_equal(state_of, OUTPUT_BROKEN); /* waiting mends no limit */
        output_close(o);
        o = rows_open(path, UNITS, 1);
        assert_int_equal(output_done_count(o), UNITS / 2);
    }
    assert_in_range(refused, 3, 18);
    refused = 0;
    state_of = OUTPUT_BROKEN;
    for (rlim_t limit = 100; state_of != OUTPUT_FINE; limit = limit * 5 / 3) {
        const struct rlimit small = {limit, before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        output_merge(o);
        state_of = output_drain(o, &e);
        setrlimit(RLIMIT_FSIZE, &before);
        output_close(o);
        if (state_of == OUTPUT_FINE)
            break;
        refused++;
        assert_non_null(strstr(e.text, path));
        assert_false(files_exist(path));
        o = rows_open(path, UNITS, 1);
        assert_int_equal(output_done_count(o), UNITS);
    }
    assert_in_range(refused, 3, 25);
    rows_expect(path, 0, UNITS, 1);
}

static void nothing_to_do(void **state)
{
    (void)state;
    const char *path = scratch_path("zero.hdf5");
    struct output *o = rows_open(path, 0, 4);
    push(o, 0, 1, 0, 0, 4);
    rows_finish(o);
    output_close(NULL);
    rows_expect(path, 0, 0, 4);
    assert_true(files_exist(scratch_path("zero.tokens.h5")));
}

/* Errors of the program end it; they are no messages to go on from. */
static int push_in_child(const uint64_t *units, size_t n)
{
    scratch_remove(scratch_path("die.h5.partial"));
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct err e;
        struct bytes batch = {0};
        if (!freopen("/dev/null", "w", stderr))
            _exit(9);
        die_context_abort(_exit); /* no look for leaks in a child that dies */
        struct output *o = rows_open(scratch_path("die.h5"), 10, 1);
        for (size_t i = 0; i < n; i++) {
            struct completion c = rows_completion(units[i], 0, 1);
            journal_put(&batch, RECORD_COMPLETION, units[i], &completion_table, &c, 1);
            if (n == 3 && i == 0) /* three: two batches */
                output_push(o, &batch);
        }
        output_push(o, &batch);
        output_drain(o, &e);
        output_close(o);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static void a_unit_twice_ends_the_program(void **state)
{
    (void)state;
    const uint64_t fine[] = {1, 2, 9}, twice[] = {4, 4}, again[] = {4, 5, 4}, beyond[] = {10};
    assert_int_equal(push_in_child(fine, 3), 0);
    assert_int_equal(push_in_child(twice, 2), EXIT_RUN);
    assert_int_equal(push_in_child(again, 3), EXIT_RUN);
    assert_int_equal(push_in_child(beyond, 1), EXIT_RUN);
}

static void others_can_read_it(void **state)
{
    (void)state;
    const char *python = scratch_python(), *path = scratch_path("python.h5");
    if (!python) {
        print_message(
            "SKIPPED: no python with h5py and numpy (python3-h5py; PYTHON=...): whether h5py "
            "reads the output was not tested\n");
        skip();
    }
    finish_job(path, 90, 3);
    char command[900];
    snprintf(command, sizeof command, "%s tests/output/check_output.py %s 90 3", python, path);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    scratch_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_reopening),
        cmocka_unit_test(another_job_is_refused),
        cmocka_unit_test(files_in_the_way_are_not_overwritten),
        cmocka_unit_test(one_job_at_a_time),
        cmocka_unit_test(links_and_others),
        cmocka_unit_test(what_was_begun_is_continued),
        cmocka_unit_test(error_rows_are_tried_again),
        cmocka_unit_test(what_is_done_stays),
        cmocka_unit_test(a_merge_can_be_stopped),
        cmocka_unit_test(a_removed_journal_is_noticed),
        cmocka_unit_test(a_full_disk_loses_nothing),
        cmocka_unit_test(nothing_to_do),
        cmocka_unit_test(a_unit_twice_ends_the_program),
        cmocka_unit_test(others_can_read_it),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
