#include "base/backoff.h"

#include <sched.h>
#include <sys/prctl.h>
#include <time.h>

#define SPINS  64  /* polls in a row: a peer that answers at once */
#define YIELDS 256 /* then letting others run in between */
#define SLEEP_NS                                                                                   \
    (20L * 1000) /* then sleeping: short beside a layer, long beside a context switch */

void backoff_pause(struct backoff *b)
{
    b->polls++;
    if (b->polls < SPINS)
        return;
    if (b->polls < SPINS + YIELDS) {
        sched_yield();
        return;
    }
    nanosleep(&(struct timespec){.tv_nsec = SLEEP_NS}, NULL);
}

void backoff_sharpen(void)
{
    prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
}
