#include "model/rope.h"

#include <math.h>

static double clamped(double x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

static double llama3(const struct rope_spec *r, double frequency)
{
    double turns = r->original * frequency / (2 * M_PI);
    double keep = clamped((turns - r->low_freq) / (r->high_freq - r->low_freq));
    return frequency * ((1 - keep) / r->factor + keep);
}

static double frequency_of(const struct rope_spec *r, size_t pair)
{
    return pow(r->theta, -2.0 * (double)pair / (double)r->dim);
}

double rope_stretch(const struct rope_spec *r, size_t pair)
{
    double frequency = frequency_of(r, pair);
    return frequency / llama3(r, frequency);
}

/* The pair that turns `turns` times within the context of training. */
static double yarn_pair(const struct rope_spec *r, double turns)
{
    return (double)r->dim * log(r->original / (2 * M_PI * turns)) / (2 * log(r->theta));
}

static double yarn(const struct rope_spec *r, double frequency, size_t pair)
{
    double low = yarn_pair(r, r->beta_fast), high = yarn_pair(r, r->beta_slow);
    low = r->between ? low : floor(low);
    high = r->between ? high : ceil(high);
    low = low > 0 ? low : 0;
    high = high < (double)r->dim - 1 ? high : (double)r->dim - 1;
    double wide = high - low > 0.001 ? high - low : 0.001;
    double stretch = clamped(((double)pair - low) / wide);
    return frequency * ((1 - stretch) + stretch / r->factor);
}

double rope_yarn_magnitude(double factor, double scale)
{
    return factor > 1 ? 0.1 * scale * log(factor) + 1 : 1;
}

void rope_angles(float *angles, size_t positions, const struct rope_spec *rope)
{
    for (size_t j = 0; j < rope->dim / 2; j++) {
        double frequency = frequency_of(rope, j);
        if (rope->scaling == ROPE_LLAMA3)
            frequency = llama3(rope, frequency);
        if (rope->scaling == ROPE_YARN)
            frequency = yarn(rope, frequency, j);
        if (rope->scaling == ROPE_FACTORS)
            frequency /= (double)rope->factors[j];
        for (size_t p = 0; p < positions; p++) {
            double angle = (double)p * frequency;
            angles[p * rope->dim + 2 * j] = (float)(cos(angle) * rope->magnitude);
            angles[p * rope->dim + 2 * j + 1] = (float)(sin(angle) * rope->magnitude);
        }
    }
}
