#include "kernels/cpu/meter.h"

#include "base/clock.h"
#include "base/median.h"

#define WARM_SECONDS 0.03 /* memory is new, threads are asleep */

void meter_again(struct metering *g)
{
    g->bandwidth = limits_bandwidth(g->limits, METER_PIECE);
    g->peak = limits_peak(g->limits, METER_PIECE / 2);
}

void meter_begin(struct metering *g, struct limits *l, const struct meter_task *t)
{
    double start = clock_now();
    *g = (struct metering){.limits = l, .task = t};
    while (clock_now() - start < WARM_SECONDS || g->next == 0)
        t->run(t->context, g->next++);
    double once = (clock_now() - start) / (double)g->next;
    g->runs = once < METER_PIECE ? (size_t)(METER_PIECE / (once + 1e-7)) + 1 : 1;
    meter_again(g);
}

double meter_round(struct metering *g)
{
    const struct meter_task *t = g->task;
    double before = g->bandwidth, peak_before = g->peak, start = clock_now();
    for (size_t j = 0; j < g->runs; j++)
        t->run(t->context, g->next++);
    double seconds = (clock_now() - start) / (double)g->runs;
    meter_again(g);
    g->read[g->n] = 0.5 * (before + g->bandwidth);
    g->made[g->n] = 0.5 * (peak_before + g->peak);
    double read = t->bytes / g->read[g->n], calculate = t->flops / g->made[g->n];
    g->by_memory += read > calculate;
    g->share[g->n] = (read > calculate ? read : calculate) / seconds;
    g->seconds[g->n++] = seconds;
    return seconds;
}

struct metered meter_end(struct metering *g)
{
    size_t n = g->n;
    bool memory = 2 * g->by_memory > n;
    double share = median(g->share, (int)n), seconds = median(g->seconds, (int)n);
    double more = memory && share > 1 ? share : 1;
    return (struct metered){.seconds = seconds,
                            .low = g->share[n / 4] / more,
                            .share = share / more,
                            .high = g->share[n - 1 - n / 4] / more,
                            .memory = memory,
                            .bandwidth = median(g->read, (int)n),
                            .peak = median(g->made, (int)n),
                            .faster = more};
}
