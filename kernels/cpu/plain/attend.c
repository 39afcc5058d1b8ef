/* attend.c - attention in the order of additions that every backend of the CPU keeps.
 *
 * A sequence is cut into stretches of CPU_STRETCH tokens and these into tiles of CPU_TILE, counted
 * from its first token. A stretch goes through its tiles with a running maximum, the sum of
 * probabilities and the weighted values (online softmax); the stretches are then merged from first
 * to last. Scores and weighted values are chains (product.c); a probability is rounded to bf16
 * before it multiplies values where activations are bf16 and the cache has no more; the sum takes it
 * as it is, in LANES running sums a tile. Where a cut is depends on positions alone.
 */
#include "kernels/cpu/plain/kept.h"

#include "base/mem.h"
#include "kernels/cpu/lane.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* Of a row and head, after some tokens. */
struct state {
    float most, total; /* of scores in units of log2; of probabilities */
    float *sum;        /* [values] */
};

/* What one thread works in: sizes in floats. */
struct space {
    float *query, *row; /* [D] each */
    float *block;       /* [max(D, CPU_TILE)][PLAIN_OUTPUTS] */
    float *p;           /* [CPU_TILE] scores, then probabilities */
    float *tile;        /* [CPU_TILE][D] values */
    struct state all, part;
};

/* One query head of one row. */
struct head {
    const struct device *d;
    const struct attn_spec *spec;
    const struct kv *kv;
    int layer;
    const struct attn_batch *batch;
    int seg;
    size_t kv_head, first, end; /* the tokens it sees */
};

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Key or value of one token in f32. */
static void load_token(const struct head *h, size_t token, bool value, size_t n, float *to)
{
    const struct kv *kv = h->kv;
    size_t at = plain_kv_token(kv, h->layer, h->batch, h->seg, (int)token);
    if (value && !h->spec->value_in_key)
        plain_load(h->d, kv->dtype, kv->values,
                   at * kv->value_width + h->kv_head * (size_t)h->spec->value_dim, n, to);
    else
        plain_load(h->d, kv->dtype, kv->keys,
                   at * kv->key_width + h->kv_head * (size_t)h->spec->key_dim, n, to);
}

/* Scores of the tile's tokens, sixteen at a time; -inf where the row does not see. */
static void scores(const struct head *h, size_t base, size_t tokens, struct space *w)
{
    size_t keys = (size_t)h->spec->key_dim;
    for (size_t at = 0; at < tokens; at += PLAIN_OUTPUTS) {
        float *sums = w->p + at;
        memset(sums, 0, PLAIN_OUTPUTS * sizeof *sums);
        memset(w->block, 0, keys * PLAIN_OUTPUTS * sizeof *w->block);
        for (size_t o = 0; o < PLAIN_OUTPUTS; o++) {
            size_t token = base + at + o;
            if (token < h->first || token >= h->end)
                continue;
            load_token(h, token, false, keys, w->row);
            for (size_t j = 0; j < keys; j++)
                w->block[j * PLAIN_OUTPUTS + o] = w->row[j];
        }
        plain_chain(w->block, w->query, 0, keys, sums);
        for (size_t o = 0; o < PLAIN_OUTPUTS; o++)
            if (base + at + o < h->first || base + at + o >= h->end)
                sums[o] = -INFINITY;
    }
}

/* A larger maximum: what was summed up so far shrinks. */
static void raise_most(struct state *s, float most, size_t values)
{
    float factor = lane_exp2(s->most - most);
    if (s->total > 0) {
        s->total *= factor;
        for (size_t j = 0; j < values; j++)
            s->sum[j] = factor * s->sum[j];
    }
    s->most = most;
}

/* Scores become probabilities; their sum is added to the state's. */
static void softmax(const struct head *h, size_t tokens, float *p, struct state *s)
{
    float scale = 1.4426950408889634f * h->spec->scale, most = -INFINITY, total[LANES] = {0};
    bool coarse = h->d->config.act == DTYPE_BF16 && h->kv->dtype != DTYPE_F32;
    for (size_t t = 0; t < tokens; t++)
        most = p[t] > most ? p[t] : most;
    if (most * scale > s->most)
        raise_most(s, most * scale, (size_t)h->spec->value_dim);
    for (size_t t = 0; t < tokens; t++) {
        p[t] = lane_exp2(fmaf(p[t], scale, -s->most));
        total[t % LANES] += p[t];
        if (coarse)
            p[t] = f32_from_bf16(bf16_from_f32(p[t]));
    }
    s->total += lane_sum(total);
}

static void add_values(const struct head *h, size_t base, size_t tokens, struct space *w,
                       struct state *s)
{
    size_t values = (size_t)h->spec->value_dim;
    memset(w->tile, 0, tokens * values * sizeof *w->tile);
    for (size_t t = 0; t < tokens; t++)
        if (base + t >= h->first && base + t < h->end)
            load_token(h, base + t, true, values, w->tile + t * values);
    for (size_t j = 0; j < values; j += PLAIN_OUTPUTS) {
        size_t n = values - j < PLAIN_OUTPUTS ? values - j : PLAIN_OUTPUTS;
        float sums[PLAIN_OUTPUTS] = {0};
        memset(w->block, 0, tokens * PLAIN_OUTPUTS * sizeof *w->block);
        for (size_t t = 0; t < tokens; t++)
            memcpy(w->block + t * PLAIN_OUTPUTS, w->tile + t * values + j, n * sizeof *sums);
        memcpy(sums, s->sum + j, n * sizeof *sums);
        plain_chain(w->block, w->p, 0, tokens, sums);
        memcpy(s->sum + j, sums, n * sizeof *sums);
    }
}

/* Tokens of one stretch that the row sees. */
static void run_stretch(const struct head *h, size_t stretch, struct space *w, struct state *s)
{
    size_t begin = stretch * CPU_STRETCH, end = begin + CPU_STRETCH;
    if (begin < h->first)
        begin = h->first / CPU_TILE * CPU_TILE;
    end = end < h->end ? end : h->end;
    s->most = -INFINITY;
    s->total = 0;
    memset(s->sum, 0, (size_t)h->spec->value_dim * sizeof *s->sum);
    for (size_t base = begin; base < end; base += CPU_TILE) {
        size_t tokens = round_up(end - base < CPU_TILE ? end - base : CPU_TILE, 2 * LANES);
        scores(h, base, tokens, w);
        softmax(h, tokens, w->p, s);
        add_values(h, base, tokens, w, s);
    }
}

static void merge(struct state *to, const struct state *from, size_t values)
{
    if (!(from->total > 0) && from->total == from->total)
        return; /* nothing seen there (NaN goes on) */
    float most = to->most > from->most ? to->most : from->most;
    float old = lane_exp2(to->most - most), new = lane_exp2(from->most - most);
    to->most = most;
    to->total = to->total * old + from->total * new;
    for (size_t j = 0; j < values; j++)
        to->sum[j] = fmaf(new, from->sum[j], old * to->sum[j]);
}

/* One query head of one row over the tokens it sees. A sink is one more score, which belongs to no
 * value: it only makes the others smaller. */
static void attend_head(const struct head *h, size_t head, struct space *w)
{
    size_t values = (size_t)h->spec->value_dim, stretch = h->first / CPU_STRETCH;
    run_stretch(h, stretch, w, &w->all);
    while (++stretch * CPU_STRETCH < h->end) {
        run_stretch(h, stretch, w, &w->part);
        merge(&w->all, &w->part, values);
    }
    if (h->spec->sinks)
        w->all.total += lane_exp2(h->spec->sinks[head] * 1.4426950408889634f - w->all.most);
    float by =
        1 / w->all.total; /* a product where a quotient takes 2 % of a short context's time */
    for (size_t j = 0; j < values; j++)
        w->all.sum[j] *= by;
}

static size_t space_floats(size_t dim)
{
    return 4 * dim + (dim > CPU_TILE ? dim : CPU_TILE) * PLAIN_OUTPUTS + CPU_TILE * (1 + dim);
}

static struct space space_of(float *at, size_t dim)
{
    size_t block = (dim > CPU_TILE ? dim : CPU_TILE) * PLAIN_OUTPUTS;
    return (struct space){.query = at,
                          .row = at + dim,
                          .all.sum = at + 2 * dim,
                          .part.sum = at + 3 * dim,
                          .block = at + 4 * dim,
                          .p = at + 4 * dim + block,
                          .tile = at + 4 * dim + block + CPU_TILE};
}

size_t plain_attend_scratch(const struct device_config *config)
{
    return cpu_scratch_size(mem_mul((size_t)config->threads, space_floats(config->limits.head_dim)),
                            sizeof(float));
}

void plain_attend(struct device *d, struct stream *s, const struct attn_spec *spec,
                  const struct kv *kv, int layer, const struct attn_batch *batch, const void *q,
                  void *out)
{
    (void)s;
    size_t heads = (size_t)spec->heads, keys = (size_t)spec->key_dim;
    size_t values = (size_t)spec->value_dim, dim = keys > values ? keys : values;
    cpu_scratch_begin(d);
    float *spaces = cpu_scratch(d, (size_t)d->threads * space_floats(dim), sizeof(float));
#pragma omp parallel for num_threads(d->threads)
    for (size_t task = 0; task < (size_t)batch->rows * heads; task++) {
        struct space w = space_of(spaces + (size_t)omp_get_thread_num() * space_floats(dim), dim);
        size_t row = task / heads, end = (size_t)batch->row_pos[row] + 1;
        size_t window = spec->window ? (size_t)spec->window : end;
        struct head h = {d,
                         spec,
                         kv,
                         layer,
                         batch,
                         batch->row_seg[row],
                         task % heads / (heads / (size_t)spec->kv_heads),
                         end > window ? end - window : 0,
                         end};
        plain_load(d, d->config.act, q, task * keys, keys, w.query);
        attend_head(&h, task % heads, &w);
        plain_store(d->config.act, w.all.sum, values, out, task * values);
    }
}
