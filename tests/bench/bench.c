#include "tests/bench/bench.h"

#include "base/clock.h"
#include "base/median.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const struct bench_form bench_forms[BENCH_FORMS] = {
    {"bf16", DTYPE_BF16, WEIGHT_KEEP, false},  {"fp8", DTYPE_F8E4M3, WEIGHT_KEEP, false},
    {"int8", DTYPE_BF16, WEIGHT_INT8, false},  {"int4", DTYPE_BF16, WEIGHT_INT4, false},
    {"int8x8", DTYPE_BF16, WEIGHT_INT8, true}, {"int4x8", DTYPE_BF16, WEIGHT_INT4, true}};

#define RESTED 3 /* peers that need rests before and after are measured every so often */

int bench_options(struct bench *b, int argc, char **argv)
{
    *b = (struct bench){
        .threads = omp_get_max_threads(), .backend = "auto", .peers = "some", .json_first = true};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--quick") == 0) {
            b->quick = true;
            continue;
        }
        if (!value) {
            fprintf(stderr,
                    "usage: %s [--quick] [--json FILE] [--threads N] [--backend NAME] "
                    "[--only GROUP] [--peers none|some|all]\n",
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
        else if (strcmp(argv[i - 1], "--peers") == 0)
            b->peers = value;
        if (strcmp(argv[i - 1], "--json") == 0 && !b->json) {
            fprintf(stderr, "%s: cannot be written\n", value);
            return -1;
        }
    }
    if (b->threads < 1) {
        fprintf(stderr, "--threads needs a number from 1 up\n");
        return -1;
    }
    if (strcmp(b->peers, "none") != 0 && strcmp(b->peers, "some") != 0 &&
        strcmp(b->peers, "all") != 0) {
        fprintf(stderr, "--peers needs none, some or all, not '%s'\n", b->peers);
        return -1;
    }
    return 0;
}

void bench_begin(struct bench *b, const char *backend)
{
    limits_open(&b->limits, backend, b->threads, LIMITS_BYTES);
    b->faster = 1;
    double bandwidth = limits_bandwidth(&b->limits, 0.3), peak = limits_peak(&b->limits, 0.3);
    printf("%s, %d thread%s: reads %.1f GB/s, %s %.0f GFLOP/s\n", backend, b->threads,
           b->threads == 1 ? "" : "s", bandwidth / 1e9, b->limits.unit, peak / 1e9);
    printf("%-10s %-6s %-22s %5s %11s %9s %10s  %s\n", "operation", "dtype", "shape", "rows",
           "time", "GB/s", "GFLOP/s", "share of the limit (quarter, median, quarter)");
    if (b->json)
        fprintf(b->json,
                "{\"backend\": \"%s\", \"threads\": %d, \"peak_unit\": \"%s\", \"results\": [",
                backend, b->threads, b->limits.unit);
}

bool bench_wants(const struct bench *b, const char *group)
{
    return !b->only || strstr(group, b->only);
}

static void report(struct bench *b, const struct bench_task *t, const struct metered *m)
{
    double bytes = t->task.bytes, flops = t->task.flops;
    printf("%-10s %-6s %-22s %5zu %8.1f us %9.1f %10.0f  %5.1f %5.1f %5.1f %% of %s\n", t->group,
           t->dtype, t->shape, t->rows, m->seconds * 1e6, bytes / m->seconds / 1e9,
           flops / m->seconds / 1e9, 100 * m->low, 100 * m->share, 100 * m->high,
           m->memory ? "bandwidth" : "peak");
    if (!b->json)
        return;
    fprintf(b->json,
            "%s\n  {\"group\": \"%s\", \"dtype\": \"%s\", \"shape\": \"%s\", \"rows\": %zu, "
            "\"seconds\": %.4g, \"bytes\": %.6g, \"flops\": %.6g, \"limit\": \"%s\", "
            "\"share\": %.4f, \"share_low\": %.4f, \"share_high\": %.4f, "
            "\"read_bytes_per_s\": %.4g, \"peak_flops_per_s\": %.4g, \"faster\": %.4f",
            b->json_first ? "" : ",", t->group, t->dtype, t->shape, t->rows, m->seconds, bytes,
            flops, m->memory ? "bandwidth" : "peak", m->share, m->low, m->high, m->bandwidth,
            m->peak, m->faster);
    b->json_first = false;
}

/* Turns of a peer. */
struct turns {
    size_t i, runs, count; /* the next run; runs in a turn; turns so far */
    double seconds[METER_ROUNDS], ratio[METER_ROUNDS];
};

/* Waits until no thread of this process is busy any more: threads of OpenMP and of a peer look out
 * for more work for up to a tenth of a second, on the cores that the next to be measured needs. */
static void rest(void)
{
    static const struct timespec moment = {0, 5000000};
    struct timespec before, after;
    for (int i = 0; i < 100; i++) {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
        nanosleep(&moment, NULL);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
        double busy = (double)(after.tv_sec - before.tv_sec) +
                      1e-9 * (double)(after.tv_nsec - before.tv_nsec);
        if (busy < 0.0005)
            return;
    }
}

static void take_turn(const struct bench_peer *p, struct turns *s, double ours)
{
    if (p->own_threads)
        rest();
    double start = clock_now();
    p->run(p->context, s->i++); /* as ours had the limits before it, to wake the threads */
    double once = clock_now() - start;
    if (s->runs == 0)
        s->runs = once < METER_PIECE ? (size_t)(METER_PIECE / (once + 1e-7)) + 1 : 1;
    start = clock_now();
    for (size_t j = 0; j < s->runs; j++)
        p->run(p->context, s->i++);
    s->seconds[s->count] = (clock_now() - start) / (double)s->runs;
    s->ratio[s->count] = s->seconds[s->count] / ours;
    s->count++;
    if (p->own_threads)
        rest();
}

static void report_peer(struct bench *b, const struct bench_task *t, size_t which, struct turns *s)
{
    const struct bench_peer *p = &t->peers[which];
    size_t n = s->count;
    double middle = median(s->ratio, (int)n), seconds = median(s->seconds, (int)n);
    double low = s->ratio[n / 4], high = s->ratio[n - 1 - n / 4];
    printf("  %-8s %-6s %-22s %5zu %8.1f us %9.1f %10.0f  %5.2f %5.2f %5.2f times ours (%s)\n",
           p->name, p->dtype, t->shape, t->rows, seconds * 1e6, p->bytes / seconds / 1e9,
           t->task.flops / seconds / 1e9, low, middle, high, p->how);
    if (b->json)
        fprintf(b->json,
                "%s\n   {\"name\": \"%s\", \"dtype\": \"%s\", \"how\": \"%s\", "
                "\"seconds\": %.4g, \"bytes\": %.6g, \"ratio\": %.4f, \"ratio_low\": %.4f, "
                "\"ratio_high\": %.4f}",
                which ? "," : ", \"peers\": [", p->name, p->dtype, p->how, seconds, p->bytes,
                middle, low, high);
}

double bench_measure(struct bench *b, const struct bench_task *t)
{
    struct turns turns[BENCH_PEERS] = {0};
    struct metering g;
    size_t rounds = b->quick ? 9 : 31;
    meter_begin(&g, &b->limits, &t->task);
    for (size_t r = 0; r < rounds; r++) {
        double seconds = meter_round(&g);
        bool took = false;
        for (size_t p = 0; p < t->n_peers; p++)
            if (!t->peers[p].own_threads || r % RESTED == 0) {
                take_turn(&t->peers[p], &turns[p], seconds);
                took = true;
            }
        if (took)
            meter_again(&g);
    }
    struct metered m = meter_end(&g);
    b->faster = m.faster > b->faster ? m.faster : b->faster;
    report(b, t, &m);
    for (size_t p = 0; p < t->n_peers; p++)
        report_peer(b, t, p, &turns[p]);
    if (b->json)
        fprintf(b->json, t->n_peers ? "]}" : "}");
    fflush(stdout);
    return m.share;
}

void bench_end(struct bench *b)
{
    struct limits_spread read = limits_spread(&b->limits.bandwidth);
    limits_tell(&b->limits, stdout);
    printf(
        "memory was read at %.1f GB/s, of ten pieces eight at %.1f to %.1f; the best kernel read "
        "%.2f times as fast as the loop beside it\n",
        read.middle / 1e9, read.low / 1e9, read.high / 1e9, b->faster);
    if (b->json)
        fprintf(b->json,
                "\n], \"read_bytes_per_s\": [%.4g, %.4g, %.4g], \"peak_flops_per_s\": %.4g, "
                "\"cores\": %.3f, \"slots\": %.3f, \"faster\": %.3f}\n",
                read.low, read.middle, read.high, limits_median(&b->limits.peak),
                limits_cores(&b->limits), limits_slots(&b->limits), b->faster);
    limits_close(&b->limits);
    if (b->json)
        fclose(b->json);
}
