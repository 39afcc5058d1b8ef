#include "kernels/cpu/plain/plain.h"

#include <math.h>
#include <omp.h>

/* p = softmax(p), in place. */
static void softmax(float *p, int n)
{
    float most = -INFINITY, total = 0;
    for (int e = 0; e < n; e++)
        most = fmaxf(most, p[e]);
    for (int e = 0; e < n; e++) {
        p[e] = expf(p[e] - most);
        total += p[e];
    }
    for (int e = 0; e < n; e++)
        p[e] /= total;
}

/* The K largest of p, larger first, equal ones by lower number first. */
static void choose(const struct router_spec *spec, const float *p, int32_t *ids, float *weights)
{
    bool taken[PLAIN_MAX_EXPERTS] = {false};
    float total = 0;
    for (int k = 0; k < spec->topk; k++) {
        int best = -1;
        for (int e = 0; e < spec->experts; e++)
            if (!taken[e] && (best < 0 || p[e] > p[best]))
                best = e;
        taken[best] = true;
        ids[k] = best;
        weights[k] = p[best];
        total += p[best];
    }
    for (int k = 0; spec->renormalize && k < spec->topk; k++)
        weights[k] /= total;
}

void plain_route(struct device *d, struct stream *s, const struct router_spec *spec,
                 const float *gate, const void *x, int n, int hidden, int32_t *ids, float *weights)
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
        softmax(p, spec->experts);
        choose(spec, p, ids + (size_t)i * topk, weights + (size_t)i * topk);
    }
}
