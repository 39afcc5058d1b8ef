/* clock.h - time: seconds as double. */
#ifndef TANDEM_BASE_CLOCK_H
#define TANDEM_BASE_CLOCK_H

/* Monotonic seconds since an arbitrary point; the same point for all ranks of one host. */
double clock_now(void);

/* Seconds since the Unix epoch. */
double clock_wall(void);

#endif
