#include "schedule/batch.h"

#include "base/mem.h"

#include <stdlib.h>

void batch_init(struct micro_batch *b, int rows, int segments, int sampled)
{
    size_t r = (size_t)rows, s = (size_t)segments, wanted = (size_t)sampled;
    *b = (struct micro_batch){0};
    b->token = mem_new(r, sizeof *b->token);
    b->row_seg = mem_new(r, sizeof *b->row_seg);
    b->row_pos = mem_new(r, sizeof *b->row_pos);
    b->seg_row = mem_new(s + 1, sizeof *b->seg_row);
    b->seg_pos = mem_new(s, sizeof *b->seg_pos);
    b->sampled_row = mem_new(wanted, sizeof *b->sampled_row);
    b->sampled_slot = mem_new(wanted, sizeof *b->sampled_slot);
    batch_clear(b);
}

void batch_add_table(struct micro_batch *b, const struct kv_pool *pool, int width, int segments)
{
    size_t entries = mem_mul((size_t)segments, (size_t)width);
    b->table[b->tables++] = (struct block_table){
        .blocks = mem_zeroed(entries, sizeof(int32_t)), .width = width, .pool = *pool};
}

void batch_free(struct micro_batch *b)
{
    for (int i = 0; i < b->tables; i++)
        free(b->table[i].blocks);
    free(b->token);
    free(b->row_seg);
    free(b->row_pos);
    free(b->seg_row);
    free(b->seg_pos);
    free(b->sampled_row);
    free(b->sampled_slot);
    free(b->ahead);
    *b = (struct micro_batch){0};
}

void batch_clear(struct micro_batch *b)
{
    b->rows = b->segments = b->n_sampled = b->drafts = b->scored = 0;
    b->max_rows = b->max_context = 0;
    b->seg_row[0] = 0;
}

size_t batch_next(const struct micro_batch *b, int i)
{
    return (size_t)b->row_pos[b->sampled_row[i]] + 1;
}

static void add_sampled(struct micro_batch *b, int row, int slot)
{
    b->sampled_row[b->n_sampled] = row;
    b->sampled_slot[b->n_sampled++] = slot;
}

static void add_blocks(struct block_table *t, int segment, const struct held_blocks *held,
                       size_t from, size_t end)
{
    size_t width = (size_t)t->width;
    int32_t *entries = t->blocks + (size_t)segment * width;
    for (size_t i = pool_first(&t->pool, from); i < blocks_for(end); i++)
        entries[i % width] = held->list[i];
}

void batch_look_ahead(struct micro_batch *b, int rows, int depth)
{
    b->depth = depth;
    b->rows_room = rows;
    b->ahead = mem_new(mem_mul((size_t)depth, (size_t)rows), sizeof *b->ahead);
}

struct batch_ahead batch_ahead(const struct micro_batch *b, int i, int r)
{
    return b->ahead[(size_t)i * (size_t)b->rows_room + (size_t)r];
}

/* The token at t, seen from the row at position p. `sampled`: the sampled row of the last known token, -1:
 * it is not in the segment. A row of a guess goes by its own draws: whether the rows behind it will be
 * worth something is not known yet. */
static struct batch_ahead look_ahead(const struct sequence *q, size_t p, size_t t, int sampled)
{
    size_t last = q->n_tokens - 1;
    if (t <= last || sampled < 0)
        return (struct batch_ahead){q->tokens[t < last ? t : last], -1, 0};
    if (p <= last)
        return (struct batch_ahead){0, (int)(t - last) - 1, sampled};
    return (struct batch_ahead){0, (int)(t - p) - 1, sampled + (int)(p - last)};
}

/* Of the last segment, whose rows are tokens [from, from + n). */
static void add_ahead(struct micro_batch *b, const struct sequence *q, size_t from, int n)
{
    size_t last = q->n_tokens - 1, end = from + (size_t)n;
    bool there = last >= from && last < end;
    int sampled = there ? b->n_sampled - (int)(end - last) : -1;
    for (int i = 0; i < b->depth; i++)
        for (int r = 0; r < n; r++) {
            size_t p = from + (size_t)r;
            b->ahead[(size_t)i * (size_t)b->rows_room + (size_t)(b->rows - n + r)] =
                look_ahead(q, p, p + (size_t)i + 1, sampled);
        }
}

void batch_add(struct micro_batch *b, const struct sequence *q, int slot, size_t from, int n)
{
    int end = (int)from + n;
    b->seg_pos[b->segments] = (int32_t)from;
    for (int i = 0; i < b->tables; i++)
        add_blocks(&b->table[i], b->segments, &q->kv[i], from, (size_t)end);
    for (int i = 0; i < n; i++) {
        b->token[b->rows + i] = q->tokens[from + (size_t)i];
        b->row_seg[b->rows + i] = b->segments;
        b->row_pos[b->rows + i] = (int32_t)from + i;
        size_t next = from + (size_t)i + 1;
        if (q->score_from > 0 && next >= q->score_from && next < q->n_prompt) {
            add_sampled(b, b->rows + i, slot);
            b->scored++;
        }
    }
    b->rows += n;
    b->seg_row[++b->segments] = b->rows;
    b->max_rows = n > b->max_rows ? n : b->max_rows;
    b->max_context = end > b->max_context ? end : b->max_context;
    for (size_t last = q->n_tokens - 1, i = from < last ? last : from; i < (size_t)end; i++) {
        add_sampled(b, b->rows - (int)((size_t)end - i), slot);
        b->drafts += i > last;
    }
    add_ahead(b, q, from, n);
}

void batch_deal_blocks(struct micro_batch *b, int segment, size_t from, size_t end, size_t *next)
{
    for (int i = 0; i < b->tables; i++) {
        const struct block_table *t = &b->table[i];
        size_t width = (size_t)t->width;
        for (size_t k = pool_first(&t->pool, from); k < blocks_for(end); k++)
            t->blocks[(size_t)segment * width + k % width] = (int32_t)(next[i]++ % t->pool.blocks);
    }
}
