/* case_edit.c - changes of logits before they are sampled. */
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"
#include "tests/kernels/shapes.h"

#include <math.h>
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
