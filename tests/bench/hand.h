/* hand.h - one decode step of an engine, with a plan made by hand: so many sequences of one length, whose caches
 * nothing has filled, or the beginning of one prompt. All ranks of the cell call these functions, in the same
 * order; wrong shapes end the program. */
#ifndef TANDEM_TESTS_BENCH_HAND_H
#define TANDEM_TESTS_BENCH_HAND_H

#include "roles/comm.h"
#include "roles/engine.h"
#include "roles/trace.h"

struct hand {
    /* The caller's, open before hand_open(): */
    struct comm comm;
    struct inputs in;
    struct engine engine;
    struct trace trace; /* of the steps */

    struct micro_batch plan[MICRO_BATCHES_MAX];
    int *rows;    /* [attention][micro_batches] */
    char *chosen; /* FFN ranks: [layers][experts] 1: some row of a step has chosen the expert */
    struct sample_params *params; /* of greedy rows */
};

void hand_open(struct hand *h);

/* The plan of the steps that follow: `batch` sequences in all, each with `context` tokens; 0: a prompt of as
 * many tokens. */
void hand_plan(struct hand *h, int batch, int context);
void hand_step(struct hand *h);

#endif
