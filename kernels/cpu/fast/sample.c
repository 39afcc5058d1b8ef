/* sample.c - one token per row, without sorting the vocabulary.
 *
 * One pass finds the largest logit. A second one sums the probabilities, and also those above a few
 * thresholds; from these it is known which threshold leaves enough candidates for top_k, top_p and
 * the draw. Only they are picked out and put in order: usually some dozens of a hundred thousand.
 */
#include "kernels/cpu/fast/fast.h"
#include "kernels/cpu/lane.h"
#include "kernels/cpu/plain/plain.h"

#include "base/mem.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>

struct candidate {
    float logit;
    int32_t token;
};

static size_t row_scratch(size_t vocab)
{
    return cpu_scratch_size(vocab, sizeof(int32_t)) +
           cpu_scratch_size(vocab, sizeof(struct candidate));
}

size_t fast_sample_scratch(const struct device_config *c)
{
    return mem_mul((size_t)c->threads, row_scratch(c->limits.vocab));
}

/* Thresholds below the largest logit, in units of the temperature. */
static const float depth[SAMPLE_LIMITS] = {1, 2, 4, 6, 9, 12, 16, 24};

#define FEW    512 /* candidates that are quick to put in order */
#define ROUNDS 4   /* of narrowing the threshold down to that */

static int by_rank(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return (x->token > y->token) - (x->token < y->token);
}

/* What one row's draw goes by. */
struct draw {
    const struct isa *isa;
    const float *logits;
    size_t vocab;
    const struct sample_params *params;
    float most, factor;     /* probabilities go with exp((logit - most) x factor) */
    int32_t *places;        /* [vocab] */
    struct candidate *list; /* [vocab] */
};

/* The highest of the limits (largest first) above which enough candidates are: as many as top_k, or
 * as much probability as top_p or the draw's number may ask for; a little more of it, because the
 * sums of candidates are not these sums. SAMPLE_LIMITS when none is low enough. */
static size_t low_enough(const struct draw *w, double whole, const double *sums,
                         const size_t *counts)
{
    const struct sample_params *p = w->params;
    double wanted = p->top_p < 1 ? p->top_p : p->uniform;
    bool by_count = p->top_k > 0 && (size_t)p->top_k < w->vocab;
    size_t j = 0;
    while (j < SAMPLE_LIMITS &&
           !(by_count ? counts[j] >= (size_t)p->top_k : sums[j] >= whole * (wanted + 1e-4)))
        j++;
    return j;
}

/* A threshold with enough candidates above it, but not many more. `whole`: the sum over all. */
static float threshold(const struct draw *w, double *whole)
{
    float limits[SAMPLE_LIMITS], high = w->most;
    double sums[SAMPLE_LIMITS];
    size_t counts[SAMPLE_LIMITS];
    for (size_t j = 0; j < SAMPLE_LIMITS; j++)
        limits[j] = w->most - depth[j] * w->params->temperature;
    for (int round = 0;; round++) {
        *whole = w->isa->masses(w->logits, w->vocab, w->most, w->factor, limits, sums, counts);
        size_t j = low_enough(w, *whole, sums, counts);
        if (j == SAMPLE_LIMITS)
            return -INFINITY;
        high = j ? limits[j - 1] : high;
        if (counts[j] <= FEW || round == ROUNDS || !(limits[j] < high))
            return limits[j];
        float low = limits[j];
        for (j = 0; j < SAMPLE_LIMITS; j++)
            limits[j] = high - (high - low) * (float)(j + 1) / SAMPLE_LIMITS;
        limits[SAMPLE_LIMITS - 1] = low; /* which is known to be low enough */
    }
}

/* The candidates that can matter, in order; returns how many. */
static size_t candidates(const struct draw *w, double *whole)
{
    float limit = threshold(w, whole);
    size_t n = w->isa->pick(w->logits, w->vocab, limit, w->places);
    for (size_t i = 0; i < n; i++)
        w->list[i] = (struct candidate){w->logits[w->places[i]], w->places[i]};
    qsort(w->list, n, sizeof *w->list, by_rank);
    return n;
}

static double weight_of(const struct draw *w, size_t i)
{
    return (double)w->isa->exp((w->list[i].logit - w->most) * w->factor);
}

/* top_k, top_p, then the draw. */
static int32_t draw(const struct draw *w)
{
    const struct sample_params *p = w->params;
    double total;
    size_t n = candidates(w, &total), kept = w->vocab;
    if (p->top_k > 0 && (size_t)p->top_k < w->vocab) {
        kept = (size_t)p->top_k; /* of which candidates() brought at least as many */
        total = 0;
        for (size_t i = 0; i < kept; i++)
            total += weight_of(w, i);
    }
    if (p->top_p < 1.0f) { /* the smallest set that reaches top_p of what is left */
        double enough = (double)p->top_p * total;
        size_t i = 0;
        for (total = 0; i == 0 || (i < kept && i < n && total < enough); i++)
            total += weight_of(w, i);
        kept = i;
    }
    double sum = 0, wanted = (double)p->uniform * total;
    int32_t token = -1;
    for (size_t i = 0; i < kept && i < n && !(sum > wanted); i++) {
        token = w->list[i].token;
        sum += weight_of(w, i);
    }
    return token;
}

static void sample_row(const struct isa *isa, const float *logits, size_t vocab,
                       const struct sample_params *params, uint8_t *scratch, int32_t *token,
                       float *logprob)
{
    bool has_nan;
    float most = isa->most(logits, vocab, &has_nan);
    int32_t *places = (int32_t *)(void *)scratch;
    *token = -1;
    *logprob = NAN;
    if (has_nan || !isfinite(most))
        return;
    if (params->temperature > 0) {
        float factor = fminf(1.0f / params->temperature, FLT_MAX);
        struct sample_params kept =
            *params; /* `within` keeps the first candidates, as top_k does */
        int near = kept.within > 0 ? plain_within(logits, (int)vocab, most, kept.within) : 0;
        if (near && (kept.top_k <= 0 || near < kept.top_k))
            kept.top_k = near;
        struct draw w = {
            isa,    logits,
            vocab,  &kept,
            most,   factor,
            places, (struct candidate *)(void *)(scratch + cpu_scratch_size(vocab, 4))};
        *token = draw(&w);
    } else {
        isa->pick(logits, vocab, most, places);
        *token = places[0];
    }
    double total = isa->mass(logits, vocab, most, 1.0f);
    *logprob = (float)((double)logits[*token] - (double)most - lane_log(total));
}

void fast_sample(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                 const struct sample_params *params, int32_t *tokens, float *logprobs)
{
    (void)s;
    size_t width = (size_t)vocab, bytes = row_scratch(width);
    cpu_scratch_begin(d);
    uint8_t *scratch = cpu_scratch(d, mem_mul((size_t)d->threads, bytes), 1);
    struct team team = team_begin(d, TEAM_ROWS, (size_t)n * width);
#pragma omp parallel for num_threads(team.threads) schedule(dynamic)
    for (int i = 0; i < n; i++)
        sample_row(d->isa, logits + (size_t)i * width, width, &params[i],
                   scratch + (size_t)omp_get_thread_num() * bytes, &tokens[i], &logprobs[i]);
    team_end(&team);
}
