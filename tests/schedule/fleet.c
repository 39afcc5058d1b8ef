#include "fleet.h"

#include "base/mem.h"

#include <stdlib.h>

void fleet_open(struct fleet *f)
{
    size_t n = (size_t)f->ranks, places = n * (size_t)f->limits.slots;
    f->schedule = mem_zeroed(n, sizeof *f->schedule);
    for (size_t r = 0; r < n; r++)
        f->schedule[r] = schedule_new(&f->limits);
    f->admission = admission_new(f->ranks, f->limits.slots, f->samples);
    f->plan = mem_zeroed(n, sizeof *f->plan);
    f->now = mem_zeroed(n, sizeof *f->now);
    f->ahead = mem_zeroed(n, sizeof *f->ahead);
    f->idle = mem_zeroed(n, sizeof *f->idle);
    f->owner = mem_new(places, sizeof *f->owner);
    f->unit = mem_new(places, sizeof *f->unit);
}

void fleet_close(struct fleet *f)
{
    for (int r = 0; r < f->ranks; r++)
        schedule_free(f->schedule[r]);
    admission_free(f->admission);
    free(f->schedule);
    free(f->plan);
    free(f->now);
    free(f->ahead);
    free(f->idle);
    free(f->owner);
    free(f->unit);
}

static void submit(struct fleet *f, int rank, uint64_t unit)
{
    struct lengths l = f->lengths(unit);
    struct sequence *q = mem_zeroed(1, sizeof *q);
    q->unit = unit;
    q->n_prompt = q->n_tokens = l.prompt;
    q->limit = l.prompt + l.most;
    q->tokens = mem_zeroed(q->limit, sizeof *q->tokens);
    schedule_submit(f->schedule[rank], q);
}

static void deal(struct fleet *f, const int *room)
{
    size_t n = 0;
    for (int r = 0; r < f->ranks; r++)
        n += (size_t)room[r];
    if (n > f->units - f->next)
        n = (size_t)(f->units - f->next);
    for (size_t i = 0; i < n; i++)
        f->unit[i] = f->next + i;
    admission_deal(f->admission, room, f->unit, n, f->owner);
    for (size_t i = 0; i < n; i++)
        submit(f, f->owner[i], f->next++);
}

static void take_samples(struct fleet *f, int rank, const struct micro_batch *b)
{
    for (int i = 0; i < b->n_sampled; i++) {
        struct sequence *q = schedule_sequence(f->schedule[rank], b->sampled_slot[i]);
        struct lengths l = f->lengths(q->unit);
        f->tokens++;
        q->n_tokens++;
        if (q->n_tokens - l.prompt < l.answer && q->n_tokens < q->limit)
            continue;
        if (f->done)
            f->done[q->unit] = f->steps;
        f->finished++;
        sequence_free(schedule_finish(f->schedule[rank], b->sampled_slot[i]));
    }
}

/* Sequences with rows: neighbouring micro-batches may share one. */
static int sequences_in(const struct micro_batch *plan, int micro_batches)
{
    int n = 0;
    for (int m = 0; m < micro_batches; m++)
        n += plan[m].segments;
    return n;
}

static bool run_rank(struct fleet *f, int rank, const struct micro_batch *plan, bool full)
{
    struct schedule_usage use = schedule_usage(f->schedule[rank]);
    int n = sequences_in(plan, f->limits.micro_batches), rows = 0;
    for (int m = 0; m < f->limits.micro_batches; m++)
        rows += plan[m].rows;
    if (full) {
        f->slots_used += n < use.running ? n : use.running;
        f->kv_used += (double)use.blocks;
    }
    f->rows += (uint64_t)rows;
    f->idle[rank] += rows == 0;
    schedule_advance(f->schedule[rank]);
    for (int m = 0; m < f->limits.micro_batches; m++)
        take_samples(f, rank, &plan[m]);
    return rows > 0;
}

bool fleet_step(struct fleet *f)
{
    bool any = false, full = f->next < f->units;
    if (f->finished == f->units)
        return false;
    for (int r = 0; r < f->ranks; r++) {
        f->plan[r] = schedule_plan(f->schedule[r]);
        struct schedule_room room = schedule_room(f->schedule[r], 0);
        f->now[r] = room.now;
        f->ahead[r] = room.ahead;
    }
    deal(f, f->now);
    deal(f, f->ahead);
    full = full && f->steps > 0;
    for (int r = 0; r < f->ranks; r++)
        any |= run_rank(f, r, f->plan[r], full);
    f->steps++;
    f->full_steps += full;
    f->idle_steps += !any;
    return true;
}

struct schedule_usage fleet_usage(const struct fleet *f)
{
    struct schedule_usage sum = {0};
    for (int r = 0; r < f->ranks; r++) {
        struct schedule_usage one = schedule_usage(f->schedule[r]);
        sum.running += one.running;
        sum.waiting += one.waiting;
        sum.blocks += one.blocks;
        sum.put_back += one.put_back;
        sum.computed_again += one.computed_again;
    }
    return sum;
}
