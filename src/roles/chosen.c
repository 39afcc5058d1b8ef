#include "roles/chosen.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* What came since the last time. */
static void write_rows(struct chosen *l, const struct model *m, const uint64_t *now,
                       struct timings *t)
{
    size_t experts = m->most.experts, n = m->layers * experts;
    double wall = clock_wall();
    if (!l->written)
        l->written = mem_zeroed(n, sizeof *l->written);
    for (size_t i = 0; i < n; i++)
        if (now[i] > l->written[i])
            timing_chosen(t, wall, (int)(i / experts), (int)(i % experts), now[i] - l->written[i]);
    memcpy(l->written, now, n * sizeof *now);
    l->last = clock_now();
}

void chosen_gather(struct chosen *l, struct comm *c, const struct model *m, struct attention *a,
                   struct timings *t, bool all)
{
    size_t n = m->layers * m->most.experts;
    if (n == 0)
        return;
    uint64_t *counts = mem_zeroed(n, sizeof *counts);
    if (a)
        attention_chosen(a, counts);
    comm_sum(&c->cell, counts, n);
    if (comm_is_writer(c) && (all || clock_now() - l->last >= CHOSEN_SECONDS))
        write_rows(l, m, counts, t);
    free(counts);
}

void chosen_free(struct chosen *l)
{
    free(l->written);
    *l = (struct chosen){0};
}
