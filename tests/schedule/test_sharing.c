/* Sequences that begin alike: what they read is what they would have computed, beginnings are
 * computed once, and memory that nobody reads is there for all. */
#include "schedule/prefix.h"
#include "schedule/schedule.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/philox.h"
#include "kernels/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A cache whose entries depend on all tokens up to theirs, as K and V do. */
struct world {
    struct schedule_limits limits;
    struct schedule *s;
    uint64_t *cache; /* [blocks][KV_BLOCK] */
    uint64_t rows;
    size_t finished;
    float stops;
};

static void open_world(struct world *w)
{
    w->s = schedule_new(&w->limits);
    w->cache = mem_zeroed(w->limits.pool[0].blocks * KV_BLOCK, sizeof *w->cache);
}

static void close_world(struct world *w)
{
    schedule_free(w->s);
    free(w->cache);
}

static uint64_t *entry(struct world *w, const struct micro_batch *b, int seg, int pos)
{
    int32_t block = b->table[0].blocks[seg * b->table[0].width + pos / KV_BLOCK];
    return &w->cache[(size_t)block * KV_BLOCK + (size_t)(pos % KV_BLOCK)];
}

/* Every row finds before it what its own tokens come to. */
static void run_segment(struct world *w, const struct micro_batch *b, int seg,
                        const int32_t *tokens)
{
    uint64_t h = HASH_START;
    for (int pos = 0; pos < b->seg_pos[seg]; pos++) {
        h = hash_u64(h, (uint64_t)tokens[pos]);
        assert_true(*entry(w, b, seg, pos) == h);
    }
    for (int i = b->seg_row[seg]; i < b->seg_row[seg + 1]; i++) {
        h = hash_u64(h, (uint64_t)b->token[i]);
        *entry(w, b, seg, b->row_pos[i]) = h;
        w->rows++;
    }
}

/* The sequence a segment is of: the one in a slot that has this block table. */
static const struct sequence *sequence_of(struct world *w, const struct micro_batch *b, int seg)
{
    for (int i = 0; i < w->limits.slots; i++) {
        const struct sequence *q = schedule_sequence(w->s, i);
        int last = (b->seg_pos[seg] + b->seg_row[seg + 1] - b->seg_row[seg] - 1) / KV_BLOCK;
        if (q && q->kv[0].n > (size_t)last &&
            q->kv[0].list[last] == b->table[0].blocks[seg * b->table[0].width + last])
            return q;
    }
    fail_msg("segment %d is of no sequence", seg);
    return NULL;
}

static void take_samples(struct world *w, const struct micro_batch *b)
{
    for (int i = 0; i < b->n_sampled; i++) {
        struct sequence *q = schedule_sequence(w->s, b->sampled_slot[i]);
        assert_int_equal(q->computed, q->n_tokens);
        q->tokens[q->n_tokens] = (int32_t)(q->unit + q->n_tokens);
        bool stops = philox_uniform(6, q->unit, 0, (uint32_t)q->n_tokens) < w->stops;
        if (++q->n_tokens == q->limit || stops) {
            sequence_free(schedule_finish(w->s, b->sampled_slot[i]));
            w->finished++;
        }
    }
}

static void run_step(struct world *w)
{
    const struct micro_batch *plan = schedule_plan(w->s);
    for (int m = 0; m < w->limits.micro_batches; m++)
        for (int seg = 0; seg < plan[m].segments; seg++)
            run_segment(w, &plan[m], seg, sequence_of(w, &plan[m], seg)->tokens);
    schedule_advance(w->s);
    for (int m = 0; m < w->limits.micro_batches; m++)
        take_samples(w, &plan[m]);
}

/* A prompt of `same` tokens that depend on `kind` alone, and own ones up to n. */
static struct sequence *prompt(uint64_t unit, int kind, size_t same, size_t n, size_t limit)
{
    struct sequence *q = mem_zeroed(1, sizeof *q);
    q->unit = unit;
    q->n_prompt = q->n_tokens = n;
    q->limit = limit;
    q->tokens = mem_new(limit, sizeof *q->tokens);
    for (size_t i = 0; i < n; i++)
        q->tokens[i] = i < same ? kind * 10000 + (int32_t)i : (int32_t)(unit * 7 + i);
    return q;
}

/* Random beginnings, shared and not, with memory that is short: nothing is read that is not there,
 * everything ends, all memory comes back. */
static void what_is_shared_is_right(void **state)
{
    (void)state;
    static const struct schedule_limits worlds[] = {
        {.slots = 1,
         .micro_batches = 1,
         .prefill_chunk = 7,
         .max_context = 400,
         .pools = 1,
         .pool[0].blocks = 7},
        {.slots = 9,
         .micro_batches = 2,
         .prefill_chunk = 50,
         .max_context = 400,
         .pools = 1,
         .pool[0].blocks = 16},
        {.slots = 16,
         .micro_batches = 3,
         .prefill_chunk = 512,
         .max_context = 400,
         .pools = 1,
         .pool[0].blocks = 40},
        {.slots = 5,
         .micro_batches = 1,
         .prefill_chunk = 64,
         .max_context = 400,
         .pools = 1,
         .pool[0].blocks = 100},
    };
    uint64_t shared = 0, put_back = 0;
    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++) {
        struct world w = {.limits = worlds[i], .stops = 0.02f};
        w.limits.share = true;
        open_world(&w);
        for (uint64_t unit = 1; unit <= 150; unit++) {
            float u = philox_uniform(1, unit, 0, 0), v = philox_uniform(1, unit, 1, 0);
            size_t same = (size_t)(3 * u) * 70, n = same + 1 + (size_t)(v * 90);
            schedule_submit(w.s, prompt(unit, (int)(unit % 3), same, n, n + 1 + unit * 37 % 160));
        }
        for (int step = 0; w.finished < 150 && step < 100000; step++)
            run_step(&w);
        assert_int_equal(w.finished, 150);
        struct schedule_usage use = schedule_usage(w.s);
        assert_int_equal(use.blocks, 0);
        shared += use.shared;
        put_back += use.put_back;
        close_world(&w);
    }
    assert_true(shared > 1000);
    print_message("%llu tokens shared, %llu times put back\n", (unsigned long long)shared,
                  (unsigned long long)put_back);
    assert_true(put_back > 3);
}

/* Eight samples of a prompt: it is read once, and what does not fill a block by each, were it one row
 * that could go before those it needs. */
static void samples_read_their_prompt_once(void **state)
{
    (void)state;
    static const size_t lengths[] = {217, 193};
    for (int i = 0; i < 2; i++) {
        struct world w = {.limits = {.slots = 8,
                                     .micro_batches = 2,
                                     .prefill_chunk = 100,
                                     .max_context = 300,
                                     .pools = 1,
                                     .pool[0].blocks = 40,
                                     .share = true}};
        size_t n = lengths[i];
        open_world(&w);
        for (uint64_t unit = 0; unit < 8; unit++)
            schedule_submit(w.s, prompt(unit, 1, n, n, n + 2));
        while (w.finished < 8)
            run_step(&w);
        assert_int_equal(w.rows, n + 7 * (n - 3 * KV_BLOCK) + 8);
        assert_int_equal(schedule_usage(w.s).shared, 7 * 3 * KV_BLOCK);
        close_world(&w);
    }
}

/* Its last token is computed, even where a prompt ends with a block that is there. */
static void the_last_token_is_computed(void **state)
{
    (void)state;
    struct world w = {.limits = {.slots = 1,
                                 .micro_batches = 1,
                                 .prefill_chunk = 512,
                                 .max_context = 300,
                                 .pools = 1,
                                 .pool[0].blocks = 40,
                                 .share = true}};
    open_world(&w);
    for (uint64_t unit = 0; unit < 2; unit++)
        schedule_submit(w.s, prompt(unit, 1, 128, 128, 129));
    while (w.finished < 2)
        run_step(&w);
    assert_int_equal(w.rows, 128 + KV_BLOCK);
    close_world(&w);
}

static void the_one_that_fills_may_be_put_back(void **state)
{
    (void)state;
    struct world w = {.limits = {.slots = 3,
                                 .micro_batches = 1,
                                 .prefill_chunk = 20,
                                 .max_context = 300,
                                 .pools = 1,
                                 .pool[0].blocks = 6,
                                 .share = true}};
    open_world(&w);
    schedule_submit(w.s, prompt(1, 1, 0, 60, 300)); /* will want all memory */
    schedule_submit(w.s, prompt(2, 2, 150, 200, 210));
    schedule_submit(w.s, prompt(3, 2, 150, 200, 210));
    for (int step = 0; w.finished < 3 && step < 2000; step++)
        run_step(&w);
    assert_int_equal(w.finished, 3);
    close_world(&w);
}

static void tokens_of(int32_t *tokens, int first)
{
    for (int i = 0; i < KV_BLOCK; i++)
        tokens[i] = first + i;
}

/* What was read longest ago goes first, a child before its parent; a block that is used again for
 * other tokens is not taken for what it was. */
static void idle_blocks_are_dropped_in_order(void **state)
{
    (void)state;
    struct blocks b;
    int32_t a[KV_BLOCK], c[KV_BLOCK], list[3], again[4];
    bool filled;
    tokens_of(a, 1);
    tokens_of(c, 1000);
    blocks_init(&b, 4);
    struct prefix *p = prefix_new(&b);
    assert_true(blocks_take(&b, 3, list));
    prefix_announce(p, list[0], -1, a);
    assert_int_equal(prefix_find(p, -1, a, &filled), list[0]);
    assert_false(filled);
    prefix_filled(p, list[0]);
    prefix_announce(p, list[1], list[0], a); /* the same tokens at another place */
    prefix_filled(p, list[1]);
    prefix_announce(p, list[2], list[1], c);
    assert_int_equal(prefix_find(p, list[0], a, &filled), list[1]);
    prefix_withdraw(p, list[2]);
    assert_int_equal(prefix_find(p, list[1], c, &filled), -1);
    prefix_give(p, 3, list);
    assert_int_equal(prefix_idle(p), 2);
    assert_int_equal(b.n_free, 2);
    prefix_make_room(p, 3);
    assert_int_equal(prefix_find(p, -1, a, &filled), list[0]);
    assert_int_equal(prefix_find(p, list[0], a, &filled), -1);
    prefix_read(p, list[0]);
    assert_int_equal(prefix_idle(p), 0);
    prefix_make_room(p, 4);
    assert_int_equal(b.n_free, 3);
    assert_true(blocks_take(&b, 3, again));
    prefix_announce(p, again[0], -1, c);
    assert_int_equal(prefix_find(p, again[0], a, &filled), -1);
    prefix_free(p);
    blocks_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_shared_is_right),
        cmocka_unit_test(samples_read_their_prompt_once),
        cmocka_unit_test(the_last_token_is_computed),
        cmocka_unit_test(the_one_that_fills_may_be_put_back),
        cmocka_unit_test(idle_blocks_are_dropped_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
