#include "schedule/schedule.h"

#include "base/err.h"
#include "base/mem.h"
#include "kernels/ops.h"

#include <stdlib.h>
#include <string.h>

struct slot {
    struct sequence *sequence; /* NULL: free */
    int planned;               /* rows of it in the current plan */
};

struct schedule {
    struct schedule_limits limits;
    struct blocks blocks;
    struct slot *slots;
    int running, waiting;
    struct sequence *first, *last; /* the queue */
    struct micro_batch batch[MICRO_BATCHES_MAX];
};

static int per_micro_batch(int total, int micro_batches)
{
    return (total + micro_batches - 1) / micro_batches;
}

int schedule_most_sampled(const struct schedule_limits *l)
{
    return per_micro_batch(l->slots, l->micro_batches);
}

int schedule_most_rows(const struct schedule_limits *l)
{
    return schedule_most_sampled(l) + per_micro_batch(l->prefill_chunk, l->micro_batches);
}

int schedule_blocks_stride(const struct schedule_limits *l)
{
    return (int)blocks_for(l->max_context);
}

static void batch_alloc(struct micro_batch *b, const struct schedule_limits *l)
{
    size_t rows = (size_t)schedule_most_rows(l), segments = (size_t)schedule_most_sampled(l);
    b->token = mem_new(rows, sizeof(int32_t));
    b->row_seg = mem_new(rows, sizeof(int32_t));
    b->row_pos = mem_new(rows, sizeof(int32_t));
    b->seg_row = mem_new(segments + 1, sizeof(int32_t));
    b->seg_pos = mem_new(segments, sizeof(int32_t));
    b->blocks = mem_zeroed(mem_mul(segments, (size_t)schedule_blocks_stride(l)), sizeof(int32_t));
    b->sampled_row = mem_new(segments, sizeof(int32_t));
    b->sampled_slot = mem_new(segments, sizeof(int));
}

static void batch_free(struct micro_batch *b)
{
    free(b->token);
    free(b->row_seg);
    free(b->row_pos);
    free(b->seg_row);
    free(b->seg_pos);
    free(b->blocks);
    free(b->sampled_row);
    free(b->sampled_slot);
}

struct schedule *schedule_new(const struct schedule_limits *limits)
{
    struct schedule *s = mem_zeroed(1, sizeof *s);
    if (limits->slots < 1 || limits->prefill_chunk < 1 || limits->micro_batches < 1 ||
        limits->micro_batches > MICRO_BATCHES_MAX)
        die("schedule: %d slots, %d micro-batches, prefill chunk %d", limits->slots,
            limits->micro_batches, limits->prefill_chunk);
    s->limits = *limits;
    s->slots = mem_zeroed((size_t)limits->slots, sizeof *s->slots);
    blocks_init(&s->blocks, limits->kv_blocks);
    for (int m = 0; m < limits->micro_batches; m++)
        batch_alloc(&s->batch[m], limits);
    return s;
}

void sequence_free(struct sequence *q)
{
    if (!q)
        return;
    free(q->tokens);
    free(q->logprobs);
    free(q->blocks);
    free(q);
}

void schedule_free(struct schedule *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->limits.slots; i++)
        sequence_free(s->slots[i].sequence);
    while (s->first) {
        struct sequence *q = s->first;
        s->first = q->next;
        sequence_free(q);
    }
    for (int m = 0; m < s->limits.micro_batches; m++)
        batch_free(&s->batch[m]);
    blocks_free(&s->blocks);
    free(s->slots);
    free(s);
}

int schedule_room(const struct schedule *s)
{
    int room = s->limits.slots - s->running - s->waiting;
    return room > 0 ? room : 0;
}

int schedule_running(const struct schedule *s)
{
    return s->running;
}

bool schedule_idle(const struct schedule *s)
{
    return s->running == 0 && s->waiting == 0;
}

void schedule_submit(struct schedule *s, struct sequence *q)
{
    if (q->n_prompt == 0 || q->n_tokens < q->n_prompt || q->limit <= q->n_tokens ||
        q->limit > s->limits.max_context || blocks_for(q->limit) > s->limits.kv_blocks)
        die("schedule: a sequence of %zu + %zu tokens does not fit (context %zu, %zu KV blocks)",
            q->n_prompt, q->limit - q->n_prompt, s->limits.max_context, s->limits.kv_blocks);
    q->next = NULL;
    if (s->last)
        s->last->next = q;
    else
        s->first = q;
    s->last = q;
    s->waiting++;
}

/* A free slot of the micro-batch with fewest running sequences, or -1. */
static int free_slot(const struct schedule *s)
{
    int mb = s->limits.micro_batches, running[MICRO_BATCHES_MAX] = {0}, best = -1;
    for (int i = 0; i < s->limits.slots; i++)
        running[i % mb] += s->slots[i].sequence != NULL;
    for (int i = 0; i < s->limits.slots; i++)
        if (!s->slots[i].sequence && (best < 0 || running[i % mb] < running[best % mb]))
            best = i;
    return best;
}

/* From the queue into slots, in order of arrival, while slot and memory last. */
static void admit(struct schedule *s)
{
    while (s->first) {
        struct sequence *q = s->first;
        int slot = free_slot(s);
        size_t n = blocks_for(q->limit);
        if (slot < 0 || n > s->blocks.n_free)
            return;
        q->blocks = mem_new(n, sizeof *q->blocks);
        q->n_blocks = n;
        blocks_take(&s->blocks, n, q->blocks);
        s->first = q->next;
        if (!s->first)
            s->last = NULL;
        s->slots[slot].sequence = q;
        s->waiting--;
        s->running++;
    }
}

/* Rows of one sequence: its next n uncomputed tokens. */
static void add_segment(struct schedule *s, struct micro_batch *b, int slot, int n)
{
    const struct sequence *q = s->slots[slot].sequence;
    int stride = schedule_blocks_stride(&s->limits), end = (int)q->computed + n;
    b->seg_row[b->segments] = b->rows;
    b->seg_pos[b->segments] = (int32_t)q->computed;
    memcpy(b->blocks + (size_t)b->segments * (size_t)stride, q->blocks,
           q->n_blocks * sizeof *q->blocks);
    for (int i = 0; i < n; i++) {
        b->token[b->rows + i] = q->tokens[q->computed + (size_t)i];
        b->row_seg[b->rows + i] = b->segments;
        b->row_pos[b->rows + i] = (int32_t)q->computed + i;
    }
    b->rows += n;
    b->segments++;
    b->max_rows = n > b->max_rows ? n : b->max_rows;
    b->max_context = end > b->max_context ? end : b->max_context;
    if ((size_t)end == q->n_tokens) {
        b->sampled_row[b->n_sampled] = b->rows - 1;
        b->sampled_slot[b->n_sampled++] = slot;
    }
    s->slots[slot].planned = n;
}

/* One micro-batch: every sequence that decodes gets its row; what is left of the prefill budget
 * goes to prompts in slot order. */
static void plan_micro_batch(struct schedule *s, int m)
{
    struct micro_batch *b = &s->batch[m];
    int mb = s->limits.micro_batches, budget = per_micro_batch(s->limits.prefill_chunk, mb);
    b->rows = b->segments = b->n_sampled = b->max_rows = b->max_context = 0;
    for (int i = m; i < s->limits.slots; i += mb) {
        const struct sequence *q = s->slots[i].sequence;
        s->slots[i].planned = 0;
        if (!q)
            continue;
        size_t left = q->n_tokens - q->computed;
        bool decoding = left == 1; /* only the last known token is missing: its row is sampled */
        int n = decoding ? 1 : (int)(left < (size_t)budget ? left : (size_t)budget);
        if (n == 0)
            continue;
        if (!decoding)
            budget -= n;
        add_segment(s, b, i, n);
    }
    b->seg_row[b->segments] = b->rows;
}

const struct micro_batch *schedule_plan(struct schedule *s)
{
    admit(s);
    for (int m = 0; m < s->limits.micro_batches; m++)
        plan_micro_batch(s, m);
    return s->batch;
}

void schedule_advance(struct schedule *s)
{
    for (int i = 0; i < s->limits.slots; i++)
        if (s->slots[i].sequence) {
            s->slots[i].sequence->computed += (size_t)s->slots[i].planned;
            s->slots[i].planned = 0;
        }
}

struct sequence *schedule_sequence(struct schedule *s, int slot)
{
    return s->slots[slot].sequence;
}

struct sequence *schedule_finish(struct schedule *s, int slot)
{
    struct sequence *q = s->slots[slot].sequence;
    blocks_give(&s->blocks, q->n_blocks, q->blocks);
    s->slots[slot].sequence = NULL;
    s->running--;
    return q;
}
