#include "base/mem.h"
#include "schedule/state.h"

#include <math.h>

/* ---- what sequences are expected to need ---------------------------------------------------- */

/* New tokens after which a sequence stops before its limit: all that were sampled, over those that
 * did. The sequences that still run count with what they have sampled, so the number is right from
 * the start on and needs no lengths of finished ones. */
static double mean_length(const struct past *p)
{
    return p->sampled / (p->stopped > 1 ? p->stopped : 1);
}

/* Of a pool without a window, what sequences may be expected to need together, for another one to be given
 * a slot. Expectation is not
 * enough where sequences stop by themselves: every other time they grow a little more than expected,
 * and the youngest has to go. Three times the growth of one of them makes that rare (a few per cent
 * of all rows are then computed again), at the price of two or three per cent of the memory. */
static size_t growing(const struct past *p, size_t total)
{
    if (p->ended == 0)
        return total;
    double growth = p->sampled / p->ended / KV_BLOCK, spare = 3 * growth * p->stopped / p->ended;
    return spare < (double)total / 4 ? total - (size_t)ceil(spare) : total - total / 4;
}

/* Rings do not grow, but the prompts of a step are beside them. */
struct demand_limit schedule_capacity(const struct schedule *s)
{
    struct demand_limit capacity;
    for (int i = 0; i < s->limits.pools; i++) {
        const struct kv_pool *pool = &s->limits.pool[i];
        size_t least = pool_span(pool, 1, s->limits.max_context);
        size_t step = blocks_for((size_t)s->limits.prefill_chunk);
        if (pool->window == 0)
            capacity.blocks[i] = growing(&s->past, pool->blocks);
        else
            capacity.blocks[i] = pool->blocks > least + step ? pool->blocks - step : least;
    }
    return capacity;
}

bool schedule_abounds(const struct schedule *s)
{
    for (int i = 0; i < s->limits.pools; i++) {
        size_t each = pool_span(&s->limits.pool[i], 1, s->limits.max_context);
        size_t step = blocks_for((size_t)s->limits.prefill_chunk);
        size_t beside = s->limits.pool[i].window ? step : 0;
        if (s->limits.pool[i].blocks < mem_mul(each, (size_t)s->limits.slots) + beside)
            return false;
    }
    return true;
}

/* Will it have reached its limit when the planned step has run? */
static bool ends_now(const struct schedule *s, int i)
{
    return schedule_left(schedule_running(s, i)) == 1 && schedule_rows_left(s, s->order[i]) == 0;
}

struct demand_of schedule_demand(const struct sequence *q)
{
    return (struct demand_of){q->n_tokens, schedule_left(q), q->n_shared};
}

/* What sequences hold and will come to need, without those that end in this step. A block that
 * several read counts with the one that has computed it, and after that one's end with nobody. */
void schedule_expect(const struct schedule *s, struct demand *d, bool ended)
{
    size_t own = 0;
    for (int i = 0; i < s->running; i++)
        own += schedule_running(s, i)->kv[0].n - schedule_running(s, i)->n_shared;
    size_t others = s->limits.pool[0].window ? 0 : schedule_held(s, 0) - own;
    demand_start(d, s->limits.pool, s->limits.pools, s->limits.max_context, mean_length(&s->past),
                 others);
    for (int i = 0; i < s->running; i++)
        if (!ended || !ends_now(s, i))
            demand_add(d, schedule_demand(schedule_running(s, i)));
}

/* ---- room for more -------------------------------------------------------------------------- */

/* For how many sequences like those so far there is memory beside all that run and wait. Nothing is
 * known of the first: then for how many of the longest. */
static size_t memory_room(const struct schedule *s)
{
    const struct past *p = &s->past;
    struct demand d;
    schedule_expect(s, &d, true);
    if (p->submitted == 0)
        return demand_room(&d, schedule_capacity(s),
                           (struct demand_of){s->limits.max_context, 1, 0});
    for (const struct sequence *q = s->first; q; q = q->next)
        demand_add(&d, schedule_demand(q));
    double known = ceil((p->known - p->shared) / p->submitted);
    struct demand_of one = {known > 1 ? (size_t)known : 1, (size_t)ceil(p->left / p->submitted), 0};
    return demand_room(&d, schedule_capacity(s), one);
}

/* Twice as many as are expected to stop in a step before their limit, and one. */
static int lookahead(const struct schedule *s)
{
    double stops = s->past.stopped > 0 ? s->running / mean_length(&s->past) : 0;
    double ahead = 1 + ceil(2 * stops);
    return ahead < s->limits.slots ? (int)ahead : s->limits.slots;
}

static int at_least_0(int n)
{
    return n > 0 ? n : 0;
}

struct schedule_room schedule_room(const struct schedule *s, int coming)
{
    int places = s->limits.slots - s->running, given = s->waiting + coming;
    for (int i = 0; i < s->running; i++)
        places += ends_now(s, i);
    struct schedule_room room = {.now = at_least_0(places - given)};
    size_t fit = schedule_abounds(s) ? SIZE_MAX : memory_room(s);
    if (fit < (size_t)(room.now + coming))
        room.now = at_least_0((int)fit - coming);
    int idle = fit == 0 ? given : at_least_0(given - places);
    room.ahead = at_least_0(lookahead(s) - idle);
    return room;
}
