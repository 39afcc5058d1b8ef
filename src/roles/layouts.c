#include "roles/layouts.h"

#include "base/host_memory.h"
#include "roles/engine.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- layouts -------------------------------------------------------------------------------- */

/* Would they fit into this machine's memory, with some room for KV caches? */
static bool fits(struct inputs *in, const struct layout *layout)
{
    const struct layout before = in->job.layout;
    const enum exchange_kind exchange = in->job.exchange;
    struct err ignored;
    size_t bytes = 0;
    bool good = true;
    in->job.layout = *layout;
    in->job.exchange = EXCHANGE_AUTO;
    const struct exchange_ops *transport = engine_transport(&in->job, true, &ignored);
    for (int rank = 0; rank < layout_ranks(layout) && good; rank++) {
        struct engine g;
        struct place place = place_of(layout, rank);
        good = transport && engine_plan(&g, in, &place, 1, transport, &ignored) == 0;
        if (good)
            bytes += engine_tenant(&g).bytes;
        if (good)
            engine_close(&g);
    }
    in->job.layout = before;
    in->job.exchange = exchange;
    return good && (double)bytes < 0.9 * (double)host_memory_free("");
}

void layouts_name(const struct layout *l, char *text, size_t size)
{
    if (l->colocated)
        snprintf(text, size, "%d colocated", l->attention);
    else
        snprintf(text, size, "%dA%dF", l->attention, layout_ffn_ranks(l));
}

static size_t list_layouts(const struct inputs *in, int cores, struct layout *all)
{
    size_t n = 0, experts = in->model.most.experts;
    for (int a = 1; a <= cores && n < LAYOUTS_MOST - 8; a *= 2) {
        all[n++] = (struct layout){a, 1, 1, true, in->job.layout.granule};
        for (int f = 1; f <= cores && n < LAYOUTS_MOST - 1; f *= 2)
            all[n++] = (size_t)f <= experts
                           ? (struct layout){a, f, 1, false, in->job.layout.granule}
                           : (struct layout){a, 1, f, false, in->job.layout.granule};
    }
    return n;
}

/* Of equal ones the smaller layout. */
static int by_speed(const void *x, const void *y)
{
    const struct forecast *a = x, *b = y;
    int order = (a->tokens_per_second < b->tokens_per_second) -
                (a->tokens_per_second > b->tokens_per_second);
    return order ? order : layout_ranks(&a->layout) - layout_ranks(&b->layout);
}

size_t layouts_forecast(struct inputs *in, const struct forecast_times *t,
                        const struct forecast_job *job, int cores,
                        struct forecast all[LAYOUTS_MOST])
{
    struct layout list[LAYOUTS_MOST];
    size_t n = list_layouts(in, cores, list), kept = 0;
    for (size_t i = 0; i < n; i++)
        if (fits(in, &list[i]))
            all[kept++] = forecast_run(t, job, &list[i]);
    qsort(all, kept, sizeof *all, by_speed);
    return kept;
}
