#include "roles/work.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>

void work_open(struct work *w, const struct engine *g)
{
    const struct model *m = &g->in->model;
    *w = (struct work){.engine = g, .seen = mem_zeroed(m->most.experts + 1, sizeof *w->seen)};
    roofs_open(&w->roofs, g);
    for (size_t i = 0; i < w->roofs.n; i++) {
        w->attention_bytes += w->roofs.layers[i].projection_bytes;
        w->attention_flops += 2 * w->roofs.layers[i].projections;
    }
}

void work_close(struct work *w)
{
    roofs_close(&w->roofs);
    free(w->seen);
}

/* Tokens of context that rows first .. first + rows - 1 of a sequence see, added up, and how many of them
 * have to be read. */
static void count_context(double window, double first, double rows, double *seen, double *read)
{
    double last = first + rows;
    *seen = rows * first + rows * (rows + 1) / 2;
    *read = last;
    if (window > 0 && window < last) {
        double before = fmin(fmax(window - first, 0), rows); /* rows that see less than a window */
        *seen = before * first + before * (before + 1) / 2 + (rows - before) * window;
        *read = fmin(last, rows + window - 1);
    }
}

void work_attention(struct work *w, const struct micro_batch *b)
{
    if (b->rows == 0)
        return;
    w->bytes += w->attention_bytes;
    w->flops += w->attention_flops * b->rows;
    for (int s = 0; s < b->segments; s++) {
        double seen = 0, read = 0, window = -1;
        for (size_t i = 0; i < w->roofs.n; i++) {
            const struct layer_roof *l = &w->roofs.layers[i];
            if (l->window != window)
                count_context(window = l->window, b->seg_pos[s], b->seg_row[s + 1] - b->seg_row[s],
                              &seen, &read);
            w->bytes += read * l->kv_bytes;
            w->flops += seen * l->context_flops;
        }
    }
    if (b->n_sampled > 0) {
        w->bytes += w->roofs.head_bytes;
        w->flops += 2 * w->roofs.head * b->n_sampled;
    }
}

/* What the rows of a layer have chosen of this rank's experts. */
struct choices {
    double experts, pairs;
};

static struct choices count_choices(struct work *w, const struct layer_roof *l, struct span mine,
                                    const struct wire *in)
{
    struct choices c = {0};
    size_t n = (size_t)in->n * (size_t)l->topk;
    w->layers++;
    for (size_t i = 0; i < n; i++) {
        size_t expert = (size_t)in->ids[i];
        if (expert < mine.first || expert >= mine.first + mine.count)
            continue;
        c.pairs++;
        c.experts += w->seen[expert] != w->layers;
        w->seen[expert] = w->layers;
    }
    return c;
}

static struct choices even_choices(const struct layer_roof *l, struct span mine, int rows)
{
    double share = (double)l->topk / l->experts, count = (double)mine.count;
    return (struct choices){count * (1 - pow(1 - share, rows)), rows * share * count};
}

/* The share of an intermediate dimension that is this rank's. */
static double part(struct span mine, size_t all)
{
    return all ? (double)mine.count / (double)all : 0;
}

void work_ffn(struct work *w, int layer, const struct wire *in)
{
    const struct engine *g = w->engine;
    const struct place *p = &g->place;
    struct layout alone = p->layout;
    int rank = p->index;
    if ((size_t)layer >= w->roofs.n || in->n == 0)
        return;
    if (p->layout.colocated) /* the whole FFN */
        alone.expert = alone.tensor = 1, rank = 0;
    const struct layer_roof *l = &w->roofs.layers[layer];
    const struct ffn_spec *f = &g->in->model.layer[layer].ffn;
    size_t every = l->experts ? f->shared_inter : f->inter;
    double dense = part(placement_shared_inter(every, &alone, rank), every);
    w->bytes += dense * l->dense_bytes;
    w->flops += 2 * dense * l->dense * in->n;
    if (l->experts == 0)
        return;
    struct span mine = placement_experts((size_t)l->experts, &alone, rank);
    double inter = part(placement_expert_inter(f->inter, &alone, rank), f->inter);
    bool there = g->backend->device->count == NULL && in->ids;
    struct choices c = there ? count_choices(w, l, mine, in) : even_choices(l, mine, in->n);
    w->bytes += c.experts * inter * l->expert_bytes;
    w->flops += 2 * c.pairs * inter * l->expert;
}

void work_take(struct work *w, double *bytes, double *flops)
{
    *bytes = w->bytes;
    *flops = w->flops;
    w->bytes = w->flops = 0;
}
