#include "base/backoff.h"

#include "base/clock.h"

#include <sched.h>
#include <sys/prctl.h>
#include <time.h>

#define SPINS       64    /* polls in a row: a peer that answers at once */
#define YIELDS      128   /* then letting others run in between */
#define SHARE       50    /* then sleeping this part of the time slept so far, */
#define SLEEP_LEAST 20e-6 /* short beside a layer, long beside a context switch, */
#define SLEEP_MOST  2e-3  /* and short beside a step that waits for a checkpoint or a merge */

void backoff_pause(struct backoff *b)
{
    b->polls++;
    if (b->polls < SPINS)
        return;
    if (b->polls < SPINS + YIELDS) {
        sched_yield();
        return;
    }
    double now = clock_now();
    if (b->slept_since == 0)
        b->slept_since = now;
    double sleep = (now - b->slept_since) / SHARE;
    sleep = sleep < SLEEP_LEAST ? SLEEP_LEAST : sleep > SLEEP_MOST ? SLEEP_MOST : sleep;
    nanosleep(&(struct timespec){.tv_nsec = (long)(sleep * 1e9)}, NULL);
}

void backoff_sharpen(void)
{
    prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
}
