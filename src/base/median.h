/* median.h - the median of measured times. Pure; any thread. */
#ifndef TANDEM_BASE_MEDIAN_H
#define TANDEM_BASE_MEDIAN_H

/* Of values[0..n-1], n > 0, the upper one of the two in the middle; sorts them. */
double median(double *values, int n);

#endif
