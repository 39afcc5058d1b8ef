#include "tests/bench/hand.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/philox.h"

#include <stdlib.h>

void hand_open(struct hand *h)
{
    size_t rows = (size_t)schedule_most_rows(&h->engine.limits);
    const struct schedule_limits *l = &h->engine.limits;
    for (int m = 0; m < MICRO_BATCHES_MAX; m++) {
        struct micro_batch *p = &h->plan[m];
        p->token = mem_new(rows, sizeof(int32_t));
        p->seg_row = mem_new(rows + 1, sizeof(int32_t));
        p->seg_pos = mem_new(rows, sizeof(int32_t));
        p->row_seg = mem_new(rows, sizeof(int32_t));
        p->row_pos = mem_new(rows, sizeof(int32_t));
        for (int i = 0; i < l->pools; i++)
            batch_add_table(p, &l->pool[i], schedule_table_width(l, i), (int)rows);
        p->sampled_row = mem_new(rows, sizeof(int32_t));
    }
    h->rows = mem_new((size_t)h->in.job.layout.attention * MICRO_BATCHES_MAX, sizeof *h->rows);
    h->chosen = mem_zeroed(h->in.model.layers, h->in.model.most.experts + 1);
    h->params = mem_zeroed(rows, sizeof *h->params);
}

/* Rows of attention rank `rank` in micro-batch m. */
static int share_of(const struct hand *h, int batch, int rank, int m)
{
    int parts = h->in.job.layout.attention * h->in.job.micro_batches;
    int part = rank * h->in.job.micro_batches + m;
    return (int)((long)batch * (part + 1) / parts - (long)batch * part / parts);
}

/* The first tokens of a prompt; its last row is sampled. */
static void make_prompt(struct hand *h, int tokens)
{
    struct micro_batch *p = &h->plan[0];
    size_t next[KV_POOLS_MAX] = {0};
    if (h->in.job.layout.attention * h->in.job.micro_batches != 1)
        die("a prompt is for one attention rank and one micro-batch");
    if (tokens > schedule_most_rows(&h->engine.limits))
        die("schedule.prefill_chunk is shorter than the prompt");
    h->rows[0] = tokens;
    if (!h->comm.place.attention)
        return;
    p->rows = p->max_rows = p->max_context = tokens;
    p->segments = p->n_sampled = 1;
    for (int i = 0; i < tokens; i++) {
        float u = philox_uniform(1, 0, 0, (uint32_t)i);
        p->token[i] = (int32_t)(u * (float)h->in.model.vocab);
        p->row_seg[i] = 0;
        p->row_pos[i] = i;
    }
    p->seg_row[0] = p->seg_pos[0] = 0;
    p->seg_row[1] = tokens;
    p->sampled_row[0] = tokens - 1;
    batch_deal_blocks(p, 0, 0, (size_t)tokens, next);
}

void hand_plan(struct hand *h, int batch, int context)
{
    size_t next[KV_POOLS_MAX] = {0};
    if (batch == 0) {
        make_prompt(h, context);
        return;
    }
    for (int m = 0; h->comm.place.attention && m < h->in.job.micro_batches; m++) {
        struct micro_batch *p = &h->plan[m];
        int n = share_of(h, batch, h->comm.place.index, m);
        p->rows = p->segments = p->n_sampled = n;
        p->max_rows = 1;
        p->max_context = context;
        for (int i = 0; i < n; i++) {
            float u = philox_uniform(1, (uint64_t)h->comm.place.index, (uint32_t)m, (uint32_t)i);
            p->token[i] = (int32_t)(u * (float)h->in.model.vocab);
            p->seg_row[i] = p->row_seg[i] = p->sampled_row[i] = i;
            p->seg_pos[i] = p->row_pos[i] = context - 1;
            batch_deal_blocks(p, i, (size_t)context - 1, (size_t)context, next);
        }
        p->seg_row[n] = n;
    }
    for (int a = 0; a < h->in.job.layout.attention; a++)
        for (int m = 0; m < h->in.job.micro_batches; m++)
            h->rows[a * h->in.job.micro_batches + m] = share_of(h, batch, a, m);
}

static void run_attention(struct hand *h, int layer, int m)
{
    struct attention *f = h->engine.attention;
    if (h->plan[m].rows == 0)
        return;
    double t = clock_now();
    attention_collect(f, m, layer);
    t = trace_add(&h->trace, TRACE_WAIT, 0, layer, m, t);
    attention_layer(f, m, layer);
    t = trace_add(&h->trace, TRACE_ATTENTION, 0, layer, m, t);
    attention_dispatch(f, m, layer);
    trace_add(&h->trace, TRACE_SEND, 0, layer, m, t);
}

static void note_chosen(struct hand *h, int layer, const struct wire *in)
{
    const struct model *m = &h->in.model;
    char *chosen = h->chosen + (size_t)layer * m->most.experts;
    for (int i = 0; m->moe[layer] && i < in->n * (int)m->most.topk; i++)
        chosen[in->ids[i]] = 1;
}

static void run_ffn(struct hand *h, int layer, int m)
{
    struct ffn *f = h->engine.ffn;
    double t = clock_now();
    if (!ffn_receive(f, m, layer))
        return;
    t = trace_add(&h->trace, TRACE_WAIT, 0, layer, m, t);
    note_chosen(h, layer, ffn_received(f, m));
    ffn_layer(f, m, layer);
    t = trace_add(&h->trace, TRACE_FFN, 0, layer, m, t);
    ffn_reply(f, m, layer);
    trace_add(&h->trace, TRACE_SEND, 0, layer, m, t);
}

static void sample(struct hand *h, int m)
{
    double t = clock_now();
    if (h->plan[m].rows == 0)
        return;
    attention_collect(h->engine.attention, m, (int)h->in.model.layers);
    t = trace_add(&h->trace, TRACE_WAIT, 0, -1, m, t);
    attention_sample(h->engine.attention, m, NULL);
    trace_add(&h->trace, TRACE_SAMPLE, 0, -1, m, t);
}

void hand_step(struct hand *h)
{
    struct engine *g = &h->engine;
    int micro_batches = h->in.job.micro_batches;
    struct contract mine = {0}, *all = mem_new((size_t)h->comm.cell.size, sizeof *all);
    comm_contract(&h->comm, &mine, all);
    free(all);
    g->exchange_ops->begin(g->exchange, h->rows);
    for (int m = 0; g->place.attention && m < micro_batches; m++) {
        attention_plan(g->attention, m, &h->plan[m], h->params);
        attention_begin(g->attention, m);
    }
    for (int layer = 0; layer < (int)h->in.model.layers; layer++)
        for (int m = 0; m < micro_batches; m++) {
            if (g->place.attention)
                run_attention(h, layer, m);
            if (g->place.ffn)
                run_ffn(h, layer, m);
        }
    for (int m = 0; g->place.attention && m < micro_batches; m++)
        sample(h, m);
    g->exchange_ops->end(g->exchange);
}
