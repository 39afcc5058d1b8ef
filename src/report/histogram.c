#include "report/histogram.h"

#include <math.h>

#define LOW    1e-6
#define GROWTH 1.03 /* 1e-6 x 1.03^1023 is 1.4e7: also tokens and seconds of any job */

static int bin_of(double value)
{
    if (!(value > LOW))
        return 0;
    double bin = 1 + log(value / LOW) / log(GROWTH);
    return bin < HISTOGRAM_BINS - 1 ? (int)bin : HISTOGRAM_BINS - 1;
}

static double middle(int bin)
{
    return bin == 0 ? 0 : LOW * pow(GROWTH, bin - 0.5);
}

void histogram_add(struct histogram *h, double value)
{
    if (h->n == 0 || value < h->least)
        h->least = value;
    if (h->n == 0 || value > h->most)
        h->most = value;
    h->n++;
    h->sum += value;
    h->counts[bin_of(value)]++;
}

double histogram_percentile(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t)ceil(share * (double)h->n), seen = 0;
    for (int i = 0; h->n > 0 && i < HISTOGRAM_BINS; i++)
        if ((seen += h->counts[i]) >= wanted && seen > 0) {
            double value = middle(i);
            return value < h->least ? h->least : value > h->most ? h->most : value;
        }
    return 0;
}

double histogram_mean(const struct histogram *h)
{
    return h->n ? h->sum / (double)h->n : 0;
}

uint64_t histogram_between(const struct histogram *h, double from, double to)
{
    uint64_t n = 0;
    for (int i = 0; i < HISTOGRAM_BINS; i++)
        if (middle(i) >= from && middle(i) < to)
            n += h->counts[i];
    return n;
}
