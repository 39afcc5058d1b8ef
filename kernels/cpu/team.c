#include "kernels/cpu/team.h"

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/cpu/device.h"
#include "kernels/cpu/seats.h"

#define SIZES     64 /* powers of two */
#define REMEMBERS 8

struct teams {
    struct team_costs all;
    struct team_class class[TEAM_KINDS][SIZES];
};

struct teams *teams_new(void)
{
    struct teams *t = mem_zeroed(1, sizeof *t);
    t->all = TEAM_COSTS;
    return t;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

static bool team_is_faster(const struct team_class *c)
{
    return c->cost[1] > 0 && c->cost[1] < c->cost[0];
}

/* A team that was never tried is expected to halve the time alone, and to add what waking costs. */
bool team_choose(struct team_class *c, const struct team_costs *all, size_t numbers)
{
    if (c->tries)
        return c->tried;
    bool way = team_is_faster(c), may_lose = all->credit > 0;
    bool due = may_lose && c->wait && c->since >= c->wait;
    if (c->cost[0] > 0 && c->cost[1] == 0)
        way = due || (may_lose && c->cost[0] * (double)numbers / 2 > all->wake);
    else if (due)
        way = !way;
    if (c->cost[way] == 0 || due) {
        c->tries = TEAM_TRIES;
        c->tried = way;
        c->best = 0;
    }
    return way;
}

static void remember(double *known, double value)
{
    *known += (value - *known) / REMEMBERS;
}

/* seconds: of the team. */
static void learn_wake(const struct team_class *c, struct team_costs *all, size_t numbers,
                       double seconds)
{
    double half = c->cost[0] * (double)numbers / 2, late = seconds > half ? seconds - half : 0;
    if (late > all->wake && half > REMEMBERS * all->wake)
        return;
    remember(&all->wake, smaller(late, (1 + REMEMBERS) * all->wake));
    if (all->wake < TEAM_WAKE / REMEMBERS)
        all->wake = TEAM_WAKE / REMEMBERS;
}

/* What may be lost: a share of the time, and what teams have won. */
static void pay(const struct team_class *c, struct team_costs *all, bool together, size_t numbers,
                double seconds)
{
    double other = c->cost[!together] * (double)numbers;
    all->credit += seconds / TEAM_SHARE;
    if (other > 0 && (together || c->tries))
        all->credit += other - seconds;
    all->credit = smaller(all->credit, TEAM_CREDIT);
}

static void learn_cost(struct team_class *c, bool together, double cost)
{
    bool was = team_is_faster(c), first = c->cost[together] == 0;
    if (c->tries == 0) {
        remember(&c->cost[together], cost);
        c->since++;
        if (team_is_faster(c) != was)
            c->since = c->wait; /* it may have been late for once: tried again at once */
        return;
    }
    c->best = c->best > 0 ? smaller(c->best, cost) : cost;
    if (--c->tries > 0)
        return;
    c->cost[together] = c->best;
    c->since = 0;
    if (first || team_is_faster(c) != was)
        c->wait = TEAM_WAIT;
    else if (c->wait < TEAM_WAIT_MOST)
        c->wait *= 2;
}

void team_learn(struct team_class *c, struct team_costs *all, bool together, size_t numbers,
                double seconds)
{
    pay(c, all, together, numbers, seconds);
    if (together)
        learn_wake(c, all, numbers, seconds);
    learn_cost(c, together, seconds / (double)numbers);
}

static size_t size_of(size_t numbers)
{
    size_t bits = 0;
    while (numbers >>= 1)
        bits++;
    return bits;
}

static struct team choose(const struct device *d, enum team_kind kind, size_t numbers)
{
    struct team t = {.threads = d->threads, .numbers = numbers};
    if (d->threads == 1 || d->config.always_all_threads || numbers >= TEAM_ALL)
        return t;
    t.threads = 1;
    if (numbers < TEAM_ALONE)
        return t;
    t.class = &d->teams->class[kind][size_of(numbers)];
    t.all = &d->teams->all;
    if (team_choose(t.class, t.all, numbers))
        t.threads = d->threads;
    t.start = clock_now();
    return t;
}

struct team team_begin(const struct device *d, enum team_kind kind, size_t numbers)
{
    struct team t = choose(d, kind, numbers);
    if (t.threads > 1)
        seats_take(d->seats);
    return t;
}

void team_end(const struct team *t)
{
    if (t->class)
        team_learn(t->class, t->all, t->threads > 1, t->numbers, clock_now() - t->start);
}
