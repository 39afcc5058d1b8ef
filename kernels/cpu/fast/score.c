/* score.c - log probabilities of tokens: the sums by vectors, the rest as the reference. */
#include "kernels/cpu/fast/fast.h"
#include "kernels/cpu/plain/plain.h"

#include <math.h>
#include <omp.h>

void fast_score(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                const int32_t *targets, float *own, int k, int32_t *top, float *logprobs)
{
    (void)s;
    size_t width = (size_t)vocab;
    struct team team = team_begin(d, TEAM_ROWS, (size_t)n * width);
#pragma omp parallel for num_threads(team.threads) schedule(dynamic)
    for (int i = 0; i < n; i++) {
        const float *row = logits + (size_t)i * width;
        int32_t *list = top + (size_t)i * (size_t)k;
        float *list_logprobs = logprobs + (size_t)i * (size_t)k;
        bool has_nan;
        float least, most = d->isa->most(row, width, &least, &has_nan, NULL);
        own[i] = NAN;
        for (int j = 0; j < k; j++) {
            list[j] = -1;
            list_logprobs[j] = NAN;
        }
        if (!has_nan && isfinite(most))
            plain_score_row(row, vocab, most, d->isa->mass(row, width, most, 1.0f), targets[i],
                            &own[i], k, list, list_logprobs);
    }
    team_end(&team);
}
