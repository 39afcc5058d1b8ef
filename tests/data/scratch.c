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

struct completion scratch_completion(uint64_t unit)
{
    /* 0 tokens are there, as are rows longer than a window of the reader (64 KiB). */
    uint32_t n = unit % 5 == 3 ? 0 : (uint32_t)(unit * 37 % 61);
    if (unit % 211 == 20)
        n = 20011;
    struct completion c = {
        .unit = unit,
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
    snprintf(text, sizeof text, "unit %llu: \xc3\xa9\n\"\xf0\x9f\x8c\x8d\" ",
             (unsigned long long)unit);
    size_t copies = unit % 4, bytes = strlen(text);
    c.text = mem_zeroed(copies * bytes + 1, 1);
    for (size_t i = 0; i < copies; i++)
        memcpy(c.text + i * bytes, text, bytes);
    if (c.finish == FINISH_ERROR)
        c.error = mem_string(text);
    c.tokens = mem_new(n, sizeof *c.tokens);
    c.logprobs = mem_new(n, sizeof *c.logprobs);
    for (uint32_t i = 0; i < n; i++) {
        c.tokens[i] = (int32_t)((unit * 1009 + i * 31) % 129280);
        c.logprobs[i] = -(float)(i + 1) / (float)(unit + 3);
    }
    return c;
}

void expect_completion(const struct completion *found, const struct completion *wanted)
{
    assert_int_equal(found->unit, wanted->unit);
    assert_int_equal(found->finish, wanted->finish);
    assert_int_equal(found->n_tokens, wanted->n_tokens);
    assert_int_equal(found->n_prompt_tokens, wanted->n_prompt_tokens);
    assert_int_equal(found->rank, wanted->rank);
    assert_true(found->admitted == wanted->admitted);
    assert_true(found->first_token == wanted->first_token);
    assert_true(found->last_token == wanted->last_token);
    assert_string_equal(found->text, wanted->text);
    assert_int_equal(found->error != NULL, wanted->error != NULL);
    if (wanted->error)
        assert_string_equal(found->error, wanted->error);
    if (wanted->n_tokens) {
        assert_memory_equal(found->tokens, wanted->tokens, wanted->n_tokens * sizeof(int32_t));
        assert_memory_equal(found->logprobs, wanted->logprobs, wanted->n_tokens * sizeof(float));
    }
}

struct completions_identity scratch_identity(uint64_t units, uint64_t samples)
{
    static char sampling[] = "{\"temperature\": 0.7, \"seed\": 11}";
    return (struct completions_identity){
        .model_hash = 0x1234567890abcdefu,
        .tokenizer_hash = 0xfedcba0987654321u,
        .prompts_hash = 7,
        .units = units,
        .samples = samples,
        .sampling = sampling,
    };
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
