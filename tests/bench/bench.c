#include "tests/bench/bench.h"

#include "base/clock.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define MOST_REPEATS  64
#define PIECE_SECONDS 0.004 /* of a limit, and at least of what is measured */

int bench_options(struct bench *b, int argc, char **argv)
{
    *b = (struct bench){.threads = omp_get_max_threads(), .backend = "auto", .json_first = true};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--quick") == 0) {
            b->quick = true;
            continue;
        }
        if (!value) {
            fprintf(stderr,
                    "usage: %s [--quick] [--json FILE] [--threads N] [--backend NAME] "
                    "[--only GROUP]\n",
                    argv[0]);
            return -1;
        }
        i++;
        if (strcmp(argv[i - 1], "--json") == 0)
            b->json = fopen(value, "w");
        else if (strcmp(argv[i - 1], "--threads") == 0)
            b->threads = atoi(value);
        else if (strcmp(argv[i - 1], "--backend") == 0)
            b->backend = value;
        else if (strcmp(argv[i - 1], "--only") == 0)
            b->only = value;
        if (strcmp(argv[i - 1], "--json") == 0 && !b->json) {
            fprintf(stderr, "%s: cannot be written\n", value);
            return -1;
        }
    }
    if (b->threads < 1) {
        fprintf(stderr, "--threads needs a number from 1 up\n");
        return -1;
    }
    return 0;
}

void bench_begin(struct bench *b, const char *backend)
{
    limits_open(&b->limits, backend, b->threads, (size_t)512 << 20);
    double bandwidth = limits_bandwidth(&b->limits, 0.3), peak = limits_peak(&b->limits, 0.3);
    printf("%s, %d thread%s: reads %.1f GB/s, %s %.0f GFLOP/s\n", backend, b->threads,
           b->threads == 1 ? "" : "s", bandwidth / 1e9, b->limits.unit, peak / 1e9);
    printf("%-10s %-6s %-22s %5s %11s %9s %10s  %s\n", "operation", "dtype", "shape", "rows",
           "time", "GB/s", "GFLOP/s", "share of the limit (quarter, median, quarter)");
    if (b->json)
        fprintf(b->json,
                "{\"backend\": \"%s\", \"threads\": %d, \"read_bytes_per_s\": %.4g, "
                "\"peak_flops_per_s\": %.4g, \"peak_unit\": \"%s\", \"results\": [",
                backend, b->threads, bandwidth, peak, b->limits.unit);
}

bool bench_wants(const struct bench *b, const char *group)
{
    return !b->only || strstr(group, b->only);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(struct bench *b, const struct bench_task *t, const double *share, size_t n,
                   double seconds, bool memory)
{
    double low = share[n / 4], median = share[n / 2], high = share[n - 1 - n / 4];
    printf("%-10s %-6s %-22s %5zu %8.1f us %9.1f %10.0f  %5.1f %5.1f %5.1f %% of %s\n", t->group,
           t->dtype, t->shape, t->rows, seconds * 1e6, t->bytes / seconds / 1e9,
           t->flops / seconds / 1e9, 100 * low, 100 * median, 100 * high,
           memory ? "bandwidth" : "peak");
    fflush(stdout);
    if (!b->json)
        return;
    fprintf(b->json,
            "%s\n  {\"group\": \"%s\", \"dtype\": \"%s\", \"shape\": \"%s\", \"rows\": %zu, "
            "\"seconds\": %.4g, \"bytes\": %.6g, \"flops\": %.6g, \"limit\": \"%s\", "
            "\"share\": %.4f, \"share_low\": %.4f, \"share_high\": %.4f}",
            b->json_first ? "" : ",", t->group, t->dtype, t->shape, t->rows, seconds, t->bytes,
            t->flops, memory ? "bandwidth" : "peak", median, low, high);
    b->json_first = false;
}

double bench_measure(struct bench *b, const struct bench_task *t)
{
    double share[MOST_REPEATS], seconds[MOST_REPEATS], start = clock_now();
    size_t repeats = b->quick ? 9 : 31, i = 0, by_memory = 0;
    t->run(t->context, i++); /* also tells how many runs fill a piece of time */
    double once = clock_now() - start;
    size_t runs = once < PIECE_SECONDS ? (size_t)(PIECE_SECONDS / (once + 1e-7)) + 1 : 1;
    double bandwidth = limits_bandwidth(&b->limits, PIECE_SECONDS);
    double peak = limits_peak(&b->limits, PIECE_SECONDS / 2);
    for (size_t r = 0; r < repeats; r++) {
        start = clock_now();
        for (size_t j = 0; j < runs; j++)
            t->run(t->context, i++);
        seconds[r] = (clock_now() - start) / (double)runs;
        double bandwidth_after = limits_bandwidth(&b->limits, PIECE_SECONDS);
        double peak_after = limits_peak(&b->limits, PIECE_SECONDS / 2);
        double read = t->bytes / (0.5 * (bandwidth + bandwidth_after));
        double calculate = t->flops / (0.5 * (peak + peak_after));
        by_memory += read > calculate;
        share[r] = (read > calculate ? read : calculate) / seconds[r];
        bandwidth = bandwidth_after;
        peak = peak_after;
    }
    qsort(share, repeats, sizeof *share, by_value);
    qsort(seconds, repeats, sizeof *seconds, by_value);
    report(b, t, share, repeats, seconds[repeats / 2], 2 * by_memory > repeats);
    return share[repeats / 2];
}

void bench_end(struct bench *b)
{
    limits_close(&b->limits);
    if (b->json) {
        fprintf(b->json, "\n]}\n");
        fclose(b->json);
    }
}
