/* sample.c - one token per row, without sorting the vocabulary.
 *
 * top_k, top_p and the draw all ask for the first candidate with which a running count, or a running sum of
 * masses (kernels/mass.h), exceeds a bound. One pass spreads the candidates over bins in their order and adds
 * up each bin; a search then looks through the bins, picks out the candidates of the one in which the bound is
 * passed, and halves these until one is left. Masses are whole numbers: nothing hangs on the order.
 *
 * Most bounds are passed among the first candidates, and spreading all takes most of the time. So these are tried
 * first: of the largest logits of blocks of SAMPLE_BLOCK, the k-th largest has at least k candidates before it or
 * equal to it, and few more.
 */
#include "kernels/cpu/fast/fast.h"
#include "kernels/cpu/lane.h"
#include "kernels/cpu/plain/plain.h"

#include "base/mem.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <string.h>

static size_t blocks_of(size_t vocab)
{
    return (vocab + SAMPLE_BLOCK - 1) / SAMPLE_BLOCK;
}

static size_t row_scratch(size_t vocab)
{
    return cpu_scratch_size(1, sizeof(struct sample_bins)) +
           cpu_scratch_size(blocks_of(vocab), sizeof(float)) +
           cpu_scratch_size(vocab, sizeof(struct sample_candidate));
}

size_t fast_sample_scratch(const struct device_config *c)
{
    return mem_mul((size_t)c->threads, row_scratch(c->limits.vocab));
}

/* What one row's draw goes by. */
struct draw {
    const struct isa *isa;
    const float *logits;
    size_t vocab;
    struct spread spread;
    struct sample_bins *bins;
    bool filled;                   /* are they? Counts only where the first search needed them */
    float *tops;                   /* [blocks] the largest logit of each */
    struct sample_candidate *list; /* [vocab] */
    size_t listed;                 /* of them, the first candidates of all; 0: others, or none */
    uint64_t listed_mass;
};

/* What is exceeded: a count or a mass. */
enum measure { BY_COUNT, BY_MASS };

/* How far a search has come: what is before the candidates that are left, and at its end the last one. */
struct reached {
    uint64_t mass, count;
    int32_t token;
};

static bool passes(enum measure by, uint64_t bound, uint64_t mass, uint64_t count)
{
    return (by == BY_MASS ? mass : count) > bound;
}

/* Takes candidates as long as the bound is not passed; false when it never is. */
static bool walk(const struct sample_candidate *c, size_t n, enum measure by, uint64_t bound,
                 struct reached *r)
{
    for (size_t i = 0; i < n; i++) {
        r->mass += c[i].mass;
        r->count++;
        r->token = (int32_t)(c[i].key & 0xffffffffu);
        if (passes(by, bound, r->mass, r->count))
            return true;
    }
    return false;
}

static void sort(struct sample_candidate *c, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct sample_candidate one = c[i];
        size_t at = i;
        for (; at > 0 && one.key < c[at - 1].key; at--)
            c[at] = c[at - 1];
        c[at] = one;
    }
}

/* Of three, at a place that hangs on n alone and that no order of logits is likely to know: rows that rise and
 * fall would make the ends and the middle a bad choice again and again. */
static uint64_t middle_key(const struct sample_candidate *c, size_t n)
{
    size_t third = n / 3, at = (uint32_t)n * 2654435769u % third;
    uint64_t x = c[at].key, y = c[third + at].key, z = c[2 * third + at].key;
    uint64_t low = x < y ? x : y, high = x < y ? y : x;
    return z < low ? low : z > high ? high : z;
}

#define FEW 24 /* candidates that are quick to sort */

/* Goes on among the n candidates of a bin in which the bound is passed. No two keys are equal, so the middle
 * one of three has some on either side. */
static void halve(struct sample_candidate *c, size_t n, enum measure by, uint64_t bound,
                  struct reached *r)
{
    while (n > FEW) {
        uint64_t pivot = middle_key(c, n), mass = 0;
        size_t lower = 0;
        for (size_t i = 0; i < n; i++) {
            struct sample_candidate one = c[i];
            if (one.key < pivot) {
                mass += one.mass;
                c[i] = c[lower];
                c[lower++] = one;
            }
        }
        if (passes(by, bound, r->mass + mass, r->count + lower)) {
            n = lower;
        } else {
            r->mass += mass;
            r->count += lower;
            c += lower;
            n -= lower;
        }
    }
    sort(c, n);
    walk(c, n, by, bound, r);
}

/* Lists the first candidates: k of them (1 .. blocks) or some more, or fewer where no other has a mass (of a row
 * whose masks leave few). Returns the most that any other may have. */
static uint64_t list_first(struct draw *w, size_t k)
{
    uint64_t least = UINT64_MAX;
    size_t blocks = blocks_of(w->vocab);
    struct reached r = {0, 0, -1};
    for (size_t i = 0; i < blocks; i++)
        w->list[i] = (struct sample_candidate){sample_key(w->tops[i], (int32_t)i), 0};
    halve(w->list, blocks, BY_COUNT, k - 1, &r);
    float top = w->tops[r.token], far = w->spread.most - MASS_FAR / w->spread.factor;
    w->listed = w->isa->above(w->logits, w->vocab, &w->spread, fmaxf(top, far), w->list);
    w->listed_mass = 0;
    for (size_t i = 0; i < w->listed; i++) {
        w->listed_mass += w->list[i].mass;
        least = w->list[i].mass < least ? w->list[i].mass : least;
    }
    return top < far ? 0 : least;
}

/* Only a row's first search is for a count; those after it are for masses. */
static void fill_bins(struct draw *w, bool counts)
{
    memset(w->bins, 0, sizeof *w->bins);
    w->isa->spread(w->logits, w->vocab, &w->spread, w->bins, counts);
    w->filled = true;
}

static void search_bins(struct draw *w, enum measure by, uint64_t bound, struct reached *r)
{
    size_t end = SAMPLE_BINS - w->spread.last_is_empty, bin = 0;
    if (!w->filled)
        fill_bins(w, by == BY_COUNT);
    for (; bin < end; bin++) {
        uint64_t mass = r->mass + w->bins->mass[bin][0] + w->bins->mass[bin][1];
        uint64_t count = r->count + w->bins->count[bin][0] + w->bins->count[bin][1];
        if (passes(by, bound, mass, count))
            break;
        r->mass = mass;
        r->count = count;
    }
    if (bin == end)
        return;
    size_t n = w->isa->collect(w->logits, w->vocab, &w->spread, bin, w->list);
    w->listed = w->listed_mass = 0;
    halve(w->list, n, by, bound, r);
}

/* The first candidate whose running sum or count exceeds the bound, and what that is then; where none with a
 * mass does, r->mass is that of all. */
static void search(struct draw *w, enum measure by, uint64_t bound, struct reached *r)
{
    *r = (struct reached){0, 0, -1};
    if (passes(by, bound, w->listed_mass, w->listed))
        halve(w->list, w->listed, by, bound, r);
    else
        search_bins(w, by, bound, r);
}

/* Times the mass of the first ones, if all others had as much as the last of these. */
#define FLAT 64.0

/* list_first() without top_k, where that is worth a try: of flat rows the first ones have too little. Returns the mass
 * of all candidates. */
static uint64_t list_heavy(struct draw *w)
{
    struct reached r;
    double rest = (double)list_first(w, (blocks_of(w->vocab) + 1) / 2) * (double)w->vocab;
    if (rest < FLAT * (double)w->listed_mass)
        return w->isa->masses(w->logits, w->vocab, &w->spread);
    w->listed = w->listed_mass = 0;
    search(w, BY_MASS, UINT64_MAX, &r);
    return r.mass;
}

/* min_p and top_k, top_p, then the draw. */
static int32_t draw(struct draw *w, const struct sample_params *p)
{
    struct reached r = {0, 0, -1};
    size_t kept = p->top_k > 0 ? (size_t)p->top_k : w->vocab, blocks = blocks_of(w->vocab);
    size_t near = p->within > 0 ? w->isa->near(w->logits, w->vocab, w->spread.most, p->within)
                                : w->vocab; /* the first candidates, as top_k keeps them */
    kept = near < kept ? near : kept;
    if (kept <= blocks)
        list_first(w, kept);
    if (kept < w->vocab)
        search(w, BY_COUNT, kept - 1, &r);
    else
        r.mass = list_heavy(w);
    if (p->top_p < 1.0f)
        search(w, BY_MASS, mass_enough(r.mass, p->top_p) - 1, &r);
    search(w, BY_MASS, mass_share(r.mass, p->uniform), &r);
    return r.token;
}

/* Bins from the largest logit to the least, or to where masses end. */
static struct spread spread_over(float most, float least, float temperature)
{
    float reach = MASS_FAR * temperature, range = most - least;
    bool last_is_empty = reach < FLT_MAX && !(range < reach);
    range = fminf(last_is_empty ? reach : range, FLT_MAX);
    return (struct spread){most, mass_factor(temperature),
                           fminf((float)(SAMPLE_BINS - 1) / fmaxf(range, FLT_MIN), FLT_MAX),
                           last_is_empty};
}

static void sample_row(const struct isa *isa, const float *logits, size_t vocab,
                       const struct sample_params *params, uint8_t *scratch, int32_t *token,
                       float *logprob)
{
    bool has_nan;
    float *tops = (float *)(void *)(scratch + cpu_scratch_size(1, sizeof(struct sample_bins)));
    size_t tops_bytes = cpu_scratch_size(blocks_of(vocab), sizeof(float));
    float least, most = isa->most(logits, vocab, &least, &has_nan, tops);
    *token = -1;
    *logprob = NAN;
    if (has_nan || !isfinite(most))
        return;
    if (params->temperature > 0) {
        struct draw w = {
            .isa = isa,
            .logits = logits,
            .vocab = vocab,
            .spread = spread_over(most, least, params->temperature),
            .bins = (struct sample_bins *)(void *)scratch,
            .tops = tops,
            .list = (struct sample_candidate *)(void *)(scratch +
                                                        cpu_scratch_size(
                                                            1, sizeof(struct sample_bins)) +
                                                        tops_bytes),
        };
        *token = draw(&w, params);
    } else {
        *token = (int32_t)isa->find(logits, vocab, most);
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
