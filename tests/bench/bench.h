/* bench.h - measuring something against a limit of the machine (kernels/cpu/meter.h), and reporting it.
 *
 * Other implementations of the same operation can be measured along with it, each after every run
 * of ours. The result is the median of its times divided by ours: above 1, ours is faster.
 *
 * Results go to a table on stdout, and with --json FILE to a file: an object with the machine's
 * figures and an array "results", where such others are an array "peers". A result has the limits of its own rounds,
 * and "faster" as meter.h has it.
 */
#ifndef TANDEM_TESTS_BENCH_BENCH_H
#define TANDEM_TESTS_BENCH_BENCH_H

#include "kernels/cpu/meter.h"
#include "kernels/ops.h"

#include <stdbool.h>
#include <stdio.h>

struct bench {
    bool quick; /* fewer shapes and repetitions: a minute instead of many */
    int threads;
    const char *backend; /* "auto" or a name */
    const char *only;    /* part of a group's name, or NULL: all */
    const char *peers;   /* shapes that other libraries are measured at: "none", "some" or "all" */
    FILE *json;          /* or NULL */
    bool json_first;
    struct limits limits;
    double faster; /* the most of all results */
};

/* Somebody else's implementation of a task. */
struct bench_peer {
    const char *name;  /* "oneDNN" */
    const char *dtype; /* of its weights */
    const char *how;   /* which of its implementations */
    double bytes;      /* as in bench_task; flops are the same */
    bool
        own_threads; /* not those of OpenMP: after each turn of one the other's must come to rest */
    void (*run)(void *context, size_t i);
    void *context;
};

/* One thing to measure. */
struct bench_task {
    const char *group; /* "linear", "moe", ... */
    const char *dtype; /* of the weights or the cache */
    char shape[64];    /* "5120x1024" */
    size_t rows;
    struct meter_task task;
    const struct bench_peer *peers; /* at most BENCH_PEERS */
    size_t n_peers;
};
#define BENCH_PEERS 2

/* How weights can be kept: the checkpoint's dtype, and what load makes of it; and whether rows are rounded to
 * 8 bits, whose products of integers may pass the peak, which is that of f32 or bf16. */
struct bench_form {
    const char *name;
    enum dtype dtype;
    enum weight_keep keep;
    bool int8_products;
};
#define BENCH_FORMS 6
extern const struct bench_form bench_forms[BENCH_FORMS]; /* bf16 as it is comes first */

/* Reads --quick, --json FILE, --threads N, --backend NAME, --only GROUP, --peers none|some|all.
 * Returns -1 after a message when an option is wrong. */
int bench_options(struct bench *b, int argc, char **argv);

/* Prints the head of the table; the limits are opened for the backend's name. */
void bench_begin(struct bench *b, const char *backend);
bool bench_wants(const struct bench *b, const char *group);
/* Measures, prints a line and one for each peer, and returns the share of the roof. */
double bench_measure(struct bench *b, const struct bench_task *t);
void bench_end(struct bench *b);

#endif
