/* case_ffn.c - experts, shared experts and dense MLPs on one FFN rank. */
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"
#include "tests/kernels/shapes.h"

#include <math.h>
#include <string.h>

#define MAX_EXPERTS 4
#define MAX_TOPK    3

struct mlp {
    struct rig_weight gate, up, down;
    const double *kept[3]; /* of these three: what rig_kept() says */
    const float *gate_bias, *up_bias, *down_bias;
    float limit, alpha;
};

struct ffn_inputs {
    struct mlp experts[MAX_EXPERTS], shared;
    size_t cuts[2][8]; /* of experts, of the shared one */
    struct mlp_part parts[MAX_EXPERTS];
    struct ffn_part part;
    enum weight_keep keep;
    enum dtype out;
    size_t hidden, topk; /* topk 0: a dense layer */
    const float *x;
    const int32_t *ids;
    const float *weights;
};

/* What a rank may hold. The router chooses among `all` experts. */
struct shape {
    int hidden, inter, shared, first, held, all, topk;
    float limit, alpha; /* of the experts, of the shared one twice the limit */
    bool biases;
};

#define SHAPE(h, i, s, f, n, a, k)                                                                 \
    .hidden = (h), .inter = (i), .shared = (s), .first = (f), .held = (n), .all = (a), .topk = (k)

static const struct shape shapes[] = {
    {SHAPE(77, 65, 33, 0, 4, 4, 2)}, /* everything */
    {SHAPE(65, 7, 0, 3, 2, 8, 3)},   /* some experts, none shared */
    {SHAPE(63, 0, 64, 0, 0, 0, 0)},  /* dense */
    {SHAPE(300, 63, 5, 5, 3, 8, 3)}, /* several blocks of FP8 scales */
    {SHAPE(33, 0, 17, 2, 2, 6, 2)},  /* an empty slice of the experts */
    {SHAPE(7, 0, 0, 0, 2, 3, 1)},    /* nothing at all: zeros */
    {SHAPE(1, 1, 1, 1, 1, 3, 3)},    /* */
    {SHAPE(64, 256, 0, 0, 1, 2, 1)}, /* */
    {SHAPE(35, 66, 47, 1, 2, 4, 2), .limit = 0.5f},
    {SHAPE(63, 65, 33, 1, 3, 4, 3), .limit = 0.7f, .alpha = 1.702f, .biases = true},
    {SHAPE(40, 34, 50, 0, 2, 2, 1), .alpha = 0.8f, .biases = true},
};

static struct mlp new_mlp(struct rig *r, enum dtype t, const struct shape *s, size_t inter,
                          size_t slice)
{
    size_t hidden = (size_t)s->hidden;
    struct mlp m = {.gate = rig_weight(r, t, inter, hidden, slice, 0),
                    .up = rig_weight(r, t, inter, hidden, slice, 0),
                    .down = rig_weight(r, t, hidden, inter, 0, slice),
                    .limit = s->limit,
                    .alpha = s->alpha};
    if (s->biases) {
        m.gate_bias = rig_values(r, DTYPE_F32, inter, 1);
        m.up_bias = rig_values(r, DTYPE_F32, inter, 1);
        m.down_bias = rig_values(r, DTYPE_F32, hidden, 1);
    }
    return m;
}

/* Slices at any even places, also within a block of FP8 scales or a run; of integers in multiples of 32, of
 * groups, which they begin, of 16. */
static struct mlp_part parts_of(const struct rig *r, const struct mlp *m, size_t cuts[8])
{
    static const size_t at[][5] = {
        {2, 30, 48, 128, 354}, {32, 64, 128, 160, 352}, {16, 64, 112, 160, 352}};
    size_t inter = m->gate.part.n, n = 0;
    bool groups = m->down.part.codec == &codec_packed4 || m->down.part.codec == &codec_packed8;
    const size_t *ends = at[r->int8_products ? 1 : groups ? 2 : 0];
    for (size_t i = 0; i < COUNT(*at) && ends[i] < inter; i++)
        cuts[n++] = ends[i];
    cuts[n++] = inter;
    return (struct mlp_part){.gate = m->gate.part,
                             .up = m->up.part,
                             .down = m->down.part,
                             .gate_bias = m->gate_bias,
                             .up_bias = m->up_bias,
                             .down_bias = m->down_bias,
                             .limit = m->limit,
                             .alpha = m->alpha,
                             .cuts = cuts,
                             .n_cuts = inter ? n : 0};
}

/* The last rows choose in turn; row 0 chooses the last experts, which may not be held. */
static void choose(struct rig *r, struct ffn_inputs *in, const struct shape *s, int n)
{
    int32_t *ids = rig_host(r, (size_t)(n * s->topk), sizeof *ids);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < s->topk; k++) { /* a shift by chance, then neighbours: all different */
            int shift = (int)(rig_uniform(r) * s->all);
            ids[i * s->topk + k] =
                k == 0 ? (i == 0 ? s->all - 1 : shift) : (ids[i * s->topk] + s->all - k) % s->all;
        }
    in->ids = ids;
    in->weights = rig_values(r, DTYPE_F32, (size_t)(n * s->topk), 1);
}

static void fill_inputs(struct rig *r, struct ffn_inputs *in, const struct shape *s, enum dtype t,
                        int n)
{
    in->hidden = (size_t)s->hidden;
    in->topk = (size_t)s->topk;
    for (int e = 0; e < s->held; e++) {
        in->experts[e] = new_mlp(r, t, s, (size_t)s->inter, (size_t)e * 50);
        in->parts[e] = parts_of(r, &in->experts[e], in->cuts[0]);
    }
    in->shared = new_mlp(r, t, s, (size_t)s->shared, 100);
    in->shared.limit *= 2;
    in->part =
        (struct ffn_part){s->first, s->held, in->parts, parts_of(r, &in->shared, in->cuts[1])};
    in->x = rig_values(r, r->act, (size_t)n * in->hidden, 1);
    choose(r, in, s, n);
}

static unsigned char *run_ffn(struct rig *r, const void *inputs, const int *rows, int n)
{
    const struct ffn_inputs *in = inputs;
    size_t count = (size_t)n * in->hidden, chosen = (size_t)n * in->topk;
    struct ffn *f = r->ops->ffn_create(r->d, &in->part, in->keep);
    int32_t *ids = rig_host(r, chosen, sizeof *ids);
    float *weights = rig_host(r, chosen, sizeof *weights);
    for (size_t i = 0; i < chosen; i++) { /* a row of NaN chooses as row 0 does */
        int row = rows[i / in->topk];
        size_t from = (size_t)(row < 0 ? 0 : row) * in->topk + i % in->topk;
        ids[i] = in->ids[from];
        weights[i] = in->weights[from];
    }
    void *x = rig_put_values(r, r->act, rig_pick(r, in->x, in->hidden, rows, n), count);
    void *out = rig_room(r, count * dtype_size(in->out));
    r->ops->ffn(r->d, r->s, f, x, in->topk ? rig_put(r, ids, chosen * sizeof *ids) : NULL,
                in->topk ? rig_put(r, weights, chosen * sizeof *weights) : NULL, (int)in->topk, n,
                out, in->out);
    unsigned char *got = in->out == DTYPE_F64
                             ? rig_get(r, out, count * sizeof(double))
                             : (unsigned char *)rig_get_values(r, in->out, out, count);
    r->ops->ffn_destroy(r->d, f);
    return got;
}

static double reference_glu(const struct mlp *m, double gate, double up)
{
    double limit = m->limit > 0 ? (double)m->limit : INFINITY, alpha = (double)m->alpha;
    up = fmax(-limit, fmin(up, limit));
    if (alpha == 0)
        return fmin(gate / (1 + exp(-gate)), limit) * up;
    gate = fmin(gate, limit);
    return gate / (1 + exp(-alpha * gate)) * (up + 1);
}

/* Rounded as the kernels round intermediates that meet integers; part: n numbers of scratch. */
static void round_mids(double *mids, size_t n, float *part)
{
    for (size_t i = 0; i < n; i++)
        part[i] = (float)mids[i];
    rig_round_row(part, n, part);
    for (size_t i = 0; i < n; i++)
        mids[i] = (double)part[i];
}

/* sum += factor x mlp(x); squares: of the terms, as large as they are before anything cancels. */
static void reference_mlp(struct rig *r, const struct mlp *m, bool integers, const float *x,
                          double factor, double *sum, double *squares)
{
    size_t inter = m->gate.part.n, hidden = m->gate.part.k;
    double *mids = rig_host(r, inter, sizeof *mids);
    float *rounded = rig_host(r, hidden > inter ? hidden : inter, sizeof *rounded);
    if (integers) {
        rig_round_row(x, hidden, rounded);
        x = rounded;
    }
    double *sizes = rig_host(r, inter, sizeof *sizes);
    const double *gate = m->kept[0], *up = m->kept[1], *down = m->kept[2];
    for (size_t h = 0; m->down_bias && inter && h < hidden; h++)
        sum[h] += factor * (double)m->down_bias[h];
    for (size_t i = 0; i < inter; i++) {
        double g = m->gate_bias ? (double)m->gate_bias[i] : 0, g2 = g * g;
        double u = m->up_bias ? (double)m->up_bias[i] : 0, u2 = u * u;
        for (size_t j = 0; j < hidden; j++) {
            double a = gate[i * hidden + j] * (double)x[j], b = up[i * hidden + j] * (double)x[j];
            g += a;
            u += b;
            g2 += a * a;
            u2 += b * b;
        }
        mids[i] = reference_glu(m, g, u);
        sizes[i] = fmax(fabs(mids[i]), sqrt(g2 * (u2 + 1)));
    }
    if (integers)
        round_mids(mids, inter, rounded);
    for (size_t i = 0; i < inter; i++)
        for (size_t h = 0; h < hidden; h++) {
            double weight = factor * down[h * inter + i];
            sum[h] += weight * mids[i];
            squares[h] += weight * sizes[i] * weight * sizes[i];
        }
}

static void keep_mlp(struct rig *r, struct mlp *m, enum weight_keep keep)
{
    m->kept[0] = rig_kept(r, &m->gate, keep);
    m->kept[1] = rig_kept(r, &m->up, keep);
    m->kept[2] = rig_kept(r, &m->down, keep);
}

static void check_ffn(struct rig *r, struct ffn_inputs *in, int n)
{
    int rows[RIG_PICKED], *all = rig_host(r, (size_t)n, sizeof *all);
    size_t hidden = in->hidden, picked = (size_t)rig_some_rows(n, rows);
    for (int i = 0; i < n; i++)
        all[i] = i;
    double *want = rig_host(r, picked * hidden, sizeof *want);
    double *size = rig_host(r, picked, sizeof *size);
    const float *got = (const float *)(const void *)run_ffn(r, in, all, n);
    if (rig_settled(r))
        return;
    got = rig_pick(r, got, hidden, rows, (int)picked);
    bool integers = r->int8_products && in->keep == WEIGHT_INT8;
    for (int e = 0; e < in->part.n_experts; e++)
        keep_mlp(r, &in->experts[e], in->keep);
    keep_mlp(r, &in->shared, in->keep);
    rig_keep(r);
    for (size_t p = 0; p < picked; p++) {
        size_t i = (size_t)rows[p];
        double *squares = rig_host(r, hidden, sizeof *squares), *sum = want + p * hidden;
        for (int e = 0; e < in->part.n_experts; e++)
            for (size_t k = 0; k < in->topk; k++)
                if (in->ids[i * in->topk + k] == in->part.first_expert + e)
                    reference_mlp(r, &in->experts[e], integers, in->x + i * hidden,
                                  (double)in->weights[i * in->topk + k], sum, squares);
        reference_mlp(r, &in->shared, integers, in->x + i * hidden, 1, sum, squares);
        for (size_t h = 0; h < hidden; h++)
            size[p] = fmax(size[p], fmax(fabs(sum[h]), sqrt(squares[h])));
        size[p] =
            fmax(size[p], 1e-3); /* terms are multiples of EXACT_STEP, however small the sum */
        rig_clear(r);
    }
    /* An intermediate that is off by its last bit may be rounded to the next integer. */
    bool coarser = r->act == DTYPE_BF16 || integers;
    enum dtype coarse = coarser ? DTYPE_BF16 : in->out;
    rig_compare(r, "out", got, want, picked, hidden, size,
                (integers ? 2 : 1) * rig_tolerance(coarse));
}

static struct device_limits limits_of(const struct shape *s, size_t rows)
{
    return (struct device_limits){
        .rows = rows,
        .hidden = (size_t)s->hidden,
        .experts = (size_t)s->held,
        .topk = (size_t)s->topk,
        .inter = (size_t)(s->inter > s->shared ? s->inter : s->shared),
    };
}

static const struct {
    enum dtype dtype;
    enum weight_keep keep;
} forms[] = {
    {DTYPE_F32, WEIGHT_KEEP},  {DTYPE_BF16, WEIGHT_KEEP},   {DTYPE_F8E4M3, WEIGHT_KEEP},
    {DTYPE_BF16, WEIGHT_INT8}, {DTYPE_F8E4M3, WEIGHT_INT8},
};

static const char *form_name(size_t f)
{
    static const char *const names[] = {"f32", "bf16", "fp8", "bf16 as int8", "fp8 as int8"};
    return names[f];
}

/* Gate and up in groups of one size, whose scales are kept in different ways though they lie side by side; and
 * down, in slices. */
static int check_mixed(const struct backend *b)
{
    static const struct shape shape = {SHAPE(330, 65, 33, 0, 2, 2, 1)};
    static const int rows[] = {1, 17};
    int failures = 0;
    for (size_t i = 0; i < 4; i++) {
        struct rig r;
        struct device_limits limits = limits_of(&shape, (size_t)rows[i / 2]);
        rig_open(&r, b, shape_acts[i % 2], DTYPE_BF16, 2, &limits);
        struct ffn_inputs in = {.keep = WEIGHT_KEEP, .out = DTYPE_F32};
        rig_at(&r, "ffn: gate with scales of f16, up of f32, rows %d", rows[i / 2]);
        fill_inputs(&r, &in, &shape, DTYPE_BF16, rows[i / 2]);
        for (int e = 0; e < shape.held; e++) {
            struct mlp *m = &in.experts[e];
            m->gate = rig_packed(&r, 4, 64, DTYPE_F16, e == 0, 65, 330);
            m->up = rig_packed(&r, 4, 64, DTYPE_F32, e == 0, 65, 330);
            m->down = rig_packed(&r, e ? 8 : 4, 16, DTYPE_F32, true, 330, 65);
            in.parts[e] = parts_of(&r, m, in.cuts[0]);
        }
        rig_keep(&r);
        check_ffn(&r, &in, rows[i / 2]);
        failures += rig_close(&r);
    }
    return failures;
}

/* Gate and up of FP8 that begin at rows of which only one is a multiple of 16: both are numbers, on all
 * processors. */
static int check_rows_apart(const struct backend *b)
{
    static const struct shape shape = {SHAPE(330, 65, 33, 0, 2, 2, 1)};
    int failures = 0;
    for (size_t i = 0; i < 4; i++) {
        struct rig r;
        struct device_limits limits = limits_of(&shape, 5);
        rig_open(&r, b, shape_acts[i % 2], DTYPE_BF16, 2, &limits);
        struct ffn_inputs in = {.keep = WEIGHT_KEEP, .out = DTYPE_F32};
        rig_at(&r, "ffn: fp8, %s begins at row 8", i / 2 ? "up" : "gate");
        fill_inputs(&r, &in, &shape, DTYPE_F8E4M3, 5);
        for (int e = 0; e < shape.held; e++) {
            struct mlp *m = &in.experts[e];
            m->gate = rig_weight(&r, DTYPE_F8E4M3, 65, 330, i / 2 ? 0 : 8, 0);
            m->up = rig_weight(&r, DTYPE_F8E4M3, 65, 330, i / 2 ? 8 : 0, 0);
            in.parts[e] = parts_of(&r, m, in.cuts[0]);
        }
        rig_keep(&r);
        check_ffn(&r, &in, 5);
        failures += rig_close(&r);
    }
    return failures;
}

int case_ffn(const struct backend *b)
{
    int failures = check_mixed(b) + check_rows_apart(b);
    for (size_t a = 0; a < COUNT(shape_acts); a++)
        for (size_t f = 0; f < COUNT(forms); f++)
            for (size_t i = 0; i < COUNT(shapes); i++)
                for (size_t n = 0; n < COUNT(shape_rows); n++) {
                    if (rig_skips(a + f + i + n))
                        continue;
                    struct rig r;
                    struct device_limits limits = limits_of(&shapes[i], (size_t)shape_rows[n]);
                    rig_open(&r, b, shape_acts[a], DTYPE_BF16, 3, &limits);
                    struct ffn_inputs in = {.keep = forms[f].keep,
                                            .out = (n + i) % 2 ? DTYPE_F32 : DTYPE_BF16};
                    rig_at(&r, "ffn %zu: weights %s, hidden %d, inter %d and %d, rows %d, out %s",
                           i, form_name(f), shapes[i].hidden, shapes[i].inter, shapes[i].shared,
                           shape_rows[n], dtype_name(in.out));
                    fill_inputs(&r, &in, &shapes[i], forms[f].dtype, shape_rows[n]);
                    check_ffn(&r, &in, shape_rows[n]);
                    failures += rig_close(&r);
                }
    return failures;
}

/* ---- order, and experts that others chose ---------------------------------------------------- */

/* All experts compute the same v. With weights 1, 2^17 and -2^17 on experts 0, 1 and 2 nothing of v may
 * be lost, but what is below EXACT_STEP, whatever the order in which the router names the experts. */
static void check_order(struct rig *r, struct ffn_inputs *in, const int32_t *order)
{
    static const float factors[3] = {1.0f, 0x1p17f, -0x1p17f};
    int32_t ids[3];
    float weights[3];
    for (int k = 0; k < 3; k++) {
        ids[k] = order[k];
        weights[k] = factors[order[k]];
    }
    in->ids = (const int32_t[]){3, 0, 1}; /* one expert alone, weight 1; the others weigh nothing */
    in->weights = (const float[]){1, 0, 0};
    float v[77];
    memcpy(v, run_ffn(r, in, (const int[]){0}, 1), sizeof v);
    rig_clear(r);
    in->ids = ids;
    in->weights = weights;
    float *got = (float *)(void *)run_ffn(r, in, (const int[]){0}, 1);
    rig_same_bytes(r, "out", got, v, sizeof v);
    rig_clear(r);
}

/* The intermediate is kept in the activation dtype: with one of it and a down of ones, the output
 * is that number itself, and must be one that bf16 can hold. */
static int check_intermediate(const struct backend *b)
{
    static const struct shape shape = {SHAPE(7, 1, 0, 0, 1, 1, 1)};
    struct rig r;
    struct device_limits limits = limits_of(&shape, 17);
    rig_open(&r, b, DTYPE_BF16, DTYPE_BF16, 2, &limits);
    rig_at(&r, "ffn with one intermediate number");
    struct ffn_inputs in = {.keep = WEIGHT_KEEP, .out = DTYPE_F32};
    fill_inputs(&r, &in, &shape, DTYPE_BF16, 17);
    in.parts[0].down.data = rig_encode(&r, DTYPE_BF16, (const float[]){1, 1, 1, 1, 1, 1, 1}, 7);
    in.parts[0].down.stride = 1;
    in.parts[0].down.row0 = in.parts[0].down.col0 = 0;
    float ones[17];
    int rows[17];
    for (int i = 0; i < 17; i++) {
        ones[i] = 1;
        rows[i] = i;
    }
    in.weights = ones;
    const float *got = (float *)(void *)run_ffn(&r, &in, rows, 17);
    for (size_t i = 0; i < 17 * 7; i++)
        if (got[i] != f32_from_bf16(bf16_from_f32(got[i]))) {
            rig_fail(&r, "out is %.9g, no bf16", (double)got[i]);
            break;
        }
    return rig_close(&r);
}

int case_ffn_order(const struct backend *b)
{
    static const int32_t orders[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {2, 0, 1}};
    static const struct shape shape = {SHAPE(77, 65, 0, 0, 4, 4, 3)};
    int failures = check_intermediate(b);
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        struct device_limits limits = limits_of(&shape, 4);
        rig_open(&r, b, shape_acts[a], DTYPE_BF16, 2, &limits);
        struct ffn_inputs in = {.keep = WEIGHT_KEEP, .out = DTYPE_F32};
        fill_inputs(&r, &in, &shape, DTYPE_BF16, 4);
        for (int e = 1; e < 4; e++)
            in.parts[e] = in.parts[0];
        rig_keep(&r);
        for (size_t o = 0; o < COUNT(orders); o++) {
            rig_at(&r, "ffn in the order %d %d %d", orders[o][0], orders[o][1], orders[o][2]);
            check_order(&r, &in, orders[o]);
        }
        /* An expert of NaN reaches only the row that chose it. */
        rig_at(&r, "ffn with an expert of NaN");
        float *nans = rig_values(&r, DTYPE_F32, 77 * 65, 1);
        for (size_t i = 0; i < 77 * 65; i++)
            nans[i] = NAN;
        in.parts[3].down.data = rig_encode(&r, DTYPE_BF16, nans, 77 * 65);
        in.parts[3].down.stride = 65;
        in.parts[3].down.row0 = in.parts[3].down.col0 = 0;
        in.ids = (const int32_t[]){0, 1, 2, 2, 3, 1, 1, 0, 2, 0, 2, 1};
        in.weights = rig_values(&r, DTYPE_F32, 12, 1);
        const float *got = (float *)(void *)run_ffn(&r, &in, (const int[]){0, 1, 2, 3}, 4);
        for (size_t i = 0; i < 4 * 77; i++)
            if (isnan(got[i]) != (i / 77 == 1)) {
                rig_fail(&r, "row %zu is %g", i / 77, (double)got[i]);
                break;
            }
        failures += rig_close(&r);
    }
    return failures;
}

/* ---- layouts --------------------------------------------------------------------------------- */

#define SPLIT_ROWS 19

/* Columns first .. end - 1 of an MLP's intermediate dimension; both are slices' ends. */
static struct mlp_part columns_of(const struct mlp_part *all, size_t first, size_t end,
                                  size_t cuts[8])
{
    struct mlp_part p = *all;
    p.gate.row0 += first;
    p.up.row0 += first;
    p.down.col0 += first;
    p.gate_bias = all->gate_bias ? all->gate_bias + first : NULL;
    p.up_bias = all->up_bias ? all->up_bias + first : NULL;
    p.down_bias = first ? NULL : all->down_bias; /* the first slice's */
    p.gate.n = p.up.n = p.down.k = end - first;
    p.cuts = cuts;
    p.n_cuts = 0;
    for (size_t i = 0; i < all->n_cuts; i++)
        if (all->cuts[i] > first && all->cuts[i] <= end)
            cuts[p.n_cuts++] = all->cuts[i] - first;
    return p;
}

/* Adds what a rank with experts first .. end - 1, `half` of their columns (2: all) and as much of the
 * shared expert makes of all rows. */
static void add_rank(struct rig *r, const struct ffn_inputs *in, int first, int end, size_t half,
                     double *sum)
{
    struct ffn_inputs rank = *in;
    int rows[SPLIT_ROWS];
    size_t cut[2] = {in->cuts[0][2], in->cuts[1][2]}, inter = in->part.experts[0].gate.n;
    for (int i = 0; i < SPLIT_ROWS; i++)
        rows[i] = i;
    for (int e = first; e < end; e++)
        rank.parts[e - first] = columns_of(&in->part.experts[e], half == 1 ? cut[0] : 0,
                                           half == 0 ? cut[0] : inter, rank.cuts[0]);
    rank.part =
        (struct ffn_part){in->part.first_expert + first, end - first, rank.parts, in->part.shared};
    size_t shared = half == 2 ? (size_t)(first > 0) : half, all = in->part.shared.gate.n;
    rank.part.shared = columns_of(&in->part.shared, shared == 1 ? cut[1] : 0,
                                  shared == 0 ? cut[1] : all, rank.cuts[1]);
    rank.out = DTYPE_F64;
    const double *got = (const void *)run_ffn(r, &rank, rows, SPLIT_ROWS);
    for (size_t i = 0; i < SPLIT_ROWS * in->hidden; i++)
        sum[i] += got[i];
}

/* Two ranks that share out experts, or their columns, add up to the bits of one that has all: to those of
 * its double, which has more of them than what comes out. */
static void check_split(struct rig *r, const struct ffn_inputs *in)
{
    int rows[SPLIT_ROWS];
    size_t count = SPLIT_ROWS * in->hidden;
    for (int i = 0; i < SPLIT_ROWS; i++)
        rows[i] = i;
    struct ffn_inputs wide = *in;
    wide.out = DTYPE_F64;
    const void *whole = run_ffn(r, in, rows, SPLIT_ROWS),
               *exact = run_ffn(r, &wide, rows, SPLIT_ROWS);
    for (int by_columns = 0; by_columns < 2; by_columns++) {
        double *sum = rig_host(r, count, sizeof *sum);
        float *rounded = rig_host(r, count, sizeof *rounded);
        for (size_t i = 0; i < count; i++)
            sum[i] = 0;
        for (int rank = 0; rank < 2; rank++)
            add_rank(r, in, by_columns ? 0 : 3 * rank, by_columns || rank ? 4 : 3,
                     by_columns ? (size_t)rank : 2, sum);
        for (size_t i = 0; i < count; i++)
            rounded[i] = (float)sum[i];
        rig_same_bytes(r, by_columns ? "sums by columns" : "sums by experts", sum, exact,
                       count * sizeof *sum);
        rig_same_bytes(r, by_columns ? "out by columns" : "out by experts", rounded, whole,
                       count * sizeof *rounded);
    }
}

int case_ffn_split(const struct backend *b)
{
    static const struct shape split = {SHAPE(77, 365, 177, 1, 4, 6, 3)};
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++)
        for (size_t f = 0; f < (rig_slow(b) && a == 0 ? 3 : COUNT(forms)); f++) {
            struct rig r;
            struct shape shape = split;
            shape.biases = f % 2 == 1;
            struct device_limits limits = limits_of(&shape, SPLIT_ROWS);
            rig_open(&r, b, shape_acts[a], DTYPE_BF16, 2, &limits);
            struct ffn_inputs in = {.keep = forms[f].keep, .out = DTYPE_F32};
            rig_at(&r, "ffn on two ranks: weights %s", form_name(f));
            fill_inputs(&r, &in, &shape, forms[f].dtype, SPLIT_ROWS);
            check_split(&r, &in);
            failures += rig_close(&r);
        }
    return failures;
}

/* More rows than one slab, so many that an expert's work comes in units of several panels, and
 * inputs of both products beyond one chunk of a row. */
int case_ffn_large(const struct backend *b)
{
    static const struct shape shape = {SHAPE(1100, 544, 40, 1, 2, 4, 2)};
    static const size_t acts[] = {0, 1, 1}, kept[] = {1, 1, 2}; /* of shape_acts, of forms */
    int failures = 0, n = rig_slow(b) ? 70 : 515;
    for (size_t i = rig_slow(b) ? 2 : 0; i < COUNT(acts); i++) {
        struct rig r;
        struct device_limits limits = limits_of(&shape, (size_t)n);
        rig_open(&r, b, shape_acts[acts[i]], DTYPE_BF16, 2, &limits);
        struct ffn_inputs in = {.keep = forms[kept[i]].keep, .out = DTYPE_F32};
        rig_at(&r, "ffn: weights %s, hidden %d, inter %d, rows %d", form_name(kept[i]),
               shape.hidden, shape.inter, n);
        fill_inputs(&r, &in, &shape, forms[kept[i]].dtype, n);
        rig_keep(&r);
        check_ffn(&r, &in, n);
        failures += rig_close(&r);
    }
    return failures;
}

/* Experts of integers; the formats that stay as they are beside them. */
int case_ffn_integers(const struct backend *b)
{
    static const struct shape large = {SHAPE(600, 365, 177, 1, 4, 6, 3)};
    static const int rows[] = {1, 3, 17, 70};
    int failures = 0;
    for (size_t i = 0; i < 2 * (COUNT(shapes) + 1); i++) {
        const struct shape *s = i / 2 < COUNT(shapes) ? &shapes[i / 2] : &large;
        size_t form = i % 4 < 3 ? 3 + i % 2 : 1;
        int n = s == &large ? SPLIT_ROWS : rows[i / 2 % COUNT(rows)];
        struct rig r;
        struct device_limits limits = limits_of(s, (size_t)n);
        rig_open_integers(&r, b, shape_acts[i % 2], 2, &limits);
        struct ffn_inputs in = {.keep = forms[form].keep, .out = DTYPE_F32};
        rig_at(&r, "ffn of integers %zu: weights %s, hidden %d, inter %d and %d, rows %d", i,
               form_name(form), s->hidden, s->inter, s->shared, n);
        fill_inputs(&r, &in, s, forms[form].dtype, n);
        rig_keep(&r);
        if (s == &large)
            check_split(&r, &in);
        check_ffn(&r, &in, n);
        failures += rig_close(&r);
    }
    return failures;
}

int case_ffn_invariance(const struct backend *b)
{
    int failures = 0, total = 131;
    for (size_t a = 0; a < COUNT(shape_acts); a++)
        for (size_t f = 0; f < COUNT(forms); f++)
            for (size_t i = f % 2; i < 4; i += 2) {
                struct rig r;
                if (f == 3)
                    rig_open_integers(&r, b, shape_acts[a], 1, &rig_limits);
                else
                    rig_open(&r, b, shape_acts[a], DTYPE_BF16, 1, &rig_limits);
                struct ffn_inputs in = {.keep = forms[f].keep, .out = DTYPE_F32};
                rig_at(&r, "weights %s, hidden %d", form_name(f), shapes[i].hidden);
                fill_inputs(&r, &in, &shapes[i], forms[f].dtype, total);
                rig_keep(&r);
                struct row_op op = {"ffn", &in, in.hidden * sizeof(float), true, run_ffn};
                rig_invariance(&r, &op, total);
                failures += rig_close(&r);
            }
    return failures;
}
