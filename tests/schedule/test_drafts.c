/* Guesses change no completion: sequences of a model that repeats itself, its tokens known beforehand,
 * with right, wrong and no guesses, in memory that is ample and short. What a row reads must be what was
 * computed for its sequence, whatever wrong guesses have left in the cache. And steps with guesses are
 * taken while they pay. */
#include "base/mem.h"
#include "base/philox.h"
#include "kernels/ops.h"
#include "schedule/draft.h"
#include "schedule/pace.h"
#include "schedule/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PERIOD = 7, CONTEXT = 300, NEW = 200, WINDOW = 66 };

/* The token that a sequence has at a position: a verse of PERIOD tokens, here and there a new one. */
static int32_t token_at(uint64_t unit, size_t position)
{
    if (philox_uniform(3, unit, 1, (uint32_t)position) < 0.08f)
        return (int32_t)(5000 + position);
    return (int32_t)(unit * 10 + position % PERIOD);
}

struct world {
    struct schedule_limits limits;
    struct schedule *s;
    int32_t *cache[2]; /* of both pools, [blocks][KV_BLOCK]: the token whose K and V are there */
    int guesses;       /* most of a sequence */
    float wrong;       /* share of steps in which a sequence guesses at random */
    size_t finished, steps;
};

static void guess(void *context, struct sequence *q)
{
    struct world *w = context;
    q->n_drafts = 0;
    if (w->guesses == 0 || q->computed + 1 != q->n_tokens)
        return;
    draft_from_grams(q, draft_room(q, w->guesses));
    if (philox_uniform(4, q->unit, 2, (uint32_t)q->n_tokens) >= w->wrong)
        return;
    for (q->n_drafts = 0; q->n_drafts < (size_t)w->guesses; q->n_drafts++)
        if (q->n_tokens + q->n_drafts + 1 < q->limit)
            q->tokens[q->n_tokens + q->n_drafts] = 1;
        else
            break;
}

static int32_t *entry(const struct world *w, const struct micro_batch *b, int pool, int row,
                      int pos)
{
    const struct block_table *t = &b->table[pool];
    int32_t block = t->blocks[b->row_seg[row] * t->width + pos / KV_BLOCK % t->width];
    return &w->cache[pool][block * KV_BLOCK + pos % KV_BLOCK];
}

/* The row reads all before it, or its window, and draws the next token; that is right if what it read
 * is. */
static int32_t draw(const struct world *w, const struct micro_batch *b, int row, uint64_t unit)
{
    int pos = b->row_pos[row];
    for (int p = 0; p < w->limits.pools; p++)
        for (int t = p && pos >= WINDOW ? pos - WINDOW + 1 : 0; t <= pos; t++)
            if (*entry(w, b, p, row, t) != token_at(unit, (size_t)t))
                return -1;
    return token_at(unit, (size_t)pos + 1);
}

static void compute(struct world *w, const struct micro_batch *b)
{
    assert_true(b->rows <= schedule_most_rows(&w->limits));
    assert_true(b->segments <= schedule_most_segments(&w->limits));
    assert_true(b->n_sampled <= schedule_most_sampled(&w->limits));
    for (int i = 0; i < b->rows; i++)
        for (int p = 0; p < w->limits.pools; p++)
            *entry(w, b, p, i, b->row_pos[i]) = b->token[i];
}

static void take(struct world *w, const struct micro_batch *b)
{
    for (int i = 0; i < b->n_sampled; i++) {
        int slot = b->sampled_slot[i], row = b->sampled_row[i];
        struct sequence *q = schedule_sequence(w->s, slot);
        if (!q || (size_t)b->row_pos[row] + 1 != q->n_tokens || q->computed != q->n_tokens)
            continue; /* behind a wrong guess, or an end */
        int32_t token = draw(w, b, row, q->unit);
        assert_int_equal(token, token_at(q->unit, q->n_tokens));
        bool more = i + 1 < b->n_sampled && b->sampled_slot[i + 1] == slot;
        if (more && q->tokens[q->n_tokens] == token)
            schedule_accept(w->s, slot);
        q->tokens[q->n_tokens++] = token;
        if (q->n_tokens == q->limit || token == 5000 + NEW) {
            sequence_free(schedule_finish(w->s, slot));
            w->finished++;
        }
    }
}

static struct sequence *sequence_new(uint64_t unit)
{
    struct sequence *q = mem_zeroed(1, sizeof *q);
    q->unit = unit;
    q->n_prompt = q->n_tokens = 1 + unit % 90;
    q->limit = q->n_prompt + 1 + (size_t)(philox_uniform(5, unit, 0, 0) * (NEW - 1));
    q->tokens = mem_zeroed(q->limit, sizeof *q->tokens);
    q->logprobs = mem_new(q->limit - q->n_prompt, sizeof *q->logprobs);
    for (size_t i = 0; i < q->n_prompt; i++)
        q->tokens[i] = token_at(unit, i);
    return q;
}

/* Steps that `n` sequences take. */
static size_t run_world(int guesses, float wrong, size_t blocks, struct schedule_usage *usage)
{
    enum { SEQUENCES = 60 };
    struct world w = {.limits = {.slots = 6,
                                 .micro_batches = 2,
                                 .prefill_chunk = 40,
                                 .max_context = CONTEXT,
                                 .pools = 2,
                                 .pool = {{blocks, 0}, {blocks / 2, WINDOW}},
                                 .share = true,
                                 .draft_rows = 17},
                      .guesses = guesses,
                      .wrong = wrong};
    w.s = schedule_new(&w.limits);
    for (int i = 0; i < 2; i++)
        w.cache[i] = mem_zeroed(w.limits.pool[i].blocks * KV_BLOCK, sizeof *w.cache[i]);
    for (uint64_t unit = 1; unit <= SEQUENCES; unit++)
        schedule_submit(w.s, sequence_new(unit));
    while (w.finished < SEQUENCES) {
        schedule_visit(w.s, guess, &w);
        const struct micro_batch *plan = schedule_plan(w.s);
        for (int m = 0; m < w.limits.micro_batches; m++)
            compute(&w, &plan[m]);
        schedule_advance(w.s);
        for (int m = 0; m < w.limits.micro_batches; m++)
            take(&w, &plan[m]);
        assert_true(++w.steps < 20000);
    }
    assert_true(schedule_idle(w.s));
    *usage = schedule_usage(w.s);
    assert_int_equal(usage->blocks, 0);
    schedule_free(w.s);
    for (int i = 0; i < 2; i++)
        free(w.cache[i]);
    return w.steps;
}

static void guesses_change_nothing_but_steps(void **state)
{
    (void)state;
    const float wrong[] = {0, 0.3f, 1};
    struct schedule_usage usage;
    size_t without = run_world(0, 0, 60, &usage);
    assert_int_equal(usage.guessed, 0);
    for (int k = 1; k <= 9; k += 4)
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            size_t ample = run_world(k, wrong[i], 60, &usage);
            printf("%d guesses, %2.0f %% made up: %zu steps (without %zu), %llu of %llu right\n", k,
                   100 * (double)wrong[i], ample, without, (unsigned long long)usage.right,
                   (unsigned long long)usage.guessed);
            assert_true(wrong[i] == 1 ? usage.right == 0 : ample < without);
            run_world(k, wrong[i], 8, &usage);
            assert_true(usage.put_back > 0);
        }
}

static void a_guess_is_what_followed_before(void **state)
{
    (void)state;
    int32_t tokens[16] = {1, 2, 3, 4, 5, 1, 2, 3};
    struct sequence q = {.tokens = tokens, .n_prompt = 1, .n_tokens = 8, .limit = 16};
    draft_from_grams(&q, 4);
    assert_int_equal(q.n_drafts, 4);
    const int32_t follows[] = {4, 5, 1, 2};
    assert_memory_equal(tokens + 8, follows, sizeof follows);
    /* And on from its own guesses; the last token drawn is within limit. */
    draft_from_grams(&q, draft_room(&q, 100));
    assert_int_equal(q.n_drafts, 7);
    assert_int_equal(tokens[14], 5);
    tokens[8] = 9; /* a draw that was not guessed: no gram has ended like this */
    q.n_tokens = 9;
    q.n_drafts = 0;
    draft_from_grams(&q, 4);
    assert_int_equal(q.n_drafts, 0);
    memcpy(tokens + 9, follows,
           3 * sizeof *tokens); /* tokens that are known to come, and on from these */
    tokens[9] = 3;
    q.n_drafts = 3;
    draft_from_grams(&q, 6);
    assert_int_equal(q.n_drafts, 3);
    tokens[10] = 4;
    tokens[11] = 5;
    draft_from_grams(&q, 6);
    assert_int_equal(q.n_drafts, 6);
    assert_true(tokens[12] == 1 && tokens[13] == 2 && tokens[14] == 3);
    grams_free(q.grams);
}

/* Seconds that `steps` steps take at the pace that is chosen: a draft comes true with `luck`, and four
 * make a step slower by `cost`. */
static double run_pace(double luck, double cost, long tokens, double *trials, double *saved)
{
    struct pace p = {.always = luck < 0}; /* no drafts at all */
    double total = 0, steps = 0, with = 0;
    for (uint32_t i = 0; tokens > 0; i++) {
        int drafts = pace_kind(&p) == DRAFT_GRAM ? 4 : 0, right = 0;
        while (right < drafts && philox_uniform(9, i, 1, (uint32_t)right) < (float)luck)
            right++;
        double noise = 0.9 + 0.2 * philox_uniform(9, i, 2, 0);
        double seconds = 0.01 * noise * (drafts ? 1 + cost : 1);
        const struct pace_step step = {.kind = pace_kind(&p),
                                       .seconds = seconds,
                                       .sequences = 1,
                                       .tokens = 1 + right,
                                       .drafts = drafts};
        pace_took(&p, &step);
        total += seconds;
        tokens -= 1 + right;
        steps++;
        with += drafts > 0;
    }
    *trials = with / steps;
    *saved = p.balance.saved;
    assert_true(p.always || fabs(p.balance.seconds - total) <= 1e-6 * total);
    return total;
}

/* Not in a short job either, whenever it ends. */
static void short_jobs_lose_little(void **state)
{
    (void)state;
    for (double cost = 0.1; cost <= 3; cost += 0.7)
        for (long tokens = 20; tokens < 5000;
             tokens = tokens * (getenv("VALGRIND") ? 36 : 9) / 8 + 1) {
            double share, saved, without = run_pace(-1, 0, tokens, &share, &saved);
            assert_true(run_pace(0, cost, tokens, &share, &saved) <= 1.02 * without + 1e-9);
        }
}

/* A rank that runs dry in a trial must not leave the others with it. */
static void a_trial_ends_with_the_sequences(void **state)
{
    (void)state;
    struct pace p = {0};
    const struct pace_step plain = {.seconds = 0.01, .sequences = 3, .tokens = 3},
                           none = {.seconds = 0.01};
    while (pace_kind(&p) == DRAFT_NONE)
        pace_took(&p, &plain);
    pace_took(&p, &none);
    assert_int_equal(pace_kind(&p), DRAFT_NONE);
}

static void drafts_are_made_while_they_pay(void **state)
{
    (void)state;
    const struct {
        double luck, cost;
    } cases[] = {{0, 4}, {0, 0.2}, {0.3, 3}, {0.5, 0.1}, {0.9, 0.5}, {0.9, 2.5}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double luck = cases[i].luck, each = 1, share, saved;
        for (int k = 1; k <= 4; k++) {
            double all = 1;
            for (int j = 0; j < k; j++)
                all *= luck;
            each += all;
        }
        double without = 20000 * 0.01, with = without * (1 + cases[i].cost) / each;
        double best = with < without ? with : without;
        double took = run_pace(luck, cases[i].cost, 20000, &share, &saved);
        printf("luck %.1f, cost %.1f: %6.1f s (without %.1f, always %.1f), drafts in %.0f %%\n",
               luck, cases[i].cost, took, without, with, 100 * share);
        assert_true(took <= without * 1.02);
        assert_true(took <= best * 1.1);
        assert_true(fabs(saved - (without - took)) <= 0.01 * without); /* the account is right */
    }
}

/* A job of many sequences: each is a prompt that takes a step of its own, of `prompt` seconds, then 100 tokens.
 * MTP layers make every step longer by the part `layers`, rows of guesses (three a sequence) by `rows` when all
 * have them; a guess of a sequence that was computed with the layers comes true with `luck`. Seconds. */
struct job {
    double luck, layers, rows, prompt;
    long tokens;
    bool never; /* no drafts at all */
};

static double run_job(const struct job *job, double *share, double *saved)
{
    enum { SEQUENCES = 16, LENGTH = 100 };
    struct pace p = {.mtp = true, .always = job->never};
    int left[SEQUENCES], holes[SEQUENCES] = {0};
    double total = 0, with = 0;
    for (int i = 0; i < SEQUENCES; i++)
        left[i] = 1 + i * LENGTH / SEQUENCES;
    for (uint32_t k = 0, brought = 0; brought < job->tokens; k++) {
        enum draft_kind kind = pace_kind(&p);
        struct pace_step s = {.kind = kind, .sequences = SEQUENCES};
        bool ran = pace_runs_mtp(&p);
        int prompts = 0;
        for (int i = 0; i < SEQUENCES; i++) {
            bool filled = kind == DRAFT_MTP && holes[i] <= LENGTH / 8;
            int right = 0;
            s.filled += filled;
            while (filled && right < 3 &&
                   philox_uniform(8, k, (uint32_t)i, (uint32_t)right) < (float)job->luck)
                right++;
            s.tokens += 1 + right;
            left[i] -= 1 + right;
            holes[i] += !ran;
            if (left[i] > 0)
                continue;
            prompts++;
            left[i] = LENGTH;
            holes[i] = ran ? 0 : LENGTH;
        }
        s.prompts = prompts > 0;
        s.drafts = 3 * s.filled;
        double noise = 0.9 + 0.2 * philox_uniform(8, k, 99, 0);
        s.seconds = 0.01 * noise * (1 + job->rows * s.filled / SEQUENCES) + prompts * job->prompt;
        s.layers = ran ? job->layers * s.seconds : 0;
        s.seconds += s.layers;
        pace_took(&p, &s);
        total += s.seconds;
        with += ran ? s.seconds : 0;
        brought += (uint32_t)s.tokens;
    }
    *share = with / total;
    *saved = p.balance.saved;
    return total;
}

/* Layers that bring less than they cost are not run for long, whatever they cost, also in prompts; those that
 * bring more are found. */
static void mtp_layers_run_while_they_pay(void **state)
{
    (void)state;
    const struct job jobs[] = {
        {.luck = 0, .layers = 0.02, .rows = 0.02, .prompt = 0.01},
        {.luck = 0, .layers = 0.06, .rows = 2, .prompt = 0.02},
        {.luck = 0.5, .layers = 0.06, .rows = 2.5, .prompt = 0.01},
        {.luck = 0.05, .layers = 0.06, .rows = 0.01, .prompt = 0.1}, /* prompts tell */
        {.luck = 0.7, .layers = 0.06, .rows = 0.2, .prompt = 0.01},
        {.luck = 0.8, .layers = 0.15, .rows = 0.5, .prompt = 0.02},
    };
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
        for (long tokens = 2000; tokens <= (getenv("VALGRIND") ? 20000 : 2000000); tokens *= 10) {
            struct job job = jobs[i];
            double share, saved, none;
            job.tokens = tokens;
            double took = run_job(&job, &share, &saved);
            job.never = true;
            double without = run_job(&job, &none, &(double){0});
            printf("luck %.2f, layers %.2f, rows %.2f, %7ld tokens: %.3f of the time without, "
                   "layers ran in %.0f %%, saved %.1f s, by its account %.1f s\n",
                   job.luck, job.layers, job.rows, tokens, took / without, 100 * share,
                   without - took, saved);
            assert_true(none == 0 && took <= 1.02 * without);
            /* The account leaves out what guesses bring in steps with prompts, but boasts of nothing. */
            assert_true(saved <= without - took + 0.01 * without);
            if (took >= without)
                assert_true(fabs(saved - (without - took)) <= 0.005 * without);
            if (tokens >= 200000 && took < 0.8 * without)
                assert_true(saved >= 0.4 * (without - took));
            assert_true(tokens < 2000000 || (took < 0.8 * without) == (job.luck >= 0.7));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guesses_change_nothing_but_steps),
        cmocka_unit_test(a_guess_is_what_followed_before),
        cmocka_unit_test(drafts_are_made_while_they_pay),
        cmocka_unit_test(short_jobs_lose_little),
        cmocka_unit_test(a_trial_ends_with_the_sequences),
        cmocka_unit_test(mtp_layers_run_while_they_pay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
