/* trial.h - exchanges of known numbers: does everything arrive where it should, and how long does it take?
 *
 * A step without a model: every attention rank dispatches rows that say who they are, every FFN rank looks
 * at what it receives and answers with sums that follow from it, and what is collected is looked at again;
 * in every layer, with uneven rows. Then the largest micro-batch goes out and back a few times, on the
 * clock. All ranks of the cell call it, after open() and while nothing is under way.
 */
#ifndef TANDEM_EXCHANGE_TRIAL_H
#define TANDEM_EXCHANGE_TRIAL_H

#include "exchange/exchange.h"

struct trial {
    const struct exchange_ops *ops;
    struct exchange *exchange;
    const struct exchange_shape *shape;
    const struct endpoint *end;
};

/* What an attention rank has seen; zeros on other ranks. */
struct trial_time {
    double seconds; /* median, of its rows out and the answers back */
    size_t bytes;   /* that it sent and got */
};

/* -1: something arrived that should not, or did not; the rest of the step is done all the same, so that no
 * rank waits for this one. */
int trial_run(const struct trial *t, struct trial_time *time, struct err *e);

#endif
