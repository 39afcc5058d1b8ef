/* SIGKILL at any moment: every acknowledged completion is there, once, after the same job was
 * started again; and the finished output is the one of a job that was never killed.
 *
 * A child runs the job: seals in a random order, writes every acknowledged unit to a pipe, compacts
 * often (fanout 3), merges. It is killed before and after each of its changes to the file system,
 * one after the other, and then at random moments. That data is on disk before it gets its name,
 * and the name before it is acknowledged, is checked on the way, for power losses. */
#include "data/completions.h"

#include "base/err.h"
#include "data/files.h"
#include "tests/data/output.h"
#include "tests/data/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { UNITS = 36, SAMPLES = 3, FANOUT = 3, BROKEN_ORDER = 77 };

/* In the child only: kill at the n-th change of the file system, counting before and after it. */
static struct {
    bool on;
    int count, at; /* at 0: never */
    ino_t synced;  /* the file fsynced last */
    bool pending;  /* a name was changed and its directory not fsynced since */
} child;

static void maybe_die(void)
{
    if (child.on && ++child.count == child.at)
        kill(getpid(), SIGKILL);
}

static void broken_order(const char *what)
{
    fprintf(stderr, "order of file system operations: %s\n", what);
    _exit(BROKEN_ORDER);
}

/* These stand before libc's: the library under test calls them. */

int fsync(int fd)
{
    maybe_die();
    struct stat st;
    int rc = (int)syscall(SYS_fsync, fd);
    if (child.on && rc == 0 && fstat(fd, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            child.pending = false;
        else
            child.synced = st.st_ino;
    }
    maybe_die();
    return rc;
}

int rename(const char *from, const char *to)
{
    struct stat st;
    if (child.on && (stat(from, &st) != 0 || st.st_ino != child.synced))
        broken_order("renamed a file that was not synced last");
    maybe_die();
    int rc = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    child.pending = true;
    maybe_die();
    return rc;
}

int unlink(const char *path)
{
    size_t n = strlen(path);
    bool shard = n > 3 && strcmp(path + n - 3, ".h5") == 0;
    if (child.on && shard && child.pending)
        broken_order("removed a shard before the name of its replacement was on disk");
    maybe_die();
    int rc = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    maybe_die();
    return rc;
}

int rmdir(const char *path)
{
    maybe_die();
    int rc = (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
    maybe_die();
    return rc;
}

/* The job, from open to merge. Never returns. */
static void run_job(const char *path, const char *prompts_path, int acknowledge, uint32_t seed)
{
    struct err e;
    struct prompts *prompts;
    struct completions *c;
    bool finished;
    const struct completions_identity id = scratch_identity(UNITS, SAMPLES);
    child.on = true;
    if (prompts_open(&prompts, prompts_path, &e) != 0 ||
        completions_open(&c, path, &id, &finished, &e) != 0)
        die("%s", e.text);
    if (finished)
        _exit(0);
    completions_fanout(c, FANOUT);
    for (uint64_t i = 0; i < UNITS / 2; i++) { /* two units a seal, in an order of the seed's */
        uint64_t unit = (i * 7 + seed) % (UNITS / 2);
        uint8_t before[(UNITS + 7) / 8];
        memcpy(before, completions_done(c), sizeof before);
        if (output_seal(c, unit, UNITS / 2, UNITS, &e) != 0)
            die("%s", e.text);
        if (child.pending)
            broken_order("acknowledged before the directory was synced");
        for (uint64_t u = unit; u < UNITS; u += UNITS / 2) {
            uint8_t number = (uint8_t)u;
            if (!(before[u / 8] >> u % 8 & 1) && write(acknowledge, &number, 1) != 1)
                _exit(1);
        }
    }
    if (completions_merge(c, prompts, NULL, 0, &e) != 0)
        die("%s", e.text);
    completions_close(c);
    prompts_close(prompts);
    _exit(0);
}

/* What was acknowledged in all runs so far: 1. Never more than once. */
static uint8_t acknowledged[UNITS];

/* Runs the job in a child; kills it at its at-th change (0: not), or after `delay` microseconds (0:
 * not). True when it finished. */
static bool run_child(const char *path, const char *prompts_path, int at, unsigned delay,
                      uint32_t seed)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        child.at = at;
        run_job(path, prompts_path, ends[1], seed);
    }
    close(ends[1]);
    if (delay) {
        const struct timespec pause = {0, (long)delay * 1000};
        nanosleep(&pause, NULL);
        kill(pid, SIGKILL);
    }
    int status;
    waitpid(pid, &status, 0);
    uint8_t unit;
    while (read(ends[0], &unit, 1) == 1) {
        assert_in_range(unit, 0, UNITS - 1);
        assert_int_equal(acknowledged[unit], 0); /* a unit acknowledged is not decoded again */
        acknowledged[unit] = 1;
    }
    close(ends[0]);
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGKILL);
        return false;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    return true;
}

/* Opens what the kill left: nothing acknowledged is missing. */
static void expect_nothing_lost(const char *path)
{
    const struct completions_identity id = scratch_identity(UNITS, SAMPLES);
    struct completions *c;
    struct err e;
    bool finished;
    expect_ok(completions_open(&c, path, &id, &finished, &e), &e);
    if (finished)
        return;
    for (size_t u = 0; u < UNITS; u++)
        if (acknowledged[u] && !(completions_done(c)[u / 8] >> u % 8 & 1))
            fail_msg("unit %zu was acknowledged and is gone", u);
    completions_close(c);
}

static void begin_again(const char *path)
{
    char partial[500];
    snprintf(partial, sizeof partial, "%s.partial", path);
    scratch_remove(partial);
    remove(path);
    remove(scratch_path("kill.tokens.h5"));
    memset(acknowledged, 0, sizeof acknowledged);
}

static void at_every_change_of_the_file_system(void **state)
{
    (void)state;
    const char *path = scratch_path("kill.h5"), *from = scratch_path("kill-prompts.h5");
    prompts_close(output_prompts(from, UNITS / SAMPLES));
    int at = 1, step = getenv("QUICK") ? 41 : 1;
    for (bool done = false; !done; at += step) {
        begin_again(path);
        done = run_child(path, from, at, 0, 4);
        if (!done)
            expect_nothing_lost(path);
        assert_true(run_child(path, from, 0, 0, 9));
        if (at % 20 == 1 || done)
            expect_output(path, UNITS, SAMPLES);
        else
            assert_true(files_exist(path));
    }
    print_message("killed at %d moments\n", (at - 1) / step - 1);
    assert_true(at > 150);
}

static void at_random_moments(void **state)
{
    (void)state;
    const char *path = scratch_path("kill.h5"), *from = scratch_path("kill-prompts.h5");
    prompts_close(output_prompts(from, UNITS / SAMPLES));
    struct timespec begin, end;
    begin_again(path);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    assert_true(run_child(path, from, 0, 0, 1));
    clock_gettime(CLOCK_MONOTONIC, &end);
    unsigned whole =
        (unsigned)((end.tv_sec - begin.tv_sec) * 1000000 + (end.tv_nsec - begin.tv_nsec) / 1000);
    expect_output(path, UNITS, SAMPLES);
    int kills = 0, trials = scratch_trials(30);
    for (int trial = 0; trial < trials; trial++) {
        begin_again(path);
        bool done = false;
        for (int tries = 0; !done && tries < 50; tries++) {
            done = run_child(path, from, 0, 1 + scratch_random() % whole, scratch_random() % 40);
            kills += !done;
            expect_nothing_lost(path);
        }
        if (!done)
            assert_true(run_child(path, from, 0, 0, 2));
        expect_output(path, UNITS, SAMPLES);
    }
    print_message("%d trials, %d kills, a job takes %u us\n", trials, kills, whole);
    assert_true(kills >= trials / 3);
}

int main(void)
{
    scratch_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_every_change_of_the_file_system),
        cmocka_unit_test(at_random_moments),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
