/* case_edit.c - changes of logits before they are sampled. */
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"
#include "tests/kernels/shapes.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static void compare(struct rig *r, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0 && !(got[i] == want[i])) {
            rig_fail(r, "logit %zu is %.9g, wanted %.9g", i, (double)got[i], (double)want[i]);
            return;
        }
}

/* Some tokens of some rows, each once, in no order. */
static void edit_case(struct rig *r, int vocab, int n)
{
    size_t width = (size_t)vocab, count = 0, all = (size_t)n * width;
    rig_at(r, "edit: vocabulary %d, rows %d", vocab, n);
    float *logits = rig_values(r, DTYPE_F32, all, 5), *want = rig_host(r, all, sizeof *want);
    struct logit_edit *edits = rig_host(r, all + 1, sizeof *edits); /* at least one to put */
    memcpy(want, logits, all * sizeof *want);
    for (size_t k = 0; k < all; k++) {
        size_t i = (k * 7919) % all; /* a prime: all in another order */
        if (rig_uniform(r) < 0.6)
            continue;
        struct logit_edit e = {(int32_t)(i / width), (int32_t)(i % width),
                               rig_uniform(r) < 0.1 ? -INFINITY : (float)rig_uniform(r) - 0.5f,
                               (float)rig_uniform(r) + 0.5f, (float)rig_uniform(r)};
        float l = want[i] + e.bias;
        want[i] = (l > 0 ? l / e.repeat : l * e.repeat) - e.less;
        edits[count++] = e;
    }
    float *device = rig_put(r, logits, all * sizeof *logits);
    const struct logit_edit *given = rig_put(r, edits, (count + 1) * sizeof *edits);
    r->ops->edit(r->d, r->s, device, vocab, given, (int)count);
    compare(r, rig_get(r, device, all * sizeof *want), want, all);
}

static void mask_case(struct rig *r, int vocab, int n)
{
    size_t width = (size_t)vocab, words = (width + 31) / 32, all = (size_t)n * width;
    rig_at(r, "mask: vocabulary %d, rows %d", vocab, n);
    float *logits = rig_values(r, DTYPE_F32, all, 5), *want = rig_host(r, all, sizeof *want);
    uint32_t *bits = rig_host(r, (size_t)n * words, sizeof *bits);
    int32_t *rows = rig_host(r, (size_t)n, sizeof *rows);
    int count = 0;
    memcpy(want, logits, all * sizeof *want);
    for (int row = n - 1; row >= 0; row--) {
        if (row % 3 == 1)
            continue;
        uint32_t *bit = bits + (size_t)count * words;
        for (size_t t = 0; t < width; t++) {
            bool kept = rig_uniform(r) < 0.5;
            bit[t / 32] |= (uint32_t)kept << (t % 32);
            if (!kept)
                want[(size_t)row * width + t] = -INFINITY;
        }
        rows[count++] = row;
    }
    float *device = rig_put(r, logits, all * sizeof *logits);
    const int32_t *given_rows = rig_put(r, rows, (size_t)n * sizeof *rows);
    const uint32_t *given = rig_put(r, bits, (size_t)n * words * sizeof *bits);
    r->ops->mask(r->d, r->s, device, vocab, given_rows, given, count);
    compare(r, rig_get(r, device, all * sizeof *want), want, all);
}

int case_edit(const struct backend *b)
{
    static const int vocabs[] = {1, 7, 32, 65, 300};
    int failures = 0;
    for (size_t v = 0; v < COUNT(vocabs); v++) {
        struct rig r;
        struct device_limits limits = {
            .rows = 1, .hidden = 1, .vocab = (size_t)vocabs[v], .logit_rows = 8};
        rig_open(&r, b, DTYPE_BF16, DTYPE_BF16, 3, &limits);
        for (int n = 1; n <= 5; n += 2) {
            edit_case(&r, vocabs[v], n);
            rig_clear(&r);
            mask_case(&r, vocabs[v], n);
            rig_clear(&r);
        }
        failures += rig_close(&r);
    }
    return failures;
}

/* Against double, and against what sample() says of the token that it draws. */
static void score_case(struct rig *r, int vocab, int n, int k)
{
    size_t width = (size_t)vocab, rows = (size_t)n, each = (size_t)k;
    rig_at(r, "score: vocabulary %d, rows %d, k %d", vocab, n, k);
    float *logits = rig_values(r, DTYPE_F32, rows * width, 5);
    for (size_t i = 0; i < rows * width; i += 3)
        logits[i] = floorf(logits[i]); /* some are equal */
    if (n > 2)
        logits[2 * width + width / 2] = NAN;
    float *device = rig_put(r, logits, rows * width * sizeof *logits);
    struct sample_params *params = rig_host(r, rows, sizeof *params);
    int32_t *tokens = rig_room(r, rows * sizeof *tokens), *targets = rig_host(r, rows, 4);
    float *drawn = rig_room(r, rows * sizeof *drawn), *own = rig_room(r, rows * sizeof *own);
    int32_t *top = rig_room(r, (rows * each + 1) * sizeof *top);
    float *logprobs = rig_room(r, (rows * each + 1) * sizeof *logprobs);
    r->ops->sample(r->d, r->s, device, n, vocab, rig_put(r, params, rows * sizeof *params), tokens,
                   drawn);
    memcpy(targets, rig_get(r, tokens, rows * 4), rows * 4);
    if (n > 1)
        targets[1] = -1;
    r->ops->score(r->d, r->s, device, n, vocab, rig_put(r, targets, rows * 4), own, k, top,
                  logprobs);
    const float *o = rig_get(r, own, rows * 4), *w = rig_get(r, drawn, rows * 4),
                *l = rig_get(r, logprobs, (rows * each + 1) * 4);
    const int32_t *t = rig_get(r, top, (rows * each + 1) * 4);
    for (size_t i = 0; i < rows; i++) {
        const float *x = logits + i * width;
        double total = 0, most = -INFINITY;
        bool bad = n > 2 && i == 2;
        if (targets[i] < 0 || bad ? !isnan(o[i]) : memcmp(&o[i], &w[i], 4) != 0)
            rig_fail(r, "row %zu: %.9g, sampled with %.9g", i, (double)o[i], (double)w[i]);
        for (size_t j = 0; j < width; j++)
            most = fmax(most, (double)x[j]);
        for (size_t j = 0; j < width; j++)
            total += exp((double)x[j] - most);
        for (size_t j = 0; j < each; j++) {
            int32_t token = t[i * each + j];
            size_t before = 0;
            if (bad || j >= width) {
                if (token != -1 || !isnan(l[i * each + j]))
                    rig_fail(r, "row %zu: token %d is likeliest number %zu", i, token, j);
                continue;
            }
            for (size_t v = 0; v < width; v++)
                before += x[v] > x[token] || (x[v] == x[token] && v < (size_t)token);
            double want = (double)x[token] - most - log(total);
            if (before != j || !(fabs((double)l[i * each + j] - want) <= 1e-5 * fmax(1, -want)))
                rig_fail(r, "row %zu: number %zu is token %d with %.9g, wanted %.9g", i, j, token,
                         (double)l[i * each + j], want);
        }
    }
}

int case_score(const struct backend *b)
{
    static const int vocabs[] = {1, 7, 65, 1031};
    int failures = 0;
    for (size_t v = 0; v < COUNT(vocabs); v++) {
        struct rig r;
        struct device_limits limits = {
            .rows = 1, .hidden = 1, .vocab = (size_t)vocabs[v], .logit_rows = 8};
        rig_open(&r, b, DTYPE_BF16, DTYPE_BF16, 3, &limits);
        for (int k = 0; k <= 21; k += 7) {
            score_case(&r, vocabs[v], k % 2 ? 3 : 1, k);
            rig_clear(&r);
        }
        failures += rig_close(&r);
    }
    return failures;
}
