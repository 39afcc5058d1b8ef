#include "model/generate_values.h"

#include "base/philox.h"

#include <math.h>

uint32_t generate_stream(enum model_tensor kind, size_t layer)
{
    return (uint32_t)kind << 16 | (uint32_t)layer;
}

void generate_words(uint64_t seed, uint32_t stream, uint32_t purpose, size_t at, uint32_t words[4])
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)at, (uint32_t)((uint64_t)at >> 32), stream, purpose};
    philox4x32(counter, key, words);
}

/* to[i] = about normal, mean 0 and variance 1, for the elements first .. first + n - 1 of a tensor.
 * The sum of four bytes: integers only, so that every machine makes the same numbers; no more
 * than 3.5 in magnitude. */
static void fill_normal(uint64_t seed, uint32_t stream, size_t first, size_t n, float *to)
{
    const float mean = 510.0f, deviation = 147.80054f; /* sqrt(4 (256^2 - 1) / 12) */
    for (size_t i = 0; i < n;) {
        size_t block = (first + i) / 4, lane = (first + i) % 4;
        uint32_t words[4];
        generate_words(seed, stream, FOR_WEIGHT, block, words);
        for (; lane < 4 && i < n; lane++, i++) {
            uint32_t w = words[lane];
            uint32_t sum = (w & 255) + (w >> 8 & 255) + (w >> 16 & 255) + (w >> 24);
            to[i] = ((float)sum - mean) / deviation;
        }
    }
}

float generate_gain(uint32_t random)
{
    return 0.5f + (float)(random >> 8) * 0x1p-24f;
}

/* Standard deviation: projections keep the magnitude of what goes in; the router and the head make
 * a softmax that is neither flat nor a single one. A tied table is a head. */
float generate_deviation(const struct model *m, enum tensor_use use, size_t inputs)
{
    float unit = 1.0f / sqrtf((float)inputs);
    switch (use) {
    case USE_GAIN: /* around 1 */
    case USE_BIAS:
        return 0.1f;
    case USE_TABLE:
        return m->tied ? 3.0f * unit : 1.0f;
    case USE_ROUTER:
        return 2.0f * unit;
    case USE_HEAD:
        return 3.0f * unit;
    case USE_LINEAR:
        return unit;
    }
    die("tensor use %d", (int)use);
}

void generate_numbers(const struct model *m, uint64_t seed, enum model_tensor kind,
                      enum tensor_use use, size_t layer, size_t inputs, size_t first, size_t n,
                      float *to)
{
    float deviation = generate_deviation(m, use, inputs);
    float mean = use == USE_GAIN ? 1.0f - m->gain_offset : 0.0f;
    fill_normal(seed, generate_stream(kind, layer), first, n, to);
    for (size_t i = 0; i < n; i++)
        to[i] = to[i] * deviation + mean;
}
