/* case_sample.c - the sampler. */
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"
#include "tests/kernels/shapes.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sample_inputs {
    int vocab;
    const float *logits;
    const struct sample_params *params;
};

struct drawn {
    int32_t token;
    float logprob;
};

static unsigned char *run_sample(struct rig *r, const void *inputs, const int *rows, int n)
{
    const struct sample_inputs *in = inputs;
    size_t vocab = (size_t)in->vocab, count = (size_t)n;
    struct sample_params *params = rig_host(r, count, sizeof *params);
    for (int i = 0; i < n; i++)
        params[i] = in->params[rows[i] < 0 ? 0 : rows[i]];
    float *logits =
        rig_put_values(r, DTYPE_F32, rig_pick(r, in->logits, vocab, rows, n), count * vocab);
    int32_t *tokens = rig_room(r, count * sizeof *tokens);
    float *logprobs = rig_room(r, count * sizeof *logprobs);
    r->ops->sample(r->d, r->s, logits, n, in->vocab, rig_put(r, params, count * sizeof *params),
                   tokens, logprobs);
    const int32_t *t = rig_get(r, tokens, count * sizeof *t);
    const float *l = rig_get(r, logprobs, count * sizeof *l);
    struct drawn *out = rig_host(r, count, sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = (struct drawn){t[i], l[i]};
    return (unsigned char *)out;
}

static const struct drawn *draw_all(struct rig *r, const struct sample_inputs *in, int n)
{
    int rows[200];
    for (int i = 0; i < n; i++)
        rows[i] = i;
    return (const struct drawn *)(const void *)run_sample(r, in, rows, n);
}

static struct device_limits limits_of(int vocab, size_t rows)
{
    return (struct device_limits){
        .rows = 1, .hidden = 1, .vocab = (size_t)vocab, .logit_rows = rows};
}

static void check_logprob(struct rig *r, const float *logits, int vocab, size_t row,
                          struct drawn got)
{
    double most = -INFINITY, total = 0;
    for (int t = 0; t < vocab; t++)
        most = fmax(most, (double)logits[t]);
    for (int t = 0; t < vocab; t++)
        total += exp((double)logits[t] - most);
    double want = (double)logits[got.token] - most - log(total);
    if (!(fabs((double)got.logprob - want) <= 1e-5 * fmax(1, fabs(want))))
        rig_fail(r, "row %zu: logprob of token %d is %.9g, wanted %.9g", row, got.token,
                 (double)got.logprob, want);
}

/* ---- greedy ---------------------------------------------------------------------------------- */

/* Rows with one largest logit, with several equal ones, with NaN, and with -inf. */
int case_greedy(const struct backend *b)
{
    static const int vocabs[] = {1, 2, 7, 64, 65, 300, 1031, 5003};
    int failures = 0;
    for (size_t v = 0; v < COUNT(vocabs); v++) {
        int vocab = vocabs[v];
        size_t width = (size_t)vocab;
        struct rig r;
        struct device_limits limits = limits_of(vocab, 64);
        rig_open(&r, b, DTYPE_BF16, DTYPE_BF16, 3, &limits);
        for (size_t i = 0; i < COUNT(shape_rows); i++) {
            size_t n = (size_t)shape_rows[i];
            rig_at(&r, "greedy: vocabulary %d, rows %zu", vocab, n);
            float *logits = rig_values(&r, DTYPE_F32, n * width, 20);
            struct sample_params *params = rig_host(&r, n, sizeof *params);
            int32_t *want = rig_host(&r, n, sizeof *want);
            for (size_t row = 0; row < n; row++) {
                float *l = logits + row * width;
                size_t first = (row * 37 + 11) % width, second = first + (width - first) / 2;
                params[row] = (struct sample_params){0, 0.5f, 1, 0.999f, 0}; /* not looked at */
                l[first] = l[second] = l[width - 1] = 30;
                want[row] = (int32_t)first;
                if (row % 4 == 1 && first > 0)
                    l[0] = -INFINITY;
                if (row % 4 == 2) {
                    l[(row * 13) % width] = NAN;
                    want[row] = -1;
                }
            }
            struct sample_inputs in = {vocab, logits, params};
            const struct drawn *got = draw_all(&r, &in, (int)n);
            for (size_t row = 0; row < n; row++) {
                if (got[row].token != want[row])
                    rig_fail(&r, "row %zu: token %d, wanted %d", row, got[row].token, want[row]);
                else if (want[row] >= 0)
                    check_logprob(&r, logits + row * width, vocab, row, got[row]);
            }
            rig_clear(&r);
        }
        failures += rig_close(&r);
    }
    return failures;
}

/* ---- by chance ------------------------------------------------------------------------------- */

struct candidate {
    double p;
    float logit;
    int32_t token;
};

static int in_order(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

/* The candidates that min_p, top_k and top_p leave, p summing to 1. Returns how many; -1 when the last one
 * is a matter of rounding. */
static int reference_candidates(const struct sample_params *p, const float *logits, int vocab,
                                struct candidate *c)
{
    double total = 0, sum = 0;
    for (int t = 0; t < vocab; t++)
        c[t] = (struct candidate){0, logits[t], t};
    qsort(c, (size_t)vocab, sizeof *c, in_order);
    int kept = p->top_k > 0 && p->top_k < vocab ? p->top_k : vocab;
    if (p->within > 0) { /* min_p: p >= min_p x the largest p */
        double least = exp(-(double)p->within / (double)p->temperature);
        int near = 0;
        for (; near < vocab; near++) {
            double share =
                exp(((double)c[near].logit - (double)c[0].logit) / (double)p->temperature);
            if (fabs(share - least) < 1e-5 * least)
                return -1;
            if (share < least)
                break;
        }
        kept = near < kept ? near : kept;
    }
    for (int i = 0; i < kept; i++)
        total += c[i].p = exp(((double)c[i].logit - (double)c[0].logit) / (double)p->temperature);
    if (p->top_p < 1) {
        int i = 0;
        do {
            sum += c[i++].p / total;
            if (fabs(sum - (double)p->top_p) < 1e-5 && i < kept)
                return -1;
        } while (i < kept && sum < (double)p->top_p);
        kept = i;
        total *= sum;
    }
    for (int i = 0; i < kept; i++)
        c[i].p /= total;
    return kept;
}

/* The token must be one whose share of [0, 1) has uniform in it, give or take 1e-5. */
static void check_draw(struct rig *r, const struct sample_params *p, const float *logits, int vocab,
                       size_t row, struct drawn got)
{
    struct candidate *c = rig_host(r, (size_t)vocab, sizeof *c);
    int kept = reference_candidates(p, logits, vocab, c);
    if (kept < 0)
        return;
    double sum = 0, u = (double)p->uniform;
    int at = 0;
    while (at < kept && c[at].token != got.token)
        sum += c[at++].p;
    if (at == kept) {
        rig_fail(r, "row %zu: token %d is none of the %d candidates", row, got.token, kept);
        return;
    }
    if (!(u >= sum - 1e-5 && u <= sum + c[at].p + 1e-5))
        rig_fail(r, "row %zu: token %d has [%.9g, %.9g), uniform is %.9g", row, got.token, sum,
                 sum + c[at].p, u);
    check_logprob(r, logits, vocab, row, got);
}

static const struct sample_params settings[] = {
    {1, 1, 0, 0, 0},          {0.7f, 1, 0, 0, 0},       {1, 1, 5, 0, 0},
    {1, 0.9f, 0, 0, 0},       {0.6f, 0.95f, 20, 0, 0},  {1.5f, 0.3f, 3, 0, 0},
    {1, 1e-9f, 0, 0, 0},      {1, 1, 1, 0, 0},          {1, 1, 1 << 20, 0, 0},
    {1e-4f, 1, 0, 0, 0},      {100, 1, 0, 0, 0},        {1, 0.999999f, 0, 0, 0},
    {2, 0.5f, 1 << 30, 0, 0}, {1, 1, 0, 0, 2.9957323f}, {0.7f, 0.9f, 0, 0, 1.5f},
    {1, 1, 5, 0, 0.3f},       {1, 0.7f, 40, 0, 100},
};

static struct sample_params *random_params(struct rig *r, size_t n)
{
    static const float ends[] = {0, 0x1.fffffep-1f, 0.5f};
    struct sample_params *params = rig_host(r, n, sizeof *params);
    for (size_t i = 0; i < n; i++) {
        params[i] = settings[i % COUNT(settings)];
        size_t round = i / COUNT(settings);
        params[i].uniform = round < 3 ? ends[round] : (float)(rig_uniform(r) * 0.9999999);
    }
    return params;
}

static int check_vocab(const struct backend *b, int vocab, int n)
{
    struct rig r;
    struct device_limits limits = limits_of(vocab, (size_t)n);
    size_t width = (size_t)vocab;
    rig_open(&r, b, DTYPE_BF16, DTYPE_BF16, 3, &limits);
    rig_at(&r, "sample: vocabulary %d", vocab);
    float *logits = rig_values(&r, DTYPE_F32, (size_t)n * width, 8);
    for (size_t i = 0; i < (size_t)n * width; i++)
        if (i / width % 5 == 3)
            logits[i] = rintf(logits[i]); /* many equal ones */
    struct sample_inputs in = {vocab, logits, random_params(&r, (size_t)n)};
    rig_keep(&r);
    const struct drawn *got = draw_all(&r, &in, n);
    for (int row = 0; row < n; row++)
        check_draw(&r, &in.params[row], logits + (size_t)row * width, vocab, (size_t)row, got[row]);
    return rig_close(&r);
}

int case_sample(const struct backend *b)
{
    static const int vocabs[] = {1, 2, 7, 64, 65, 300, 1031};
    int failures = 0;
    for (size_t v = 0; v < COUNT(vocabs); v++)
        failures += check_vocab(b, vocabs[v], 195);
    return failures;
}

/* A vocabulary of several runs of partial sums. */
int case_sample_large(const struct backend *b)
{
    return check_vocab(b, 5003, 40);
}

/* ---- exact answers --------------------------------------------------------------------------- */

/* 64 equal logits: the candidates are the tokens in order, each with the same share. */
int case_sample_ties(const struct backend *b)
{
    static const struct {
        float top_p;
        int32_t top_k, kept;
    } cuts[] = {{1, 0, 64}, {1, 4, 4}, {0.5f, 0, 32}, {0.25f, 32, 8}, {1e-9f, 0, 1}, {0.26f, 4, 2}};
    struct rig r;
    struct device_limits limits = limits_of(64, 64);
    rig_open(&r, b, DTYPE_BF16, DTYPE_BF16, 2, &limits);
    for (size_t c = 0; c < COUNT(cuts); c++) {
        rig_at(&r, "equal logits, top_p %g, top_k %d", (double)cuts[c].top_p, cuts[c].top_k);
        float *logits = rig_host(&r, 64 * 64, sizeof *logits);
        struct sample_params *params = rig_host(&r, 64, sizeof *params);
        for (int i = 0; i < 64 * 64; i++)
            logits[i] = -3.25f;
        for (int i = 0; i < 64; i++)
            params[i] =
                (struct sample_params){0.5f, cuts[c].top_p, cuts[c].top_k, (float)i / 64.0f, 0};
        logits[5 * 64 + 40] = NAN;
        struct sample_inputs in = {64, logits, params};
        const struct drawn *got = draw_all(&r, &in, 64);
        for (int i = 0; i < 64; i++) {
            int32_t want = i == 5 ? -1 : i * cuts[c].kept / 64;
            if (got[i].token != want)
                rig_fail(&r, "uniform %g: token %d, wanted %d", (double)params[i].uniform,
                         got[i].token, want);
        }
        rig_clear(&r);
    }
    return rig_close(&r);
}

/* ---- one definition -------------------------------------------------------------------------- */

/* Rows of every kind: nearly equal logits, far apart ones, equal ones, whole numbers, most of them masked,
 * a few that differ in their last bits, a first digit that tells nothing because one logit is far below, and the
 * same where logits rise and fall, so that ends and middle say little of the others. */
static float *logits_of_kinds(struct rig *r, size_t n, size_t width)
{
    float *logits = rig_values(r, DTYPE_F32, n * width, 1);
    for (size_t i = 0; i < n * width; i++) {
        size_t row = i / width, t = i % width;
        float *l = &logits[i];
        switch (row % 8) {
        case 0:
            *l *= 0.01f;
            break;
        case 1:
            *l *= 60;
            break;
        case 2:
            *l = -3.25f;
            break;
        case 3:
            *l = rintf(*l * 6);
            break;
        case 4:
            *l = t % 29 == row % 29 || t + 1 == width ? *l * 4 : -INFINITY;
            break;
        case 5:
            *l = 4 + rintf(*l * 8) * 0x1p-21f;
            break;
        case 6:
            *l = t == width / 2 ? -20 : *l * 0.001f;
            break;
        default:
            *l = t == 0 ? -20 : fabsf((float)t - (float)width / 2) * -2e-7f;
            break;
        }
    }
    return logits;
}

/* Closes both; the second must have drawn the first one's tokens. */
static int close_same(struct rig of[2], const struct drawn *const got[2], int rows)
{
    for (int row = 0; row < rows; row++)
        if (got[0][row].token != got[1][row].token)
            rig_fail(&of[1], "row %d: token %d, by definition %d", row, got[1][row].token,
                     got[0][row].token);
    return rig_close(&of[0]) + rig_close(&of[1]);
}

/* From equal logits every backend draws the token that the first one, the definition, draws. */
int case_sample_equal(const struct backend *b)
{
    static const int vocabs[] = {17, 1031, 128896};
    int failures = 0;
    for (size_t v = 0; v < COUNT(vocabs); v++) {
        int vocab = vocabs[v], n = vocab > 10000 ? 24 : 176;
        if (vocab > 10000 && (rig_slow(b) || rig_skips(1)))
            continue;
        struct rig of[2];
        struct device_limits limits = limits_of(vocab, (size_t)n);
        const struct drawn *got[2];
        for (int i = 0; i < 2; i++) {
            rig_open(&of[i], i ? b : backend_all()[0], DTYPE_F32, DTYPE_F32, 2, &limits);
            rig_at(&of[i], "sample, equal: vocabulary %d", vocab);
            struct sample_inputs in = {vocab, logits_of_kinds(&of[i], (size_t)n, (size_t)vocab),
                                       random_params(&of[i], (size_t)n)};
            got[i] = draw_all(&of[i], &in, n);
        }
        failures += close_same(of, got, n);
    }
    return failures;
}

/* Rows whose masks leave 1, 2 or 10 tokens of one block or of two neighbours, far apart, near, or equal over the
 * block's edge; top_k about the number of blocks. */
int case_sample_masked(const struct backend *b)
{
    enum { VOCAB = 33000, BLOCK = 128, BLOCKS = (VOCAB + BLOCK - 1) / BLOCK, ROWS = 36 };
    static const size_t allowed[] = {1, 2, 10};
    static const int32_t top_k[] = {0, BLOCKS - 1, BLOCKS, BLOCKS + 1};
    static const float scales[] = {8, 0.01f, 0};
    struct rig of[2];
    struct device_limits limits = limits_of(VOCAB, ROWS);
    const struct drawn *got[2];
    for (int i = 0; i < 2; i++) {
        struct rig *r = &of[i];
        rig_open(r, i ? b : backend_all()[0], DTYPE_F32, DTYPE_F32, 2, &limits);
        rig_at(r, "sample, masked");
        float *logits = rig_values(r, DTYPE_F32, (size_t)ROWS * VOCAB, 1);
        struct sample_params *params = random_params(r, ROWS);
        for (size_t row = 0; row < ROWS; row++) {
            size_t first = 100 * BLOCK - row % 2 * 5, end = first + allowed[row % 3];
            params[row].top_k = top_k[row / 3 % 4];
            params[row].temperature = 1;
            params[row].within = 0;
            params[row].uniform = 0x1.fffffep-1f - (float)(row / 12) * 0.25f;
            for (size_t t = 0; t < VOCAB; t++) {
                float *l = &logits[row * VOCAB + t];
                *l = t >= first && t < end ? *l * scales[row / 12] : -INFINITY;
            }
        }
        struct sample_inputs in = {VOCAB, logits, params};
        got[i] = draw_all(r, &in, ROWS);
    }
    return close_same(of, got, ROWS);
}

/* Temperatures down to the least that is not taken for 0, over logits that differ by no more: bins are finer than
 * their number can say. Logits are multiples of FLT_MIN, since CPUs take subnormal differences for 0. */
int case_sample_least(const struct backend *b)
{
    enum { VOCAB = 5000, ROWS = 48 };
    static const float temperatures[] = {FLT_MIN, 1.2e-38f, 2e-38f, 1e-37f, 1e-36f, 1e-35f};
    static const float steps[] = {FLT_MIN, 8 * FLT_MIN, 64 * FLT_MIN, 8192 * FLT_MIN};
    struct rig of[2];
    struct device_limits limits = limits_of(VOCAB, ROWS);
    const struct drawn *got[2];
    for (int i = 0; i < 2; i++) {
        struct rig *r = &of[i];
        rig_open(r, i ? b : backend_all()[0], DTYPE_F32, DTYPE_F32, 2, &limits);
        rig_at(r, "sample, least temperatures");
        float *logits = rig_values(r, DTYPE_F32, (size_t)ROWS * VOCAB, 1);
        struct sample_params *params = random_params(r, ROWS);
        for (size_t row = 0; row < ROWS; row++) {
            params[row] = (struct sample_params){.temperature = temperatures[row % 6],
                                                 .top_p = row < 24 ? 1 : 0.9f,
                                                 .uniform = 0x1.fffffep-1f};
            for (size_t t = 0; t < VOCAB; t++)
                logits[row * VOCAB + t] = steps[row / 6 % 4] * rintf(logits[row * VOCAB + t] * 4);
        }
        struct sample_inputs in = {VOCAB, logits, params};
        got[i] = draw_all(r, &in, ROWS);
    }
    return close_same(of, got, ROWS);
}

int case_sample_invariance(const struct backend *b)
{
    int failures = 0, total = 131;
    for (size_t v = 0; v < 3; v++) {
        int vocab = ((const int[]){7, 65, 1031})[v];
        struct rig r;
        rig_open(&r, b, DTYPE_BF16, DTYPE_BF16, 1, &rig_limits);
        rig_at(&r, "vocabulary %d", vocab);
        struct sample_inputs in = {vocab,
                                   rig_values(&r, DTYPE_F32, (size_t)total * (size_t)vocab, 5),
                                   random_params(&r, (size_t)total)};
        rig_keep(&r);
        struct row_op op = {"sample", &in, sizeof(struct drawn), true, run_sample};
        rig_invariance(&r, &op, total);
        failures += rig_close(&r);
    }
    return failures;
}
