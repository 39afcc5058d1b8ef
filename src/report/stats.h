/* stats.h - what a finished output says about its job: read once, in the memory of a few charts.
 *
 * From the columns of the completions file and of its *.steps.h5, as anyone could read them with
 * h5py. One process and thread.
 */
#ifndef TANDEM_REPORT_STATS_H
#define TANDEM_REPORT_STATS_H

#include "base/err.h"
#include "output/reasons.h"
#include "report/histogram.h"

#include <stddef.h>
#include <stdint.h>

#define STATS_TIMES 120 /* points of a curve over the job's time */

/* Seconds of one rank, summed over its steps; and what the table of ranks says of it, as far as it does. */
struct stats_rank {
    int32_t rank;
    uint64_t steps, rows;
    double attention, ffn, exchange, wait, total, longest;
    double bytes, operations; /* at least; 0 in outputs of earlier versions */
    int threads;
    char host[64], role[16], device[96];
};

struct stats {
    /* Attributes; "" when there are none. */
    char *path, *job, *version, *ranks_text, *kernels, *exchange, *exchange_measured;
    uint64_t rows, stop, length, errors, other; /* other: ended by repetition */
    uint64_t prompt_tokens, tokens;
    double begin, end; /* first admission, last token; seconds since the epoch */
    struct histogram prompt_length, length_of, first_token, per_token;
    double rate[STATS_TIMES];    /* completion tokens a second */
    double running[STATS_TIMES]; /* sequences under way */
    struct reasons reasons;
    struct stats_rank *ranks; /* [n_ranks], by rank; none without a steps file */
    size_t n_ranks;
    uint64_t
        *chosen; /* [layers][experts] rows that chose the expert; NULL: unknown, or no experts */
    size_t layers, experts;
};

/* -1: not a completions file, or it cannot be read. A steps file that is not there is none. */
int stats_read(struct stats *s, const char *path, struct err *e);
void stats_free(struct stats *s);

/* Seconds from the first admission to the last token. */
double stats_seconds(const struct stats *s);

#endif
