/* edit.c - logits before they are sampled. */
#include "kernels/cpu/plain/plain.h"

#include <math.h>

void plain_edit(struct device *d, struct stream *s, float *logits, int vocab,
                const struct logit_edit *edits, int n)
{
    (void)d, (void)s;
    for (int i = 0; i < n; i++) {
        float *at = logits + (size_t)edits[i].row * (size_t)vocab + edits[i].token;
        float l = *at + edits[i].bias;
        l = l > 0 ? l / edits[i].repeat : l * edits[i].repeat;
        *at = l - edits[i].less;
    }
}

void plain_mask(struct device *d, struct stream *s, float *logits, int vocab, const int32_t *rows,
                const uint32_t *bits, int n)
{
    (void)s;
    size_t words = ((size_t)vocab + 31) / 32;
    struct team team = team_begin(d, TEAM_ROWS, (size_t)n * (size_t)vocab);
#pragma omp parallel for num_threads(team.threads)
    for (int i = 0; i < n; i++) {
        float *row = logits + (size_t)rows[i] * (size_t)vocab;
        const uint32_t *bit = bits + (size_t)i * words;
        for (int t = 0; t < vocab; t++)
            if (!(bit[t / 32] >> (t % 32) & 1))
                row[t] = -INFINITY;
    }
    team_end(&team);
}
