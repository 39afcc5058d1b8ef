/* state.h - the inside of a schedule, for the files that know it: schedule.c, which seats sequences and plans
 * rows, memory.c, which gives them blocks, and room.c, which says what they may be expected to need.
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
    struct blocks blocks[KV_POOLS_MAX];
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

/* Blocks of a pool that sequences hold. */
static inline size_t schedule_held(const struct schedule *s, int pool)
{
    size_t idle = s->prefix ? prefix_idle(s->prefix, pool) : 0;
    return s->blocks[pool].total - s->blocks[pool].n_free - idle;
}

/* ---- memory.c ------------------------------------------------------------------------------- */

/* Full blocks before the one with the last known token. */
size_t schedule_shareable(const struct sequence *q);

/* Reads what is there already of the sequence's beginning, while it has nothing of its own. True: it must
 * wait for what another sequence is going to compute. */
bool schedule_share(struct schedule *s, struct sequence *q);

/* Are there the blocks without which it cannot go on? Takes them. */
bool schedule_fits(const struct schedule *s, const struct sequence *q);
void schedule_take_blocks(struct schedule *s, struct sequence *q);

/* Takes blocks for its next `rows` rows, or for as many as there are blocks for: returns how many. */
size_t schedule_extend(struct schedule *s, struct sequence *q, size_t rows);

/* Its rows up to `computed` are: others may read them, and what no row looks at any more is given back. */
void schedule_computed(struct schedule *s, struct sequence *q);

/* What it has computed of its completion goes into the tree too, for itself, when it comes back before
 * others want the memory. */
void schedule_keep_computed(struct schedule *s, struct sequence *q);

/* All of them; nothing of it is computed any more. */
void schedule_give_blocks(struct schedule *s, struct sequence *q);

/* ---- room.c --------------------------------------------------------------------------------- */

/* Can memory never be short? */
bool schedule_abounds(const struct schedule *s);

/* Blocks of every pool that running sequences may be expected to need together, for another one to be
 * seated. */
struct demand_limit schedule_capacity(const struct schedule *s);

/* What one holds and will come to need; what those that run will, without (ended) those that end in the
 * planned step. */
struct demand_of schedule_demand(const struct sequence *q);
void schedule_expect(const struct schedule *s, struct demand *d, bool ended);

#endif
