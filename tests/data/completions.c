/* Completions: sealed, found again, compacted, merged; and every refusal says what to do. */
#include "data/completions.h"

#include "base/mem.h"
#include "data/export.h"
#include "data/files.h"
#include "data/h5.h"
#include "data/import.h"
#include "data/shards.h"
#include "tests/data/output.h"
#include "tests/data/scratch.h"

#include <dirent.h>
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

/* Opens, or fails the test. */
static struct completions *open_job(const char *path, const struct completions_identity *id)
{
    struct completions *c;
    struct err e;
    bool finished = true;
    expect_ok(completions_open(&c, path, id, &finished, &e), &e);
    assert_false(finished);
    assert_non_null(c);
    return c;
}

static void expect_finished(const char *path, const struct completions_identity *id)
{
    struct completions *c;
    struct err e;
    bool finished = false;
    expect_ok(completions_open(&c, path, id, &finished, &e), &e);
    assert_true(finished);
    assert_null(c);
}

/* A finished output of `units` units. */
static void finish_job(const char *path, size_t units, size_t samples)
{
    const struct completions_identity id = scratch_identity(units, samples);
    struct prompts *prompts = output_prompts(scratch_path("finish-prompts.h5"), units / samples);
    struct completions *c = open_job(path, &id);
    struct err e;
    expect_ok(output_seal(c, 0, 1, units, &e), &e);
    expect_ok(completions_merge(c, prompts, NULL, 0, &e), &e);
    completions_close(c);
    prompts_close(prompts);
}

static size_t count_files(const char *directory, const char *tail)
{
    size_t n = 0, k = strlen(tail);
    DIR *d = opendir(directory);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        size_t have = strlen(entry->d_name);
        n += have >= k && strcmp(entry->d_name + have - k, tail) == 0;
    }
    if (d)
        closedir(d);
    return n;
}

static void survives_reopening(void **state)
{
    (void)state;
    enum { UNITS = 507, SAMPLES = 3 };
    const char *path = scratch_path("reopen.h5");
    const struct completions_identity id = scratch_identity(UNITS, SAMPLES);
    struct prompts *prompts = output_prompts(scratch_path("reopen-prompts.h5"), UNITS / SAMPLES);
    struct completions *c = open_job(path, &id);
    uint8_t wanted[(UNITS + 7) / 8] = {0};
    struct err e;
    size_t count = 0;
    for (uint64_t begin = 0; begin < 40; begin++) {
        expect_ok(output_seal(c, begin, 40, UNITS, &e), &e);
        for (uint64_t unit = begin; unit < UNITS; unit += 40, count++)
            wanted[unit / 8] |= (uint8_t)(1u << unit % 8);
        if (begin % 3 == 0) {
            completions_close(c);
            c = open_job(path, &id);
        }
        assert_memory_equal(completions_done(c), wanted, sizeof wanted);
        assert_int_equal(completions_done_count(c), count);
    }
    assert_int_equal(count, UNITS);
    const struct attribute attributes[] = {{"job", "model: demo\n\xff"}, {"units", "mine"}};
    expect_ok(completions_merge(c, prompts, attributes, 2, &e), &e);
    completions_close(c);
    expect_output(path, UNITS, SAMPLES);
    expect_finished(path, &id);

    hid_t file;
    expect_ok(h5_open(&file, path, &e), &e);
    char *job = h5_get_string(file, "job"), *model = h5_get_string(file, "model_hash");
    uint64_t units = 0;
    assert_string_equal(job, "model: demo\n\xef\xbf\xbd");
    assert_string_equal(model, "1234567890abcdef");
    assert_true(h5_get_u64(file, "units", &units) && units == UNITS);
    H5Fclose(file);
    free(job);
    free(model);
    prompts_close(prompts);
}

/* A job over a part of the prompts. */
static void prompts_from_the_middle(void **state)
{
    (void)state;
    enum { FIRST = 7, UNITS = 12, SAMPLES = 2 };
    const char *path = scratch_path("middle.h5");
    struct completions_identity id = scratch_identity(UNITS, SAMPLES);
    id.first_prompt = FIRST;
    struct prompts *prompts = output_prompts(scratch_path("middle-prompts.h5"), 20);
    struct completions *c = open_job(path, &id);
    struct err e;
    expect_ok(output_seal(c, 0, 1, UNITS, &e), &e);
    completions_close(c);
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    const struct export_options options = {.partial = true,
                                           .prompts = scratch_path("middle-prompts.h5")};
    expect_ok(export_completions(path, out, &options, &e), &e);
    fclose(out);
    assert_non_null(strstr(text, "{\"id\": \"p7\", \"prompt\": 7, \"sample\": 0"));
    assert_non_null(strstr(text, "{\"id\": \"p12\", \"prompt\": 12, \"sample\": 1"));
    free(text);
    c = open_job(path, &id);
    expect_ok(completions_merge(c, prompts, NULL, 0, &e), &e);
    completions_close(c);
    prompts_close(prompts);
    expect_output_from(path, FIRST, UNITS, SAMPLES);
}

static void compaction_keeps_files_few(void **state)
{
    (void)state;
    enum { UNITS = 211, FANOUT = 3 };
    const char *path = scratch_path("compact.h5");
    const char *partial = scratch_path("compact.h5.partial");
    const struct completions_identity id = scratch_identity(UNITS, 1);
    struct prompts *prompts = output_prompts(scratch_path("compact-prompts.h5"), UNITS);
    struct completions *c = open_job(path, &id);
    completions_fanout(c, FANOUT);
    struct err e;
    size_t most = 0;
    for (uint64_t i = 0; i < UNITS; i++) {
        uint64_t unit = i * 100 % UNITS; /* every unit once */
        expect_ok(output_seal(c, unit, UNITS, unit + 1, &e), &e);
        size_t n = count_files(partial, ".h5");
        most = n > most ? n : most;
        if (i == 100) {
            completions_close(c);
            c = open_job(path, &id);
            completions_fanout(c, FANOUT);
            assert_int_equal(completions_done_count(c), 101);
        }
    }
    assert_in_range(most, 4, 2 * 5 + 2); /* two of each size up to 3^5 */
    expect_ok(completions_merge(c, prompts, NULL, 0, &e), &e);
    completions_close(c);
    prompts_close(prompts);
    expect_output(path, UNITS, 1);
    char *tokens = scratch_read(scratch_path("compact.tokens.h5"), &(size_t){0});
    free(tokens);

    hid_t file; /* step timings: all there, in the order of sealing */
    expect_ok(h5_open(&file, scratch_path("compact.tokens.h5"), &e), &e);
    uint32_t steps[UNITS];
    hid_t set = H5Dopen2(file, "steps/step", H5P_DEFAULT);
    assert_true(H5Dread(set, H5T_NATIVE_UINT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, steps) >= 0);
    H5Dclose(set);
    H5Fclose(file);
    for (uint64_t i = 0; i < UNITS; i++)
        assert_int_equal(steps[i], i * 100 % UNITS);
}

/* What a kill leaves between publishing a larger shard and removing the small ones. */
static void superseded_shards_and_leftovers_go(void **state)
{
    (void)state;
    const char *path = scratch_path("super.h5"), *partial = scratch_path("super.h5.partial");
    const struct completions_identity id = scratch_identity(9, 1);
    struct completions *c = open_job(path, &id);
    struct err e;
    completions_fanout(c, 3);
    expect_ok(output_seal(c, 0, 1, 2, &e), &e);
    expect_ok(output_seal(c, 2, 1, 4, &e), &e);
    size_t n;
    char *first = scratch_read(scratch_path("super.h5.partial/shard-00000000-00000000.h5"), &n);
    expect_ok(output_seal(c, 4, 1, 6, &e), &e);
    completions_close(c);
    assert_int_equal(count_files(partial, ".h5"), 1);
    scratch_write(scratch_path("super.h5.partial/shard-00000000-00000000.h5"), first, n);
    scratch_write(scratch_path("super.h5.partial/shard-00000001-00000001.h5"), first, n / 2);
    scratch_text(scratch_path("super.h5.partial/seal.tmp"), "half a shard");
    free(first);
    c = open_job(path, &id);
    assert_int_equal(completions_done_count(c), 6);
    assert_int_equal(count_files(partial, ".h5"), 1);
    assert_int_equal(count_files(partial, ".tmp"), 0);
    expect_ok(output_seal(c, 6, 1, 9, &e), &e);
    completions_close(c);
    c = open_job(path, &id);
    assert_int_equal(completions_done_count(c), 9);
    completions_close(c);
}

static void another_job_is_refused(void **state)
{
    (void)state;
    const char *path = scratch_path("other.h5");
    const struct completions_identity id = scratch_identity(12, 2);
    static char reordered[] = "{\"seed\":11,   \"temperature\":0.7}", other[] = "{\"seed\": 12}";
    struct completions_identity wrong[7];
    static const char *const messages[7] = {
        "another model",
        "another tokenizer",
        "other prompts",
        "2 samples a prompt instead of 3",
        "12 completions instead of 24",
        "seed 11 instead of 12, temperature 0.7 instead of absent",
        "first prompt row 0 instead of 3"};
    for (size_t i = 0; i < 7; i++)
        wrong[i] = id;
    wrong[0].model_hash++;
    wrong[1].tokenizer_hash++;
    wrong[2].prompts_hash++;
    wrong[3].samples = 3;
    wrong[4].units = 24;
    wrong[5].sampling = other;
    wrong[6].first_prompt = 3;
    struct err e;
    bool finished;
    struct completions *c = open_job(path, &id), *none;
    expect_ok(output_seal(c, 0, 2, 12, &e), &e);
    completions_close(c);
    for (int done = 0; done < 2; done++) { /* the unfinished job's directory, then the output */
        for (size_t i = 0; i < 7; i++)
            expect_error(completions_open(&none, path, &wrong[i], &finished, &e), &e, path,
                         messages[i], "name another output", NULL);
        struct completions_identity same = id;
        same.sampling = reordered;
        if (done) {
            expect_finished(path, &same);
            break;
        }
        c = open_job(path, &same);
        assert_int_equal(completions_done_count(c), 6);
        expect_ok(output_seal(c, 1, 2, 12, &e), &e);
        struct prompts *prompts = output_prompts(scratch_path("other-prompts.h5"), 6);
        expect_ok(completions_merge(c, prompts, NULL, 0, &e), &e);
        completions_close(c);
        prompts_close(prompts);
    }
}

static void files_in_the_way_are_not_overwritten(void **state)
{
    (void)state;
    const char *path = scratch_path("way.h5"), *tokens = scratch_path("way.tokens.h5");
    const struct completions_identity id = scratch_identity(3, 1);
    struct completions *c;
    struct err e;
    bool finished;
    scratch_text(path, "my notes");
    expect_error(completions_open(&c, path, &id, &finished, &e), &e, path, "wanted an HDF5 file",
                 NULL);
    prompts_close(output_prompts(path, 3));
    expect_error(completions_open(&c, path, &id, &finished, &e), &e, path, "not overwritten", NULL);
    unlink(path);
    prompts_close(output_prompts(tokens, 3));
    expect_error(completions_open(&c, path, &id, &finished, &e), &e, tokens, "not overwritten",
                 NULL);
    unlink(tokens);
    finish_job(path, 3, 1);
    unlink(tokens);
    expect_error(completions_open(&c, path, &id, &finished, &e), &e, path, tokens, "is missing",
                 NULL);
    unlink(path);
    finish_job(path, 3, 1);
    unlink(path); /* a ragged file of another job, alone */
    struct completions_identity other = id;
    other.model_hash++;
    expect_error(completions_open(&c, path, &other, &finished, &e), &e, tokens, "another model",
                 NULL);
    finish_job(path, 3, 1); /* but one of this job is replaced */
    expect_output(path, 3, 1);
    expect_error(completions_open(&c, scratch_path("no/such/out.h5"), &id, &finished, &e), &e,
                 "no/such/out.h5.partial", "create the directory", NULL);
}

static void one_job_at_a_time(void **state)
{
    (void)state;
    const char *path = scratch_path("lock.h5");
    const struct completions_identity id = scratch_identity(3, 1);
    struct completions *c, *second;
    struct err e;
    bool finished;
    char process[40];
    snprintf(process, sizeof process, "process %ld on ", (long)getpid());
    c = open_job(path, &id);
    expect_error(completions_open(&second, path, &id, &finished, &e), &e, "lock.h5.partial",
                 "another job is writing", process, NULL);
    expect_ok(output_seal(c, 0, 1, 1, &e), &e);
    completions_close(c);
    pid_t child = fork(); /* a killed job does not keep its lock */
    if (child == 0) {
        if (completions_open(&c, path, &id, &finished, &e) == 0)
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    c = open_job(path, &id);
    assert_int_equal(completions_done_count(c), 1);
    completions_close(c);
}

static void damage_is_named(void **state)
{
    (void)state;
    const char *path = scratch_path("damage.h5");
    const char *shard = scratch_path("damage.h5.partial/shard-00000001-00000001.h5");
    const struct completions_identity id = scratch_identity(30, 1);
    struct completions *c = open_job(path, &id);
    struct err e;
    bool finished;
    for (uint64_t i = 0; i < 3; i++)
        expect_ok(output_seal(c, i * 10, 1, i * 10 + 10, &e), &e);
    completions_close(c);
    size_t n, m;
    char *good = scratch_read(shard, &n);
    for (int kind = 0; kind < 4; kind++) {
        if (kind == 0)
            scratch_write(shard, good, n / 2);
        else if (kind == 1)
            scratch_text(shard, "");
        else if (kind == 2)
            prompts_close(output_prompts(shard, 2));
        if (kind == 3) { /* the shard of another unit range, copied */
            char *other =
                scratch_read(scratch_path("damage.h5.partial/shard-00000000-00000000.h5"), &m);
            scratch_write(shard, other, m);
            free(other);
        }
        expect_error(completions_open(&c, path, &id, &finished, &e), &e,
                     "shard-00000001-00000001.h5", "move this file out",
                     kind == 3 ? "another shard" : "", NULL);
    }
    free(good);
    unlink(shard);
    c = open_job(path, &id);
    assert_int_equal(completions_done_count(c), 20);
    assert_false(completions_done(c)[1] >> 2 & 1);
    completions_close(c);

    const char *identity = scratch_path("damage.h5.partial/identity.json");
    scratch_text(identity, "{\"units\": 30");
    expect_error(completions_open(&c, path, &id, &finished, &e), &e, "identity.json", NULL);
    scratch_text(identity, "{}");
    expect_error(completions_open(&c, path, &id, &finished, &e), &e, "identity.json", NULL);
    unlink(identity);
    expect_error(completions_open(&c, path, &id, &finished, &e), &e, "damage.h5.partial",
                 "no identity.json", NULL);
}

/* Any one bit of the table of rows changed: found when the job is opened, or other values; what the
 * table refers to is never outside the file. (Damage in HDF5's own structures is HDF5's.) */
static void changed_rows_do_no_harm(void **state)
{
    (void)state;
    const struct completions_identity id = scratch_identity(40, 1);
    const char *path = scratch_path("bits.h5");
    const char *shard = scratch_path("bits.h5.partial/shard-00000000-00000000.h5");
    struct completions *c = open_job(path, &id);
    struct err e;
    expect_ok(output_seal(c, 0, 1, 19, &e), &e);
    completions_close(c);
    hid_t file;
    expect_ok(h5_open(&file, shard, &e), &e);
    hid_t set = H5Dopen2(file, "rows", H5P_DEFAULT);
    size_t begin = (size_t)H5Dget_offset(set), bytes = (size_t)H5Dget_storage_size(set);
    H5Dclose(set);
    H5Fclose(file);
    size_t n, refused = 0;
    char *good = scratch_read(shard, &n);
    FILE *nowhere = fopen("/dev/null", "w");
    const struct export_options options = {.partial = true, .tokens = true, .logprobs = true};
    int trials = scratch_trials(600);
    for (int i = 0; i < trials; i++) {
        size_t at = begin + scratch_random() % bytes;
        char old = good[at];
        good[at] = (char)(good[at] ^ (1u << scratch_random() % 8));
        scratch_write(shard, good, n);
        good[at] = old;
        bool finished;
        if (completions_open(&c, path, &id, &finished, &e) == 0) {
            completions_close(c);
            expect_ok(export_completions(path, nowhere, &options, &e), &e);
            continue;
        }
        refused++;
        assert_non_null(strstr(e.text, shard));
    }
    print_message("%zu of %d changes noticed\n", refused, trials);
    assert_true(refused > (size_t)trials / 4);
    fclose(nowhere);
    free(good);
}

/* The largest file a process may write is a full disk in miniature. */
static void a_full_disk_loses_nothing(void **state)
{
    (void)state;
    enum { UNITS = 64 };
    const char *path = scratch_path("full.h5");
    const struct completions_identity id = scratch_identity(UNITS, 1);
    struct prompts *prompts = output_prompts(scratch_path("full-prompts.h5"), UNITS);
    struct completions *c = open_job(path, &id);
    struct err e;
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    expect_ok(output_seal(c, 0, 2, UNITS, &e), &e);
    size_t refused = 0;
    for (rlim_t limit = 100; limit < 4000000; limit = limit * 5 / 3) {
        const struct rlimit small = {limit, before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        int rc = output_seal(c, 1, 2, UNITS, &e); /* unit 21 has 20,011 tokens */
        setrlimit(RLIMIT_FSIZE, &before);
        if (rc == 0)
            break;
        refused++;
        assert_int_equal(completions_done_count(c), UNITS / 2);
        assert_false(completions_done(c)[0] >> 1 & 1);
        assert_int_equal(count_files(scratch_path("full.h5.partial"), ".tmp"), 0);
    }
    assert_in_range(refused, 3, 18);
    expect_ok(output_seal(c, 1, 2, UNITS, &e), &e);
    refused = 0;
    int rc = -1;
    for (rlim_t limit = 100; rc != 0 && limit < 40000000; limit = limit * 5 / 3) {
        const struct rlimit small = {limit, before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        rc = completions_merge(c, prompts, NULL, 0, &e);
        setrlimit(RLIMIT_FSIZE, &before);
        if (rc != 0) {
            refused++;
            assert_non_null(strstr(e.text, path));
            assert_false(files_exist(path));
            completions_close(c);
            c = open_job(path, &id);
            assert_int_equal(completions_done_count(c), UNITS);
        }
    }
    assert_in_range(refused, 3, 25);
    completions_close(c);
    prompts_close(prompts);
    expect_output(path, UNITS, 1);
}

static void nothing_to_do(void **state)
{
    (void)state;
    const char *path = scratch_path("zero.hdf5"), *from = scratch_path("zero-prompts.h5");
    struct err e;
    const struct completions_identity id = scratch_identity(0, 4);
    h5_quiet();
    hid_t file = H5Fcreate(from, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), type = h5_string_type();
    hsize_t n = 0;
    H5Dclose(H5Dcreate2(file, "text", type, H5Screate_simple(1, &n, NULL), H5P_DEFAULT, H5P_DEFAULT,
                        H5P_DEFAULT));
    H5Tclose(type);
    H5Fclose(file);
    struct prompts *prompts;
    expect_ok(prompts_open(&prompts, from, &e), &e);
    struct completions *c = open_job(path, &id);
    expect_ok(completions_seal(c, NULL, 0, NULL, 0, &e), &e);
    const struct step_timing step = {.step = 1};
    expect_ok(completions_seal(c, NULL, 0, &step, 1, &e), &e);
    expect_ok(completions_merge(c, prompts, NULL, 0, &e), &e);
    completions_close(c);
    completions_close(NULL);
    prompts_close(prompts);
    expect_output(path, 0, 4);
    assert_true(files_exist(scratch_path("zero.tokens.h5")));
}

/* Errors of the program end it; they are no messages to go on from. */
static int seal_in_child(const uint64_t *units, size_t n)
{
    scratch_remove(scratch_path("die.h5.partial"));
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(9);
        const struct completions_identity id = scratch_identity(10, 1);
        struct completions *c;
        struct err e;
        bool finished;
        if (completions_open(&c, scratch_path("die.h5"), &id, &finished, &e) != 0)
            _exit(9);
        struct completion rows[4];
        for (size_t i = 0; i < n; i++)
            rows[i] = scratch_completion(units[i]);
        size_t half = n == 3 ? 2 : n; /* three: two seals */
        completions_seal(c, rows, half, NULL, 0, &e);
        if (half < n)
            completions_seal(c, rows + half, 1, NULL, 0, &e);
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
    assert_int_equal(seal_in_child(fine, 3), 0);
    assert_int_equal(seal_in_child(twice, 2), EXIT_RUN);
    assert_int_equal(seal_in_child(again, 3), EXIT_RUN);
    assert_int_equal(seal_in_child(beyond, 1), EXIT_RUN);
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
    snprintf(command, sizeof command, "%s tests/data/check_output.py %s 90 3", python, path);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    scratch_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_reopening),
        cmocka_unit_test(prompts_from_the_middle),
        cmocka_unit_test(compaction_keeps_files_few),
        cmocka_unit_test(superseded_shards_and_leftovers_go),
        cmocka_unit_test(another_job_is_refused),
        cmocka_unit_test(files_in_the_way_are_not_overwritten),
        cmocka_unit_test(one_job_at_a_time),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(changed_rows_do_no_harm),
        cmocka_unit_test(a_full_disk_loses_nothing),
        cmocka_unit_test(nothing_to_do),
        cmocka_unit_test(a_unit_twice_ends_the_program),
        cmocka_unit_test(others_can_read_it),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
