/* bench.h - `tandem bench`: what this machine can do, how much of it the kernels reach on a model's own
 * shapes, how many tokens a second that makes over batch and context, and which layout to use.
 *
 * Loads the model in one process on all cores that it may use, no MPI. Operations are held against the
 * limits of the machine that are measured between them (kernels/cpu/meter.h), whole decode steps against
 * the sum of their operations' limits (roofs.h); the layout is the one that `tandem plan --measure` forecasts
 * to be the fastest. Made-up rows; of a job also its prompts' lengths. CPUs only.
 */
#ifndef TANDEM_ROLES_BENCH_H
#define TANDEM_ROLES_BENCH_H

#include "kernels/cpu/meter.h"
#include "roles/layouts.h"
#include "roles/roofs.h"
#include "roles/stepper.h"

#include <stdio.h>

struct bench_options {
    const char *what; /* a job file, or a model: a checkpoint's directory or a GGUF file */
    const char *const *overrides;
    size_t n_overrides;
    double seconds; /* for all measurements, about; loading comes on top */
    bool json;
};

/* Prints. -1: it cannot be opened, is for GPUs, or cannot be printed as JSON. */
int bench_run(const struct bench_options *o, FILE *out, struct err *e);

/* ---- what is measured ------------------------------------------------------------------------ */

#define BENCH_ROWS       5
#define BENCH_CONTEXTS   3
#define BENCH_OPERATIONS 24
extern const int bench_rows[BENCH_ROWS], bench_contexts[BENCH_CONTEXTS];

/* Shares of one operation over rows. */
struct bench_operation {
    char name[24], shape[32];
    double bytes;                     /* of all layers' weights or caches */
    bool cached;                      /* so few that they stay in the processor's caches */
    struct metered share[BENCH_ROWS]; /* seconds 0: not measured */
};

/* A decode step of `batch` sequences of `context` tokens. */
struct bench_step {
    int batch, context;
    double seconds;   /* 0: not measured, for want of time */
    double low, high; /* seconds: the fastest and the slowest round */
    double share;     /* of the sum of its operations' limits */
    struct roof part; /* the same of its parts */
};

struct bench_result {
    const char *what, *backend, *unit;
    int threads;
    double bandwidth, peak; /* bytes, operations a second */
    double cores;           /* that threads got (limits.h) */
    double weights;         /* bytes */
    /* How many times as fast as the read loop the best kernel reads from the processor's caches, where the whole model
     * stays there: then steps are held against that; else 1. */
    double faster_memory;
    struct bench_operation operation[BENCH_OPERATIONS];
    size_t operations;
    struct bench_step step[BENCH_ROWS * BENCH_CONTEXTS];
    size_t steps;
    double prompt, completion; /* tokens, means; of a model made up */
    struct forecast layout[LAYOUTS_MOST];
    size_t layouts;
};

/* bench_operations.c: fills operation[] and faster_memory, in about so many seconds. */
void bench_operations(struct stepper *s, struct limits *limits, double seconds,
                      struct bench_result *r);

/* Finds the operations that read caches, of which the first `matrices` are weights: what has no more bytes than
 * one that read faster than memory. They are held against the best of them. */
void bench_caches(struct bench_result *r, size_t matrices);

/* bench_print.c */
void bench_print(const struct bench_result *r, FILE *out);
/* -1, and nothing was printed: a figure that is not finite, or a name that is not UTF-8. Or the file cannot be
 * written. */
int bench_print_json(const struct bench_result *r, FILE *out, struct err *e);

#endif
