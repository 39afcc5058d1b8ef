#include "kernels/cpu/lane.h"
#include "kernels/cpu/plain/kept.h"

#include <math.h>
#include <omp.h>

void plain_scores(const struct router_spec *spec, const float *bias, float *p)
{
    float most = -INFINITY, total = 0;
    for (int e = 0; spec->bias_counts && bias && e < spec->experts; e++)
        p[e] += bias[e];
    if (spec->score == ROUTER_SIGMOID) {
        for (int e = 0; e < spec->experts; e++)
            p[e] = 1.0f / (1.0f + lane_exp(0 - p[e]));
        return;
    }
    for (int e = 0; e < spec->experts; e++)
        most = fmaxf(most, p[e]);
    for (int e = 0; e < spec->experts; e++) {
        p[e] = lane_exp(p[e] - most);
        total += p[e];
    }
    for (int e = 0; e < spec->experts; e++)
        p[e] /= total;
}

/* The largest of n that is not taken, equal ones by lower number; -1 when none is left (a NaN is
 * never larger). */
static int best_left(const float *c, const bool *taken, int n)
{
    int best = -1;
    for (int e = 0; e < n; e++)
        if (!taken[e] && c[e] > (best < 0 ? -INFINITY : c[best]))
            best = e;
    return best;
}

/* Marks the experts of all runs but the best as taken. */
static void close_groups(const struct router_spec *spec, const float *c, bool *taken)
{
    float mark[PLAIN_MAX_EXPERTS];
    bool open[PLAIN_MAX_EXPERTS] = {false};
    int run = spec->experts / spec->groups;
    for (int g = 0; g < spec->groups; g++) {
        float first = -INFINITY, second = -INFINITY;
        for (int e = g * run; e < (g + 1) * run; e++) {
            second = c[e] > first ? first : c[e] > second ? c[e] : second;
            first = c[e] > first ? c[e] : first;
        }
        mark[g] = run > 1 ? first + second : first;
    }
    for (int k = 0; k < spec->topk_groups; k++) {
        int g = best_left(mark, open, spec->groups);
        if (g >= 0)
            open[g] = true;
    }
    for (int e = 0; e < spec->experts; e++)
        taken[e] = !open[e / run];
}

void plain_choose(const struct router_spec *spec, const float *score, const float *bias,
                  int32_t *ids, float *weights)
{
    float c[PLAIN_MAX_EXPERTS], total = 0;
    bool taken[PLAIN_MAX_EXPERTS] = {false};
    for (int e = 0; e < spec->experts; e++)
        c[e] = bias && !spec->bias_counts ? score[e] + bias[e] : score[e];
    if (spec->groups > 1)
        close_groups(spec, c, taken);
    for (int k = 0; k < spec->topk; k++) {
        int best = best_left(c, taken, spec->experts);
        ids[k] = best < 0 ? k : best; /* all NaN: any expert, the weight says what happened */
        weights[k] = best < 0 ? NAN : score[best];
        taken[ids[k]] = true;
        total += weights[k];
    }
    for (int k = 0; k < spec->topk; k++) {
        if (spec->renormalize)
            weights[k] /= total + spec->epsilon;
        weights[k] *= spec->factor;
    }
}

void plain_route(struct device *d, struct stream *s, const struct router_spec *spec,
                 const float *gate, const float *bias, const void *x, int n, int hidden,
                 int32_t *ids, float *weights)
{
    (void)s;
    if (spec->experts > PLAIN_MAX_EXPERTS || spec->topk > spec->experts)
        die("a router with %d of %d experts cannot be run (at most %d)", spec->topk, spec->experts,
            PLAIN_MAX_EXPERTS);
    size_t width = (size_t)hidden, topk = (size_t)spec->topk;
    cpu_scratch_begin(d);
    float *rows = cpu_scratch(d, (size_t)d->threads * width, sizeof(float));
#pragma omp parallel for num_threads(d->threads)
    for (int i = 0; i < n; i++) {
        float *row = rows + (size_t)omp_get_thread_num() * width;
        float p[PLAIN_MAX_EXPERTS];
        plain_load(d, d->config.act, x, (size_t)i * width, width, row);
        for (int e = 0; e < spec->experts; e++)
            p[e] = plain_dot(gate + (size_t)e * width, row, width);
        plain_scores(spec, bias, p);
        plain_choose(spec, p, bias, ids + (size_t)i * topk, weights + (size_t)i * topk);
    }
}

void plain_tally(struct device *d, struct stream *s, int32_t *ids, int n, int topk,
                 const int32_t *live, int experts, uint64_t *counts)
{
    (void)d, (void)s;
    int rows = live && *live < n ? *live : n;
    for (int i = rows * topk; i < n * topk; i++)
        ids[i] = -1;
    for (int i = 0; i < rows * topk; i++)
        if (ids[i] >= 0 && ids[i] < experts)
            counts[ids[i]]++;
}
