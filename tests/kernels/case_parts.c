/* case_parts.c - an FFN in every format of weights, on one rank and shared out among two: where the backend says
 * that the terms are the same (ops.h: ffn_same), the sums must be, to the last bit. */
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"
#include "tests/kernels/shapes.h"

#include <math.h>
#include <string.h>

enum { HIDDEN = 40, INTER = 352, EXPERTS = 2, TOPK = 2, ROWS = 5, CUTS = 4 };

/* Integers that are packed; the other formats are those of one table. */
static const struct {
    int bits;
    size_t group;
    enum dtype scale;
    bool zeros;
} packed[] = {{4, 32, DTYPE_BF16, false}, {4, 128, DTYPE_F16, true},  {4, 0, DTYPE_F32, false},
              {8, 16, DTYPE_F32, false},  {8, 64, DTYPE_BF16, false}, {8, 0, DTYPE_BF16, false},
              {4, 48, DTYPE_F16, true},   {4, 48, DTYPE_F32, true},   {8, 16, DTYPE_F32, true}};

/* Ends of slices; ranks that share columns are cut at the second. */
static const size_t cuts[][CUTS] = {
    {128, 256, 288, INTER}, {32, 96, 192, INTER}, {16, 48, 96, INTER}, {24, 40, 96, INTER}};

struct layer {
    struct mlp_part mlp[EXPERTS + 1]; /* the shared one is the last */
    size_t own[EXPERTS + 1][CUTS];    /* cuts of a rank's part */
    struct ffn_part part;
};

static size_t codecs(void)
{
    size_t n = 0;
    while (codec_all()[n])
        n++;
    return n;
}

/* The format's name; NULL: it has no matrices of these shapes here. */
static const char *name_of(size_t f)
{
    static const char *const names[] = {"4 bits by 32", "4 bits by 128",     "4 bits by row",
                                        "8 bits by 16", "8 bits by 64",      "8 bits by row",
                                        "4 bits by 48", "4 bits by 48, f32", "8 bits by 16, zeros"};
    if (f >= codecs())
        return names[f - codecs()];
    const struct codec *c = codec_all()[f];
    bool coded =
        c->codes && c->block_bytes && !c->word && c != &codec_int8 && c != &codec_mxfp4_apart;
    bool dense = c == &codec_f32 || c == &codec_bf16 || c == &codec_fp8;
    return coded || dense ? c->name : NULL;
}

static struct weight_part matrix(struct rig *r, size_t f, size_t n, size_t k)
{
    if (f >= codecs()) {
        size_t i = f - codecs();
        return rig_packed(r, packed[i].bits, packed[i].group, packed[i].scale, packed[i].zeros, n,
                          k)
            .part;
    }
    const struct codec *c = codec_all()[f];
    if (c->codes) {
        struct rig_weight w = rig_coded(r, c, n, k, 0);
        for (size_t i = 0; i < n && c == &codec_mxfp4; i++) /* exponents */
            for (size_t j = 0; j < w.part.stride / c->block; j++)
                ((uint8_t *)w.part.data)[(i * (w.part.stride / c->block) + j) * c->block_bytes] =
                    (uint8_t)(126 + (i + j) % 3);
        return w.part;
    }
    return rig_weight(r,
                      c == &codec_f32    ? DTYPE_F32
                      : c == &codec_bf16 ? DTYPE_BF16
                                         : DTYPE_F8E4M3,
                      n, k, 0, 0)
        .part;
}

/* The last expert in another format than the rest, where `last` is one. */
static void fill(struct rig *r, struct layer *l, size_t f, size_t last)
{
    for (size_t e = 0; e <= EXPERTS; e++) {
        size_t format = e == EXPERTS - 1 ? last : f;
        l->mlp[e] = (struct mlp_part){.gate = matrix(r, format, INTER, HIDDEN),
                                      .up = matrix(r, format, INTER, HIDDEN),
                                      .down = matrix(r, format, HIDDEN, INTER)};
    }
}

static void cut(struct layer *l, const size_t *at)
{
    for (size_t e = 0; e <= EXPERTS; e++) {
        l->mlp[e].cuts = at;
        l->mlp[e].n_cuts = CUTS;
    }
    l->part = (struct ffn_part){0, EXPERTS, l->mlp, l->mlp[EXPERTS]};
}

/* Columns first .. end - 1, both ends of slices; none: what a rank without columns has. */
static struct mlp_part columns(const struct mlp_part *all, size_t first, size_t end,
                               size_t own[CUTS])
{
    struct mlp_part p = *all;
    p.gate.row0 += first;
    p.up.row0 += first;
    p.down.col0 += first;
    p.gate.n = p.up.n = p.down.k = end - first;
    p.cuts = own;
    p.n_cuts = 0;
    for (size_t i = 0; i < all->n_cuts; i++)
        if (all->cuts[i] > first && all->cuts[i] <= end)
            own[p.n_cuts++] = all->cuts[i] - first;
    return p;
}

/* The first or second of two ranks that share out columns, or experts and the columns of the shared one. */
static void rank_of(const struct layer *all, bool by_columns, int rank, struct layer *to)
{
    size_t middle = all->mlp[0].cuts[1], from = rank ? middle : 0, end = rank ? INTER : middle;
    int first = by_columns ? 0 : rank, n = by_columns ? EXPERTS : 1;
    for (int e = 0; e < n; e++)
        to->mlp[e] = columns(&all->mlp[first + e], by_columns ? from : 0, by_columns ? end : INTER,
                             to->own[e]);
    to->mlp[EXPERTS] = columns(&all->mlp[EXPERTS], from, end, to->own[EXPERTS]);
    to->part = (struct ffn_part){first, n, to->mlp, to->mlp[EXPERTS]};
}

/* f64 [ROWS][HIDDEN] */
static const double *run(struct rig *r, const struct layer *l, const float *x)
{
    static const int32_t ids[ROWS * TOPK] = {0, 1, 1, 0, 0, 1, 1, 0, 0, 1};
    static const float weights[ROWS * TOPK] = {1, .5f, -.25f, 2, .3f, .7f, 1.25f, -1, .1f, .9f};
    struct ffn *f = r->ops->ffn_create(r->d, &l->part, WEIGHT_KEEP);
    void *out = rig_room(r, ROWS * HIDDEN * sizeof(double));
    r->ops->ffn(r->d, r->s, f, rig_put_values(r, r->act, x, ROWS * HIDDEN),
                rig_put(r, ids, sizeof ids), rig_put(r, weights, sizeof weights), TOPK, ROWS, out,
                DTYPE_F64);
    const double *got = rig_get(r, out, ROWS * HIDDEN * sizeof(double));
    r->ops->ffn_destroy(r->d, f);
    return got;
}

/* Returns whether the backend says that both ranks come to the same. */
static bool check_ranks(struct rig *r, const struct layer *all, const float *x, const double *whole,
                        bool by_columns)
{
    struct layer rank[2];
    bool same = true;
    for (int i = 0; i < 2; i++) {
        rank_of(all, by_columns, i, &rank[i]);
        same = same && (!r->ops->ffn_same ||
                        r->ops->ffn_same(r->act, &all->part, &rank[i].part, WEIGHT_KEEP));
    }
    if (!same)
        return false;
    double *sum = rig_host(r, ROWS * HIDDEN, sizeof *sum);
    const double *a = run(r, &rank[0], x), *b = run(r, &rank[1], x);
    for (size_t i = 0; i < ROWS * HIDDEN; i++) {
        sum[i] = a[i] + b[i];
        if (!(fabs(sum[i]) < 0x1p18)) /* else nobody promises anything */
            rig_fail(r, "the sum is %g", sum[i]);
    }
    rig_same_bytes(r, by_columns ? "sums by columns" : "sums by experts", sum, whole,
                   ROWS * HIDDEN * sizeof *sum);
    return true;
}

/* Slices begin runs, ranks begin groups (ops.h). */
static bool fits(const struct weight_part *down, const size_t *at)
{
    struct weight_form f = weight_form(down, WEIGHT_KEEP);
    size_t unit = f.inner < INTER ? f.inner : 16;
    if (!form_is_grouped(f.kind))
        return true;
    bool begins = at[1] % weight_granule(down) == 0;
    for (size_t i = 0; i + 1 < CUTS; i++)
        begins = begins && at[i] % unit == 0;
    return begins;
}

/* Returns the failures. Experts of one format are shared out as they like where ranks have whole groups. */
static int check_formats(const struct backend *b, size_t f, size_t last)
{
    struct rig r;
    struct device_limits limits = {
        .rows = ROWS, .hidden = HIDDEN, .experts = EXPERTS, .topk = TOPK, .inter = INTER};
    struct layer all;
    rig_open(&r, b, DTYPE_BF16, DTYPE_BF16, 2, &limits);
    fill(&r, &all, f, last);
    const float *x = rig_values(&r, r.act, ROWS * HIDDEN, 1e-4);
    rig_keep(&r);
    for (size_t c = 0; c < (f == last ? COUNT(cuts) : 1); c++) {
        bool wanted = b->ops->ffn_same ? c == 0 || !rig_slow(b) : c == f % COUNT(cuts);
        if (!wanted && c != 1 + f % (COUNT(cuts) - 1))
            continue;
        if (!fits(&all.mlp[0].down, cuts[c]))
            continue;
        rig_at(&r, "ffn of %s and %s in parts, cut at %zu", name_of(f), name_of(last), cuts[c][1]);
        cut(&all, cuts[c]);
        const double *whole = run(&r, &all, x);
        bool same = check_ranks(&r, &all, x, whole, false);
        same = check_ranks(&r, &all, x, whole, true) && same;
        if (f == last && c == 0 && !same)
            rig_fail(&r, "its parts are not the same");
        rig_clear(&r);
    }
    return rig_close(&r);
}

int case_ffn_parts(const struct backend *b)
{
    size_t formats = codecs() + COUNT(packed);
    int failures = 0;
    for (size_t f = 0; f < formats; f++) {
        size_t other = (f * 5 + 3) % formats;
        if (!name_of(f))
            continue;
        failures += check_formats(b, f, f);
        if (name_of(other) && other != f && b->ops->ffn_same && (f % 3 == 0 || !rig_slow(b)))
            failures += check_formats(b, f, other);
    }
    return failures;
}
