/* case_odd.c - numbers that no model has: subnormal ones, products and sums that are or overflow, what cancels
 * but for the last bit, infinities, NaN, any bits at all. Nothing is said of what comes out but that every
 * processor gives the bits of the first (rig_trace_begin()); a NaN may have any. */
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"
#include "tests/kernels/shapes.h"

#include <math.h>
#include <string.h>

#define ROWS 26

/* With those before LARGE a score of attention is below 2^30, or infinite, or NaN. Its softmax is made for no
 * other: 2^x of what is left over of larger ones, when the largest is taken off, may be anything. */
enum kind {
    ORDINARY,
    SUBNORMAL,
    SMALL,
    SMALLEST,
    CANCELS,
    ONE_INFINITE,
    ONE_NAN,
    ZEROS,
    LARGE,
    LARGEST,
    ANY,
    KINDS
};

/* Exponents (biased) of a kind's numbers: of 2^-63 and 2^64 a product is at the edge of f32. */
static const struct {
    unsigned first, count;
} exponents[KINDS] = {
    [ORDINARY] = {120, 10},    [SUBNORMAL] = {0, 1}, [SMALL] = {62, 5}, [SMALLEST] = {0, 4},
    [LARGE] = {188, 5},        [LARGEST] = {251, 4}, [ANY] = {0, 256},  [CANCELS] = {126, 3},
    [ONE_INFINITE] = {124, 6}, [ONE_NAN] = {124, 6}, [ZEROS] = {0, 0},
};

static float number(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* n numbers of one kind that format t (f32 or bf16) has. */
static void fill(struct rig *r, enum dtype t, enum kind kind, float *to, size_t n)
{
    uint32_t kept = t == DTYPE_BF16 ? 0xffff0000u : 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)(rig_uniform(r) * 4294967296.0), sign = bits & 0x80000000u;
        uint32_t exponent = exponents[kind].first;
        exponent += (uint32_t)(rig_uniform(r) * exponents[kind].count);
        to[i] = number(kind == ZEROS ? sign : ((bits & 0x807fffffu) | exponent << 23) & kept);
        if (kind == CANCELS && i % 2) /* with one like it, but for the last bit */
            to[i] = number((bits_of(to[i - 1]) ^ 0x80000000u) + (i % 4 == 1 ? ~kept + 1 : 0));
    }
    if (n > 0 && kind == ONE_INFINITE)
        to[(size_t)(rig_uniform(r) * (double)n)] = rig_uniform(r) < 0.5 ? INFINITY : -INFINITY;
    if (n > 0 && kind == ONE_NAN) { /* where lanes of sixteen have had their largest number */
        size_t at = (size_t)(rig_uniform(r) * (double)n);
        to[at] = NAN;
        to[at % 16] = at < 16 ? NAN : 16;
    }
}

/* Rows of the kinds before `end` in turn. */
static float *rows_before(struct rig *r, enum dtype t, enum kind end, size_t n, size_t width)
{
    float *rows = rig_host(r, n * width, sizeof *rows);
    for (size_t i = 0; i < n; i++)
        fill(r, t, (enum kind)(i % end), rows + i * width, width);
    return rows;
}

static float *rows_of_kinds(struct rig *r, enum dtype t, size_t n, size_t width)
{
    return rows_before(r, t, KINDS, n, width);
}

/* ---- products -------------------------------------------------------------------------------- */

/* A whole matrix; of formats that are no numbers any bytes, block scales of FP8 of all kinds. */
static struct weight_part matrix(struct rig *r, const struct codec *c, size_t n, size_t k)
{
    size_t columns = (k + c->block - 1) / c->block * c->block,
           bytes = n * (columns / c->block) * c->block_bytes;
    struct weight_part w = {.codec = c, .stride = columns, .n = n, .k = k};
    if (c == &codec_f32 || c == &codec_bf16) {
        enum dtype t = c == &codec_f32 ? DTYPE_F32 : DTYPE_BF16;
        w.data = rig_encode(r, t, rows_of_kinds(r, t, n, k), n * k);
        return w;
    }
    uint8_t *data = rig_host(r, bytes, 1);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)(rig_uniform(r) * 256);
    w.data = data;
    if (c == &codec_fp8) {
        w.scale_rows = w.scale_columns = 128;
        w.scale_stride = (k + 127) / 128;
        w.scale = rows_of_kinds(r, DTYPE_F32, (n + 127) / 128, w.scale_stride);
    }
    return w;
}

static void check_linear(struct rig *r, const struct codec *c, enum weight_keep keep, size_t k,
                         size_t n)
{
    size_t outputs = 2 * KINDS + 17;
    rig_at(r, "linear: weights %s, k %zu, rows %zu", c->name, k, n);
    struct weight_part part = matrix(r, c, outputs, k);
    struct weight *w = r->ops->weight_create(r->d, &part, keep);
    void *x = rig_put_values(r, r->act, rows_of_kinds(r, r->act, n, k), n * k);
    for (int narrow = 0; narrow < 2; narrow++) {
        enum dtype out = narrow ? r->act : DTYPE_F32;
        void *y = rig_room(r, n * outputs * dtype_size(out));
        r->ops->linear(r->d, r->s, w, x, (int)n, y, out);
        rig_get_values(r, out, y, n * outputs);
    }
    r->ops->weight_destroy(r->d, w);
    rig_clear(r);
}

static const struct codec *const codecs[] = {&codec_f32,    &codec_bf16, &codec_fp8,  &codec_q8_0,
                                             &codec_q4_0,   &codec_q4_1, &codec_q4_k, &codec_q6_k,
                                             &codec_iq4_nl, &codec_mxfp4};

int case_odd_linear(const struct backend *b)
{
    static const size_t inputs[] = {2, 7, 34, 256, 300}, rows[] = {ROWS, 1, 4, 8, 16};
    struct device_limits limits = {.rows = 2 * ROWS, .hidden = 512};
    int failures = 0;
    for (size_t i = 0; i < 2 * COUNT(shape_acts); i++) {
        struct rig r;
        if (i < COUNT(shape_acts))
            rig_open(&r, b, shape_acts[i], DTYPE_BF16, 2, &limits);
        else
            rig_open_integers(&r, b, shape_acts[i % COUNT(shape_acts)], 2, &limits);
        for (size_t c = 0; c < COUNT(codecs); c++)
            for (size_t s = 0; s < COUNT(inputs); s++)
                if (inputs[s] % codecs[c]->block == 0)
                    check_linear(&r, codecs[c], WEIGHT_KEEP, inputs[s],
                                 rows[(s + c) % COUNT(rows)]);
        failures += rig_close(&r);
    }
    return failures;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void check_norms(struct rig *r, size_t width)
{
    rig_at(r, "norms: width %zu", width);
    size_t count = ROWS * width;
    float *gain = rig_put_values(r, DTYPE_F32, rig_values(r, DTYPE_F32, width, 2), width);
    float *x = rig_put_values(r, DTYPE_F32, rows_of_kinds(r, DTYPE_F32, ROWS, width), count);
    const void *part =
        rig_put_values(r, DTYPE_F32, rows_of_kinds(r, DTYPE_F32, ROWS, width), count);
    void *y = rig_room(r, count * dtype_size(r->act));
    r->ops->residual_norm(r->d, r->s, x, &part, 1, DTYPE_F32, gain, 1e-5f, ROWS, (int)width, y);
    rig_get_values(r, DTYPE_F32, x, count);
    rig_get_values(r, r->act, y, count);
    void *z = rig_put_values(r, r->act, rows_of_kinds(r, r->act, ROWS, width), count);
    const struct rows rows = {r->act, z, NULL, width};
    r->ops->norm(r->d, r->s, &rows, gain, 1e-5f, ROWS, (int)width, &rows);
    rig_get_values(r, r->act, z, count);
    rig_clear(r);
}

static void check_copy(struct rig *r, enum dtype to, size_t width)
{
    rig_at(r, "copy to %s: width %zu", dtype_name(to), width);
    size_t groups = (width + ROWS_GROUP - 1) / ROWS_GROUP, count = ROWS * width;
    void *x = rig_put_values(r, DTYPE_F32, rows_of_kinds(r, DTYPE_F32, ROWS, width), count);
    void *y = rig_room(r, count * dtype_size(to)),
         *scale = rig_room(r, ROWS * groups * sizeof(float));
    const struct rows from = {DTYPE_F32, x, NULL, width}, rows = {to, y, scale, width};
    r->ops->copy(r->d, r->s, &from, &rows, ROWS, (int)width);
    rig_get_values(r, to, y, count);
    if (to == DTYPE_F8E4M3)
        rig_get_values(r, DTYPE_F32, scale, ROWS * groups);
    rig_clear(r);
}

static void check_gate(struct rig *r, size_t heads, size_t width)
{
    rig_at(r, "gate: heads %zu, width %zu", heads, width);
    size_t count = ROWS * heads * width;
    float *g = rig_put_values(r, DTYPE_F32, rows_of_kinds(r, DTYPE_F32, heads, ROWS), ROWS * heads);
    void *x = rig_put_values(r, r->act, rows_of_kinds(r, r->act, ROWS, heads * width), count);
    r->ops->gate(r->d, r->s, g, ROWS, (int)heads, (int)width, x);
    rig_get_values(r, r->act, x, count);
    rig_clear(r);
}

int case_odd_rows(const struct backend *b)
{
    static const size_t widths[] = {1, 16, 77, 300};
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        rig_open(&r, b, shape_acts[a], DTYPE_BF16, 2, &rig_limits);
        for (size_t i = 0; i < COUNT(widths); i++) {
            check_norms(&r, widths[i]);
            check_copy(&r, DTYPE_BF16, widths[i]);
            check_copy(&r, DTYPE_F8E4M3, widths[i]);
            check_gate(&r, 13, widths[i]);
        }
        failures += rig_close(&r);
    }
    return failures;
}

/* ---- choices --------------------------------------------------------------------------------- */

static void check_route(struct rig *r, enum router_score score, size_t experts, size_t width)
{
    rig_at(r, "route: score %d, experts %zu, width %zu", (int)score, experts, width);
    struct router_spec spec = {score, (int)experts, 3, .renormalize = true, .factor = 1};
    const float *gates = rows_of_kinds(r, DTYPE_F32, experts, width);
    float *gate = rig_put_values(r, DTYPE_F32, gates, experts * width);
    void *x = rig_put_values(r, r->act, rows_of_kinds(r, r->act, ROWS, width), ROWS * width);
    int32_t *ids = rig_room(r, ROWS * 3 * sizeof *ids);
    float *weights = rig_room(r, ROWS * 3 * sizeof *weights);
    r->ops->route(r->d, r->s, &spec, gate, NULL, x, ROWS, (int)width, ids, weights);
    rig_get_values(r, DTYPE_F32, weights, ROWS * 3);
    rig_clear(r);
}

static void check_sample(struct rig *r, size_t vocab)
{
    rig_at(r, "sample and score: vocabulary %zu", vocab);
    void *logits =
        rig_put_values(r, DTYPE_F32, rows_of_kinds(r, DTYPE_F32, ROWS, vocab), ROWS * vocab);
    struct sample_params params[ROWS];
    int32_t targets[ROWS];
    for (int i = 0; i < ROWS; i++) {
        params[i] = (struct sample_params){i % 3 ? 0.5f * (float)i : 0, i % 2 ? 1 : 0.9f, i % 5,
                                           (float)i / ROWS, 0};
        targets[i] = (int32_t)((size_t)i * 7 % vocab);
    }
    int32_t *tokens = rig_room(r, sizeof targets), *top = rig_room(r, 4 * sizeof targets);
    float *logprobs = rig_room(r, sizeof targets), *most = rig_room(r, 4 * sizeof targets);
    r->ops->sample(r->d, r->s, logits, ROWS, (int)vocab, rig_put(r, params, sizeof params), tokens,
                   logprobs);
    rig_get(r, tokens, sizeof targets);
    rig_get_values(r, DTYPE_F32, logprobs, ROWS);
    r->ops->score(r->d, r->s, logits, ROWS, (int)vocab, rig_put(r, targets, sizeof targets),
                  logprobs, 4, top, most);
    rig_get(r, top, 4 * sizeof targets);
    rig_get_values(r, DTYPE_F32, logprobs, ROWS);
    rig_get_values(r, DTYPE_F32, most, 4 * ROWS);
    rig_clear(r);
}

int case_odd_choices(const struct backend *b)
{
    static const size_t counts[] = {4, 33, 70}, vocabs[] = {5, 64, 1031};
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        rig_open(&r, b, shape_acts[a], DTYPE_BF16, 2, &rig_limits);
        for (size_t i = 0; i < COUNT(counts); i++) {
            check_route(&r, ROUTER_SOFTMAX, counts[i], 65);
            check_route(&r, ROUTER_SIGMOID, counts[i], 300);
            check_sample(&r, vocabs[i]);
        }
        failures += rig_close(&r);
    }
    return failures;
}

/* ---- attention and experts ------------------------------------------------------------------- */

/* One sequence; q, k and v of a token are of one kind each. Values are finite, in bf16 too: a tile takes those that a row does
 * not see 0 times. */
static void check_attend(struct rig *r, int heads, int kv_heads, int dim, size_t tokens)
{
    rig_at(r, "attend: heads %d on %d of %d, %zu tokens", heads, kv_heads, dim, tokens);
    struct attn_spec spec = rig_attention(heads, kv_heads, dim);
    spec.rope_dim = 0;
    struct kv_shape shape = rig_cache(&spec, 1, 3);
    struct kv *kv = r->ops->kv_create(r->d, &shape);
    size_t wide = (size_t)(heads * dim), narrow = (size_t)(kv_heads * dim);
    void *q = rig_put_values(r, r->act, rows_before(r, r->act, LARGE, tokens, wide), tokens * wide);
    void *k =
        rig_put_values(r, r->act, rows_before(r, r->act, LARGE, tokens, narrow), tokens * narrow);
    float *values = rows_of_kinds(r, r->act, tokens, narrow);
    for (size_t i = 0; i < tokens * narrow; i++)
        values[i] = fabsf(values[i]) < 3e38f ? values[i] : 1;
    void *v = rig_put_values(r, r->act, values, tokens * narrow);
    void *out = rig_room(r, tokens * wide * dtype_size(r->act));
    int32_t pos[192], seg[192] = {0}, blocks[3] = {2, 0, 1}, first[2] = {0, (int32_t)tokens};
    for (int i = 0; i < 192; i++)
        pos[i] = i;
    struct attn_batch batch = {(int)tokens,
                               1,
                               (int)tokens,
                               (int)tokens,
                               rig_put(r, first, sizeof first),
                               rig_put(r, pos, 4),
                               rig_put(r, seg, 4 * tokens),
                               rig_put(r, pos, 4 * tokens),
                               rig_put(r, blocks, sizeof blocks),
                               3,
                               0};
    r->ops->rope_append(r->d, r->s, &spec, kv, 0, &batch, NULL, q, k, v);
    r->ops->attend(r->d, r->s, &spec, kv, 0, &batch, q, out);
    rig_get_values(r, r->act, out, tokens * wide);
    r->ops->kv_destroy(r->d, kv);
    rig_clear(r);
}

int case_odd_attend(const struct backend *b)
{
    static const enum dtype caches[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F8E4M3};
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++)
        for (size_t c = 0; c < COUNT(caches); c++) {
            struct rig r;
            rig_open(&r, b, shape_acts[a], caches[c], 2, &rig_limits);
            check_attend(&r, 6, 2, 20, 65);
            check_attend(&r, 8, 1, 64, KINDS + 3);
            check_attend(&r, 16, 1, 128, 130);
            failures += rig_close(&r);
        }
    return failures;
}

static void check_ffn(struct rig *r, const struct codec *c, float limit, float alpha)
{
    enum { HIDDEN = 256, INTER = 256, EXPERTS = 3 };
    rig_at(r, "ffn: weights %s, limit %g, alpha %g", c->name, (double)limit, (double)alpha);
    struct mlp_part experts[EXPERTS];
    size_t cuts[] = {128, INTER};
    for (int e = 0; e < EXPERTS; e++)
        experts[e] = (struct mlp_part){.gate = matrix(r, c, INTER, HIDDEN),
                                       .up = matrix(r, c, INTER, HIDDEN),
                                       .down = matrix(r, c, HIDDEN, INTER),
                                       .limit = limit,
                                       .alpha = alpha,
                                       .cuts = cuts,
                                       .n_cuts = COUNT(cuts)};
    struct ffn_part part = {0,
                            EXPERTS,
                            experts,
                            {.gate = {.codec = c, .k = HIDDEN},
                             .up = {.codec = c, .k = HIDDEN},
                             .down = {.codec = c, .n = HIDDEN}}};
    struct ffn *f = r->ops->ffn_create(r->d, &part, WEIGHT_KEEP);
    int32_t ids[2 * ROWS];
    for (int i = 0; i < 2 * ROWS; i++)
        ids[i] = (i / 2 + i % 2) % EXPERTS;
    void *x = rig_put_values(r, r->act, rows_of_kinds(r, r->act, ROWS, HIDDEN), ROWS * HIDDEN);
    const float *shares = rig_values(r, DTYPE_F32, 2 * ROWS, 1);
    float *out = rig_room(r, ROWS * HIDDEN * sizeof *out);
    r->ops->ffn(r->d, r->s, f, x, rig_put(r, ids, sizeof ids),
                rig_put_values(r, DTYPE_F32, shares, 2 * ROWS), 2, ROWS, out, DTYPE_F32);
    rig_get_values(r, DTYPE_F32, out, ROWS * HIDDEN);
    r->ops->ffn_destroy(r->d, f);
    rig_clear(r);
}

int case_odd_ffn(const struct backend *b)
{
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        rig_open(&r, b, shape_acts[a], DTYPE_BF16, 2, &rig_limits);
        for (size_t c = 0; c < COUNT(codecs); c++)
            check_ffn(&r, codecs[c], c % 2 ? 7 : 0, c % 4 == 1 ? 1.702f : 0);
        failures += rig_close(&r);
    }
    return failures;
}
