/* state.h - the inside of a schedule, for the two files that know it: schedule.c, which seats sequences, gives
 * them blocks and plans rows, and room.c, which says what they may be expected to need.
 */
#ifndef TANDEM_SCHEDULE_STATE_H
#define TANDEM_SCHEDULE_STATE_H

#include "kernels/ops.h"
#include "schedule/demand.h"
#include "schedule/prefix.h"
#include "schedule/schedule.h"

struct slot {
    struct sequence *sequence; /* NULL: free */
    int planned;               /* known tokens of it in the current plan */
    bool waits;                /* for a block that another sequence is computing */
};

/* How sequences have been: what says how those to come will be. */
struct past {
    /* Sequences; of these, summed: tokens, those that were in the cache, most new tokens. */
    double submitted, known, shared, left;
    /* Tokens; sequences that ended; before their limit. */
    double sampled, ended, stopped;
};

struct schedule {
    struct schedule_limits limits;
    struct blocks blocks;
    struct prefix *prefix; /* NULL: nothing is shared */
    struct slot *slots;
    /* [slots] the first `running` are slots in use, those longest in use first; then the free ones. */
    int *order;
    int running, waiting;
    struct sequence *first, *last; /* the queue */
    struct micro_batch batch[MICRO_BATCHES_MAX];
    struct past past;
    uint64_t put_back, computed_again, shared, guessed, right;
};

/* The i-th of those that run, from the oldest on. */
static inline struct sequence *schedule_running(const struct schedule *s, int i)
{
    return s->slots[s->order[i]].sequence;
}

/* Tokens that it may still draw. */
static inline size_t schedule_left(const struct sequence *q)
{
    return q->limit - q->n_tokens;
}

/* Known tokens of the sequence in a slot that are neither in the cache nor in the plan. */
static inline size_t schedule_rows_left(const struct schedule *s, int slot)
{
    const struct sequence *q = s->slots[slot].sequence;
    return q->n_tokens - q->computed - (size_t)s->slots[slot].planned;
}

/* Blocks that sequences hold. */
static inline size_t schedule_held(const struct schedule *s)
{
    return s->blocks.total - s->blocks.n_free - (s->prefix ? prefix_idle(s->prefix) : 0);
}

/* Can memory never be short? */
bool schedule_abounds(const struct schedule *s);

/* Blocks that running sequences may be expected to need together, for another one to be seated. */
size_t schedule_capacity(const struct schedule *s);

/* What one holds and will come to need; what those that run will, without (ended) those that end in the
 * planned step. */
struct demand_of schedule_demand(const struct sequence *q);
void schedule_expect(const struct schedule *s, struct demand *d, bool ended);

#endif
