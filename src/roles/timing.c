#include "roles/timing.h"

#include "base/mem.h"
#include "output/journal.h"

#include <stdlib.h>

static void put_row(struct timings *t, const struct timing *row)
{
    if (t->n == t->room) {
        t->room = t->room * 2 + 16;
        t->rows = mem_resize(t->rows, t->room, sizeof *t->rows);
    }
    t->rows[t->n++] = *row;
}

/* The second that was open is a row. */
static void close_row(struct timings *t)
{
    if (t->open.steps == 0)
        return;
    put_row(t, &t->open);
    t->open = (struct timing){0};
}

void timing_chosen(struct timings *t, double until, int layer, int expert, uint64_t chosen)
{
    const struct timing row = {.time = until,
                               .rank = t->rank,
                               .layer = layer,
                               .expert = expert,
                               .chosen = (int64_t)chosen};
    put_row(t, &row);
}

void timing_add(struct timings *t, double began, const struct timing *step)
{
    struct timing *o = &t->open;
    if (o->steps && (t->every_step || began - o->time >= 1 || began < o->time))
        close_row(t);
    if (o->steps == 0)
        *o = (struct timing){.time = began, .rank = t->rank, .layer = -1, .expert = -1};
    o->steps++;
    o->rows += step->rows;
    o->attention += step->attention;
    o->ffn += step->ffn;
    o->exchange += step->exchange;
    o->wait += step->wait;
    o->total += step->total;
    o->bytes += step->bytes;
    o->operations += step->operations;
    if (step->total > o->longest)
        o->longest = step->total;
}

void timing_take(struct timings *t, struct bytes *batch)
{
    close_row(t);
    if (t->n)
        journal_put(batch, RECORD_TIMING, 0, &timing_table, t->rows, t->n);
    t->n = 0;
}

void timing_free(struct timings *t)
{
    free(t->rows);
    *t = (struct timings){0};
}
