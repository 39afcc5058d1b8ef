/* Several ranks and a whole job: no rank starves while another queues, no slot while there is work,
 * no sequence while younger ones are served, and memory is used. */
#include "fleet.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void run(struct fleet *f, uint64_t most_steps)
{
    fleet_open(f);
    while (fleet_step(f))
        assert_true(f->steps <= most_steps);
}

static struct lengths long_and_short(uint64_t unit)
{
    size_t answer = unit % 2 == 0 ? 400 : 1;
    return (struct lengths){1, answer, answer};
}

/* Memory for one sequence a rank, slots for sixteen: units go where memory is. */
static void units_go_where_memory_is(void **state)
{
    (void)state;
    struct fleet f = {
        .ranks = 2,
        .limits = {.slots = 16,
                   .micro_batches = 1,
                   .prefill_chunk = 16,
                   .max_context = 401,
                   .pools = 1,
                   .pool[0].blocks = 7},
        .units = 32,
        .samples = 1,
        .lengths = long_and_short,
    };
    run(&f, 10000);
    /* 16 long ones on two ranks take 3,200 steps. */
    if (f.steps > 3700)
        fail_msg("%llu steps; ranks without a row in %llu and %llu", (unsigned long long)f.steps,
                 (unsigned long long)f.idle[0], (unsigned long long)f.idle[1]);
    fleet_close(&f);
}

static struct lengths prompt_of_16(uint64_t unit)
{
    (void)unit;
    return (struct lengths){16, 1, 1};
}

/* The budget of a step is one prompt: they end in the order in which they came. */
static void chunks_are_given_in_order(void **state)
{
    (void)state;
    enum { UNITS = 500 };
    uint64_t done[UNITS];
    struct fleet f = {
        .ranks = 1,
        .limits = {.slots = 8,
                   .micro_batches = 1,
                   .prefill_chunk = 16,
                   .max_context = 17,
                   .pools = 1,
                   .pool[0].blocks = 8},
        .units = UNITS,
        .samples = 1,
        .lengths = prompt_of_16,
        .done = done,
    };
    run(&f, UNITS + 1);
    for (int i = 0; i < UNITS; i++)
        assert_int_equal(done[i], i + 1);
    fleet_close(&f);
}

static size_t new_tokens;
static struct lengths one_and_some(uint64_t unit)
{
    (void)unit;
    return (struct lengths){1, new_tokens, new_tokens};
}

/* n new tokens cost n steps. The first step of a job only hands out. */
static void a_freed_slot_is_filled_at_once(void **state)
{
    (void)state;
    static const size_t answers[] = {1, 4, 16, 200};
    for (int memory = 1; memory <= 2; memory++)
        for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
            new_tokens = answers[i];
            struct fleet f = {
                .ranks = 2,
                .limits = {.slots = 4,
                           .micro_batches = 2,
                           .prefill_chunk = 16,
                           .max_context = memory == 1 ? 201 : 5000,
                           .pools = 1,
                           .pool[0].blocks = 80},
                .units = 400,
                .samples = 1,
                .lengths = one_and_some,
            };
            /* Where memory may be short the first deal is a careful one: one step more. */
            uint64_t steps = 400 / 8 * new_tokens + (uint64_t)memory;
            run(&f, steps);
            assert_int_equal(f.steps, steps);
            assert_int_equal(f.idle_steps, 1);
            fleet_close(&f);
        }
}

static struct lengths short_of_a_long_limit(uint64_t unit)
{
    return (struct lengths){100, 100 + unit * 37 % 200, 4000};
}

/* Room for four sequences at their limit, but they stop long before it: far more than four run. */
static void memory_is_used_as_sequences_grow(void **state)
{
    (void)state;
    struct fleet f = {
        .ranks = 1,
        .limits = {.slots = 64,
                   .micro_batches = 1,
                   .prefill_chunk = 512,
                   .max_context = 4100,
                   .pools = 1,
                   .pool[0].blocks = 4 * 65},
        .units = 2000,
        .samples = 1,
        .lengths = short_of_a_long_limit,
    };
    run(&f, 100000);
    double slots = f.slots_used / (double)f.full_steps, kv = f.kv_used / (double)f.full_steps;
    struct schedule_usage use = fleet_usage(&f);
    if (!(slots > 40 && kv > 0.8 * 4 * 65 && (double)use.computed_again < 0.1 * (double)f.rows))
        fail_msg("%.1f sequences, %.1f of 260 blocks, %llu put back, %llu of %llu rows again",
                 slots, kv, (unsigned long long)use.put_back,
                 (unsigned long long)use.computed_again, (unsigned long long)f.rows);
    fleet_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_go_where_memory_is),
        cmocka_unit_test(chunks_are_given_in_order),
        cmocka_unit_test(a_freed_slot_is_filled_at_once),
        cmocka_unit_test(memory_is_used_as_sequences_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
