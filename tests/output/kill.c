/* SIGKILL at any moment: every acknowledged completion is there, once, after the same job was
 * started again; and the finished output is the one of a job that was never killed.
 *
 * A child runs the job: pushes batches in a random order, writes every unit that is on disk to a
 * pipe, merges. It is killed before and after each of its calls of the file system, one after the
 * other, and then at random moments. That data is on disk before it gets its name, and before it is
 * acknowledged, is checked on the way, for power losses. */
#include "output/output.h"

#include "base/err.h"
#include "base/files.h"
#include "tests/data/scratch.h"
#include "tests/output/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { UNITS = 36, SAMPLES = 3, BROKEN_ORDER = 77 };

/* In the child only: kill at the n-th call of the file system, counting before and after it. */
static struct {
    bool on;
    atomic_int count;
    int at;       /* 0: never */
    ino_t synced; /* the file forced to disk last */
    bool dirty;   /* a journal was written and not forced to disk since */
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

/* These stand before libc's: the library under test and HDF5 call them. */

#define COUNTED(type, name, parameters, call)                                                      \
    type name parameters                                                                           \
    {                                                                                              \
        maybe_die();                                                                               \
        type rc = (type)call;                                                                      \
        maybe_die();                                                                               \
        return rc;                                                                                 \
    }

static int forced(int fd, int rc)
{
    struct stat st;
    if (child.on && rc == 0 && syscall(SYS_fstat, fd, &st) == 0 && !S_ISDIR(st.st_mode)) {
        child.synced = st.st_ino;
        child.dirty = false;
    }
    maybe_die();
    return rc;
}

int fsync(int fd)
{
    maybe_die();
    return forced(fd, (int)syscall(SYS_fsync, fd));
}

int fdatasync(int fd)
{
    maybe_die();
    return forced(fd, (int)syscall(SYS_fdatasync, fd));
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    maybe_die();
    if (n > 1 && child.on && (child.count & 6) == 0)
        n /= 2; /* and some are short */
    ssize_t rc = syscall(SYS_pwrite64, fd, data, n, at);
    child.dirty = true;
    maybe_die();
    return rc;
}

int rename(const char *from, const char *to)
{
    struct stat st;
    if (child.on && (stat(from, &st) != 0 || child.dirty))
        broken_order("renamed a file while something was not on disk");
    maybe_die();
    int rc = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    maybe_die();
    return rc;
}

COUNTED(int, remove, (const char *path), syscall(SYS_unlinkat, AT_FDCWD, path, 0))
COUNTED(int, unlink, (const char *path), syscall(SYS_unlinkat, AT_FDCWD, path, 0))
COUNTED(int, rmdir, (const char *path), syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR))
COUNTED(int, mkdir, (const char *path, mode_t mode), syscall(SYS_mkdirat, AT_FDCWD, path, mode))
COUNTED(int, ftruncate, (int fd, off_t n), syscall(SYS_ftruncate, fd, n))
COUNTED(ssize_t, pread, (int fd, void *to, size_t n, off_t at), syscall(SYS_pread64, fd, to, n, at))
COUNTED(int, close, (int fd), syscall(SYS_close, fd))

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    maybe_die();
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    maybe_die();
    return fd;
}

/* The job, from open to merge. Never returns. */
static void run_job(const char *path, int acknowledge, uint32_t seed)
{
    struct err e;
    struct output *o;
    bool finished;
    child.on = true;
    if (output_open(&o, rows_job(path, 0, UNITS, SAMPLES, 11), &finished, &e) != 0)
        die("%s", e.text);
    if (finished)
        _exit(0);
    if (output_start(o, NULL, &e) != 0)
        die("%s", e.text);
    uint8_t before[(UNITS + 7) / 8];
    output_done(o, before);
    for (uint64_t i = 0; i < UNITS / 2; i++) { /* two units a batch, in an order of the seed's */
        uint64_t unit = (i * 7 + seed) % (UNITS / 2);
        if (rows_push(o, unit, UNITS / 2, UNITS, UNITS, SAMPLES, &e) != OUTPUT_FINE)
            die("%s", e.text);
        if (child.dirty)
            broken_order("acknowledged before it was on disk");
        for (uint64_t u = unit; u < UNITS; u += UNITS / 2) {
            uint8_t number = (uint8_t)u;
            if (!(before[u / 8] >> u % 8 & 1) && write(acknowledge, &number, 1) != 1)
                _exit(1);
        }
    }
    output_merge(o);
    if (output_drain(o, &e) != OUTPUT_FINE)
        die("%s", e.text);
    output_close(o);
    _exit(0);
}

/* What was acknowledged in all runs so far: 1. Never more than once. */
static uint8_t acknowledged[UNITS];

/* Runs the job in a child; kills it at its at-th change (0: not), or after `delay` microseconds (0:
 * not). True when it finished. */
static bool run_child(const char *path, int at, unsigned delay, uint32_t seed)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        child.at = at;
        run_job(path, ends[1], seed);
    }
    close(ends[1]);
    if (delay) {
        const struct timespec pause = {delay / 1000000, delay % 1000000 * 1000L};
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
    struct output *o;
    struct err e;
    bool finished;
    expect_ok(output_open(&o, rows_job(path, 0, UNITS, SAMPLES, 11), &finished, &e), &e);
    if (finished)
        return;
    uint8_t done[(UNITS + 7) / 8];
    output_done(o, done);
    for (size_t u = 0; u < UNITS; u++)
        if (acknowledged[u] && !(done[u / 8] >> u % 8 & 1))
            fail_msg("unit %zu was acknowledged and is gone", u);
    output_close(o);
}

static void begin_again(const char *path)
{
    char partial[500];
    snprintf(partial, sizeof partial, "%s.partial", path);
    scratch_remove(partial);
    remove(path);
    remove(scratch_path("kill.tokens.h5"));
    remove(scratch_path("kill.steps.h5"));
    memset(acknowledged, 0, sizeof acknowledged);
}

static void at_every_call_of_the_file_system(void **state)
{
    (void)state;
    const char *path = scratch_path("kill.h5");
    int step = getenv("SWEEP") ? 1 : getenv("QUICK") ? 101 : 13;
    int at = 1 + (int)(scratch_random() % (uint32_t)step);
    for (bool done = false; !done; at += step) {
        begin_again(path);
        done = run_child(path, at, 0, 4);
        if (!done)
            expect_nothing_lost(path);
        assert_true(run_child(path, 0, 0, 9));
        if (at % 20 < step || done)
            rows_expect(path, 0, UNITS, SAMPLES);
        else
            assert_true(files_exist(path));
    }
    print_message("every %d. of %d moments\n", step, at);
    assert_true(at > 150);
}

static unsigned micros(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned)(now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

static void at_random_moments(void **state)
{
    (void)state;
    const char *path = scratch_path("kill.h5");
    begin_again(path);
    unsigned whole = micros();
    assert_true(run_child(path, 0, 0, 1));
    whole = micros() - whole;
    rows_expect(path, 0, UNITS, SAMPLES);
    const char *often = getenv("LONG");
    int kills = 0, trials = scratch_trials(often && *often ? 30 : 10);
    for (int trial = 0; trial < trials; trial++) {
        begin_again(path);
        bool done = false;
        for (int tries = 0; !done && tries < 50; tries++) {
            unsigned delay = 1 + scratch_random() % whole;
            done = run_child(path, 0, delay, scratch_random() % 40);
            kills += !done;
            if (done && tries == 0) /* the first run was slow, or the kill comes late */
                whole = delay;
            expect_nothing_lost(path);
        }
        if (!done) { /* never let come to its end: it takes longer than the first run did */
            assert_true(run_child(path, 0, 0, 2));
            whole *= 2;
        }
        rows_expect(path, 0, UNITS, SAMPLES);
    }
    print_message("%d trials, %d kills, a job takes %u us\n", trials, kills, whole);
    assert_true(kills >= trials / 3);
}

int main(void)
{
    scratch_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_every_call_of_the_file_system),
        cmocka_unit_test(at_random_moments),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
