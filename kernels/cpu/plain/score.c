/* score.c - log probabilities of tokens (ops.h: score). */
#include "kernels/cpu/lane.h"
#include "kernels/cpu/plain/plain.h"

#include <math.h>
#include <omp.h>

static bool before(const float *logits, int32_t a, int32_t b)
{
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

int32_t plain_first(const float *logits, int vocab)
{
    int32_t best = 0;
    for (int32_t t = 0; t < vocab; t++) {
        if (isnan(logits[t]))
            return -1;
        if (logits[t] > logits[best])
            best = t;
    }
    return isfinite(logits[best]) ? best : -1;
}

/* Tokens come in rising order, so one that is equal to the last of the list is not before it. */
static void find_top(const float *logits, int vocab, int k, int32_t *top)
{
    int n = 0;
    for (int32_t t = 0; t < vocab; t++) {
        if (n == k && !(logits[t] > logits[top[k - 1]]))
            continue;
        int at = n < k ? n++ : k - 1;
        for (; at > 0 && before(logits, t, top[at - 1]); at--)
            top[at] = top[at - 1];
        top[at] = t;
    }
    for (; n < k; n++)
        top[n] = -1;
}

void plain_score_row(const float *logits, int vocab, float most, double total, int32_t target,
                     float *own, int k, int32_t *top, float *logprobs)
{
    double log_total = lane_log(total);
    if (target >= 0)
        *own = (float)((double)logits[target] - (double)most - log_total);
    if (k > 0)
        find_top(logits, vocab, k, top);
    for (int i = 0; i < k; i++)
        logprobs[i] = top[i] < 0 ? NAN : (float)((double)logits[top[i]] - (double)most - log_total);
}

void plain_score(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                 const int32_t *targets, float *own, int k, int32_t *top, float *logprobs)
{
    (void)s;
#pragma omp parallel for num_threads(d->threads)
    for (int i = 0; i < n; i++) {
        const float *row = logits + (size_t)i * (size_t)vocab;
        int32_t first = plain_first(row, vocab), *list = top + (size_t)i * (size_t)k;
        float *list_logprobs = logprobs + (size_t)i * (size_t)k;
        own[i] = NAN;
        for (int j = 0; j < k; j++) {
            list[j] = -1;
            list_logprobs[j] = NAN;
        }
        if (first >= 0)
            plain_score_row(row, vocab, row[first], lane_mass(row, (size_t)vocab, row[first], 1.0f),
                            targets[i], &own[i], k, list, list_logprobs);
    }
}
