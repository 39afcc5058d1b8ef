/* plan.h - `tandem plan`: what a model needs on a cluster, before there are weights or a cluster.
 *
 * From config.json alone (or the sizes of a published model): parameters and memory by role, KV
 * cache of a sequence, operations and bytes of a token, bytes on the wire, arithmetic intensity
 * against the card's, rows that make the FFN bound by products, and the layouts with the most
 * tokens a second and card that keep a time per output token. All times are bounds (plan/cost.h).
 * One process, no MPI; prints within 80 columns.
 */
#ifndef TANDEM_PLAN_PLAN_H
#define TANDEM_PLAN_PLAN_H

#include "plan/cost.h"

#include <stdio.h>

struct plan_options {
    const char *model;   /* a directory with config.json, that file, or a published name */
    const char *cluster; /* cluster_read() */
    double context;      /* tokens */
    double tpot;         /* seconds per output token */
    struct formats formats;
};

/* h800, 8K, 50 ms, 8-bit weights and KV cache, 8-bit rows out and 16-bit sums back. */
void plan_defaults(struct plan_options *o);

/* One option of the command line: cluster, context ("8K"), tpot ("50ms"), weights (bf16 | fp8 |
 * int8 | int4), kv (bf16 | fp8). -1 with what was wanted. */
int plan_set(struct plan_options *o, const char *name, const char *value, struct err *e);

/* The cards that are known, a line each. */
void plan_cards(FILE *out);

/* -1: model or cluster cannot be read. */
int plan_print(const struct plan_options *o, FILE *out, struct err *e);

#endif
