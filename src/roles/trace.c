#include "roles/trace.h"

#include "base/clock.h"
#include "base/mem.h"
#include "roles/timeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void trace_open(struct trace *t, bool keep_events, long first, long last)
{
    *t = (struct trace){.first = first, .last = last};
    if (keep_events)
        t->ring = mem_new(TRACE_EVENTS, sizeof *t->ring);
}

void trace_close(struct trace *t)
{
    free(t->ring);
    *t = (struct trace){0};
}

double trace_add(struct trace *t, enum trace_kind kind, long step, int layer, int micro_batch,
                 double start)
{
    double now = clock_now();
    size_t bytes = kind == TRACE_SEND ? t->sends : kind == TRACE_WAIT ? t->waits : 0;
    t->total[kind] += now - start;
    if (t->ring && step >= t->first && step <= t->last)
        t->ring[t->n++ % TRACE_EVENTS] =
            (struct trace_event){start,           now,
                                 (int32_t)step,   micro_batch < 0 ? 0 : t->rows,
                                 (uint32_t)bytes, (int16_t)layer,
                                 (int8_t)kind,    (int8_t)micro_batch};
    return now;
}

void trace_reset(struct trace *t)
{
    memset(t->total, 0, sizeof t->total);
}

/* Of this rank: the closest of some readings, since between two clocks a rank may lose its processor. */
static double clocks_apart(void)
{
    double apart = 0, least = INFINITY;
    for (int i = 0; i < 16; i++) {
        double before = clock_now(), wall = clock_wall(), took = clock_now() - before;
        if (took < least) {
            least = took;
            apart = wall - before - took / 2;
        }
    }
    return apart;
}

/* Ranks of a host have one clock (clock.h): what its first rank reads holds for all, or rows would seem to
 * come before they are sent. */
static double wall_minus_clock(const struct comm *c)
{
    double mine = clocks_apart(), *all = mem_new((size_t)c->world.size, sizeof *all);
    comm_allgather(&c->world, &mine, sizeof mine, all);
    for (int i = 0; i < c->world.size; i++)
        if (c->peers[i].rank == c->peers[c->world.rank].host)
            mine = all[i];
    free(all);
    return mine;
}

int trace_write(struct trace *t, struct comm *c, int layers, const char *path, struct err *e)
{
    struct timeline_head head = {.rank = c->rank,
                                 .index = c->place.index,
                                 .cell = c->cell_index,
                                 .attention = c->place.attention,
                                 .ffn = c->place.ffn,
                                 .layers = layers};
    snprintf(head.role, sizeof head.role, "%s", place_role(&c->place));
    uint64_t share = TRACE_EVENTS_ALL / (uint64_t)c->world.size;
    head.n = t->n < TRACE_EVENTS ? t->n : TRACE_EVENTS;
    head.n = head.n < share ? head.n : share;
    head.wall_minus_clock = wall_minus_clock(c);
    size_t bytes = sizeof head + head.n * sizeof *t->ring, total;
    char *mine = mem_new(bytes, 1);
    void *all;
    memcpy(mine, &head, sizeof head);
    for (uint64_t i = 0; i < head.n; i++) /* oldest first */
        memcpy(mine + sizeof head + i * sizeof *t->ring,
               &t->ring[(t->n - head.n + i) % TRACE_EVENTS], sizeof *t->ring);
    comm_gather(&c->world, mine, bytes, &all, &total);
    free(mine);
    if (!all)
        return 0;
    int rc = timeline_write(path, all, total, e);
    free(all);
    return rc;
}
