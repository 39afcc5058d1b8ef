/* Units are dealt evenly, prompts together, all ranks alike, and quickly. */
#include "schedule/admission.h"
#include "schedule/units.h"

#include "base/mem.h"
#include "base/philox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static size_t deal(int ranks, int slots, uint64_t samples, const int *room, size_t n, int *owner)
{
    struct admission *a = admission_new(ranks, slots, samples);
    uint64_t *units = mem_new(n, sizeof *units);
    for (size_t i = 0; i < n; i++)
        units[i] = i;
    size_t dealt = admission_deal(a, room, units, n, owner);
    free(units);
    admission_free(a);
    return dealt;
}

static void units_are_dealt_evenly(void **state)
{
    (void)state;
    int room[] = {4, 0, 6, 4}, owner[14], count[4] = {0};
    assert_int_equal(deal(4, 6, 1, room, 9, owner), 9);
    for (int i = 0; i < 9; i++)
        count[owner[i]]++;
    assert_int_equal(count[0], 3);
    assert_int_equal(count[1], 0);
    assert_int_equal(count[2], 4);
    assert_int_equal(count[3], 2);
    assert_int_equal(deal(4, 6, 1, room, 100, owner), 14);
    assert_int_equal(deal(4, 6, 1, room, 0, owner), 0);
}

/* The definition: one unit after the other to a rank with most room. */
static void it_is_what_it_is_defined_to_be(void **state)
{
    (void)state;
    enum { RANKS = 9, SLOTS = 12, MOST = RANKS * SLOTS };
    int room[RANKS], left[RANKS], owner[MOST];
    for (uint64_t trial = 0; trial < 300; trial++) {
        size_t sum = 0;
        for (uint32_t i = 0; i < RANKS; i++) {
            room[i] = left[i] = (int)(philox_uniform(1, trial, i, 0) * (SLOTS + 1));
            sum += (size_t)room[i];
        }
        size_t n = (size_t)(philox_uniform(2, trial, 0, 0) * (MOST + 20));
        size_t dealt = deal(RANKS, SLOTS, 1, room, n, owner);
        assert_int_equal(dealt, n < sum ? n : sum);
        for (size_t u = 0; u < dealt; u++) {
            for (int i = 0; i < RANKS; i++)
                assert_true(left[i] <= left[owner[u]]);
            assert_true(left[owner[u]]-- > 0);
        }
    }
}

static void samples_stay_together(void **state)
{
    (void)state;
    int room[] = {5, 8, 8}, owner[21];
    static const int wanted[] = {1, 1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0};
    assert_int_equal(deal(3, 8, 4, room, 21, owner), 21);
    assert_memory_equal(owner, wanted, sizeof wanted);
}

/* A prompt that was cut goes on where it began, as long as there is room. */
static void a_prompt_goes_on_where_it_began(void **state)
{
    (void)state;
    struct admission *a = admission_new(2, 8, 6);
    uint64_t units[] = {0, 1, 2, 3, 4, 5, 6, 7};
    int owner[8];
    assert_int_equal(admission_deal(a, (int[]){2, 1}, units, 2, owner), 2);
    assert_int_equal(owner[1], 0);
    assert_int_equal(admission_deal(a, (int[]){3, 8}, units + 2, 6, owner), 6);
    static const int wanted[] = {0, 0, 0, 1, 1, 1};
    assert_memory_equal(owner, wanted, sizeof wanted);
    admission_free(a);
}

/* Of this thread alone: the machine may have other work. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void thousands_of_ranks_are_served_quickly(void **state)
{
    (void)state;
    enum { RANKS = 4096, SLOTS = 256 };
    size_t n = (size_t)RANKS * SLOTS;
    int *room = mem_new(RANKS, sizeof *room), *owner = mem_new(n, sizeof *owner);
    uint64_t *units = mem_new(n, sizeof *units);
    struct admission *a = admission_new(RANKS, SLOTS, 1);
    for (int i = 0; i < RANKS; i++)
        room[i] = SLOTS;
    for (size_t i = 0; i < n; i++)
        units[i] = i;
    double best = 1;
    for (int i = 0; i < 9; i++) {
        double start = cpu_seconds();
        assert_int_equal(admission_deal(a, room, units, n, owner), n);
        double seconds = cpu_seconds() - start;
        best = seconds < best ? seconds : best;
    }
    print_message("%d ranks x %d slots: %.2f ms\n", RANKS, SLOTS, best * 1e3);
    if (!getenv("QUICK"))          /* under a checker of memory times mean nothing */
        assert_true(best < 20e-3); /* 10 on a machine that does nothing else */
    admission_free(a);
    free(room);
    free(owner);
    free(units);
}

static void units_skip_what_is_done(void **state)
{
    (void)state;
    const uint8_t done[] = {0xfd, 0x02}; /* bits 1 and 8, 10 are open */
    struct units u;
    units_init(&u, 11, done, 1, 1, 5);
    assert_int_equal(u.left, 3);
    assert_int_equal(units_take(&u), 1);
    assert_int_equal(units_take(&u), 8);
    assert_int_equal(units_take(&u), 10);
    assert_int_equal(u.left, 0);
    units_free(&u);
    units_init(&u, 0, NULL, 1, 1, 5);
    assert_int_equal(u.left, 0);
    units_free(&u);
}

/* Blocks, drawn by cells in any way, are the job, each unit once; whole prompts; small at the end. */
static void cells_claim_the_job_in_blocks(void **state)
{
    (void)state;
    enum { CELLS = 5, TOTAL = 3000, SAMPLES = 4, PLACES = 40 };
    struct units u[CELLS];
    static unsigned char taken[TOTAL];
    uint64_t last = 0, blocks = 0;
    bool open[CELLS];
    memset(taken, 0, sizeof taken);
    for (int c = 0; c < CELLS; c++) {
        units_init(&u[c], TOTAL, NULL, CELLS, SAMPLES, PLACES);
        assert_int_equal(u[c].left, 0);
        assert_int_equal(u[c].undone, TOTAL);
        open[c] = true;
    }
    for (uint64_t k = 0; k < TOTAL; k++) {
        int c = (int)(philox_uniform(3, k, 0, 0) * CELLS);
        open[c] = units_claim(&u[c], k);
        blocks += open[c];
        assert_true(u[c].left <= 4 * PLACES);
        last = u[c].left > 0 ? u[c].left : last;
        if (u[c].left > 0)
            assert_int_equal(u[c].ranges[u[c].n_ranges - 1].next % SAMPLES, 0);
        while (u[c].left > 0)
            taken[units_take(&u[c])]++;
    }
    for (int i = 0; i < TOTAL; i++)
        assert_int_equal(taken[i], 1);
    assert_int_equal(last, SAMPLES);
    assert_in_range(blocks, TOTAL / (4 * PLACES), 100);
    for (int c = 0; c < CELLS; c++)
        units_free(&u[c]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_are_dealt_evenly),
        cmocka_unit_test(it_is_what_it_is_defined_to_be),
        cmocka_unit_test(samples_stay_together),
        cmocka_unit_test(a_prompt_goes_on_where_it_began),
        cmocka_unit_test(thousands_of_ranks_are_served_quickly),
        cmocka_unit_test(units_skip_what_is_done),
        cmocka_unit_test(cells_claim_the_job_in_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
