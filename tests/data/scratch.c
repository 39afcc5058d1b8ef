#include "tests/data/scratch.h"

#include "base/mem.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[200];
static char *paths[200]; /* one string for each name, until the end */

const char *scratch_begin(void)
{
    /* In memory where possible: what is tested are kills, which a page cache outlives, and the many
     * fsyncs would take minutes on a disk. */
    const char *tmp = getenv("TMPDIR");
    if (!tmp)
        tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(root, sizeof root, "%.150s/tandem-test-XXXXXX", tmp);
    if (!mkdtemp(root))
        die("%s: %s", root, strerror(errno));
    return root;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

void scratch_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void scratch_end(void)
{
    scratch_remove(root);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        free(paths[i]);
}

const char *scratch_path(const char *name)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%.190s", root, name);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (!paths[i])
            paths[i] = mem_string(path);
        if (strcmp(paths[i], path) == 0)
            return paths[i];
    }
    die("tests: too many scratch files");
}

void scratch_directory(const char *name)
{
    const char *path = scratch_path(name);
    scratch_remove(path);
    if (mkdir(path, 0777) != 0)
        die("%s: %s", path, strerror(errno));
}

void scratch_write(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "w");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0)
        die("%s: %s", path, strerror(errno));
}

void scratch_text(const char *path, const char *text)
{
    scratch_write(path, text, strlen(text));
}

char *scratch_read(const char *path, size_t *n)
{
    FILE *f = fopen(path, "r");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0)
        die("%s: %s", path, strerror(errno));
    char *data = mem_zeroed((size_t)st.st_size + 1, 1);
    *n = fread(data, 1, (size_t)st.st_size, f);
    fclose(f);
    return data;
}

void expect_error(int rc, const struct err *e, ...)
{
    if (rc != -1)
        fail_msg("no error: %d", rc);
    va_list args;
    va_start(args, e);
    for (const char *text; (text = va_arg(args, const char *));)
        if (!strstr(e->text, text))
            fail_msg("\"%s\" is not in the message: %s", text, e->text);
    va_end(args);
}

void expect_ok(int rc, const struct err *e)
{
    if (rc != 0)
        fail_msg("%s", e->text);
}

const char *scratch_python(void)
{
    static char found[300];
    const char *const candidates[] = {getenv("PYTHON"), "/usr/bin/python3"};
    for (size_t i = 0; i < 2 && !*found; i++) {
        char command[400];
        if (!candidates[i] || !*candidates[i])
            continue;
        snprintf(command, sizeof command, "%.250s -c 'import h5py, numpy' 2>/dev/null",
                 candidates[i]);
        if (system(command) == 0)
            snprintf(found, sizeof found, "%.250s", candidates[i]);
    }
    return *found ? found : NULL;
}

int scratch_trials(int normally)
{
    return getenv("QUICK") ? (normally + 9) / 10 : normally;
}

uint32_t scratch_random(void)
{
    static uint64_t state;
    if (!state) {
        const char *seed = getenv("SEED");
        state = seed ? strtoull(seed, NULL, 10) : 20251122;
        printf("SEED=%llu\n", (unsigned long long)state);
        fflush(stdout);
    }
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}
