/* backoff.h - waiting for another process without holding a core that it may need.
 *
 * Workstations run more ranks than cores, and a rank that spins steals its peer's core. So a wait
 * polls a little, then lets others run between polls, then sleeps between polls: the longer it has
 * waited, the longer it sleeps, so that a wait lasts 2 % longer than it must and a rank that waits
 * for minutes takes nothing. Any thread.
 *
 *     struct backoff b = {0};
 *     while (!done())
 *         backoff_pause(&b);
 */
#ifndef TANDEM_BASE_BACKOFF_H
#define TANDEM_BASE_BACKOFF_H

struct backoff {
    unsigned polls;
    double slept_since; /* clock_now() of the first sleep */
};

void backoff_pause(struct backoff *b);

/* Makes short sleeps of this process short: the default timer slack of Linux adds 50 us to each. */
void backoff_sharpen(void);

#endif
