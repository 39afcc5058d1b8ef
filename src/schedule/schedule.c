#include "base/err.h"
#include "base/mem.h"
#include "schedule/draft.h"
#include "schedule/state.h"

#include <stdlib.h>
#include <string.h>

static int per_micro_batch(int total, int micro_batches)
{
    return (total + micro_batches - 1) / micro_batches;
}

int schedule_most_segments(const struct schedule_limits *l)
{
    return per_micro_batch(l->slots, l->micro_batches);
}

static int most_drafts(const struct schedule_limits *l)
{
    return per_micro_batch(l->draft_rows, l->micro_batches);
}

int schedule_most_rows(const struct schedule_limits *l)
{
    return schedule_most_segments(l) + most_drafts(l) +
           per_micro_batch(l->prefill_chunk, l->micro_batches);
}

int schedule_most_sampled(const struct schedule_limits *l)
{
    return l->score ? schedule_most_rows(l) : schedule_most_segments(l) + most_drafts(l);
}

int schedule_table_width(const struct schedule_limits *l, int pool)
{
    return (int)pool_span(&l->pool[pool], (size_t)schedule_most_rows(l), l->max_context);
}

void schedule_batch_init(const struct schedule_limits *l, struct micro_batch *b)
{
    int segments = schedule_most_segments(l);
    batch_init(b, schedule_most_rows(l), segments, schedule_most_sampled(l));
    batch_look_ahead(b, schedule_most_rows(l), l->ahead);
    b->filled = l->fill;
    for (int i = 0; i < l->pools; i++)
        batch_add_table(b, &l->pool[i], schedule_table_width(l, i), segments);
}

struct schedule *schedule_new(const struct schedule_limits *limits)
{
    struct schedule *s = mem_zeroed(1, sizeof *s);
    if (limits->slots < 1 || limits->prefill_chunk < 1 || limits->micro_batches < 1 ||
        limits->micro_batches > MICRO_BATCHES_MAX)
        die("schedule: %d slots, %d micro-batches, prefill chunk %d", limits->slots,
            limits->micro_batches, limits->prefill_chunk);
    s->limits = *limits;
    s->slots = mem_zeroed((size_t)limits->slots, sizeof *s->slots);
    s->order = mem_new((size_t)limits->slots, sizeof *s->order);
    for (int i = 0; i < limits->slots; i++)
        s->order[i] = i;
    if (limits->pools < 1 || limits->pools > KV_POOLS_MAX)
        die("schedule: %d pools of KV blocks", limits->pools);
    for (int i = 0; i < limits->pools; i++)
        blocks_init(&s->blocks[i], limits->pool[i].blocks);
    if (limits->share)
        s->prefix = prefix_new(s->blocks, limits->pools);
    for (int m = 0; m < limits->micro_batches; m++)
        schedule_batch_init(limits, &s->batch[m]);
    return s;
}

void sequence_free(struct sequence *q)
{
    if (!q)
        return;
    free(q->id);
    free(q->tokens);
    free(q->logprobs);
    free(q->top_tokens);
    free(q->top_logprobs);
    free(q->scores);
    free(q->likeliest);
    free(q->prompt_tokens);
    free(q->prompt_logprobs);
    for (int i = 0; i < KV_POOLS_MAX; i++)
        free(q->kv[i].list);
    free(q->nodes);
    grams_free(q->grams);
    if (q->free_request)
        q->free_request(q->request);
    free(q);
}

void schedule_free(struct schedule *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->limits.slots; i++) {
        if (s->slots[i].sequence)
            schedule_give_blocks(s, s->slots[i].sequence);
        sequence_free(s->slots[i].sequence);
    }
    while (s->first) {
        struct sequence *q = s->first;
        s->first = q->next;
        sequence_free(q);
    }
    for (int m = 0; m < s->limits.micro_batches; m++)
        batch_free(&s->batch[m]);
    prefix_free(s->prefix);
    for (int i = 0; i < s->limits.pools; i++)
        blocks_free(&s->blocks[i]);
    free(s->slots);
    free(s->order);
    free(s);
}

bool schedule_idle(const struct schedule *s)
{
    return s->running == 0 && s->waiting == 0;
}

struct schedule_usage schedule_usage(const struct schedule *s)
{
    struct schedule_usage use = {.running = s->running,
                                 .waiting = s->waiting,
                                 .put_back = s->put_back,
                                 .computed_again = s->computed_again,
                                 .shared = s->shared,
                                 .guessed = s->guessed,
                                 .right = s->right};
    for (int i = 0; i < s->limits.pools; i++)
        use.blocks += schedule_held(s, i);
    return use;
}

/* Can it run when it is alone? */
static bool fits_alone(const struct schedule *s, const struct sequence *q)
{
    for (int i = 0; i < s->limits.pools; i++)
        if (pool_span(&s->limits.pool[i], 1, q->limit) > s->limits.pool[i].blocks)
            return false;
    return q->limit <= s->limits.max_context;
}

void schedule_submit(struct schedule *s, struct sequence *q)
{
    if (q->n_prompt == 0 || q->n_tokens < q->n_prompt || q->limit <= q->n_tokens ||
        !fits_alone(s, q))
        die("schedule: a sequence of %zu + %zu tokens does not fit (context %zu, %zu KV blocks)",
            q->n_prompt, q->limit - q->n_prompt, s->limits.max_context, s->limits.pool[0].blocks);
    q->next = NULL;
    size_t most = blocks_for(q->limit);
    for (int i = 0; i < s->limits.pools; i++)
        q->kv[i] = (struct held_blocks){.list = mem_new(most, sizeof(int32_t))};
    q->nodes = s->prefix ? mem_new(most, sizeof *q->nodes) : NULL;
    q->computed = q->holes = q->n_nodes = q->n_shared = q->n_filled = 0;
    if (q->score_from && !s->limits.score)
        die("schedule: unit %llu is scored", (unsigned long long)q->unit);
    if (s->last)
        s->last->next = q;
    else
        s->first = q;
    s->last = q;
    s->waiting++;
    s->past.submitted++;
    s->past.known += (double)q->n_tokens;
    s->past.left += (double)(q->limit - q->n_tokens);
}

/* ---- memory and slots ----------------------------------------------------------------------- */

/* The youngest running sequence goes back to the head of the queue: it is older than all there. */
static void put_back(struct schedule *s)
{
    struct slot *slot = &s->slots[s->order[--s->running]];
    struct sequence *q = slot->sequence;
    s->put_back++;
    q->had = q->computed;
    schedule_keep_computed(s, q);
    schedule_give_blocks(s, q);
    q->next = s->first;
    s->first = q;
    if (!s->last)
        s->last = q;
    s->waiting++;
    *slot = (struct slot){0};
}

/* Blocks for what every running sequence needs to go on, the oldest first. One that is the youngest
 * itself when there are none is put back itself. */
static void grow(struct schedule *s)
{
    for (int i = 0; i < s->running; i++) {
        struct slot *slot = &s->slots[s->order[i]];
        struct sequence *q = slot->sequence;
        slot->waits = schedule_share(s, q);
        if (slot->waits)
            continue;
        while (i < s->running && !schedule_fits(s, q))
            put_back(s);
        if (i < s->running)
            schedule_take_blocks(s, q);
    }
}

/* What the first of the queue will come to need. before: blocks of the first pool that were held when it
 * had read nothing yet. */
static struct demand_of demand_of_first(const struct schedule *s, bool waits, size_t before)
{
    struct demand_of need = schedule_demand(s->first);
    if (waits)
        need.shared = schedule_shareable(s->first); /* all of it, as far as anybody can know */
    need.shared -= schedule_held(s, 0) - before; /* blocks that nobody read until now are its own */
    return need;
}

/* Puts the first of the queue into a slot, if memory allows. What is alone may always run. */
static bool seat_first(struct schedule *s, struct demand *d)
{
    struct sequence *q = s->first;
    size_t before = schedule_held(s, 0);
    bool waits = schedule_share(s, q);
    struct demand_of need = demand_of_first(s, waits, before);
    bool likely = !d || s->running == 0 || demand_fits(d, schedule_capacity(s), need);
    if (!likely || (!waits && !schedule_fits(s, q))) {
        schedule_give_blocks(s, q);
        return false;
    }
    if (d)
        demand_add(d, need);
    if (!waits)
        schedule_take_blocks(s, q);
    s->slots[s->order[s->running++]] = (struct slot){.sequence = q, .waits = waits};
    s->first = q->next;
    if (!s->first)
        s->last = NULL;
    s->waiting--;
    return true;
}

/* From the queue into slots, in order. */
static void seat(struct schedule *s)
{
    struct demand d, *scarce = schedule_abounds(s) ? NULL : &d;
    if (!s->first || s->running == s->limits.slots)
        return;
    if (scarce)
        schedule_expect(s, scarce, false);
    while (s->first && s->running < s->limits.slots)
        if (!seat_first(s, scarce))
            return;
}

/* ---- rows ----------------------------------------------------------------------------------- */

static void add_rows(struct schedule *s, int m, int slot, int n)
{
    const struct sequence *q = s->slots[slot].sequence;
    batch_add(&s->batch[m], q, slot, q->computed + (size_t)s->slots[slot].planned, n);
    s->slots[slot].planned += n;
}

/* The guesses of a sequence that there is room for. */
static int drafts_of(const struct schedule *s, int m, const struct sequence *q)
{
    size_t room = (size_t)(most_drafts(&s->limits) - s->batch[m].drafts);
    size_t left = schedule_left(q) - 1;
    for (int i = 0; i < s->limits.pools; i++) {
        size_t block = q->kv[i].n * KV_BLOCK - q->n_tokens;
        room = block < room ? block : room;
    }
    room = left < room ? left : room;
    return (int)(q->n_drafts < room ? q->n_drafts : room);
}

/* Sequences of which only the last known token is missing: one row each and its guesses, in turn
 * over the micro-batches. Returns how many rows; *chunks: rows that the others have left. */
static int add_decoding(struct schedule *s, size_t *chunks)
{
    int n = 0, drafts = 0;
    *chunks = 0;
    for (int i = 0; i < s->running; i++) {
        int slot = s->order[i];
        s->slots[slot].planned = 0;
        size_t left = schedule_rows_left(s, slot);
        if (left == 1) {
            int m = n++ % s->limits.micro_batches,
                guesses = drafts_of(s, m, schedule_running(s, i));
            batch_add(&s->batch[m], schedule_running(s, i), slot, schedule_running(s, i)->computed,
                      1 + guesses);
            s->slots[slot].planned = 1;
            drafts += guesses;
        } else if (!s->slots[slot].waits)
            *chunks += left;
    }
    return n + drafts;
}

/* The rest of the prompts, as far as the budget goes: micro-batch after micro-batch is filled to the
 * same height. A chunk may be cut between two: in every layer the first has appended its K and V
 * before the second reads them, as micro-batches take each layer in order. */
static void add_chunks(struct schedule *s, int budget, int height)
{
    int m = 0, most = schedule_most_segments(&s->limits);
    for (int i = 0; i < s->running && budget > 0; i++) {
        int slot = s->order[i];
        size_t left = schedule_rows_left(s, slot);
        int n = s->slots[slot].waits ? 0 : left < (size_t)budget ? (int)left : budget;
        if (n > 0)
            n = (int)schedule_extend(s, schedule_running(s, i), (size_t)n);
        while (n > 0 && m < s->limits.micro_batches) {
            const struct micro_batch *b = &s->batch[m];
            int room = height - b->rows, piece = n < room ? n : room;
            if (piece <= 0 || b->segments == most) {
                m++;
                continue;
            }
            add_rows(s, m, slot, piece);
            budget -= piece;
            n -= piece;
        }
    }
}

const struct micro_batch *schedule_plan(struct schedule *s)
{
    size_t chunks;
    grow(s);
    seat(s);
    for (int m = 0; m < s->limits.micro_batches; m++)
        batch_clear(&s->batch[m]);
    int decoding = add_decoding(s, &chunks), budget = s->limits.prefill_chunk;
    if (chunks < (size_t)budget)
        budget = (int)chunks;
    add_chunks(s, budget, per_micro_batch(decoding + budget, s->limits.micro_batches));
    return s->batch;
}

void schedule_leave_out_mtp(struct schedule *s)
{
    for (int i = 0; i < s->running; i++)
        schedule_running(s, i)->holes += (size_t)s->slots[s->order[i]].planned;
}

void schedule_advance(struct schedule *s)
{
    for (int i = 0; i < s->running; i++) {
        struct slot *slot = &s->slots[s->order[i]];
        struct sequence *q = slot->sequence;
        q->computed += (size_t)slot->planned;
        slot->planned = 0;
        schedule_computed(s, q);
    }
    for (int m = 0; m < s->limits.micro_batches; m++) {
        const struct micro_batch *b = &s->batch[m];
        s->past.sampled += b->n_sampled - b->drafts - b->scored;
        s->guessed += (uint64_t)b->drafts;
    }
}

void schedule_accept(struct schedule *s, int slot)
{
    s->slots[slot].sequence->computed++;
    s->past.sampled++;
    s->right++;
}

void schedule_visit(struct schedule *s, void (*use)(void *context, struct sequence *q),
                    void *context)
{
    for (int i = 0; i < s->limits.slots; i++)
        if (s->slots[i].sequence)
            use(context, s->slots[i].sequence);
    for (struct sequence *q = s->first; q; q = q->next)
        use(context, q);
}

struct sequence *schedule_sequence(struct schedule *s, int slot)
{
    return s->slots[slot].sequence;
}

static void remove_from_order(struct schedule *s, int slot)
{
    int at = 0;
    while (s->order[at] != slot)
        at++;
    s->running--;
    memmove(s->order + at, s->order + at + 1, (size_t)(s->running - at) * sizeof *s->order);
    s->order[s->running] = slot;
}

struct sequence *schedule_finish(struct schedule *s, int slot)
{
    struct sequence *q = s->slots[slot].sequence;
    schedule_give_blocks(s, q);
    s->slots[slot] = (struct slot){0};
    remove_from_order(s, slot);
    s->past.ended++;
    s->past.stopped += q->n_tokens < q->limit;
    return q;
}
