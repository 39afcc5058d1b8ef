/* team.h - how many threads an operation is worth: all of the device's, or one. Internal to kernels/cpu.
 *
 * Waking a team costs 5 microseconds on a quiet machine, a hundred on a virtual one whose cores sleep; where
 * strangers want the same cores it costs what the scheduler gives them first, often milliseconds. No constant
 * is right for all, so it is measured: operations are put in classes of like kind and size, both ways are
 * timed, and the faster is taken. Small operations are never worth a team and are not timed, large ones always
 * are. Results do not depend on it: who computes a row changes no bit.
 *
 * A way is tried TEAM_TRIES times in a row and known by the faster one, since what is slow once (caches that
 * are cold, a thread that slept deeply) says little; from then on by the average of what it takes, so that one
 * that is often late is left soon. A way that was left is tried again at once, then after TEAM_WAIT
 * operations, and after twice as many each time that this changed nothing: so a machine that becomes quiet, or
 * busy, is noticed. What all this may cost is limited for all classes together: a trial begins only while
 * teams and trials have not lost more than they won, TEAM_CREDIT, and a TEAM_SHAREth of the time.
 *
 * What waking costs is noted for all classes together: one that never had a team gets its trial early only if
 * that should pay. It at most doubles with an operation, and only those raise it that are so short that
 * nothing else makes them late: that a long one took a millisecond more says nothing about waking.
 *
 * Called by the device's thread, around the parallel region of an operation.
 */
#ifndef TANDEM_KERNELS_CPU_TEAM_H
#define TANDEM_KERNELS_CPU_TEAM_H

#include <stdbool.h>
#include <stddef.h>

struct device;
struct teams;

#define TEAM_ALONE     ((size_t)1 << 13) /* numbers below which one thread it is: about a microsecond */
#define TEAM_ALL       ((size_t)1 << 23) /* and from which it is all: about a millisecond of one core */
#define TEAM_TRIES     2
#define TEAM_WAIT      16 /* operations between trials, at least */
#define TEAM_WAIT_MOST 4096
#define TEAM_SHARE     50
#define TEAM_CREDIT    5e-3 /* seconds */
#define TEAM_WAKE      5e-6 /* seconds: what waking a team is thought to cost at the start */

enum team_kind { TEAM_ROWS, TEAM_LINEAR, TEAM_FFN, TEAM_ATTEND, TEAM_KINDS };

/* What is known of a class: [0] one thread, [1] the team. */
struct team_class {
    double cost[2];  /* seconds a number; 0: not known */
    int tries;       /* operations that are left of a trial, 0: none is under way */
    bool tried;      /* which way that is */
    double best;     /* the fastest of it so far, seconds a number; 0: none yet */
    int since, wait; /* operations since the last trial, and until the next */
};

/* What all classes share. */
struct team_costs {
    double wake;   /* seconds */
    double credit; /* seconds that trials may lose */
};
#define TEAM_COSTS ((struct team_costs){TEAM_WAKE, TEAM_CREDIT})

/* Whether the next operation of the class, of so many numbers, is done by the team; and what it took. Pure
 * but for the class and what is shared. */
bool team_choose(struct team_class *c, const struct team_costs *all, size_t numbers);
void team_learn(struct team_class *c, struct team_costs *all, bool together, size_t numbers,
                double seconds);

/* One operation: `threads` is for the parallel region. `numbers`: how many it reads; each row that uses them counts
 * for a quarter more, about what its multiply-adds cost beside reading bf16 or bytes. Of classes that mixed 1 row
 * with 8, of 5 million numbers, one thread was taken for 8 because it had been nearly as fast with 1. */
struct team {
    int threads;
    struct team_class *class; /* NULL: not timed */
    struct team_costs *all;
    size_t numbers;
    double start;
};
struct team team_begin(const struct device *d, enum team_kind kind, size_t numbers);
void team_end(const struct team *t);

/* What a device keeps; made and freed with it. */
struct teams *teams_new(void);

#endif
