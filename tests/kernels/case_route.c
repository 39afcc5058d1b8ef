/* case_route.c - the router. */
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"
#include "tests/kernels/shapes.h"

#include <math.h>
#include <string.h>

struct route_inputs {
    struct router_spec spec;
    int hidden;
    const float *gate, *x, *bias; /* bias: where it counts */
};

/* Experts come in pairs with the same gate, so that equal probabilities occur; row 1 is all zero,
 * so that all are equal. */
static struct route_inputs route_inputs(struct rig *r, struct router_spec spec, int hidden, int n)
{
    size_t width = (size_t)hidden, experts = (size_t)spec.experts, pairs = (experts + 1) / 2;
    float *gate = rig_values(r, DTYPE_F32, experts * width, 0.3);
    float *x = rig_values(r, r->act, (size_t)n * width, 1);
    for (size_t e = pairs; e < experts; e++)
        memcpy(gate + e * width, gate + (e - pairs) * width, width * sizeof *gate);
    if (n > 1)
        memset(x + width, 0, width * sizeof *x);
    float *bias = spec.bias_counts ? rig_values(r, DTYPE_F32, experts, 0.5) : NULL;
    return (struct route_inputs){spec, hidden, gate, x, bias};
}

/* Per row: K ids, then K weights. */
static unsigned char *run_route(struct rig *r, const void *inputs, const int *rows, int n)
{
    const struct route_inputs *in = inputs;
    size_t width = (size_t)in->hidden, topk = (size_t)in->spec.topk, bytes = (size_t)n * topk * 4;
    void *x = rig_put_values(r, r->act, rig_pick(r, in->x, width, rows, n), (size_t)n * width);
    float *gate = rig_put_values(r, DTYPE_F32, in->gate, (size_t)in->spec.experts * width);
    float *bias =
        in->bias ? rig_put_values(r, DTYPE_F32, in->bias, (size_t)in->spec.experts) : NULL;
    int32_t *ids = rig_room(r, bytes);
    float *weights = rig_room(r, bytes);
    r->ops->route(r->d, r->s, &in->spec, gate, bias, x, n, in->hidden, ids, weights);
    const unsigned char *a = rig_get(r, ids, bytes), *b = rig_get(r, weights, bytes);
    unsigned char *out = rig_host(r, bytes, 2);
    for (size_t i = 0; i < (size_t)n; i++) {
        memcpy(out + i * topk * 8, a + i * topk * 4, topk * 4);
        memcpy(out + i * topk * 8 + topk * 4, b + i * topk * 4, topk * 4);
    }
    return out;
}

static void reference_softmax(const struct route_inputs *in, const float *x, double *p)
{
    size_t width = (size_t)in->hidden;
    double most = -INFINITY, total = 0;
    for (int e = 0; e < in->spec.experts; e++) {
        p[e] = in->bias ? (double)in->bias[e] : 0;
        for (size_t j = 0; j < width; j++)
            p[e] += (double)in->gate[(size_t)e * width + j] * (double)x[j];
        most = fmax(most, p[e]);
    }
    for (int e = 0; e < in->spec.experts; e++)
        total += p[e] = exp(p[e] - most);
    for (int e = 0; e < in->spec.experts; e++)
        p[e] /= total;
}

static void check_row(struct rig *r, const struct route_inputs *in, size_t row, const int32_t *ids,
                      const float *weights)
{
    double p[128], chosen[8], total = 0;
    int want[8];
    bool taken[128] = {false};
    reference_softmax(in, in->x + row * (size_t)in->hidden, p);
    for (int k = 0; k < in->spec.topk; k++) {
        int best = -1;
        for (int e = 0; e < in->spec.experts; e++)
            if (!taken[e] && (best < 0 || p[e] > p[best]))
                best = e;
        taken[best] = true;
        want[k] = best;
        total += chosen[k] = p[best];
    }
    for (int k = 0; k < in->spec.topk; k++) {
        if (ids[k] != want[k])
            rig_fail(r, "row %zu: choice %d is expert %d, wanted %d", row, k, ids[k], want[k]);
        double weight = in->spec.renormalize ? chosen[k] / total : chosen[k];
        if (!(fabs((double)weights[k] - weight) <= 1e-5 * weight))
            rig_fail(r, "row %zu: weight %d is %.9g, wanted %.9g", row, k, (double)weights[k],
                     weight);
    }
}

static const struct router_spec specs[] = {
    {.experts = 1, .topk = 1, .factor = 1},
    {.experts = 2, .topk = 2, .renormalize = true, .factor = 1},
    {.experts = 8, .topk = 3, .factor = 1},
    {.experts = 48, .topk = 3, .renormalize = true, .factor = 1},
    {.experts = 65, .topk = 8, .renormalize = true, .factor = 1},
    {.experts = 128, .topk = 1, .factor = 1},
    {.experts = 33, .topk = 4, .renormalize = true, .factor = 1, .bias_counts = true},
};

/* Twice into the same counts, beside a guard; ids of no expert do not count. Of the rows the last third is
 * dead: not counted, and without experts afterwards. */
static void tally_case(struct rig *r, int experts, int rows, int topk)
{
    size_t room = (size_t)experts + 1;
    int n = rows * topk, live = rows - rows / 3;
    rig_at(r, "tally: experts %d, rows %d, of each %d", experts, rows, topk);
    uint64_t *want = rig_host(r, room, sizeof *want);
    int32_t *ids = rig_host(r, (size_t)n + 1, sizeof *ids);
    for (size_t e = 0; e < room; e++)
        want[e] = 1000 * e;
    uint64_t *counts = rig_put(r, want, room * sizeof *counts);
    for (int i = 0; i < n; i++) {
        ids[i] = (int32_t)(rig_uniform(r) * experts);
        want[ids[i]] += i < live * topk ? 2 : 0;
    }
    int32_t *given = rig_put(r, ids, ((size_t)n + 1) * sizeof *ids);
    const int32_t *alive = rig_put(r, &live, sizeof live);
    for (int turn = 0; turn < 2; turn++)
        r->ops->tally(r->d, r->s, given, rows, topk, live < rows ? alive : NULL, experts, counts);
    const int32_t *left = rig_get(r, given, ((size_t)n + 1) * sizeof *ids);
    for (int i = 0; i <= n; i++)
        if (left[i] != (i >= live * topk && i < n ? -1 : ids[i]))
            rig_fail(r, "id %d became %d", i, left[i]);
    const uint64_t *got = rig_get(r, counts, room * sizeof *got);
    for (size_t e = 0; e < room; e++)
        if (got[e] != want[e])
            rig_fail(r, "expert %zu: %llu, wanted %llu", e, (unsigned long long)got[e],
                     (unsigned long long)want[e]);
}

static int tally_cases(const struct backend *b)
{
    static const int experts[] = {1, 3, 48, 300};
    struct rig r;
    struct device_limits limits = {.rows = 64, .hidden = 32, .topk = 1};
    rig_open(&r, b, DTYPE_BF16, DTYPE_BF16, 2, &limits);
    for (size_t i = 0; i < COUNT(experts); i++)
        for (int n = 0; n < 2000; n = 7 * n + 1) {
            tally_case(&r, experts[i], n / 3, 3);
            rig_clear(&r);
        }
    return rig_close(&r);
}

int case_route(const struct backend *b)
{
    int failures = tally_cases(b), rows[64];
    for (int i = 0; i < 64; i++)
        rows[i] = i;
    for (size_t a = 0; a < COUNT(shape_acts); a++)
        for (size_t s = 0; s < COUNT(specs); s++)
            for (size_t w = (a + s) % 2; w < COUNT(shape_widths); w += 2) {
                struct rig r;
                /* A rank that routes holds no experts: limits.experts is 0. */
                struct device_limits limits = {
                    .rows = 64, .hidden = (size_t)shape_widths[w], .topk = (size_t)specs[s].topk};
                /* 5 threads share the experts of 17 rows, 2 do not. */
                rig_open(&r, b, shape_acts[a], DTYPE_BF16, w % 2 ? 2 : 5, &limits);
                for (size_t i = 0; i < COUNT(shape_rows); i++) {
                    int n = shape_rows[i];
                    rig_at(&r, "route: %d of %d experts, hidden %d, rows %d", specs[s].topk,
                           specs[s].experts, shape_widths[w], n);
                    struct route_inputs in = route_inputs(&r, specs[s], shape_widths[w], n);
                    const unsigned char *out = run_route(&r, &in, rows, n);
                    size_t topk = (size_t)specs[s].topk;
                    for (size_t row = 0; row < (size_t)n; row++) {
                        const void *at = out + row * topk * 8;
                        check_row(&r, &in, row, (const int32_t *)at, (const float *)at + topk);
                    }
                    rig_clear(&r);
                }
                if (w >= 4 && w < 6) {
                    struct route_inputs in = route_inputs(&r, specs[s], shape_widths[w], 64);
                    rig_keep(&r);
                    struct row_op op = {"route", &in, (size_t)specs[s].topk * 8, true, run_route};
                    rig_invariance(&r, &op, 64);
                }
                failures += rig_close(&r);
            }
    return failures;
}
