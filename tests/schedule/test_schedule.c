/* The schedule against what it promises, over random arrivals: no slot or block is used twice,
 * every token of every sequence is computed exactly once and in order, every sequence ends. */
#include "schedule/schedule.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/philox.h"
#include "kernels/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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
    int64_t *cache[KV_POOLS_MAX]; /* [blocks][KV_BLOCK] unit * 1000 + position, -1: nothing */
    size_t steps, finished;
    float stops; /* how often a sampled token ends its sequence */
};

static int64_t *entry(struct world *w, const struct micro_batch *b, int pool, int seg, int pos)
{
    const struct block_table *t = &b->table[pool];
    assert_true(t->width <= schedule_table_width(&w->limits, pool));
    int32_t block = t->blocks[seg * t->width + pos / KV_BLOCK % t->width];
    return &w->cache[pool][(size_t)block * KV_BLOCK + (size_t)(pos % KV_BLOCK)];
}

/* Writes a row to the caches and checks that everything it sees is there. */
static void run_row(struct world *w, const struct micro_batch *b, int i)
{
    int seg = b->row_seg[i], pos = b->row_pos[i];
    int64_t unit = b->token[i] / 1000;
    assert_in_range(i, b->seg_row[seg], b->seg_row[seg + 1] - 1);
    assert_int_equal(pos, b->seg_pos[seg] + i - b->seg_row[seg]);
    assert_true(pos < b->max_context);
    assert_int_equal(b->token[i], unit * 1000 + pos);
    for (int p = 0; p < w->limits.pools; p++) {
        int window = w->limits.pool[p].window;
        *entry(w, b, p, seg, pos) = b->token[i];
        for (int t = window && pos >= window ? pos - window + 1 : 0; t <= pos; t++)
            assert_int_equal(*entry(w, b, p, seg, t), unit * 1000 + t);
    }
}

static void run_rows(struct world *w, const struct micro_batch *b)
{
    assert_true(b->rows <= schedule_most_rows(&w->limits));
    assert_true(b->segments <= schedule_most_sampled(&w->limits));
    for (int i = 0; i < b->rows; i++)
        run_row(w, b, i);
}

static void make_caches(struct world *w)
{
    for (int p = 0; p < w->limits.pools; p++) {
        size_t tokens = w->limits.pool[p].blocks * KV_BLOCK;
        w->cache[p] = mem_new(tokens, sizeof *w->cache[p]);
        memset(w->cache[p], 0xff, tokens * sizeof *w->cache[p]);
    }
}

static void free_caches(struct world *w)
{
    for (int p = 0; p < w->limits.pools; p++)
        free(w->cache[p]);
}

static void take_samples(struct world *w, const struct micro_batch *b)
{
    for (int i = 0; i < b->n_sampled; i++) {
        int slot = b->sampled_slot[i];
        struct sequence *q = schedule_sequence(w->s, slot);
        assert_int_equal(q->computed, q->n_tokens);
        q->tokens[q->n_tokens] = (int32_t)(q->unit * 1000 + q->n_tokens);
        bool stops = philox_uniform(6, q->unit, 0, (uint32_t)q->n_tokens) < w->stops;
        if (++q->n_tokens == q->limit || stops) {
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

/* Of so many, those that show every access to memory, where each takes thirty times as long (tests/run). */
static int some(int n)
{
    return getenv("VALGRIND") ? n / 4 : n;
}

/* Returns how many sequences were put back. */
static uint64_t run_world(const struct schedule_limits *limits, float stops, size_t sequences)
{
    struct world w = {.limits = *limits, .s = schedule_new(limits), .stops = stops};
    make_caches(&w);
    size_t next = 0;
    while (w.finished < sequences) {
        struct schedule_room more = schedule_room(w.s, 0);
        for (int room = more.now + more.ahead; room > 0 && next < sequences; room--, next++) {
            float u = philox_uniform(5, next, 0, 0), v = philox_uniform(5, next, 1, 0);
            size_t limit = 2 + (size_t)(u * (float)(limits->max_context - 2));
            size_t prompt = 1 + (size_t)(v * (float)(limit - 2));
            schedule_submit(w.s, sequence_new(next + 1, prompt, limit));
        }
        run_step(&w);
        assert_true(w.steps < 200000);
    }
    assert_true(schedule_idle(w.s));
    struct schedule_usage use = schedule_usage(w.s);
    assert_int_equal(use.blocks, 0);
    schedule_free(w.s);
    free_caches(&w);
    return use.put_back;
}

static void every_token_is_computed_once(void **state)
{
    (void)state;
    static const struct schedule_limits worlds[] = {
        {.slots = 1,
         .micro_batches = 1,
         .prefill_chunk = 1,
         .max_context = 130,
         .pools = 1,
         .pool[0].blocks = 3},
        {.slots = 7,
         .micro_batches = 2,
         .prefill_chunk = 5,
         .max_context = 200,
         .pools = 1,
         .pool[0].blocks = 9},
        {.slots = 16,
         .micro_batches = 3,
         .prefill_chunk = 512,
         .max_context = 300,
         .pools = 1,
         .pool[0].blocks = 80},
        {.slots = 5,
         .micro_batches = 4,
         .prefill_chunk = 17,
         .max_context = 64,
         .pools = 1,
         .pool[0].blocks = 2},
        {.slots = 3,
         .micro_batches = 4,
         .prefill_chunk = 2,
         .max_context = 65,
         .pools = 1,
         .pool[0].blocks = 2},
    };
    uint64_t put_back = 0;
    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++) {
        put_back += run_world(&worlds[i], 0, (size_t)some(60));
        put_back += run_world(&worlds[i], 0.02f, (size_t)some(120));
    }
    assert_true(put_back > (uint64_t)some(10));
}

/* The same with windows: memory for one sequence and a bit, for many, for rings alone. */
static void windows_hold_what_they_see(void **state)
{
    (void)state;
    static const struct schedule_limits worlds[] = {
        {.slots = 1, .prefill_chunk = 1, .pools = 2, .pool = {{5, 0}, {1, 1}}},
        {.slots = 7, .prefill_chunk = 5, .pools = 2, .pool = {{9, 0}, {2, 65}}},
        {.slots = 7, .prefill_chunk = 200, .pools = 2, .pool = {{60, 0}, {5, 66}}},
        {.slots = 16, .prefill_chunk = 512, .pools = 3, .pool = {{80, 0}, {50, 100}, {17, 40}}},
        {.slots = 5, .prefill_chunk = 90, .pools = 1, .pool = {{4, 130}}},
        {.slots = 16, .prefill_chunk = 300, .pools = 2, .pool = {{20, 0}, {60, 64}}},
    };
    uint64_t put_back = 0;
    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++) {
        struct schedule_limits l = worlds[i];
        l.micro_batches = 1 + (int)i % 3;
        l.max_context = 300;
        for (int share = 0; share < 2; share++) {
            l.share = share;
            put_back += run_world(&l, 0, (size_t)some(60));
            put_back += run_world(&l, 0.02f, (size_t)some(120));
        }
    }
    assert_true(put_back > (uint64_t)some(10));
}

static void a_plan_can_be_made_again(void **state)
{
    (void)state;
    struct schedule_limits l = {.slots = 2,
                                .micro_batches = 1,
                                .prefill_chunk = 4,
                                .max_context = 64,
                                .pools = 1,
                                .pool[0].blocks = 2};
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
    struct schedule_limits l = {.slots = 2,
                                .micro_batches = 1,
                                .prefill_chunk = 16,
                                .max_context = 64,
                                .pools = 1,
                                .pool[0].blocks = 2};
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

/* A single prompt is spread over the micro-batches, as are those that decode. */
static void micro_batches_are_filled_evenly(void **state)
{
    (void)state;
    struct schedule_limits l = {.slots = 6,
                                .micro_batches = 3,
                                .prefill_chunk = 30,
                                .max_context = 64,
                                .pools = 1,
                                .pool[0].blocks = 6};
    struct schedule *s = schedule_new(&l);
    schedule_submit(s, sequence_new(1, 50, 60));
    for (uint64_t u = 2; u <= 4; u++)
        schedule_submit(s, sequence_new(u, 1, 9));
    const struct micro_batch *plan = schedule_plan(s);
    for (int m = 0; m < 3; m++) {
        assert_int_equal(plan[m].segments, 2);
        assert_int_equal(plan[m].rows, 11);
        assert_int_equal(plan[m].seg_pos[1], 10 * m);
        assert_int_equal(plan[m].n_sampled, 1);
    }
    schedule_free(s);
}

/* Memory for one and a half: the younger goes back when the older needs its blocks, and ends with the
 * tokens it would have had. */
static void the_youngest_is_put_back(void **state)
{
    (void)state;
    struct schedule_limits l = {.slots = 2,
                                .micro_batches = 1,
                                .prefill_chunk = 64,
                                .max_context = 256,
                                .pools = 1,
                                .pool[0].blocks = 6};
    struct world w = {.limits = l, .s = schedule_new(&l), .stops = 0};
    make_caches(&w);
    schedule_submit(w.s, sequence_new(1, 10, 256));
    schedule_submit(w.s, sequence_new(2, 10, 256));
    const struct sequence *old = NULL, *young = NULL;
    for (int step = 0; step < 180; step++) {
        run_step(&w);
        old = schedule_sequence(w.s, 0);
        young = schedule_usage(w.s).running == 2 ? schedule_sequence(w.s, 1) : young;
    }
    assert_int_equal(old->n_tokens, 190);
    assert_int_equal(schedule_usage(w.s).running, 2);
    while (schedule_usage(w.s).put_back == 0)
        run_step(&w);
    assert_int_equal(old->n_tokens, 194);
    assert_int_equal(young->n_tokens, 193);
    assert_int_equal(schedule_usage(w.s).running, 1);
    while (w.finished < 2)
        run_step(&w);
    assert_int_equal(schedule_usage(w.s).put_back, 1);
    assert_int_equal(schedule_usage(w.s).computed_again, 192);
    schedule_free(w.s);
    free_caches(&w);
}

/* Runs f in a child; the status it ends with. */
static int status_of(void (*f)(void))
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        assert_non_null(freopen("/dev/null", "w", stderr));
        f();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void give_twice(void)
{
    struct blocks b;
    int32_t list[2];
    blocks_init(&b, 5);
    blocks_take(&b, 2, list);
    blocks_give(&b, 1, list);
    blocks_give(&b, 1, list); /* though another one is in use */
}

static void hold_what_is_free(void)
{
    struct blocks b;
    blocks_init(&b, 5);
    blocks_hold(&b, 2);
}

static void give_what_is_none(void)
{
    struct blocks b;
    int32_t list[] = {0, 5};
    blocks_init(&b, 5);
    blocks_take(&b, 1, list);
    blocks_give(&b, 2, list);
}

static void blocks_that_nobody_holds_are_not_given(void **state)
{
    (void)state;
    assert_int_equal(status_of(give_twice), EXIT_RUN);
    assert_int_equal(status_of(hold_what_is_free), EXIT_RUN);
    assert_int_equal(status_of(give_what_is_none), EXIT_RUN);
}

static void a_block_is_free_when_nobody_holds_it(void **state)
{
    (void)state;
    struct blocks b;
    int32_t list[5];
    blocks_init(&b, 5);
    assert_true(blocks_take(&b, 2, list));
    blocks_hold(&b, list[1]);
    blocks_give(&b, 2, list);
    assert_int_equal(b.n_free, 4);
    blocks_give(&b, 1, list + 1);
    assert_int_equal(b.n_free, 5);
    blocks_free(&b);
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
        cmocka_unit_test(windows_hold_what_they_see),
        cmocka_unit_test(a_plan_can_be_made_again),
        cmocka_unit_test(a_begun_sequence_goes_on),
        cmocka_unit_test(micro_batches_are_filled_evenly),
        cmocka_unit_test(the_youngest_is_put_back),
        cmocka_unit_test(blocks_are_taken_whole_or_not),
        cmocka_unit_test(blocks_that_nobody_holds_are_not_given),
        cmocka_unit_test(a_block_is_free_when_nobody_holds_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
