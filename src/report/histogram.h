/* histogram.h - how values are distributed, in little memory however many there are.
 *
 * Bins grow by a factor, so that a percentile is right to about 2 % from a microsecond to a month.
 * Values that are not above 0 share the first bin. Pure; any thread.
 */
#ifndef TANDEM_REPORT_HISTOGRAM_H
#define TANDEM_REPORT_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BINS 1024

struct histogram {
    uint64_t n, counts[HISTOGRAM_BINS];
    double sum, least, most;
};

void histogram_add(struct histogram *h, double value);

/* The value that a share of all values does not exceed: 0.5 is the median. 0 when there are none. */
double histogram_percentile(const struct histogram *h, double share);
double histogram_mean(const struct histogram *h);

/* How many lie in [from, to); borders cut bins by their middle. */
uint64_t histogram_between(const struct histogram *h, double from, double to);

#endif
