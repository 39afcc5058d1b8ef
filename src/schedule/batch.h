/* batch.h - the rows of one micro-batch in one step, as the device wants them.
 *
 * The names are those of struct attn_batch (kernels/ops.h). A segment is a run of neighbouring
 * tokens of one sequence. Host memory, made once for the largest step.
 */
#ifndef TANDEM_SCHEDULE_BATCH_H
#define TANDEM_SCHEDULE_BATCH_H

#include "schedule/pools.h"
#include "schedule/sequence.h"

/* The blocks of a pool that a segment's rows look at: block i of the sequence is in entry i % width. */
struct block_table {
    int32_t *blocks; /* [segments][width] */
    int width;
    struct kv_pool pool;
};

/* A token behind a row's own: known, or (drawn >= 0) what will be drawn in this step by sampled row
 * `sampled`: 0 the row's own draw, i the i-th guess behind it. */
struct batch_ahead {
    int32_t token;
    int drawn, sampled;
};

struct micro_batch {
    bool filled; /* on the device it is filled up with dead rows (bucket.h), not counted here */
    int rows, segments, max_rows, max_context;
    int32_t *token;             /* [rows] input token ids */
    int32_t *seg_row, *seg_pos; /* [segments + 1], [segments] */
    int32_t *row_seg, *row_pos; /* [rows] */
    struct block_table table[KV_POOLS_MAX];
    int tables; /* one for every pool */
    int n_sampled;
    int32_t *sampled_row; /* [n_sampled] rows whose logits are wanted */
    int *sampled_slot;    /* [n_sampled] the slots they belong to; rows of one stand together */
    int drafts, scored;   /* of these: rows of guesses, rows before tokens of a prompt */
    /* Tokens behind each row's own that are looked up (roles/mtp.h): those 1, 2, ... depth behind. */
    int depth, rows_room;
    struct batch_ahead *ahead; /* [depth][rows_room] */
};

/* Buffers for so many rows, segments and sampled rows, and no table yet. */
void batch_init(struct micro_batch *b, int rows, int segments, int sampled);
/* The next pool's; wide enough for any segment's rows (pools.h, pool_span). */
void batch_add_table(struct micro_batch *b, const struct kv_pool *pool, int width, int segments);
/* From now on so many tokens behind each row's own are looked up. */
void batch_look_ahead(struct micro_batch *b, int rows, int depth);
void batch_free(struct micro_batch *b);

void batch_clear(struct micro_batch *b);

/* The place in its sequence of the token that sampled row i says something about: the one behind its
 * own. */
size_t batch_next(const struct micro_batch *b, int i);

/* The token i + 1 behind row r's own. */
struct batch_ahead batch_ahead(const struct micro_batch *b, int i, int r);

/* One segment more: tokens [from, from + n) of the sequence in `slot`. The rows of the last token that
 * is known and of the guesses behind it are sampled, and of the prompt those before tokens that are
 * scored (sequence.h). */
void batch_add(struct micro_batch *b, const struct sequence *q, int slot, size_t from, int n);

/* For measuring, without sequences: blocks for a segment of tokens [from, end), dealt in turns; next:
 * of every pool how many were. */
void batch_deal_blocks(struct micro_batch *b, int segment, size_t from, size_t end, size_t *next);

#endif
