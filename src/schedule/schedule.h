/* schedule.h - what an attention rank computes in a step: slots, memory, micro-batches, rows.
 *
 * A slot is a place for one running sequence. Each step gives every running sequence either one row
 * (decoding) or a chunk of its prompt (prefill is not a mode, only more rows of one sequence in the
 * same step); chunks are given in the order in which sequences got their slots, until the step's
 * budget is spent, and rows are spread evenly over the micro-batches.
 *
 * A sequence holds the KV blocks of the tokens it knows, of windowed pools those its next rows look at
 * (schedule/pools.h), and takes one more whenever it has filled its last; a chunk is cut to the blocks
 * that there are. When there is none for a row of each, the youngest sequence is put back at the head
 * of the queue; its tokens are kept, so it is computed again later with the same result, because a
 * row's bits do not depend on the rows beside it. A sequence leaves the queue, in order, when a slot is
 * free and it is not expected to end that way (schedule/demand.h). The oldest always goes on.
 *
 * Sequences that begin alike share the full blocks of their beginning: the first computes them, the
 * others wait for it and go on behind them. One begins behind as many full blocks as it can: all of them
 * must be there of a pool without a window, and of a windowed one those that its first row looks at. The last known token is always computed, as its row is
 * sampled.
 *
 * A sequence that decodes may come with guesses at its next tokens (n_drafts): they are rows behind
 * its own, as many as there is room for in the step and in its last block, so that a guess never
 * costs another sequence memory. While what is drawn equals the guess, the next row is as if it had
 * been the next step's; the K and V of wrong guesses are written over before anybody reads them.
 *
 * Pure functions of one rank, no MPI, no device: schedule_plan() writes the host copy of struct
 * attn_batch, which the caller uploads.
 */
#ifndef TANDEM_SCHEDULE_SCHEDULE_H
#define TANDEM_SCHEDULE_SCHEDULE_H

#include "schedule/batch.h"
#include "schedule/placement.h"
#include "schedule/pools.h"
#include "schedule/sequence.h"

#include <stdbool.h>

struct schedule_limits {
    int slots, micro_batches;
    int prefill_chunk;  /* prompt rows in a step, over all micro-batches */
    size_t max_context; /* tokens of the longest sequence */
    int pools;          /* of KV blocks */
    struct kv_pool pool[KV_POOLS_MAX];
    bool share;     /* blocks of equal beginnings (schedule/prefix.h) */
    bool score;     /* prompts may be scored (schedule/sequence.h): every row may be sampled */
    int draft_rows; /* most rows of guesses in a step, over all micro-batches */
    int ahead;      /* tokens looked up behind every row's own (schedule/batch.h); 0: none */
    bool fill;      /* micro-batches are filled up to a few sizes (schedule/bucket.h) */
};

/* How many more sequences the rank can be given now. `now` will run in the next step: there will be
 * slots and memory for them, those included whose sequences are sure to end in this step. `ahead`
 * will wait, for slots that sequences leave when they stop: worth giving only when no rank has room
 * now. */
struct schedule_room {
    int now, ahead;
};

/* What is in use, for reports and tests. */
struct schedule_usage {
    int running, waiting;
    size_t blocks;           /* held by sequences, of all pools */
    uint64_t put_back;       /* sequences that went back to the queue, so far */
    uint64_t computed_again; /* tokens that were in the cache then */
    uint64_t shared;         /* tokens that were in the cache when a sequence came to them */
    uint64_t guessed, right; /* rows of guesses, and those that were drawn */
};

struct schedule;

struct schedule *schedule_new(const struct schedule_limits *limits);
void schedule_free(struct schedule *s);

/* Most rows, segments and sampled rows of one micro-batch in a step: what buffers are made for. */
int schedule_most_rows(const struct schedule_limits *limits);
int schedule_most_segments(const struct schedule_limits *limits);
int schedule_most_sampled(const struct schedule_limits *limits);
/* Width of a pool's block table. */
int schedule_table_width(const struct schedule_limits *limits, int pool);

/* Buffers for any micro-batch of a step; batch_free(). */
void schedule_batch_init(const struct schedule_limits *limits, struct micro_batch *b);

/* coming: sequences the rank was given, but that are not submitted yet. Between schedule_plan() and
 * schedule_advance(). */
struct schedule_room schedule_room(const struct schedule *s, int coming);
/* Nothing runs and nothing waits. */
bool schedule_idle(const struct schedule *s);
struct schedule_usage schedule_usage(const struct schedule *s);

/* Puts a sequence (from mem_new; now owned) at the end of the queue. */
void schedule_submit(struct schedule *s, struct sequence *q);

/* Gives out memory and slots and plans the step for all micro-batches; valid until the next call.
 * Without a schedule_advance() in between it gives the same plan again. */
const struct micro_batch *schedule_plan(struct schedule *s);

/* Before schedule_advance(): MTP layers have not seen the planned rows (sequence.h: holes). */
void schedule_leave_out_mtp(struct schedule *s);

/* The step has run: all planned rows are in the cache. */
void schedule_advance(struct schedule *s);

/* The token that the caller appends now was guessed: its K and V are in the cache. */
void schedule_accept(struct schedule *s, int slot);

/* The sequence in a slot (NULL: it is free); the caller appends the sampled token to it. */
struct sequence *schedule_sequence(struct schedule *s, int slot);

/* Calls `use` with every sequence, running or waiting. */
void schedule_visit(struct schedule *s, void (*use)(void *context, struct sequence *q),
                    void *context);

/* Takes a finished sequence out: its slot and blocks are free, it belongs to the caller. */
struct sequence *schedule_finish(struct schedule *s, int slot);

#endif
