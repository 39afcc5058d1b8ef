/* sample.c - one token per row.
 *
 * Candidates are popped off a heap in the order of ops.h, so that only as many are put in order as
 * the draw needs. Probabilities are whole numbers (kernels/mass.h).
 */
#include "kernels/cpu/lane.h"
#include "kernels/cpu/plain/plain.h"

#include <math.h>
#include <omp.h>

/* The tokens of one row, best first once popped: heap[0] is before all others. */
struct candidates {
    const float *logits;
    int32_t *heap;
    int left;
};

static bool before(const float *logits, int32_t a, int32_t b)
{
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

/* Lets the token at `place` sink until the tokens under it come after it. */
static void sink(struct candidates *c, int place)
{
    int32_t token = c->heap[place];
    for (;;) {
        int child = 2 * place + 1;
        if (child >= c->left)
            break;
        if (child + 1 < c->left && before(c->logits, c->heap[child + 1], c->heap[child]))
            child++;
        if (!before(c->logits, c->heap[child], token))
            break;
        c->heap[place] = c->heap[child];
        place = child;
    }
    c->heap[place] = token;
}

/* Takes the first candidate away and leaves it behind the heap, so that all tokens popped so far
 * are heap[left..], the first one last. */
static int32_t pop(struct candidates *c)
{
    int32_t first = c->heap[0];
    c->left--;
    c->heap[0] = c->heap[c->left];
    c->heap[c->left] = first;
    if (c->left)
        sink(c, 0);
    return first;
}

/* The i-th candidate: popped before, or the next one. */
static int32_t candidate(struct candidates *c, int vocab, int i)
{
    return i < vocab - c->left ? c->heap[vocab - 1 - i] : pop(c);
}

int plain_within(const float *logits, int vocab, float most, float within)
{
    int n = 0;
    for (int t = 0; t < vocab; t++)
        n += !(within > 0) || logits[t] - most >= -within;
    return n;
}

/* Temperature, min_p, top_k, top_p, then the draw. */
static int32_t draw(const struct sample_params *p, const float *logits, int vocab, float most,
                    int32_t *heap)
{
    struct candidates c = {logits, heap, vocab};
    for (int32_t t = 0; t < vocab; t++)
        heap[t] = t;
    for (int place = vocab / 2; place-- > 0;)
        sink(&c, place);

    int kept = p->top_k > 0 && p->top_k < vocab ? p->top_k : vocab;
    int near = plain_within(logits, vocab, most, p->within);
    kept = near < kept ? near : kept;
    uint64_t total = 0; /* of the candidates that top_k leaves */
    float factor = mass_factor(p->temperature);
    for (int i = 0; i < kept; i++) /* all: in any order */
        total += mass_of(logits[kept == vocab ? i : pop(&c)], most, factor);

    if (p->top_p < 1.0f) { /* now of the smallest set that reaches top_p */
        uint64_t enough = mass_enough(total, p->top_p);
        int i = 0;
        for (total = 0; i < kept && total < enough; i++)
            total += mass_of(logits[candidate(&c, vocab, i)], most, factor);
        kept = i;
    }

    uint64_t sum = 0, share = mass_share(total, p->uniform);
    int32_t token = -1;
    for (int i = 0; i < kept && !(sum > share); i++) {
        token = candidate(&c, vocab, i);
        sum += mass_of(logits[token], most, factor);
    }
    return token;
}

static float log_probability(const float *logits, int vocab, float most, int32_t token)
{
    double total = lane_mass(logits, (size_t)vocab, most, 1.0f);
    return (float)((double)logits[token] - (double)most - lane_log(total));
}

void plain_sample(struct device *d, struct stream *s, const float *logits, int n, int vocab,
                  const struct sample_params *params, int32_t *tokens, float *logprobs)
{
    (void)s;
    size_t width = (size_t)vocab;
    cpu_scratch_begin(d);
    int32_t *heaps = cpu_scratch(d, (size_t)d->threads * width, sizeof(int32_t));
#pragma omp parallel for num_threads(d->threads)
    for (int i = 0; i < n; i++) {
        const float *row = logits + (size_t)i * width;
        int32_t token = plain_first(row, vocab);
        logprobs[i] = NAN;
        tokens[i] = token;
        if (token < 0)
            continue;
        float most = row[token];
        if (params[i].temperature > 0)
            tokens[i] =
                draw(&params[i], row, vocab, most, heaps + (size_t)omp_get_thread_num() * width);
        logprobs[i] = log_probability(row, vocab, most, tokens[i]);
    }
}
