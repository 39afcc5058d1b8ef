/* bench_output [UNITS [TOKENS [DIRECTORY]]] - what the output costs: completions into the journal, the
 * journal read again, the finished files made. Prints seconds, MB/s of records and memory, and leaves
 * the finished files in the directory (for `h5repack -f GZIP=4` beside it). */
#include "base/clock.h"
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

int main(int argc, char **argv)
{
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
