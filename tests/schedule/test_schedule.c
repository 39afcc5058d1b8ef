/* The schedule against what it promises, over random arrivals: no slot or block is used twice,
 * every token of every sequence is computed exactly once and in order, every sequence ends. */
#include "schedule/schedule.h"

#include "base/mem.h"
#include "base/philox.h"
#include "kernels/ops.h"
#include "schedule/admission.h"
#include "schedule/units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct sequence *sequence_new(uint64_t unit, size_t n_prompt, size_t limit)
{
    struct sequence *q = mem_zeroed(1, sizeof *q);
    q->unit = unit;
    q->n_prompt = q->n_tokens = n_prompt;
    q->limit = limit;
    q->tokens = mem_new(limit, sizeof *q->tokens);
    q->logprobs = mem_new(limit - n_prompt, sizeof *q->logprobs);
    for (size_t i = 0; i < n_prompt; i++)
        q->tokens[i] = (int32_t)(unit * 1000 + i);
    return q;
}

/* What the test itself believes about every block: which (unit, token) it holds. */
struct world {
    struct schedule_limits limits;
    struct schedule *s;
    int64_t *cache; /* [kv_blocks][KV_BLOCK] unit * 1000 + position, -1: nothing */
    size_t steps, finished;
};

/* Writes a micro-batch's rows to the cache and checks that everything before them is there. */
static void run_rows(struct world *w, const struct micro_batch *b)
{
    int stride = schedule_blocks_stride(&w->limits);
    assert_true(b->rows <= schedule_most_rows(&w->limits));
    assert_true(b->segments <= schedule_most_sampled(&w->limits));
    for (int i = 0; i < b->rows; i++) {
        int seg = b->row_seg[i], pos = b->row_pos[i];
        const int32_t *blocks = b->blocks + seg * stride;
        assert_in_range(i, b->seg_row[seg], b->seg_row[seg + 1] - 1);
        assert_int_equal(pos, b->seg_pos[seg] + i - b->seg_row[seg]);
        assert_true(pos < b->max_context);
        int64_t unit = b->token[i] / 1000;
        assert_int_equal(b->token[i], unit * 1000 + pos);
        w->cache[(size_t)blocks[pos / KV_BLOCK] * KV_BLOCK + (size_t)(pos % KV_BLOCK)] =
            b->token[i];
        for (int t = 0; t <= pos; t++)
            assert_int_equal(
                w->cache[(size_t)blocks[t / KV_BLOCK] * KV_BLOCK + (size_t)(t % KV_BLOCK)],
                unit * 1000 + t);
    }
}

static void take_samples(struct world *w, const struct micro_batch *b)
{
    for (int i = 0; i < b->n_sampled; i++) {
        int slot = b->sampled_slot[i];
        struct sequence *q = schedule_sequence(w->s, slot);
        assert_int_equal(q->computed, q->n_tokens);
        q->tokens[q->n_tokens] = (int32_t)(q->unit * 1000 + q->n_tokens);
        if (++q->n_tokens == q->limit) {
            sequence_free(schedule_finish(w->s, slot));
            w->finished++;
        }
    }
}

static void run_step(struct world *w)
{
    const struct micro_batch *plan = schedule_plan(w->s);
    for (int m = 0; m < w->limits.micro_batches; m++)
        run_rows(w, &plan[m]);
    schedule_advance(w->s);
    for (int m = 0; m < w->limits.micro_batches; m++)
        take_samples(w, &plan[m]);
    w->steps++;
}

static void run_world(const struct schedule_limits *limits, size_t sequences)
{
    struct world w = {.limits = *limits, .s = schedule_new(limits)};
    w.cache = mem_new(limits->kv_blocks * KV_BLOCK, sizeof *w.cache);
    memset(w.cache, 0xff, limits->kv_blocks * KV_BLOCK * sizeof *w.cache);
    size_t next = 0;
    while (w.finished < sequences) {
        for (int room = schedule_room(w.s); room > 0 && next < sequences; room--, next++) {
            float u = philox_uniform(5, next, 0, 0), v = philox_uniform(5, next, 1, 0);
            size_t limit = 2 + (size_t)(u * (float)(limits->max_context - 2));
            size_t prompt = 1 + (size_t)(v * (float)(limit - 2));
            schedule_submit(w.s, sequence_new(next + 1, prompt, limit));
        }
        run_step(&w);
        assert_true(w.steps < 200000);
    }
    assert_true(schedule_idle(w.s));
    assert_int_equal(schedule_room(w.s), limits->slots);
    schedule_free(w.s);
    free(w.cache);
}

static void every_token_is_computed_once(void **state)
{
    (void)state;
    static const struct schedule_limits worlds[] = {
        {.slots = 1, .micro_batches = 1, .prefill_chunk = 1, .max_context = 130, .kv_blocks = 3},
        {.slots = 7, .micro_batches = 2, .prefill_chunk = 5, .max_context = 200, .kv_blocks = 9},
        {.slots = 16,
         .micro_batches = 3,
         .prefill_chunk = 512,
         .max_context = 300,
         .kv_blocks = 80},
        {.slots = 5, .micro_batches = 4, .prefill_chunk = 17, .max_context = 64, .kv_blocks = 2},
        {.slots = 3, .micro_batches = 4, .prefill_chunk = 2, .max_context = 65, .kv_blocks = 2},
    };
    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++)
        run_world(&worlds[i], 60);
}

static void a_plan_can_be_made_again(void **state)
{
    (void)state;
    struct schedule_limits l = {
        .slots = 2, .micro_batches = 1, .prefill_chunk = 4, .max_context = 64, .kv_blocks = 2};
    struct schedule *s = schedule_new(&l);
    schedule_submit(s, sequence_new(1, 6, 9));
    for (int i = 0; i < 2; i++) {
        const struct micro_batch *plan = schedule_plan(s);
        assert_int_equal(plan[0].rows, 4);
        assert_int_equal(plan[0].n_sampled, 0);
    }
    schedule_free(s);
}

/* What an earlier run has sampled is computed in chunks like a prompt, and not sampled again. */
static void a_begun_sequence_goes_on(void **state)
{
    (void)state;
    struct schedule_limits l = {
        .slots = 2, .micro_batches = 1, .prefill_chunk = 16, .max_context = 64, .kv_blocks = 2};
    struct schedule *s = schedule_new(&l);
    struct sequence *q = sequence_new(1, 3, 60);
    for (q->n_tokens = 3; q->n_tokens < 50; q->n_tokens++)
        q->tokens[q->n_tokens] = (int32_t)(1000 + q->n_tokens);
    schedule_submit(s, q);
    static const int rows[] = {16, 16, 16, 2}, sampled[] = {0, 0, 0, 1};
    for (int i = 0; i < 4; i++) {
        const struct micro_batch *plan = schedule_plan(s);
        assert_int_equal(plan[0].rows, rows[i]);
        assert_int_equal(plan[0].n_sampled, sampled[i]);
        schedule_advance(s);
    }
    assert_int_equal(q->computed, 50);
    q->tokens[q->n_tokens++] = 1050;
    assert_int_equal(schedule_plan(s)[0].rows, 1);
    schedule_free(s);
}

static void new_sequences_go_where_fewest_run(void **state)
{
    (void)state;
    struct schedule_limits l = {
        .slots = 6, .micro_batches = 3, .prefill_chunk = 30, .max_context = 64, .kv_blocks = 6};
    struct schedule *s = schedule_new(&l);
    for (uint64_t u = 1; u <= 3; u++)
        schedule_submit(s, sequence_new(u, 2, 9));
    const struct micro_batch *plan = schedule_plan(s);
    for (int m = 0; m < 3; m++)
        assert_int_equal(plan[m].segments, 1);
    schedule_free(s);
}

static void units_are_dealt_evenly(void **state)
{
    (void)state;
    int room[] = {4, 0, 6, 4}, owner[14], count[4] = {0};
    assert_int_equal(admission_deal(room, 4, 9, owner), 9);
    for (int i = 0; i < 9; i++)
        count[owner[i]]++;
    assert_int_equal(count[0], 3);
    assert_int_equal(count[1], 0);
    assert_int_equal(count[2], 4);
    assert_int_equal(count[3], 2);
    assert_int_equal(admission_deal(room, 4, 100, owner), 14);
    assert_int_equal(admission_deal(room, 4, 0, owner), 0);
}

static void units_skip_what_is_done(void **state)
{
    (void)state;
    const uint8_t done[] = {0xfd, 0x02}; /* bits 1 and 8, 10 are open */
    struct units u;
    units_init(&u, 11, done);
    assert_int_equal(u.left, 3);
    assert_int_equal(units_take(&u), 1);
    assert_int_equal(units_take(&u), 8);
    assert_int_equal(units_take(&u), 10);
    assert_int_equal(u.left, 0);
    units_free(&u);
    units_init(&u, 0, NULL);
    assert_int_equal(u.left, 0);
    units_free(&u);
}

static void blocks_are_taken_whole_or_not(void **state)
{
    (void)state;
    struct blocks b;
    int32_t list[5];
    blocks_init(&b, 5);
    assert_true(blocks_take(&b, 3, list));
    assert_false(blocks_take(&b, 3, list + 3));
    assert_int_equal(b.n_free, 2);
    blocks_give(&b, 3, list);
    assert_int_equal(b.n_free, 5);
    assert_int_equal(blocks_for(0), 0);
    assert_int_equal(blocks_for(1), 1);
    assert_int_equal(blocks_for(64), 1);
    assert_int_equal(blocks_for(65), 2);
    blocks_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_token_is_computed_once),
        cmocka_unit_test(a_plan_can_be_made_again),
        cmocka_unit_test(a_begun_sequence_goes_on),
        cmocka_unit_test(new_sequences_go_where_fewest_run),
        cmocka_unit_test(units_are_dealt_evenly),
        cmocka_unit_test(units_skip_what_is_done),
        cmocka_unit_test(blocks_are_taken_whole_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
