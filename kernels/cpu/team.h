/* team.h - how many threads an operation is worth: all of the device's, or one. Internal to kernels/cpu.
 *
 * Waking a team costs 5 microseconds on a quiet machine; where strangers want the same cores it costs what
 * the scheduler gives them first, often milliseconds. No constant is right for both, so it is measured:
 * operations are put in classes of like kind and size, both ways are timed, and the faster is taken. What
 * waking costs is also noted for all classes together: one that never had a team is not given one before
 * that seems to pay. The slower way is tried again when TEAM_PATIENCE times as long as it takes has been
 * spent, so that a machine that becomes quiet, or busy, is noticed, for a hundredth of the time. Small operations are never worth a team
 * and are not timed, large ones always are. Results do not depend on it: who computes a row changes no bit.
 *
 * Called by the device's thread, around the parallel region of an operation.
 */
#ifndef TANDEM_KERNELS_CPU_TEAM_H
#define TANDEM_KERNELS_CPU_TEAM_H

#include <stdbool.h>
#include <stddef.h>

struct device;
struct teams;

#define TEAM_ALONE    ((size_t)1 << 13) /* numbers below which one thread it is: about a microsecond */
#define TEAM_ALL      ((size_t)1 << 23) /* and from which it is all: about a millisecond of one core */
#define TEAM_PATIENCE 100

enum team_kind { TEAM_ROWS, TEAM_LINEAR, TEAM_FFN, TEAM_ATTEND, TEAM_KINDS };

/* What is known of a class: [0] one thread, [1] the team. */
struct team_class {
    double cost[2]; /* seconds a number, the last few on average; 0: not known */
    double spent;   /* seconds since the slower way was tried */
};

#define TEAM_WAKE 5e-6 /* seconds: what waking a team is thought to cost at the start */

/* Whether the next operation of the class, of so many numbers, is done by the team; and what it took. Pure
 * but for the class and what waking costs. */
bool team_choose(struct team_class *c, double wake, size_t numbers);
void team_learn(struct team_class *c, double *wake, bool together, size_t numbers, double seconds);

/* One operation: `threads` is for the parallel region. `numbers`: how many it reads; those that more than
 * 16 rows use count once for every 16. */
struct team {
    int threads;
    struct team_class *class; /* NULL: not timed */
    double *wake;
    size_t numbers;
    double start;
};
struct team team_begin(const struct device *d, enum team_kind kind, size_t numbers);
void team_end(const struct team *t);

/* What a device keeps; made and freed with it. */
struct teams *teams_new(void);

#endif
