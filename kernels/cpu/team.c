#include "kernels/cpu/team.h"

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/cpu/device.h"

#define SIZES     64 /* powers of two */
#define REMEMBERS 8

struct teams {
    double wake;
    struct team_class class[TEAM_KINDS][SIZES];
};

struct teams *teams_new(void)
{
    struct teams *t = mem_zeroed(1, sizeof *t);
    t->wake = TEAM_WAKE;
    return t;
}

/* Half the time alone, and waking: before it was tried. */
bool team_choose(struct team_class *c, double wake, size_t numbers)
{
    double alone = c->cost[0] * (double)numbers, together = c->cost[1] * (double)numbers;
    if (c->cost[0] == 0)
        return false;
    if (c->cost[1] == 0)
        together = alone / 2 + wake;
    bool faster = together < alone;
    if (c->spent < TEAM_PATIENCE * (faster ? alone : together))
        return faster;
    c->spent = 0;
    return !faster;
}

static void remember(double *known, double value)
{
    *known += (value - *known) / REMEMBERS;
}

void team_learn(struct team_class *c, double *wake, bool together, size_t numbers, double seconds)
{
    double cost = seconds / (double)numbers, late = seconds - c->cost[0] * (double)numbers / 2;
    if (c->cost[together] == 0)
        c->cost[together] = cost;
    else
        remember(&c->cost[together], cost);
    if (together)
        remember(wake, late > 0 ? late : 0);
    c->spent += seconds;
}

static size_t size_of(size_t numbers)
{
    size_t bits = 0;
    while (numbers >>= 1)
        bits++;
    return bits;
}

struct team team_begin(const struct device *d, enum team_kind kind, size_t numbers)
{
    struct team t = {.threads = d->threads, .numbers = numbers};
    if (d->threads == 1 || d->config.always_all_threads || numbers >= TEAM_ALL)
        return t;
    t.threads = 1;
    if (numbers < TEAM_ALONE)
        return t;
    t.class = &d->teams->class[kind][size_of(numbers)];
    t.wake = &d->teams->wake;
    if (team_choose(t.class, *t.wake, numbers))
        t.threads = d->threads;
    t.start = clock_now();
    return t;
}

void team_end(const struct team *t)
{
    if (t->class)
        team_learn(t->class, t->wake, t->threads > 1, t->numbers, clock_now() - t->start);
}
