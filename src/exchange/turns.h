/* turns.h - how a rank waits for another that works on the same cores meanwhile.
 *
 * Awake: all its threads yield, so that those of the other have the cores, and are there at once when these are done:
 * 15 microseconds, where threads that sleep take 20 to 60 on a virtual machine, whose idle cores are given away, and wake
 * one after the other. But where strangers want the cores, who yields goes behind them, for milliseconds; one that wakes
 * goes first. So it is measured how late waits end: where those awake do, the rank sleeps, and tries again now and then.
 *
 * Pure but for the struct, which begins as zeros.
 */
#ifndef TANDEM_EXCHANGE_TURNS_H
#define TANDEM_EXCHANGE_TURNS_H

#include <stdbool.h>

#define TURNS_LATE  1e-4 /* seconds, on average */
#define TURNS_WAITS 256  /* waits asleep before the next is awake again, for a try */

struct turns {
    double late; /* seconds, on average, of waits awake */
    int asleep;  /* waits since */
};

/* Whether the next wait is awake. */
bool turns_awake(struct turns *t);

/* How long after what it waited for a wait awake ended. */
void turns_learn(struct turns *t, double late);

#endif
