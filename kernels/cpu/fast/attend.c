/* attend.c - attention over the paged cache: two panel products with a softmax in between.
 *
 * The query heads that share a KV head (all of them in MFA), of one row or of a few consecutive
 * rows of a prompt, are the rows of these products. A sequence is cut every CPU_STRETCH tokens: a
 * task is some rows x one KV head x one stretch, and ends in running maximum, sum and weighted
 * values (online softmax). The stretches of a row are then merged from first to last; a lone
 * stretch is the result. Where the cuts are depends on positions alone, so a row's bits do not
 * depend on threads, on the batch, or on whether it is decoded or part of a prompt's chunk: tokens
 * a row does not see have probability exactly 0, and adding 0 times a finite value changes nothing.
 * What lies before the windows of all rows is left out.
 */
#include "kernels/cpu/fast/kv.h"

#include "base/mem.h"
#include "kernels/cpu/lane.h"

#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <string.h>

#define ROWS_TOGETHER 64 /* heads x rows of a prompt in one task, at least one row */
#define TILE_PANELS   (CPU_TILE / PANEL)
#define TILE_BLOCKS   (CPU_TILE / KV_BLOCK)
#define MERGE_ROWS    16 /* of a task, merged by one thread */

/* Rows row .. row + rows - 1 (of one segment) of one KV head. */
struct item {
    size_t segment, row, rows, kv_head;
    size_t first;  /* token that the first row sees */
    size_t tokens; /* behind the last one that the last row sees */
    size_t slot;   /* of its first stretch */
    size_t stretches;
};

/* One stretch of an item. */
struct task {
    size_t item, stretch;
};

/* What one thread works in. */
struct space {
    uint8_t *q, *p;      /* packed rows */
    float *scores;       /* [TILE_PANELS][rows][32] */
    size_t *from, *seen; /* [rows] */
    uint8_t *values;     /* [TILE_BLOCKS] made of keys */
    float *state;        /* [slot_floats] of a lone stretch */
};

struct work {
    const struct attn_spec *spec;
    const struct kv *kv;
    size_t layer, heads, group; /* group: query heads per KV head */
    const struct attn_batch *batch;
    enum x_format format;
    const uint8_t *q;
    uint8_t *out;
    size_t most_rows; /* of a task, heads counted */
    size_t slots, tasks, items;
    _Atomic size_t *next; /* task that nobody has taken */
    bool cut;             /* some items have more than one stretch */
    size_t numbers;       /* of keys and values that the items read, for team_begin() */
    struct item *item;
    struct task *task;
    float *state; /* [slots][slot_floats]: maxima, sums, weighted values */
    size_t slot_floats;
    struct space *space; /* [threads] */
};

/* ---- memory --------------------------------------------------------------------------------- */

static size_t stretches(size_t tokens)
{
    return (tokens + CPU_STRETCH - 1) / CPU_STRETCH;
}

/* Enough for the longest sequence, and for a wave that keeps all threads busy. */
static size_t slot_count(size_t threads, size_t context)
{
    size_t wave = 16 * threads, one = stretches(context);
    return one > wave ? one : wave;
}

static size_t most_rows(size_t heads)
{
    return heads > ROWS_TOGETHER ? heads : ROWS_TOGETHER;
}

static size_t slot_floats(size_t rows, size_t dim)
{
    return rows * (2 + round_up(dim, PANEL));
}

size_t fast_attend_scratch(const struct device_config *c)
{
    const struct device_limits *l = &c->limits;
    size_t threads = (size_t)c->threads, rows = most_rows(l->heads);
    size_t slots = slot_count(threads, l->context);
    size_t space = cpu_scratch_size(x_chunks(X_F32, l->head_dim + K_ALIGN) * rows, X_ROW) +
                   cpu_scratch_size(rows, X_ROW) +
                   cpu_scratch_size(CPU_TILE * rows, sizeof(float)) +
                   cpu_scratch_size(slot_floats(rows, l->head_dim), sizeof(float)) +
                   2 * cpu_scratch_size(rows, sizeof(size_t));
    if (!l->values_apart)
        space += cpu_scratch_size(CPU_TILE * round_up(l->head_dim, PANEL), sizeof(float));
    return cpu_scratch_size(slots, sizeof(struct item)) +
           cpu_scratch_size(slots, sizeof(struct task)) +
           cpu_scratch_size(mem_mul(slots, slot_floats(rows, l->head_dim)), sizeof(float)) +
           cpu_scratch_size(threads, sizeof(struct space)) + mem_mul(threads, space);
}

static void take_memory(struct device *d, struct work *w)
{
    size_t threads = (size_t)d->threads, rows = w->most_rows;
    size_t turned = w->kv->value_bytes ? 0 : w->kv->turned_bytes;
    w->slots = slot_count(threads, (size_t)w->batch->max_context);
    w->slot_floats = slot_floats(rows, w->kv->value_dim);
    cpu_scratch_begin(d);
    w->item = cpu_scratch(d, w->slots, sizeof *w->item);
    w->task = cpu_scratch(d, w->slots, sizeof *w->task);
    w->state = cpu_scratch(d, mem_mul(w->slots, w->slot_floats), sizeof(float));
    w->space = cpu_scratch(d, threads, sizeof *w->space);
    for (size_t t = 0; t < threads; t++)
        w->space[t] = (struct space){
            .q = cpu_scratch(d, x_chunks(w->format, w->kv->key_width) * rows, X_ROW),
            .p = cpu_scratch(d, rows, X_ROW),
            .scores = cpu_scratch(d, CPU_TILE * rows, sizeof(float)),
            .from = cpu_scratch(d, rows, sizeof(size_t)),
            .seen = cpu_scratch(d, rows, sizeof(size_t)),
            .values = cpu_scratch(d, TILE_BLOCKS, turned),
            .state = cpu_scratch(d, w->slot_floats, sizeof(float)),
        };
}

static struct partial state_at(const struct work *w, float *at)
{
    return (struct partial){.most = at, at + w->most_rows, at + 2 * w->most_rows};
}

static struct partial slot(const struct work *w, size_t i)
{
    return state_at(w, w->state + i * w->slot_floats);
}

/* ---- one task ------------------------------------------------------------------------------- */

static uint8_t *block_of(const struct work *w, const struct item *it, size_t token)
{
    return kv_at(w->kv, w->layer, kv_block(w->batch, it->segment, token), it->kv_head);
}

static void pack_queries(const struct device *d, const struct work *w, const struct item *it,
                         const struct space *space)
{
    size_t dim = w->kv->key_dim, rows = it->rows * w->group;
    size_t head_bytes = dim * dtype_size(d->config.act);
    for (size_t m = 0; m < rows; m++) {
        size_t head = (it->row + m / w->group) * w->heads + it->kv_head * w->group + m % w->group;
        d->isa->pack_row(d->config.act, w->q + head * head_bytes, dim, 0, w->kv->key_width,
                         w->format, space->q + m * X_ROW, rows * X_ROW);
    }
}

/* The first token that a row sees. */
static size_t first_seen(const struct work *w, size_t row)
{
    size_t end = (size_t)w->batch->row_pos[row] + 1, window = (size_t)w->spec->window;
    return window && end > window ? end - window : 0;
}

/* Tokens first .. first + tokens - 1 of the sequence: which of them each row sees. */
static void look(const struct work *w, const struct item *it, const struct space *space,
                 size_t first, size_t tokens)
{
    for (size_t m = 0; m < it->rows * w->group; m++) {
        size_t row = it->row + m / w->group, from = first_seen(w, row);
        size_t sees = (size_t)w->batch->row_pos[row] + 1;
        space->from[m] = from <= first ? 0 : from - first < tokens ? from - first : tokens;
        space->seen[m] = sees <= first ? 0 : sees - first < tokens ? sees - first : tokens;
    }
}

/* The blocks of a tile's keys, and where their values are: behind them, or made of them. */
static void open_blocks(const struct device *d, const struct work *w, const struct item *it,
                        const struct space *space, size_t first, size_t tokens,
                        const uint8_t **block, const uint8_t **values)
{
    const struct kv *kv = w->kv;
    for (size_t b = 0; b * KV_BLOCK < tokens; b++) {
        uint8_t *turned = space->values + b * kv->turned_bytes;
        block[b] = block_of(w, it, first + b * KV_BLOCK);
        values[b] = kv->value_bytes ? block[b] + kv->key_bytes : turned;
        if (!kv->value_bytes)
            kv_turn(d->isa, kv, block[b], turned);
    }
}

/* Where a stretch of an item begins. */
static size_t first_of(const struct item *it, size_t stretch)
{
    size_t first = (it->first / CPU_STRETCH + stretch) * CPU_STRETCH;
    return first < it->first ? it->first / KV_BLOCK * KV_BLOCK
                             : first; /* the rest would add zeros */
}

/* What is fetched while a tile's values are read: the keys of the next one, of the same task (first: its first
 * token), or, behind the last, of the task that is taken next. `share` of `shares` of them; NULL: none. */
static const uint8_t *keys_ahead(const struct work *w, const struct item *it, size_t first,
                                 size_t share, size_t shares)
{
    if (!first) {
        size_t next = atomic_load_explicit(w->next, memory_order_relaxed);
        if (next >= w->tasks)
            return NULL;
        it = &w->item[w->task[next].item];
        first = first_of(it, w->task[next].stretch);
    }
    size_t at = TILE_BLOCKS * w->kv->key_bytes / shares * share;
    first += at / w->kv->key_bytes * KV_BLOCK;
    return first < it->tokens ? block_of(w, it, first) + at % w->kv->key_bytes : NULL;
}

static void add_values(const struct device *d, const struct work *w, const struct item *it,
                       const struct space *space, const struct partial *state, size_t tokens,
                       const uint8_t *const *values, bool begins, size_t after)
{
    const struct kv *kv = w->kv;
    size_t rows = it->rows * w->group;
    for (size_t p = 0; p < kv->value_panels; p++) {
        const uint8_t *ahead = keys_ahead(w, it, after, p, kv->value_panels);
        struct parts parts = {
            .w = values,
            .offset = p * (KV_BLOCK * PANEL * w_size(kv->format)),
            .next = ahead ? ahead : values[0],
            .part_k = KV_BLOCK,
            .k = tokens,
            .x = space->p,
            .rows = rows,
            .first = begins,
            .c = state->sum + p * rows * PANEL,
        };
        d->isa->parts[kv->format][w->format](&parts);
    }
}

/* Tokens first .. first + n - 1 of the sequence; begins: the first ones of a task; after: the token behind
 * them, or 0 for the last ones. */
static void tile(const struct device *d, const struct work *w, const struct item *it,
                 const struct space *space, const struct partial *state, size_t first, size_t n,
                 bool begins, size_t after)
{
    const struct kv *kv = w->kv;
    size_t rows = it->rows * w->group, tokens = round_up(n, PANEL);
    size_t panel_bytes = kv->key_bytes / 2;
    const uint8_t *block[TILE_BLOCKS], *values[TILE_BLOCKS];
    open_blocks(d, w, it, space, first, tokens, block, values);
    for (size_t j = 0; j < tokens / PANEL; j++) {
        struct panel p = {
            .w = block[j / 2] + j % 2 * panel_bytes,
            .next = values[j / 2] + j % 2 * (kv->turned_bytes / 2),
            .x = space->q,
            .chunk = rows * X_ROW,
            .rows = rows,
            .k = kv->key_width,
            .scattered = true,
            .c = space->scores + j * rows * PANEL,
        };
        d->isa->panel[kv->format][w->format](&p);
    }
    look(w, it, space, first, tokens);
    struct softmax s = {
        .scores = space->scores,
        .rows = rows,
        .tokens = tokens,
        .from = space->from,
        .seen = space->seen,
        .scale = 1.4426950408889634f * w->spec->scale,
        .most = state->most,
        .total = state->total,
        .sum = state->sum,
        .panels = kv->value_panels,
        .format = w->format,
        .coarse = d->config.act == DTYPE_BF16 && kv->format != W_F32,
        .to = space->p,
    };
    d->isa->softmax(&s);
    add_values(d, w, it, space, state, tokens, values, begins, after);
}

/* Results of rows m .. end - 1 of an item. */
static void finish(const struct device *d, const struct work *w, const struct item *it,
                   const struct partial *state, size_t m, size_t end)
{
    size_t rows = it->rows * w->group, dim = w->kv->value_dim;
    for (; m < end; m++) {
        size_t head = (it->row + m / w->group) * w->heads + it->kv_head * w->group + m % w->group;
        if (w->spec->sinks)
            state->total[m] +=
                lane_exp2(w->spec->sinks[head % w->heads] * 1.4426950408889634f - state->most[m]);
        d->isa->finish(state, m, rows, dim, d->config.act,
                       w->out + head * dim * dtype_size(d->config.act));
    }
}

static void run_task(const struct device *d, const struct work *w, const struct task *t,
                     const struct space *space)
{
    const struct item *it = &w->item[t->item];
    size_t rows = it->rows * w->group;
    size_t first = first_of(it, t->stretch);
    size_t end = (first / CPU_STRETCH + 1) * CPU_STRETCH;
    end = end < it->tokens ? end : it->tokens;
    bool lone = it->stretches == 1, begins = true;
    struct partial state = lone ? state_at(w, space->state) : slot(w, it->slot + t->stretch);
    for (size_t m = 0; m < rows; m++) {
        state.most[m] = -INFINITY;
        state.total[m] = 0;
    }
    pack_queries(d, w, it, space);
    for (size_t n; first < end; first += n, begins = false) {
        n = CPU_TILE - first % CPU_TILE;
        n = end - first < n ? end - first : n;
        tile(d, w, it, space, &state, first, n, begins, first + n < end ? first + n : 0);
    }
    if (lone)
        finish(d, w, it, &state, 0, rows);
}

/* Merges the stretches of some rows of an item, and writes their results. */
static void merge(const struct device *d, const struct work *w, const struct item *it, size_t first)
{
    size_t rows = it->rows * w->group;
    size_t end = first + MERGE_ROWS < rows ? first + MERGE_ROWS : rows;
    struct partial state = slot(w, it->slot);
    for (size_t i = 1; i < it->stretches; i++) {
        struct partial more = slot(w, it->slot + i);
        d->isa->merge(&state, &more, rows, first, end, w->kv->value_panels);
    }
    finish(d, w, it, &state, first, end);
}

/* ---- waves ---------------------------------------------------------------------------------- */

static void run_wave(struct device *d, struct work *w)
{
    size_t pieces = (w->most_rows + MERGE_ROWS - 1) / MERGE_ROWS;
    _Atomic size_t next = 0;
    w->next = &next;
    struct team team = team_begin(d, TEAM_ATTEND, w->numbers);
#pragma omp parallel num_threads(team.threads)
    {
        const struct space *space = &w->space[omp_get_thread_num()];
        for (size_t i; (i = atomic_fetch_add(&next, 1)) < w->tasks;)
            run_task(d, w, &w->task[i], space);
        if (w->cut) {
#pragma omp barrier
#pragma omp for schedule(static)
            for (size_t i = 0; i < w->items * pieces; i++) {
                const struct item *it = &w->item[i / pieces];
                if (it->stretches > 1 && i % pieces * MERGE_ROWS < it->rows * w->group)
                    merge(d, w, it, i % pieces * MERGE_ROWS);
            }
        }
    }
    team_end(&team);
}

static void add_item(struct device *d, struct work *w, struct item it)
{
    it.stretches = stretches(it.tokens) - it.first / CPU_STRETCH;
    if (w->tasks + it.stretches > w->slots) {
        run_wave(d, w);
        w->tasks = w->items = w->numbers = 0;
        w->cut = false;
    }
    it.slot = w->tasks;
    w->cut |= it.stretches > 1;
    w->numbers += (it.tokens - it.first) * (w->kv->key_dim + w->kv->value_dim) *
                  (1 + it.rows * w->group / 16);
    for (size_t i = 0; i < it.stretches; i++)
        w->task[w->tasks++] = (struct task){w->items, i};
    w->item[w->items++] = it;
}

void fast_attend(struct device *d, struct stream *s, const struct attn_spec *spec,
                 const struct kv *kv, int layer, const struct attn_batch *batch, const void *q,
                 void *out)
{
    (void)s;
    struct work w = {.spec = spec,
                     .kv = kv,
                     .layer = (size_t)layer,
                     .heads = (size_t)spec->heads,
                     .batch = batch,
                     .q = q,
                     .out = out,
                     .format = kv_x_format(d, kv)};
    w.group = w.heads / kv->kv_heads;
    w.most_rows = most_rows(w.group);
    size_t together = w.group < ROWS_TOGETHER ? ROWS_TOGETHER / w.group : 1;
    take_memory(d, &w);
    for (size_t seg = 0; seg < (size_t)batch->segments; seg++) {
        size_t end = (size_t)batch->seg_row[seg + 1];
        for (size_t row = (size_t)batch->seg_row[seg], n; row < end; row += n) {
            n = end - row < together ? end - row : together;
            size_t tokens = (size_t)batch->row_pos[row + n - 1] + 1;
            for (size_t h = 0; h < kv->kv_heads; h++)
                add_item(d, &w, (struct item){seg, row, n, h, first_seen(&w, row), tokens, 0, 0});
        }
    }
    run_wave(d, &w);
}
