/* schedule.h - what an attention rank computes in a step: slots, micro-batches, rows.
 *
 * A slot is a place for one running sequence; slot i belongs to micro-batch i % micro_batches for
 * good, so a micro-batch keeps its sequences and a new one goes where fewest are running. Each step
 * gives every running sequence either one row (decoding) or a chunk of its prompt (prefill is not a
 * mode, only more rows of one sequence in the same step). Sequences wait in order of arrival until
 * a slot and all the KV blocks they can ever need are free.
 *
 * Pure functions of one rank, no MPI, no device: schedule_plan() writes the host copy of struct
 * attn_batch, which the caller uploads.
 */
#ifndef TANDEM_SCHEDULE_SCHEDULE_H
#define TANDEM_SCHEDULE_SCHEDULE_H

#include "schedule/blocks.h"
#include "schedule/placement.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One prompt being completed. tokens has room for `limit`; belongs to the schedule once submitted. It
 * may come with some of its completion (n_tokens > n_prompt): known tokens are computed in chunks,
 * whoever they are from, and only the row of the last one is sampled. */
struct sequence {
    uint64_t unit;   /* prompt x samples + sample */
    int32_t *tokens; /* [n_tokens] prompt, then completion */
    float *logprobs; /* [limit - n_prompt], of the completion */
    size_t n_prompt; /* > 0 */
    size_t n_tokens; /* known so far, < limit when submitted */
    size_t limit;    /* prompt + most new tokens; at most the context */
    size_t computed; /* tokens whose K and V are in the cache */
    int32_t *blocks; /* KV blocks, enough for `limit` */
    size_t n_blocks;
    double admitted, first_token; /* seconds since the epoch */
    struct sequence *next;        /* in the queue */
};

struct schedule_limits {
    int slots, micro_batches;
    int prefill_chunk;  /* prompt rows in a step, over all micro-batches */
    size_t max_context; /* tokens of the longest sequence */
    size_t kv_blocks;
};

/* The rows of one micro-batch in one step; arrays have room for the largest. The names are those of
 * struct attn_batch (kernels/ops.h). */
struct micro_batch {
    int rows, segments, max_rows, max_context;
    int32_t *token;             /* [rows] input token ids */
    int32_t *seg_row, *seg_pos; /* [segments + 1], [segments] */
    int32_t *row_seg, *row_pos; /* [rows] */
    int32_t *blocks;            /* [segments][blocks_stride] */
    int n_sampled;
    int32_t *sampled_row; /* [n_sampled] rows whose logits are wanted */
    int *sampled_slot;    /* [n_sampled] the slots they belong to */
};

struct schedule;

struct schedule *schedule_new(const struct schedule_limits *limits);
void schedule_free(struct schedule *s);

/* Most rows of one micro-batch in a step, and most sampled rows: what buffers are made for. */
int schedule_most_rows(const struct schedule_limits *limits);
int schedule_most_sampled(const struct schedule_limits *limits);
/* Width of the block table: blocks of the longest sequence. */
int schedule_blocks_stride(const struct schedule_limits *limits);

/* How many more sequences the rank can be given now: slots that are neither running nor waited for.
 */
int schedule_room(const struct schedule *s);
/* Nothing runs and nothing waits. */
bool schedule_idle(const struct schedule *s);
int schedule_running(const struct schedule *s);

/* Puts a sequence (from mem_new; now owned) at the end of the queue. */
void schedule_submit(struct schedule *s, struct sequence *q);

/* Admits what fits and plans the step for all micro-batches; valid until the next call. Without a
 * schedule_advance() in between it gives the same plan again. */
const struct micro_batch *schedule_plan(struct schedule *s);

/* The step has run: all planned rows are in the cache. */
void schedule_advance(struct schedule *s);

/* The sequence in a slot; the caller appends the sampled token to it. */
struct sequence *schedule_sequence(struct schedule *s, int slot);

/* Takes a finished sequence out: its slot and blocks are free, it belongs to the caller. */
struct sequence *schedule_finish(struct schedule *s, int slot);

void sequence_free(struct sequence *q);

#endif
