/* best.h - which of the completions that were decoded become rows of the output.
 *
 * All of them, in the order of units; or, with sampling.best_of, of those of every prompt the ones
 * whose tokens have the highest mean logprob, the best first (of equal ones the earlier sample), and
 * `sample` then is the place in this order. A completion without tokens comes after those with some,
 * an error row last. A prompt of which not all is decoded has no rows yet.
 *
 * Reads journals: one thread, that of merge or export.
 */
#ifndef TANDEM_OUTPUT_BEST_H
#define TANDEM_OUTPUT_BEST_H

#include "output/journals.h"

struct best {
    struct journals *js;
    uint64_t samples, kept; /* of a prompt: decoded, in the output */
    uint64_t prompt;        /* of which the rest is; UINT64_MAX: of none */
    uint64_t *unit;         /* [samples] the best first */
    double *mean;           /* [samples] */
};

/* The journals outlive it. */
void best_open(struct best *b, struct journals *js);
void best_close(struct best *b);

/* Rows of the whole output; those that are there. */
uint64_t best_rows(const struct best *b);
uint64_t best_count(const struct best *b);

/* A row's completion, to be freed with table_free(): 1; 0: it is not there yet; -1: a journal cannot
 * be read. */
int best_completion(struct best *b, uint64_t row, struct completion *out, struct err *e);

#endif
