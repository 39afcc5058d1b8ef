/* bench_output [UNITS [TOKENS [DIRECTORY]]] - what the output costs: completions into the journal, the
 * journal read again, the finished files made. Prints seconds, MB/s of records and memory, and leaves
 * the finished files in the directory (for `h5repack -f GZIP=4` beside it).
 * bench_output steps [SECONDS [MB_A_SECOND [DIRECTORY]]] - what commits cost the steps: steps of 10 ms
 * that finish so much, in turns of five seconds with a commit every second and without. Prints median and
 * worst step of both. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "output/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { BATCH = 1000 };

static double peak_mb(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)use.ru_maxrss / 1024;
}

/* Tokens as a model's are: most of them frequent ones. */
static void fill(struct completion *c, uint64_t unit, uint32_t n, uint64_t *random)
{
    char id[32];
    snprintf(id, sizeof id, "%llu", (unsigned long long)unit);
    *c = (struct completion){.unit = unit,
                             .id = mem_string(id),
                             .prompt = (int64_t)unit,
                             .text = mem_new(4 * (size_t)n + 1, 1),
                             .n_tokens = n,
                             .n_prompt_tokens = 100,
                             .admitted = 1.7e9,
                             .first_token = 1.7e9,
                             .last_token = 1.7e9,
                             .tokens = mem_new(n, sizeof(int32_t)),
                             .logprobs = mem_new(n, sizeof(float))};
    for (uint32_t i = 0; i < n; i++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        double u = (double)(*random >> 40) / 16777216;
        c->tokens[i] = (int32_t)(u * u * u * 128000);
        c->logprobs[i] = -(float)(u * u);
        snprintf(c->text + 4 * (size_t)i, 5, "%03u ", (unsigned)(c->tokens[i] % 1000));
    }
}

static void must(int rc, const struct err *e)
{
    if (rc != 0)
        die("%s", e->text);
}

/* ---- commits beside steps ------------------------------------------------------------------- */

#define STEP_SECONDS 0.01
#define TURN_SECONDS 5.0
#define COMMIT_BYTES (6u << 20) /* about what COMMIT_TOKENS (roles/steps.c) come to */

struct steps {
    double *took[2]; /* without, with commits */
    size_t n[2];
};

static int by_time(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void print_steps(const struct steps *s)
{
    static const char *const names[] = {"without", "with"};
    for (int i = 0; i < 2; i++) {
        qsort(s->took[i], s->n[i], sizeof *s->took[i], by_time);
        printf("%-8s commits: %6zu steps, median %.4f ms, 99 %% below %.4f ms, worst %.4f ms\n",
               names[i], s->n[i], 1e3 * s->took[i][s->n[i] / 2],
               1e3 * s->took[i][s->n[i] * 99 / 100], 1e3 * s->took[i][s->n[i] - 1]);
    }
}

/* Work of a fixed amount, that of about one step. */
static uint64_t work(uint64_t rounds)
{
    uint64_t h = rounds;
    for (uint64_t i = 0; i < rounds; i++)
        h = hash_u64(h, i);
    return h;
}

static uint64_t rounds_of_a_step(void)
{
    volatile uint64_t sink = 0;
    double start = clock_now();
    sink += work(2000000);
    (void)sink;
    return (uint64_t)(2000000 * STEP_SECONDS / (clock_now() - start));
}

/* One row of the mean size, again and again: another unit each time. */
static void finish_rows(struct bytes *batch, struct completion *c, double bytes)
{
    for (size_t end = batch->used + (size_t)bytes; batch->used < end; c->unit++)
        journal_put(batch, RECORD_COMPLETION, c->unit, &completion_table, c, 1);
}

static void run_steps(double seconds, double mb, const char *directory)
{
    char path[500];
    snprintf(path, sizeof path, "%s/bench_steps.h5", directory);
    struct identity id = {0}, none = {0};
    identity_add(&id, "model", "bench");
    const struct output_job job = {.path = path,
                                   .identity = &id,
                                   .attributes = &none,
                                   .samples = 1,
                                   .units = (uint64_t)(seconds * mb * 1000)};
    struct output *o;
    struct err e = {{0}};
    struct completion c;
    bool finished;
    uint64_t random = 7, rounds = rounds_of_a_step();
    volatile uint64_t sink = 0;
    must(output_open(&o, &job, &finished, &e), &e);
    must(output_start(o, NULL, &e), &e);
    fill(&c, 0, 1000, &random);
    struct steps s = {.n = {0, 0}};
    for (int i = 0; i < 2; i++)
        s.took[i] = mem_new((size_t)(seconds / STEP_SECONDS * 4) + 1, sizeof **s.took);
    struct bytes batch = {0};
    double began = clock_now(), committed = began;
    for (double now = began; now - began < seconds;) {
        int with = (int)((now - began) / TURN_SECONDS) % 2;
        double start = clock_now();
        sink += work(rounds);
        finish_rows(&batch, &c, mb * 1e6 * STEP_SECONDS);
        bool due = start - committed >= 1 || batch.used > COMMIT_BYTES;
        if (due && with) { /* as the writer gets it from its own rank */
            struct bytes gathered = {0};
            bytes_add(&gathered, batch.data, batch.used);
            output_push(o, &gathered);
        }
        if (due) {
            batch.used = 0;
            committed = start;
        }
        now = clock_now();
        s.took[with][s.n[with]++] = now - start;
    }
    print_steps(&s);
    output_close(o);
    table_free(&completion_table, &c);
    free(batch.data);
    free(s.took[0]);
    free(s.took[1]);
    identity_free(&id);
}

/* ---- journal, opening, merge ---------------------------------------------------------------- */

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "steps") == 0) {
        run_steps(argc > 2 ? atof(argv[2]) : 40, argc > 3 ? atof(argv[3]) : 50,
                  argc > 4 ? argv[4] : "/tmp");
        return 0;
    }
    uint64_t units = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000, random = 7;
    uint32_t tokens = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1000;
    char path[500];
    snprintf(path, sizeof path, "%s/bench_output.h5", argc > 3 ? argv[3] : "/tmp");
    struct identity id = {0}, none = {0};
    identity_add(&id, "model", "bench");
    const struct output_job job = {
        .path = path, .identity = &id, .attributes = &none, .samples = 1, .units = units};
    struct output *o;
    struct err e = {{0}};
    bool finished;
    double bytes = 0, longest = 0;
    must(output_open(&o, &job, &finished, &e), &e);
    if (finished)
        die("%s: is there; remove it", path);
    must(output_start(o, NULL, &e), &e);
    double start = clock_now(), in_push = 0;
    for (uint64_t unit = 0; unit < units;) {
        struct bytes batch = {0};
        for (int i = 0; i < BATCH && unit < units; i++, unit++) {
            struct completion c;
            fill(&c, unit, tokens, &random);
            journal_put(&batch, RECORD_COMPLETION, unit, &completion_table, &c, 1);
            table_free(&completion_table, &c);
        }
        bytes += (double)batch.used;
        double before = clock_now();
        output_push(o, &batch);
        double took = clock_now() - before;
        in_push += took;
        longest = took > longest ? took : longest;
    }
    if (output_drain(o, &e) != OUTPUT_FINE)
        die("%s", e.text);
    printf("journal  %8.2f s %8.0f MB/s, %.2f s of it waiting (longest %.3f s), peak %.0f MB\n",
           clock_now() - start, bytes / 1e6 / (clock_now() - start), in_push, longest, peak_mb());
    output_close(o);
    start = clock_now();
    must(output_open(&o, &job, &finished, &e), &e);
    printf("open     %8.2f s %8.0f MB/s, peak %.0f MB\n", clock_now() - start,
           bytes / 1e6 / (clock_now() - start), peak_mb());
    must(output_start(o, NULL, &e), &e);
    start = clock_now();
    output_merge(o);
    if (output_drain(o, &e) != OUTPUT_FINE)
        die("%s", e.text);
    printf("merge    %8.2f s %8.0f MB/s, peak %.0f MB\n", clock_now() - start,
           bytes / 1e6 / (clock_now() - start), peak_mb());
    output_close(o);
    identity_free(&id);
    return 0;
}
