/* Every call of the file system on the output fails once, and from some call on for good: never is the
 * output finished with other data; what passes is got over; what stays is said, and the same job goes
 * on when it is over. And one changed bit, anywhere: named, or harmless. SWEEP=1: every call, every byte,
 * not some of them; CASE=errors_that_last: this test alone. */
#include "base/mem.h"
#include "base/patience.h"
#include "base/files.h"
#include "output/export.h"
#include "output/merge.h"
#include "output/output.h"
#include "tests/data/scratch.h"
#include "tests/output/rows.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum fault { FAULT_NONE, FAULT_ERROR, FAULT_SHORT };

/* In the child that runs the job, while it runs it; calls are counted from 1, over all threads. */
static struct {
    bool on;
    int at, calls; /* the first call that fails, and how many do */
    enum fault kind;
    int why; /* errno; FAULT_SHORT: reads and writes do half of it */
    /* Only files are not removed, and one that a merge could not remove lies in the way of the next. */
    bool leftover;
} faults;

/* What the child tells. */
static struct {
    atomic_int count, reached; /* calls, and those that were made to fail */
} * told;

static enum fault next_call_of(const char *name)
{
    bool removes = strcmp(name, "unlink") == 0 || strcmp(name, "remove") == 0;
    if (!faults.on || (faults.leftover && !removes))
        return FAULT_NONE;
    int n = ++told->count;
    if (n < faults.at || n - faults.at >= faults.calls)
        return FAULT_NONE;
    told->reached++;
    errno = faults.why;
    return faults.kind;
}

#define next_call() next_call_of(__func__)

#define FAILS(type, name, parameters, call)                                                        \
    type name parameters                                                                           \
    {                                                                                              \
        return next_call() == FAULT_ERROR ? (type)-1 : (type)call;                                 \
    }

/* Half of it, but some. */
static size_t part_of(size_t n, enum fault f)
{
    return f == FAULT_SHORT && n > 1 ? n / 2 : n;
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    enum fault f = next_call();
    return f == FAULT_ERROR ? -1 : syscall(SYS_pwrite64, fd, data, part_of(n, f), at);
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    enum fault f = next_call();
    return f == FAULT_ERROR ? -1 : syscall(SYS_pread64, fd, to, part_of(n, f), at);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (next_call() == FAULT_ERROR)
        return -1;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* What close() says has failed is closed all the same. */
int close(int fd)
{
    enum fault f = next_call();
    int rc = (int)syscall(SYS_close, fd), why = errno;
    errno = f == FAULT_ERROR ? faults.why : why;
    return f == FAULT_ERROR ? -1 : rc;
}

struct dirent *readdir(DIR *d)
{
    static struct dirent *(*real)(DIR *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "readdir");
    return next_call() == FAULT_ERROR ? NULL : real(d);
}

FAILS(int, fsync, (int fd), syscall(SYS_fsync, fd))
FAILS(int, fdatasync, (int fd), syscall(SYS_fdatasync, fd))
FAILS(int, ftruncate, (int fd, off_t n), syscall(SYS_ftruncate, fd, n))
FAILS(int, flock, (int fd, int how), syscall(SYS_flock, fd, how))
FAILS(int, fstat, (int fd, struct stat *st), syscall(SYS_fstat, fd, st))
FAILS(int, lstat, (const char *path, struct stat *st), syscall(SYS_lstat, path, st))
FAILS(int, stat, (const char *path, struct stat *st), syscall(SYS_stat, path, st))
FAILS(int, mkdir, (const char *path, mode_t mode), syscall(SYS_mkdirat, AT_FDCWD, path, mode))
FAILS(int, unlink, (const char *path), syscall(SYS_unlinkat, AT_FDCWD, path, 0))
FAILS(int, remove, (const char *path), syscall(SYS_unlinkat, AT_FDCWD, path, 0))
FAILS(int, rmdir, (const char *path), syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR))
FAILS(int, rename, (const char *from, const char *to),
      syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0))

enum { UNITS = 24, SAMPLES = 3, REFUSED = 3 };

static void leave_over(const char *path)
{
    char name[64];
    char *partial = output_directory(path);
    snprintf(name, sizeof name, "merge-%ld-0.tmp", (long)getpid());
    char *left = files_join(partial, name);
    scratch_write(left, "half", 4);
    free(left);
    free(partial);
}

/* The job, from open to merge, in a child. Exit status 0: it says that it is finished. */
static void run_job(const char *path)
{
    struct err e;
    struct output *o = NULL;
    bool finished = false;
    faults.on = true;
    bool fine = output_open(&o, rows_job(path, 0, UNITS, SAMPLES, 11), &finished, &e) == 0;
    if (fine && !finished)
        fine = output_start(o, NULL, &e) == 0;
    for (uint64_t i = 0; fine && !finished && i < 3; i++)
        fine = rows_push(o, i, 3, UNITS, UNITS, SAMPLES, &e) == OUTPUT_FINE;
    if (faults.leftover)
        leave_over(path);
    if (fine && !finished) {
        output_merge(o);
        fine = output_drain(o, &e) == OUTPUT_FINE;
    }
    output_close(o);
    faults.on = false;
    _exit(fine ? 0 : REFUSED);
}

/* The job in a child, with a fault; its exit status. */
static int run_child(const char *path, int at, int calls, enum fault kind, int why)
{
    int status;
    told->count = told->reached = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(99);
        faults.at = at;
        faults.calls = calls;
        faults.kind = kind;
        faults.why = why;
        run_job(path);
    }
    waitpid(pid, &status, 0);
    if (!WIFEXITED(status))
        fail_msg("%s at call %d: signal %d", strerror(why), at, WTERMSIG(status));
    return WEXITSTATUS(status);
}

static void begin_again(const char *path)
{
    char *partial = output_directory(path);
    char *names[] = {mem_string(path), merge_sibling(path, "tokens"), merge_sibling(path, "steps")};
    scratch_remove(partial);
    for (size_t i = 0; i < 3; i++) {
        unlink(names[i]);
        free(names[i]);
    }
    free(partial);
}

/* Every call, or some of them, with another start each time; SWEEP=1: all. */
static int first_call(int *stride, int usual)
{
    *stride = getenv("SWEEP") ? 1 : getenv("QUICK") ? usual * 5 : usual;
    return 1 + (int)(scratch_random() % (uint32_t)*stride);
}

static void expect_got_over(const char *path, int at, const char *what)
{
    int status = run_child(path, at, 1, FAULT_NONE, 0); /* the same command again */
    if (status != 0)
        fail_msg("%s at call %d: the same job cannot go on", what, at);
    char *partial = output_directory(path);
    scratch_remove(partial); /* what could not be removed: the output stands */
    free(partial);
    rows_expect(path, 0, UNITS, SAMPLES);
}

/* A fault that passes: the job ends well, as if it had not been; or it refuses (what errno says is
 * not for waiting), and the same job goes on. */
static void once(int why, enum fault kind, bool must_pass)
{
    const char *path = scratch_path("once.h5"),
               *what = kind == FAULT_SHORT ? "short" : strerror(why);
    int stride, tried = 0, refused = 0;
    for (int at = first_call(&stride, 61);; at += stride, tried++) {
        begin_again(path);
        int status = run_child(path, at, 1, kind, why);
        if (told->reached == 0) {
            assert_int_equal(status, 0);
            break;
        }
        if (status != 0 && (must_pass || status != REFUSED))
            fail_msg("%s at call %d: exit status %d", what, at, status);
        refused += status != 0;
        expect_got_over(path, at, what);
    }
    print_message("%s once: %d calls, %d refused\n", what, tried, refused);
    assert_true(tried > 0);
}

/* A disk that refuses for a while, and is waited for. */
static void errors_that_last(void **state)
{
    (void)state;
    const char *path = scratch_path("last.h5");
    int stride, tried = 0;
    patience_set(120, NULL);
    for (int at = first_call(&stride, 61);; at += stride, tried++) {
        begin_again(path);
        int status = run_child(path, at, 8, FAULT_ERROR, ENOSPC);
        if (status != 0)
            fail_msg("ENOSPC for a while from call %d on: exit status %d", at, status);
        if (told->reached == 0)
            break;
        expect_got_over(path, at, "ENOSPC for a while");
    }
    patience_set(0, NULL);
    assert_true(tried > 0);
}

static void a_leftover_that_is_not_removed_at_once(void **state)
{
    (void)state;
    const char *path = scratch_path("leftover.h5");
    patience_set(120, NULL);
    faults.leftover = true;
    assert_int_equal(run_child(path, 1, 8, FAULT_ERROR, EIO), 0);
    assert_int_equal(told->reached, 8);
    faults.leftover = false;
    patience_set(0, NULL);
    expect_got_over(path, 1, "a file that is not removed");
}

static void errors_that_pass(void **state)
{
    (void)state;
    once(EIO, FAULT_ERROR, true);
    once(ENOSPC, FAULT_ERROR, true);
    once(EINTR, FAULT_ERROR, true);
    once(ESTALE, FAULT_ERROR, true);
    once(0, FAULT_SHORT, true);
    once(EACCES, FAULT_ERROR, false);
    once(EDQUOT, FAULT_ERROR, true);
}

/* From a call on everything of the kind fails, until the user gives up; then the disk is well. */
static void errors_that_stay(void **state)
{
    (void)state;
    const char *path = scratch_path("stay.h5");
    const int reasons[] = {EIO, ENOSPC, EACCES};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        int stride, tried = 0;
        for (int at = first_call(&stride, 97);; at += stride, tried++) {
            begin_again(path);
            int status = run_child(path, at, INT_MAX, FAULT_ERROR, reasons[i]);
            if (told->reached == 0)
                break;
            if (status != 0 && status != REFUSED)
                fail_msg("%s from call %d on: exit status %d", strerror(reasons[i]), at, status);
            expect_got_over(path, at, strerror(reasons[i]));
        }
        assert_true(tried > 0);
    }
}

/* ---- one changed bit ------------------------------------------------------------------------- */

static char *export_of(const char *path, bool partial, struct err *e)
{
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    const struct export_options o = {.partial = partial, .tokens = true, .logprobs = true};
    int rc = export_completions(path, out, &o, e);
    fclose(out);
    if (rc == 0)
        return text;
    free(text);
    return NULL;
}

/* Silences what is said to the user, or lets it be heard again. */
static void quiet(bool on)
{
    static int kept = -1;
    fflush(stderr);
    if (on) {
        kept = dup(2);
        int nowhere = open("/dev/null", O_WRONLY);
        dup2(nowhere, 2);
        close(nowhere);
    } else {
        dup2(kept, 2);
        close(kept);
    }
}

static char *journal_of(const char *partial)
{
    char *found = NULL;
    DIR *d = opendir(partial);
    for (struct dirent *entry; (entry = readdir(d));)
        if (strstr(entry->d_name, ".journal"))
            found = files_join(partial, entry->d_name);
    closedir(d);
    return found;
}

/* Exported, a journal with a changed bit gives the rows that it had, some missing, or is refused by
 * name; and continued, the job ends with the right output. */
static void a_bit_of_a_journal(void **state)
{
    (void)state;
    const char *path = scratch_path("bit.h5"), *partial = scratch_path("bit.h5.partial");
    struct err e;
    struct output *o = rows_open(path, 9, 1);
    assert_int_equal(rows_push(o, 0, 2, 9, 9, 1, &e), OUTPUT_FINE);
    assert_int_equal(rows_push(o, 1, 2, 9, 9, 1, &e), OUTPUT_FINE);
    output_close(o);
    char *name = journal_of(partial), *good = export_of(path, true, &e);
    size_t n, refused = 0, missing = 0;
    char *bytes = scratch_read(name, &n);
    assert_non_null(good);
    quiet(true);
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (char)(bytes[i] ^ 1 << i % 8);
        scratch_write(name, bytes, n);
        bytes[i] = (char)(bytes[i] ^ 1 << i % 8);
        char *found = export_of(path, true, &e);
        if (!found) {
            refused++;
            if (!strstr(e.text, name))
                fail_msg("byte %zu: the journal is not named: %s", i, e.text);
            continue;
        }
        for (char *line = strtok(found, "\n"); line; line = strtok(NULL, "\n"))
            if (!strstr(good, line))
                fail_msg("byte %zu: another row: %s", i, line);
        missing += strlen(found) != strlen(good);
        free(found);
        if (i % (getenv("SWEEP") ? 1 : 50) == 0) {
            bool finished;
            expect_ok(output_open(&o, rows_job(path, 0, 9, 1, 11), &finished, &e), &e);
            expect_ok(output_start(o, NULL, &e), &e);
            assert_int_equal(rows_push(o, 0, 1, 9, 9, 1, &e), OUTPUT_FINE);
            rows_finish(o);
            rows_expect(path, 0, 9, 1);
            begin_again(path);
            scratch_directory("bit.h5.partial");
        }
    }
    quiet(false);
    print_message("%zu bytes of a journal: %zu refused by name, %zu with rows to decode again\n", n,
                  refused, missing);
    assert_true(refused > 100 && missing > n / 2);
    free(bytes);
    free(good);
    free(name);
}

/* What a kill cut off belongs to nobody; what was on disk when the next batch was begun is damaged. */
static void damage_is_no_torn_tail(void **state)
{
    (void)state;
    const char *path = scratch_path("torn.h5"), *partial = scratch_path("torn.h5.partial");
    struct journals js;
    struct err e;
    size_t n;
    struct output *o = rows_open(path, 9, 1);
    assert_int_equal(rows_push(o, 0, 2, 9, 9, 1, &e), OUTPUT_FINE);
    assert_int_equal(rows_push(o, 1, 2, 9, 9, 1, &e), OUTPUT_FINE);
    output_close(o);
    char *name = journal_of(partial), *bytes = scratch_read(name, &n);
    quiet(true);
    for (int torn = 0; torn < 2; torn++) {
        size_t at = torn ? n - 400 : n / 2 - 400; /* in the last completion, in the first batch */
        bytes[at] = (char)(bytes[at] ^ 8);
        scratch_write(name, bytes, torn ? at + 1 : n);
        bytes[at] = (char)(bytes[at] ^ 8);
        expect_ok(journals_open(&js, partial, 0, NULL, NULL, &e), &e);
        if (js.n_done >= 9 || (js.damaged > 0) != (torn == 0)) {
            quiet(false);
            fail_msg("torn %d, byte %zu of %zu: %d done, %d damaged", torn, at, n, (int)js.n_done,
                     (int)js.damaged);
        }
        journals_close(&js);
    }
    quiet(false);
    free(bytes);
    free(name);
}

/* Found sound when the job began, and changed on the disk before it is merged. */
static void a_bit_after_the_journal_was_read(void **state)
{
    (void)state;
    const char *path = scratch_path("later.h5"), *partial = scratch_path("later.h5.partial");
    struct err e;
    size_t n;
    struct output *o = rows_open(path, 9, 1);
    assert_int_equal(rows_push(o, 0, 1, 9, 9, 1, &e), OUTPUT_FINE);
    char *name = journal_of(partial), *bytes = scratch_read(name, &n);
    int fd = open(name, O_WRONLY);
    char changed = (char)(bytes[n - 40] ^ 4); /* of the last completion */
    assert_int_equal(pwrite(fd, &changed, 1, (off_t)n - 40), 1);
    close(fd);
    quiet(true);
    output_merge(o);
    assert_int_not_equal(output_drain(o, &e), OUTPUT_FINE);
    quiet(false);
    assert_non_null(strstr(e.text, name));
    output_close(o);
    assert_false(files_exist(path));
    free(bytes);
    free(name);
}

static void a_bit_of_a_finished_file(void **state)
{
    (void)state;
    const char *path = scratch_path("whole.h5");
    char *files[] = {mem_string(path), merge_sibling(path, "tokens")};
    struct err e;
    struct output *o = rows_open(path, 9, 1);
    assert_int_equal(rows_push(o, 0, 1, 9, 9, 1, &e), OUTPUT_FINE);
    rows_finish(o);
    char *good = export_of(path, false, &e);
    assert_non_null(good);
    int stride, first = first_call(&stride, 19);
    for (size_t f = 0; f < 2; f++) {
        size_t n, refused = 0;
        char *bytes = scratch_read(files[f], &n);
        for (size_t i = (size_t)first; i < n; i += (size_t)stride) {
            bytes[i] = (char)(bytes[i] ^ 1 << i % 8);
            scratch_write(files[f], bytes, n);
            bytes[i] = (char)(bytes[i] ^ 1 << i % 8);
            char *found = export_of(path, false, &e);
            if (found)
                assert_string_equal(found, good);
            else if (!strstr(e.text, files[f]))
                fail_msg("byte %zu: the file is not named: %s", i, e.text);
            refused += !found;
            free(found);
        }
        scratch_write(files[f], bytes, n);
        print_message("%s: %zu bytes, %zu changes refused by name\n", files_name(files[f]), n,
                      refused);
        assert_true(refused >= (n - 100) / (size_t)stride);
        free(bytes);
        free(files[f]);
    }
    free(good);
}

int main(void)
{
    scratch_begin();
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_that_pass),
        cmocka_unit_test(errors_that_last),
        cmocka_unit_test(a_leftover_that_is_not_removed_at_once),
        cmocka_unit_test(errors_that_stay),
        cmocka_unit_test(a_bit_of_a_journal),
        cmocka_unit_test(a_bit_after_the_journal_was_read),
        cmocka_unit_test(damage_is_no_torn_tail),
        cmocka_unit_test(a_bit_of_a_finished_file),
    };
    if (getenv("CASE"))
        cmocka_set_test_filter(getenv("CASE"));
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_end();
    return failed;
}
