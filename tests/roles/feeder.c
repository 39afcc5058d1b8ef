/* The feeder: units come out in order, as tokens or as the error of their row; what the file system does
 * is no property of a prompt, and nothing comes out of a file that has changed. */
#include "roles/feeder.h"

#include "base/mem.h"
#include "base/patience.h"
#include "data/h5.h"

#include <errno.h>
#include <hdf5.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

enum { ROWS = 6000, CONTEXT = 20, SAMPLES = 3 };

static char path[64];

/* ---- a disk that fails ---------------------------------------------------------------------- */

static atomic_int failing; /* reads that will give EIO */

/* HDF5 reads with this one. */
ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    int left = failing;
    while (left > 0 && !atomic_compare_exchange_weak(&failing, &left, left - 1))
        ;
    if (left > 0) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, to, n, at);
}

/* ---- prompts -------------------------------------------------------------------------------- */

static void put(hid_t file, const char *name, hid_t type, size_t n, const void *data)
{
    hsize_t shape = n;
    hid_t space = H5Screate_simple(1, &shape, NULL);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(set >= 0 && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(set);
    H5Sclose(space);
}

/* Row i has 1 + i % 9 tokens, the first of them i % 1000; but row 5 has 20, row 7 one that no vocabulary
 * has and row 8 none. */
static size_t tokens_of(size_t i)
{
    return i == 5 ? CONTEXT : i == 8 ? 0 : 1 + i % 9;
}

static void write_prompts(void)
{
    int32_t *tokens = mem_zeroed(ROWS * CONTEXT, sizeof *tokens);
    int64_t *offsets = mem_zeroed(ROWS + 1, sizeof *offsets);
    for (size_t i = 0; i < ROWS; i++) {
        offsets[i + 1] = offsets[i] + (int64_t)tokens_of(i);
        if (tokens_of(i))
            tokens[offsets[i]] = i == 7 ? 1000000 : (int32_t)(i % 1000);
    }
    h5_quiet();
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    put(file, "tokens", H5T_NATIVE_INT32, (size_t)offsets[ROWS], tokens);
    put(file, "offsets", H5T_NATIVE_INT64, ROWS + 1, offsets);
    H5Fclose(file);
    free(tokens);
    free(offsets);
}

struct rig {
    struct job job;
    struct prompting prompting;
    struct stamps file;
    struct prompts *prompts;
    struct feeder *feeder;
};

static void open_rig(struct rig *r)
{
    struct err e;
    *r = (struct rig){.prompting = {.bos = -1, .eos = -1, .vocab = 1000}};
    r->prompting.sampling = json_pack("{s:i}", "max_new_tokens", 4);
    r->job.sampling.samples = SAMPLES;
    assert_int_equal(stamps_add(&r->file, path, &e), 0);
    assert_int_equal(prompts_open(&r->prompts, path, &e), 0);
    prompts_limit(r->prompts, CONTEXT, CONTEXT);
    const struct feeder_job job = {.job = &r->job,
                                   .prompting = &r->prompting,
                                   .prompts = r->prompts,
                                   .file = &r->file,
                                   .max_context = CONTEXT};
    r->feeder = feeder_open(&job);
}

static void close_rig(struct rig *r)
{
    feeder_close(r->feeder);
    prompts_close(r->prompts);
    stamps_free(&r->file);
    json_decref(r->prompting.sampling);
}

static void expect_unit(const struct fed *fed, uint64_t unit)
{
    size_t row = (size_t)(unit / SAMPLES), n = tokens_of(row);
    char id[32];
    snprintf(id, sizeof id, "%zu", row);
    assert_int_equal(fed->unit, unit);
    assert_string_equal(fed->id, id);
    if (row == 5 || row == 7 || row == 8) {
        static const char *const words[] = {"fit the context", "", "vocabulary", "empty"};
        assert_null(fed->tokens);
        assert_non_null(strstr(fed->error, words[row - 5]));
        return;
    }
    assert_null(fed->error);
    assert_int_equal(fed->n, n);
    assert_int_equal(fed->tokens[0], row % 1000);
    assert_int_equal(fed->limit, n + 4);
}

static void fed_free(struct fed *fed)
{
    free(fed->id);
    free(fed->tokens);
    free(fed->error);
    request_free(fed->request);
}

/* Takes n units from `first` on, waiting; false: nothing comes any more. */
static bool take(struct rig *r, uint64_t first, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct fed fed;
        struct err e;
        while (!feeder_take(r->feeder, &fed)) {
            if (feeder_state(r->feeder, &e) != FEEDER_FINE)
                return false;
            feeder_wait(r->feeder);
        }
        expect_unit(&fed, first + i);
        assert_ptr_equal(fed.with, (first + i) % 2 ? r : NULL);
        fed_free(&fed);
    }
    return true;
}

static void give(struct rig *r, uint64_t first, size_t n)
{
    for (size_t i = 0; i < n; i++)
        feeder_put(r->feeder, first + i, (first + i) % 2 ? r : NULL);
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void units_come_in_order(void **state)
{
    (void)state;
    struct rig r;
    struct fed fed;
    write_prompts();
    open_rig(&r);
    assert_false(feeder_take(r.feeder, &fed));
    feeder_wait(r.feeder); /* nothing is coming: at once */
    for (uint64_t unit = 0; unit < ROWS * SAMPLES; unit += 1000) {
        give(&r, unit, 1000);
        assert_int_equal(feeder_coming(r.feeder), 1000);
        assert_true(take(&r, unit, 1000));
        assert_int_equal(feeder_coming(r.feeder), 0);
    }
    give(&r, 0, 500); /* closed with units in it */
    close_rig(&r);
    feeder_close(NULL);
}

static void failed_reads_are_tried_again(void **state)
{
    (void)state;
    struct rig r;
    write_prompts();
    open_rig(&r);
    for (uint64_t unit = 0; unit < ROWS * SAMPLES; unit += 3000) { /* not what was read ahead */
        failing = 1;
        give(&r, unit, 30);
        assert_true(take(&r, unit, 30));
    }
    failing = 0;
    close_rig(&r);
}

static void a_disk_that_stays_broken_ends_it(void **state)
{
    (void)state;
    struct rig r;
    struct fed fed;
    struct err e;
    write_prompts();
    open_rig(&r);
    failing = 1000000;
    give(&r, 1000, 10);
    while (feeder_state(r.feeder, &e) == FEEDER_FINE)
        feeder_wait(r.feeder);
    assert_int_equal(feeder_state(r.feeder, &e), FEEDER_LATER);
    assert_non_null(strstr(e.text, path));
    assert_false(feeder_take(r.feeder, &fed));
    failing = 0;
    close_rig(&r);
}

/* The same rows, written again: still not the file that was opened. */
static void nothing_comes_of_a_changed_file(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct rig r;
        struct err e;
        write_prompts();
        open_rig(&r);
        give(&r, 0, 33 * SAMPLES); /* whole rows: the next one is not read yet */
        assert_true(take(&r, 0, 33 * SAMPLES));
        if (kind == 0)
            assert_int_equal(unlink(path), 0);
        else
            assert_int_equal(truncate(path, 3000), 0);
        give(&r, 33 * SAMPLES, 100);
        assert_false(take(&r, 33 * SAMPLES, 1));
        assert_int_equal(feeder_state(r.feeder, &e), FEEDER_CHANGED);
        assert_non_null(strstr(e.text, kind == 0 ? "was removed" : "was changed"));
        close_rig(&r);
    }
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/tandem-feeder-%d.h5", (int)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_come_in_order),
        cmocka_unit_test(failed_reads_are_tried_again),
        cmocka_unit_test(a_disk_that_stays_broken_ends_it),
        cmocka_unit_test(nothing_comes_of_a_changed_file),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
