/* rows.c - operations on single rows: rows (or pieces of them) shared out to the threads. */
#include "kernels/cpu/fast/fast.h"

#include "base/mem.h"
#include "kernels/cpu/plain/plain.h"
#include "kernels/exact.h"

#include <math.h>
#include <omp.h>

/* Columns that are added up at a time. */
#define SUM_PIECE 512

static void add_exact(const struct device *d, float *x, const void *const *parts, int n_parts,
                      size_t at, size_t width)
{
    double sum[SUM_PIECE];
    float rounded[SUM_PIECE];
    for (size_t j = 0; j < width; j += SUM_PIECE) {
        size_t n = width - j < SUM_PIECE ? width - j : SUM_PIECE;
        exact_sum(parts, n_parts, at + j, n, sum);
        for (size_t i = 0; i < n; i++)
            rounded[i] = (float)sum[i];
        d->isa->residual(x + j, DTYPE_F32, rounded, n);
    }
}

void fast_residual_norm(struct device *d, struct stream *s, float *x, const void *const *parts,
                        int n_parts, enum dtype part_dtype, const float *gain, float eps, int n,
                        int hidden, void *y)
{
    (void)s;
    size_t width = (size_t)hidden;
    enum dtype act = d->config.act;
    struct team team = team_begin(d, TEAM_ROWS, (size_t)n * width * (size_t)(1 + n_parts));
#pragma omp parallel for num_threads(team.threads) schedule(static)
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * width;
        if (part_dtype == DTYPE_F64 && n_parts > 0)
            add_exact(d, x + at, parts, n_parts, at, width);
        for (int p = 0; p < n_parts && part_dtype != DTYPE_F64; p++)
            d->isa->residual(x + at, part_dtype,
                             (const uint8_t *)parts[p] + at * dtype_size(part_dtype), width);
        if (y)
            d->isa->norm(DTYPE_F32, x + at, gain, eps, width, act,
                         (uint8_t *)y + at * dtype_size(act));
    }
    team_end(&team);
}

void fast_norm(struct device *d, struct stream *s, const struct rows *x, const float *gain,
               float eps, int n, int width, const struct rows *y)
{
    (void)s;
    size_t from = x->stride * dtype_size(x->dtype), to = y->stride * dtype_size(y->dtype);
    struct team team = team_begin(d, TEAM_ROWS, (size_t)n * (size_t)width);
#pragma omp parallel for num_threads(team.threads) schedule(static)
    for (int i = 0; i < n; i++)
        d->isa->norm(x->dtype, (const uint8_t *)x->data + (size_t)i * from, gain, eps,
                     (size_t)width, y->dtype, (uint8_t *)y->data + (size_t)i * to);
    team_end(&team);
}

void fast_sum(struct device *d, struct stream *s, const void *const *parts, int n_parts,
              enum dtype dtype, int n, int width, void *out)
{
    (void)s;
    size_t total = (size_t)n * (size_t)width, size = dtype_size(dtype);
    struct team team = team_begin(d, TEAM_ROWS, total * (size_t)n_parts);
#pragma omp parallel for num_threads(team.threads) schedule(static)
    for (size_t at = 0; at < total; at += SUM_PIECE) {
        size_t count = total - at < SUM_PIECE ? total - at : SUM_PIECE;
        float sum[SUM_PIECE];
        if (dtype == DTYPE_F64) {
            exact_sum(parts, n_parts, at, count, (double *)out + at);
            continue;
        }
        d->isa->convert(dtype, (const uint8_t *)parts[0] + at * size, count, DTYPE_F32, sum);
        for (int p = 1; p < n_parts; p++)
            d->isa->residual(sum, dtype, (const uint8_t *)parts[p] + at * size, count);
        d->isa->convert(DTYPE_F32, sum, count, dtype, (uint8_t *)out + at * size);
    }
    team_end(&team);
}

/* ---- router --------------------------------------------------------------------------------- */

#define MAX_EXPERTS 1024

/* Rows that go through the gate together: it is larger than a cache level. Where that makes fewer groups of rows than
 * there are threads, each thread takes a share of the experts, in whole multiples of what dots() takes at a time. */
#define ROUTE_ROWS    8
#define ROUTE_EXPERTS 4

size_t fast_rows_scratch(const struct device_config *c)
{
    size_t rows = (size_t)c->threads * ROUTE_ROWS;
    return cpu_scratch_size(mem_mul(rows, c->limits.hidden), sizeof(float)) +
           cpu_scratch_size(rows * MAX_EXPERTS, sizeof(float));
}

/* p[i][e] = gate[e] . x[i] for a few rows and the experts first .. end - 1. */
static void score(const struct device *d, const float *gate, size_t experts, size_t first,
                  size_t end, const uint8_t *x, size_t rows, size_t width, float *wide, float *p)
{
    d->isa->convert(d->config.act, x, rows * width, DTYPE_F32, wide);
    d->isa->dots(gate + first * width, end - first, wide, rows, width, p + first, experts);
}

static void choose(const struct router_spec *spec, const float *bias, float *p, int32_t *ids,
                   float *weights)
{
    plain_scores(spec, bias, p);
    plain_choose(spec, p, bias, ids, weights);
}

void fast_route(struct device *d, struct stream *s, const struct router_spec *spec,
                const float *gate, const float *bias, const void *x, int n, int hidden,
                int32_t *ids, float *weights)
{
    (void)s;
    if (spec->experts > MAX_EXPERTS || spec->topk > spec->experts)
        die("a router with %d of %d experts cannot be run (at most %d)", spec->topk, spec->experts,
            MAX_EXPERTS);
    size_t width = (size_t)hidden, topk = (size_t)spec->topk, experts = (size_t)spec->experts;
    size_t rows = (size_t)n, threads = (size_t)d->threads;
    size_t row_bytes = width * dtype_size(d->config.act);
    size_t share = (rows + threads - 1) / threads; /* 0 of 0 rows */
    /* Scores of few rows stay until all threads are done; else they are one thread's, which chooses at once. */
    bool few = (rows + ROUTE_ROWS - 1) / ROUTE_ROWS < threads;
    size_t together = few || share > ROUTE_ROWS ? ROUTE_ROWS : share;
    size_t groups = (rows + together - 1) / together;
    size_t quads = (experts + ROUTE_EXPERTS - 1) / ROUTE_EXPERTS;
    cpu_scratch_begin(d);
    float *wides = cpu_scratch(d, mem_mul(threads, ROUTE_ROWS * width), sizeof(float));
    float *ps = cpu_scratch(d, threads * ROUTE_ROWS * MAX_EXPERTS, sizeof(float));
    struct team team = team_begin(d, TEAM_ROWS, rows * width * experts / 8);
    size_t pieces = few ? (size_t)team.threads : 1;
#pragma omp parallel num_threads(team.threads)
    {
        size_t thread = (size_t)omp_get_thread_num();
#pragma omp for schedule(static)
        for (size_t i = 0; i < groups * pieces; i++) {
            size_t from = i % pieces * quads / pieces * ROUTE_EXPERTS;
            size_t to = (i % pieces + 1) * quads / pieces * ROUTE_EXPERTS;
            size_t first = i / pieces * together,
                   end = first + together < rows ? first + together : rows;
            float *p = ps + (few ? first * experts : thread * ROUTE_ROWS * MAX_EXPERTS);
            score(d, gate, experts, from, to < experts ? to : experts,
                  (const uint8_t *)x + first * row_bytes, end - first, width,
                  wides + thread * ROUTE_ROWS * width, p);
            for (size_t r = first; r < end && !few; r++)
                choose(spec, bias, p + (r - first) * experts, ids + r * topk, weights + r * topk);
        }
#pragma omp for schedule(static)
        for (size_t r = 0; r < (few ? rows : 0); r++)
            choose(spec, bias, ps + r * experts, ids + r * topk, weights + r * topk);
    }
    team_end(&team);
}

/* ---- copies --------------------------------------------------------------------------------- */

void fast_copy(struct device *d, struct stream *s, const struct rows *from, const struct rows *to,
               int n, int width)
{
    (void)s;
    size_t groups = ((size_t)width + ROWS_GROUP - 1) / ROWS_GROUP;
    size_t read = from->stride * dtype_size(from->dtype),
           write = to->stride * dtype_size(to->dtype);
    struct team team = team_begin(d, TEAM_ROWS, (size_t)n * (size_t)width);
#pragma omp parallel for num_threads(team.threads) schedule(static)
    for (size_t i = 0; i < (size_t)n; i++) {
        const uint8_t *x = (const uint8_t *)from->data + i * read;
        uint8_t *y = (uint8_t *)to->data + i * write;
        if (from->dtype == DTYPE_F8E4M3)
            d->isa->decode(x, from->scale + i * groups, (size_t)width, to->dtype, y);
        else if (to->dtype == DTYPE_F8E4M3)
            d->isa->encode(from->dtype, x, (size_t)width, y, to->scale + i * groups);
        else
            d->isa->convert(from->dtype, x, (size_t)width, to->dtype, y);
    }
    team_end(&team);
}
