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
    uint64_t *cache[KV_POOLS_MAX]; /* [blocks][KV_BLOCK] */
    uint64_t rows;
    size_t finished;
    float stops;
};

static void open_world(struct world *w)
{
    w->s = schedule_new(&w->limits);
    for (int i = 0; i < w->limits.pools; i++)
        w->cache[i] = mem_zeroed(w->limits.pool[i].blocks * KV_BLOCK, sizeof *w->cache[i]);
}

static void close_world(struct world *w)
{
    schedule_free(w->s);
    for (int i = 0; i < w->limits.pools; i++)
        free(w->cache[i]);
}

static uint64_t *entry(struct world *w, const struct micro_batch *b, int pool, int seg, int pos)
{
    const struct block_table *t = &b->table[pool];
    int32_t block = t->blocks[seg * t->width + pos / KV_BLOCK % t->width];
    return &w->cache[pool][(size_t)block * KV_BLOCK + (size_t)(pos % KV_BLOCK)];
}

/* Every row finds in its window what its own tokens come to: h [tokens]. */
static void check_row(struct world *w, const struct micro_batch *b, int seg, int pos,
                      const uint64_t *h)
{
    for (int p = 0; p < w->limits.pools; p++) {
        int window = w->limits.pool[p].window;
        for (int t = window && pos >= window ? pos - window + 1 : 0; t < pos; t++)
            assert_true(*entry(w, b, p, seg, t) == h[t]);
        *entry(w, b, p, seg, pos) = h[pos];
    }
    w->rows++;
}

static void run_segment(struct world *w, const struct micro_batch *b, int seg,
                        const int32_t *tokens)
{
    uint64_t h[1024];
    int end = b->seg_pos[seg] + b->seg_row[seg + 1] - b->seg_row[seg];
    for (int pos = 0; pos < end; pos++)
        h[pos] = hash_u64(pos ? h[pos - 1] : HASH_START, (uint64_t)tokens[pos]);
    for (int i = b->seg_row[seg]; i < b->seg_row[seg + 1]; i++) {
        assert_int_equal(b->token[i], tokens[b->row_pos[i]]);
        check_row(w, b, seg, b->row_pos[i], h);
    }
}

/* The sequence a segment is of: the one in a slot that has its last block, which nobody shares. */
static const struct sequence *sequence_of(struct world *w, const struct micro_batch *b, int seg)
{
    const struct block_table *t = &b->table[0];
    size_t last = blocks_for((size_t)(b->seg_pos[seg] + b->seg_row[seg + 1] - b->seg_row[seg])) - 1;
    for (int i = 0; i < w->limits.slots; i++) {
        const struct sequence *q = schedule_sequence(w->s, i);
        if (q && q->kv[0].n > last && q->kv[0].first <= last &&
            q->kv[0].list[last] == t->blocks[seg * t->width + (int)last % t->width])
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

/* Of a windowed pool a sequence never holds more than its rows look at. */
static void check_rings(struct world *w)
{
    for (int i = 0; i < w->limits.slots; i++) {
        const struct sequence *q = schedule_sequence(w->s, i);
        for (int p = 0; q && p < w->limits.pools; p++)
            assert_true(q->kv[p].n - q->kv[p].first <=
                        pool_span(&w->limits.pool[p], (size_t)w->limits.prefill_chunk, 400));
    }
}

static void run_step(struct world *w)
{
    const struct micro_batch *plan = schedule_plan(w->s);
    check_rings(w);
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

#define WORLD(s, m, chunk, ...)                                                                    \
    {                                                                                              \
        .slots = (s), .micro_batches = (m), .prefill_chunk = (chunk), __VA_ARGS__                  \
    }
#define POOLS1(b)           .pools = 1, .pool = {{(b), 0}}
#define POOLS2(b, c, v)     .pools = 2, .pool = {{(b), 0}, {(c), (v)}}
#define WINDOW(b, w)        .pools = 1, .pool = {{(b), (w)}}
#define WINDOWS(b, v, c, w) .pools = 2, .pool = {{(b), (v)}, {(c), (w)}}

/* Random beginnings, shared and not, with memory that is short, with windows that bind: nothing is
 * read that is not there, everything ends, all memory comes back. */
static void what_is_shared_is_right(void **state)
{
    (void)state;
    static const struct schedule_limits worlds[] = {
        WORLD(1, 1, 7, POOLS1(7)),
        WORLD(9, 2, 50, POOLS1(16)),
        WORLD(16, 3, 512, POOLS1(40)),
        WORLD(5, 1, 64, POOLS1(100)),
        WORLD(1, 1, 7, POOLS2(7, 2, 40)),
        WORLD(9, 2, 50, POOLS2(16, 30, 65)),
        WORLD(9, 2, 50, POOLS2(60, 4, 66)),
        WORLD(16, 3, 512, POOLS2(40, 33, 1)),
        WORLD(16, 3, 100, POOLS2(40, 21, 129)),
        WORLD(7, 1, 300, POOLS2(30, 30, 200)),
        WORLD(8, 2, 64, WINDOW(20, 70)),
        WORLD(6, 2, 90, WINDOWS(9, 2, 16, 100)),
        WORLD(6, 2, 90, POOLS2(42, 42, 400)),
    };
    uint64_t shared = 0, put_back = 0;
    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++) {
        struct world w = {.limits = worlds[i], .stops = 0.02f};
        w.limits.share = true;
        w.limits.max_context = 400;
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
        print_message("%zu: %llu tokens shared, %llu times put back, %llu rows\n", i,
                      (unsigned long long)use.shared, (unsigned long long)use.put_back,
                      (unsigned long long)w.rows);
        shared += use.shared;
        put_back += use.put_back;
        close_world(&w);
    }
    assert_true(shared > 1000);
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
 * other tokens is not taken for what it was; a node without blocks goes when nothing is behind it. */
static void idle_blocks_are_dropped_in_order(void **state)
{
    (void)state;
    struct blocks b;
    int32_t a[KV_BLOCK], c[KV_BLOCK], list[3];
    tokens_of(a, 1);
    tokens_of(c, 1000);
    blocks_init(&b, 4);
    struct prefix *p = prefix_new(&b, 1);
    assert_true(blocks_take(&b, 3, list));
    struct prefix_node *first = prefix_enter(p, NULL, a);
    prefix_announce(first);
    assert_ptr_equal(prefix_find(p, NULL, a), first);
    assert_true(prefix_announced(first));
    prefix_fill(p, first, 0, list[0]);
    prefix_withdraw(first);
    struct prefix_node *second = prefix_enter(p, first, a); /* the same tokens at another place */
    prefix_fill(p, second, 0, list[1]);
    struct prefix_node *third = prefix_enter(p, second, c);
    assert_ptr_equal(prefix_find(p, first, a), second);
    assert_ptr_equal(prefix_find(p, second, c), third);
    prefix_give(p, 0, 3, list);
    prefix_leave(p, third);
    assert_null(prefix_find(p, second, c));
    prefix_leave(p, second);
    prefix_leave(p, first);
    assert_int_equal(prefix_idle(p, 0), 2);
    assert_int_equal(b.n_free, 2);
    prefix_make_room(p, 0, 3);
    assert_ptr_equal(prefix_find(p, NULL, a), first);
    assert_null(prefix_find(p, first, a));
    assert_int_equal(prefix_read(p, first, 0), list[0]);
    assert_int_equal(prefix_idle(p, 0), 0);
    prefix_make_room(p, 0, 4);
    assert_int_equal(b.n_free, 3);
    prefix_give(p, 0, 1, list);
    prefix_make_room(p, 0, 4);
    assert_null(prefix_find(p, NULL, a));
    prefix_free(p);
    blocks_free(&b);
}

/* Blocks of two pools come and go by themselves; who computes a beginning again gives it the block
 * that it has lost, and what is behind is still there. */
static void a_node_gets_back_what_it_lost(void **state)
{
    (void)state;
    struct blocks b[2];
    int32_t a[KV_BLOCK], list[2][2], again;
    tokens_of(a, 1);
    blocks_init(&b[0], 3);
    blocks_init(&b[1], 3);
    struct prefix *p = prefix_new(b, 2);
    struct prefix_node *n[2] = {NULL};
    for (int i = 0; i < 2; i++) {
        assert_true(blocks_take(&b[i], 2, list[i]));
        n[i] = prefix_enter(p, i ? n[0] : NULL, a);
    }
    for (int i = 0; i < 2; i++)
        for (int pool = 0; pool < 2; pool++)
            prefix_fill(p, n[i], pool, list[pool][i]);
    prefix_give(p, 1, 1, &list[1][0]);
    prefix_make_room(p, 1, 2);
    assert_int_equal(prefix_block(n[0], 0), list[0][0]);
    assert_int_equal(prefix_block(n[0], 1), -1);
    assert_int_equal(prefix_block(n[1], 1), list[1][1]);
    assert_true(blocks_take(&b[1], 1, &again));
    prefix_fill(p, n[0], 1, again);
    prefix_fill(p, n[0], 0, list[0][1]); /* it has one: nothing */
    assert_int_equal(prefix_block(n[0], 0), list[0][0]);
    assert_int_equal(prefix_block(n[0], 1), again);
    prefix_give(p, 0, 2, list[0]);
    prefix_give(p, 1, 1, &again);
    prefix_give(p, 1, 1, &list[1][1]);
    prefix_make_room(p, 0, 3); /* nodes stay: the second pool's blocks are there, and sequences */
    assert_ptr_equal(prefix_find(p, n[0], a), n[1]);
    prefix_leave(p, n[0]);
    prefix_leave(p, n[1]);
    assert_ptr_equal(prefix_find(p, n[0], a), n[1]);
    prefix_make_room(p, 1, 3);
    assert_null(prefix_find(p, NULL, a));
    prefix_free(p);
    for (int i = 0; i < 2; i++)
        blocks_free(&b[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_shared_is_right),
        cmocka_unit_test(samples_read_their_prompt_once),
        cmocka_unit_test(the_last_token_is_computed),
        cmocka_unit_test(the_one_that_fills_may_be_put_back),
        cmocka_unit_test(idle_blocks_are_dropped_in_order),
        cmocka_unit_test(a_node_gets_back_what_it_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
