/* case_linear.c - y = x W^T for every form that weights come and are kept in. */
#include "base/mem.h"
#include "kernels/cpu/fast/packed.h"
#include "tests/kernels/case_linear.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"
#include "tests/kernels/shapes.h"

#include <math.h>
#include <string.h>

unsigned char *run_linear(struct rig *r, const void *inputs, const int *rows, int n)
{
    const struct linear_inputs *in = inputs;
    const struct weight_part *part = &in->w.part;
    size_t outputs = (size_t)n * part->n;
    struct weight *w = r->ops->weight_create(r->d, part, in->keep);
    void *x = rig_put_values(r, r->act, rig_pick(r, in->x, part->k, rows, n), (size_t)n * part->k);
    void *y = rig_room(r, outputs * dtype_size(in->out));
    r->ops->linear(r->d, r->s, w, x, n, y, in->out);
    float *got = rig_get_values(r, in->out, y, outputs);
    r->ops->weight_destroy(r->d, w);
    return (unsigned char *)got;
}

/* y and, per row, the size that its numbers have if nothing cancels. */
static void reference(const struct linear_inputs *in, const double *w, size_t rows, double *y,
                      double *size)
{
    size_t n = in->w.part.n, k = in->w.part.k;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0, squares = 0;
            for (size_t l = 0; l < k; l++) {
                double term = (double)in->x[i * k + l] * w[j * k + l];
                sum += term;
                squares += term * term;
            }
            y[i * n + j] = sum;
            size[i] = fmax(size[i], fmax(fabs(sum), sqrt(squares)));
        }
}

/* What weight_bytes() says before there is any data, and after. */
static void check_bytes(struct rig *r, const struct linear_inputs *in)
{
    const struct weight_part *part = &in->w.part;
    size_t least = part->n * part->k;
    if (in->keep == WEIGHT_KEEP)
        least = least / part->codec->block * part->codec->block_bytes;
    else if (in->keep == WEIGHT_INT4)
        least /= 2;
    struct weight_part shape = *part;
    shape.data = NULL;
    shape.scale = NULL;
    size_t bytes = r->ops->weight_bytes(r->d, &shape, in->keep);
    if (bytes < least || bytes != r->ops->weight_bytes(r->d, part, in->keep))
        rig_fail(r, "weight_bytes is %zu, the numbers alone take %zu", bytes, least);
    struct weight_form f = weight_form(&shape, in->keep);
    size_t unit = f.outer > 32 && f.outer < part->k ? f.outer : 32;
    size_t before = form_is_grouped(f.kind) ? form_before(&f, part->col0) : 0;
    size_t k = before + (part->k ? part->k + 31 : 32) / 32 * 32; /* and whole groups */
    size_t most = (part->n + 31) / 32 * 32 * form_row_bytes(&f, (k + unit - 1) / unit * unit);
    bool groups = (f.kind == FORM_I8 || f.kind == FORM_I4) && strcmp(r->backend->name, "cuda") != 0;
    if (groups && bytes > most + 2 * MEM_ALIGN) /* codes and scales begin aligned */
        rig_fail(r, "weight_bytes is %zu, whole panels and their scales take %zu", bytes, most);
}

/* y of n rows. */
static void check_outputs(struct rig *r, struct linear_inputs *in, int n, const float *got)
{
    int rows[RIG_PICKED], picked = rig_some_rows(n, rows);
    const struct weight_part *part = &in->w.part;
    if (rig_settled(r))
        return;
    double *want = rig_host(r, (size_t)picked * part->n, sizeof *want);
    double *size = rig_host(r, (size_t)picked, sizeof *size);
    got = rig_pick(r, got, part->n, rows, picked);
    in->x = rig_pick(r, in->x, part->k, rows, picked);
    if (in->integers) {
        float *rounded = rig_host(r, (size_t)picked * part->k, sizeof *rounded);
        for (int i = 0; i < picked; i++)
            rig_round_row(in->x + (size_t)i * part->k, part->k, rounded + (size_t)i * part->k);
        in->x = rounded;
    }
    reference(in, rig_kept(r, &in->w, in->keep), (size_t)picked, want, size);
    rig_compare(r, "y", got, want, (size_t)picked, part->n, size, rig_tolerance(in->out));
}

static void check_linear(struct rig *r, struct linear_inputs *in, int n)
{
    int *all = rig_host(r, (size_t)n, sizeof *all);
    for (int i = 0; i < n; i++)
        all[i] = i;
    in->x = rig_values(r, r->act, (size_t)n * in->w.part.k, 1);
    check_outputs(r, in, n, (const float *)(const void *)run_linear(r, in, all, n));
    check_bytes(r, in);
    rig_clear(r);
}

static const struct {
    size_t n, k, row0, col0;
} shapes[] = {
    {1, 1, 0, 0},       {7, 3, 2, 1},       {63, 65, 0, 0},   {64, 64, 100, 60},
    {65, 63, 128, 128}, {33, 300, 90, 127}, {257, 77, 50, 1}, {1, 256, 127, 0},
    {130, 130, 1, 255}, {0, 9, 0, 0},       {9, 0, 0, 0},
};

static const struct {
    enum dtype dtype;
    enum weight_keep keep;
} forms[] = {
    {DTYPE_F32, WEIGHT_KEEP}, {DTYPE_BF16, WEIGHT_KEEP}, {DTYPE_F8E4M3, WEIGHT_KEEP},
    {DTYPE_F32, WEIGHT_INT8}, {DTYPE_BF16, WEIGHT_INT8}, {DTYPE_F8E4M3, WEIGHT_INT8},
};

int case_linear(const struct backend *b)
{
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        rig_open(&r, b, shape_acts[a], DTYPE_BF16, 2, &rig_limits);
        for (size_t f = 0; f < COUNT(forms); f++)
            for (size_t s = 0; s < COUNT(shapes); s++)
                for (size_t n = 0; n < COUNT(shape_rows); n++) {
                    enum dtype out = n % 2 ? DTYPE_F32 : r.act;
                    if (rig_skips(a + f + s + n))
                        continue;
                    rig_at(&r, "linear: weights %s%s, n %zu, k %zu from (%zu, %zu), rows %d, y %s",
                           dtype_name(forms[f].dtype),
                           forms[f].keep == WEIGHT_INT8 ? " as int8" : "", shapes[s].n, shapes[s].k,
                           shapes[s].row0, shapes[s].col0, shape_rows[n], dtype_name(out));
                    struct linear_inputs in = {rig_weight(&r, forms[f].dtype, shapes[s].n,
                                                          shapes[s].k, shapes[s].row0,
                                                          shapes[s].col0),
                                               forms[f].keep, out, NULL, false};
                    check_linear(&r, &in, shape_rows[n]);
                }
        failures += rig_close(&r);
    }
    return failures;
}

/* More inputs than one chunk of a row has, more rows than one slab, and FP8 that begins anywhere
 * within a block. */
int case_linear_large(const struct backend *b)
{
    static const size_t begin[] = {64, 16, 112, 48, 0, 100};
    int failures = 0, n = 530;
    struct device_limits limits = {.rows = (size_t)n, .hidden = 1100};
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        rig_open(&r, b, shape_acts[a], DTYPE_BF16, 2, &limits);
        for (size_t f = 0; f < 4; f++) {
            int rows = f == 1 || a == 0 ? n : 13;
            rig_at(&r, "linear: weights %s%s, n 130, k 1100, rows %d", dtype_name(forms[f].dtype),
                   forms[f].keep == WEIGHT_INT8 ? " as int8" : "", rows);
            struct linear_inputs in = {rig_weight(&r, forms[f].dtype, 130, 1100, 0, 0),
                                       forms[f].keep, DTYPE_F32, NULL, false};
            check_linear(&r, &in, rows);
        }
        for (size_t i = 0; i < COUNT(begin); i++) {
            rig_at(&r, "linear: weights fp8, n 70, k 600 from (48, %zu), rows 5", begin[i]);
            struct linear_inputs in = {rig_weight(&r, DTYPE_F8E4M3, 70, 600, 48, begin[i]),
                                       WEIGHT_KEEP, DTYPE_F32, NULL, false};
            check_linear(&r, &in, 5);
        }
        failures += rig_close(&r);
    }
    return failures;
}

/* FP8 whose scales are 2^span apart from one block of columns to the next; rows of odd number have nothing but zeros in
 * the blocks of large scales, so that the small ones count too. */
static void check_far_scales(struct rig *r, int span, int n)
{
    enum { N = 40, K = 600, BLOCKS = 5 };
    int all[RIG_PICKED];
    struct linear_inputs in = {.keep = WEIGHT_KEEP, .out = DTYPE_F32};
    in.w = rig_weight(r, DTYPE_F8E4M3, N, K, 0, 0);
    float *scale = rig_values(r, DTYPE_F32, BLOCKS, 1);
    float *x = rig_values(r, r->act, (size_t)n * K, 1);
    for (int b = 0; b < BLOCKS; b++)
        scale[b] = ldexpf(((const float *)in.w.part.scale)[b], b % 2 ? span / 2 : span / 2 - span);
    for (size_t i = 0; i < N * K; i++)
        in.w.value[i] = ldexp(in.w.value[i], i % K / 128 % 2 ? span / 2 : span / 2 - span);
    for (size_t i = 0; i < (size_t)n * K; i++)
        x[i] = i / K % 2 && i % K / 128 % 2 ? 0 : x[i];
    for (int i = 0; i < n; i++)
        all[i] = i;
    in.w.part.scale = scale;
    in.x = x;
    check_outputs(r, &in, n, (const float *)(const void *)run_linear(r, &in, all, n));
    rig_clear(r);
}

int case_linear_far_scales(const struct backend *b)
{
    static const int spans[] = {20, 63, 70, 140}, rows[] = {1, 4, 16};
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        rig_open(&r, b, shape_acts[a], DTYPE_BF16, 2, &rig_limits);
        for (size_t i = 0; i < COUNT(spans) * COUNT(rows); i++) {
            int span = spans[i / COUNT(rows)], n = rows[i % COUNT(rows)];
            rig_at(&r, "linear: weights fp8, scales 2^%d apart, n 40, k 600, rows %d", span, n);
            check_far_scales(&r, span, n);
        }
        failures += rig_close(&r);
    }
    return failures;
}

/* All rows; one of them has the same bits alone. */
static void check_together(struct rig *r, struct linear_inputs *in, int n, int one)
{
    int *all = rig_host(r, (size_t)n, sizeof *all);
    size_t outputs = in->w.part.n;
    for (int i = 0; i < n; i++)
        all[i] = i;
    if (strcmp(r->backend->name, "plain") != 0) {
        struct weight *w = r->ops->weight_create(r->d, &in->w.part, in->keep);
        if (fast_linear_together(r->d, w, (size_t)n) != 2)
            rig_fail(r, "panels are not taken two by two");
        r->ops->weight_destroy(r->d, w);
    }
    in->x = rig_values(r, r->act, (size_t)n * in->w.part.k, 1);
    const float *got = (const float *)(const void *)run_linear(r, in, all, n);
    rig_same_bytes(r, "a row alone", run_linear(r, in, &one, 1), got + (size_t)one * outputs,
                   outputs * sizeof *got);
    check_outputs(r, in, n, got);
    rig_clear(r);
}

/* Rows that no cache near a core holds, with all their inputs: panels go through them together. The last unit
 * of panels is smaller than the others, and so is the last chunk of inputs. Chunks of f32 begin inside groups
 * of 48 and 80. Where rows of bf16 stay so, a chunk has twice as many inputs. One kind is shared by two threads. */
int case_linear_together(const struct backend *b)
{
    enum { ROWS = 500, FEW = 514, MANY = 1030, K = 780, K_BF16 = 1548, F8_COLUMN = 48 };
    static const struct {
        enum dtype act, dtype;
        enum weight_keep keep;
        int bits; /* of integers in groups; else 0 */
        size_t group;
        enum dtype scales;
        bool zeros;
    } kinds[] = {
        {DTYPE_F32, DTYPE_F8E4M3, .keep = WEIGHT_KEEP},
        {DTYPE_F32, DTYPE_F32, .keep = WEIGHT_INT8},
        {DTYPE_F32, .bits = 4, .group = 48, .scales = DTYPE_F16, .zeros = true},
        {DTYPE_F32, .bits = 4, .group = 80, .scales = DTYPE_F32, .zeros = true},
        {DTYPE_BF16, DTYPE_BF16, .keep = WEIGHT_KEEP},
        {DTYPE_BF16, DTYPE_F8E4M3, .keep = WEIGHT_KEEP},
        {DTYPE_BF16, DTYPE_BF16, .keep = WEIGHT_INT8},
        {DTYPE_BF16, .bits = 8, .group = 80, .scales = DTYPE_BF16},
        {DTYPE_BF16, .bits = 4, .group = 48, .scales = DTYPE_F16, .zeros = true},
    };
    struct device_limits limits = {.rows = ROWS, .hidden = K_BF16};
    int failures = 0;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        struct rig r;
        bool team = kinds[i].dtype == DTYPE_BF16 && kinds[i].keep == WEIGHT_KEEP && !kinds[i].bits;
        int n = team ? MANY : FEW;
        rig_open(&r, b, kinds[i].act, DTYPE_BF16, team ? 2 : 1, &limits);
        size_t k = kinds[i].act == DTYPE_BF16 ? K_BF16 : K;
        size_t column = kinds[i].dtype == DTYPE_F8E4M3 ? F8_COLUMN : 0;
        struct linear_inputs in = {.keep = kinds[i].keep, .out = DTYPE_F32};
        if (kinds[i].bits)
            in.w = rig_packed(&r, kinds[i].bits, kinds[i].group, kinds[i].scales, kinds[i].zeros, n,
                              k);
        else
            in.w = rig_weight(&r, kinds[i].dtype, n, k - column, 0, column);
        rig_at(&r, "linear: weights %s%s, n %d, k %zu, rows %d", in.w.part.codec->name,
               in.keep == WEIGHT_INT8 ? " as int8" : "", n, k, ROWS);
        check_together(&r, &in, ROWS, 217);
        failures += rig_close(&r);
    }
    return failures;
}

static struct linear_inputs coded(struct rig *r, const struct codec *c, size_t n, size_t k,
                                  size_t col0)
{
    return (struct linear_inputs){
        .w = rig_coded(r, c, n, k, col0), .keep = WEIGHT_KEEP, .out = DTYPE_F32};
}

/* Parts that begin inside a block: every group then has its own d and m. */
static void check_inside(struct rig *r, bool integers)
{
    static const struct codec *const codecs[] = {&codec_q4_k, &codec_q6_k};
    for (size_t i = 0; i < 2 * COUNT(codecs); i++) {
        int n = i < COUNT(codecs) ? 2 : 13;
        rig_at(r, "linear%s: weights %s, n 50, k 470 from (0, 32), rows %d",
               integers ? " of integers" : "", codecs[i % 2]->name, n);
        struct linear_inputs in = coded(r, codecs[i % 2], 50, 470, 32);
        in.integers = integers;
        check_linear(r, &in, n);
    }
}

/* Groups of every size, also those that no kernel of a GPU knows, and whole rows (0); scales of every type,
 * with and without zero points; and the groups that are made at load. */
static void check_groups(struct rig *r, bool integers)
{
    static const size_t sizes[] = {16, 32, 48, 64, 80, 128, 0};
    static const enum dtype types[] = {DTYPE_F16, DTYPE_BF16, DTYPE_F32};
    static const int rows[] = {1, 3, 37};
    size_t turn = r->act == DTYPE_BF16;
    for (size_t i = 0; i < COUNT(sizes) * COUNT(types) * 2; i++) {
        size_t group = sizes[i / 2 / COUNT(types)];
        enum dtype type = types[i / 2 % COUNT(types)];
        int bits = (i / 2 + turn) % 2 ? 8 : 4, n = rows[(i + i / 6 + turn) % COUNT(rows)];
        bool zeros = i % 2;
        rig_at(
            r,
            "linear%s: %d bits in groups of %zu, scales %s, zero points %d, n 37, k 330, rows %d",
            integers ? " of integers" : "", bits, group, dtype_name(type), zeros, n);
        struct linear_inputs in = {.keep = WEIGHT_KEEP, .out = DTYPE_F32, .integers = integers};
        in.w = rig_packed(r, bits, group, type, zeros, 37, 330);
        check_linear(r, &in, n);
    }
    static const size_t columns[] = {5, 16, 24}; /* that begin groups */
    for (size_t i = 0; i < COUNT(columns); i++) {
        size_t k = i == 1 ? 40 : 340;
        rig_at(r, "linear: weights bf16 as int4, n 66, k %zu from (3, %zu), rows 70", k,
               columns[i]);
        struct linear_inputs in = {rig_weight(r, DTYPE_BF16, 66, k, 3, columns[i]), WEIGHT_INT4,
                                   DTYPE_F32, NULL, integers};
        rig_set_values(r, &in.w, in.keep);
        check_linear(r, &in, 70);
    }
}

/* Seven rows and ten are the numbers of which four are left behind blocks of three whose weights are kept; each
 * comes out as alone. */
static void check_seven_and_ten(struct rig *r)
{
    for (int i = 0; i < 8; i++) {
        int n = i % 2 ? 10 : 7, bits = i < 4 ? 4 : 8, all[10];
        rig_at(r, "linear: %d bits%s, n 37, k 330, rows %d", bits,
               i >= 6 ? " a row" : " in groups of 48", n);
        struct linear_inputs in = {.keep = i >= 6 ? WEIGHT_INT8 : WEIGHT_KEEP, .out = DTYPE_F32};
        in.w = i >= 6 ? rig_weight(r, DTYPE_BF16, 37, 330, 0, 0)
                      : rig_packed(r, bits, 48, DTYPE_F16, i < 2, 37, 330);
        in.x = rig_values(r, r->act, (size_t)n * 330, 1);
        for (int row = 0; row < n; row++)
            all[row] = row;
        const float *got = (const float *)(const void *)run_linear(r, &in, all, n);
        for (int row = 0; row < n; row += 3)
            rig_same_bytes(r, "a row alone", run_linear(r, &in, &row, 1), got + (size_t)row * 37,
                           37 * sizeof *got);
        check_outputs(r, &in, n, got);
        rig_clear(r);
    }
}

/* Matrices that stay in groups: every form of scales and minima, alone and in rows of many. */
int case_linear_grouped(const struct backend *b)
{
    static const struct codec *const codecs[] = {
        &codec_q8_0, &codec_q4_0, &codec_q4_1,   &codec_q4_k,   &codec_q5_k,
        &codec_q6_k, &codec_q2_k, &codec_iq4_nl, &codec_iq4_xs, &codec_mxfp4,
    };
    static const int rows[] = {1, 2, 5, 13};
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        rig_open(&r, b, shape_acts[a], DTYPE_BF16, 2,
                 &(struct device_limits){.rows = 64, .hidden = 768});
        for (size_t i = 0; i < COUNT(codecs); i++)
            for (size_t k = 256; k <= 768; k += 512) {
                int n = rows[(i + k / 512 + a) % COUNT(rows)];
                rig_at(&r, "linear: weights %s, n 50, k %zu, rows %d", codecs[i]->name, k, n);
                struct linear_inputs in = coded(&r, codecs[i], 50, k, 0);
                check_linear(&r, &in, n);
            }
        check_inside(&r, false);
        check_groups(&r, false);
        check_seven_and_ten(&r);
        failures += rig_close(&r);
    }
    return failures;
}

/* Products of integers: weights kept as int8, every grouped format, and formats that stay as they are;
 * inputs of several chunks, rows of all counts that tiles have, more than a slab. */
int case_linear_integers(const struct backend *b)
{
    static const struct codec *const codecs[] = {
        &codec_q8_0, &codec_q4_0, &codec_q4_1,   &codec_q4_k,   &codec_q5_k,
        &codec_q6_k, &codec_q2_k, &codec_iq4_nl, &codec_iq4_xs, &codec_mxfp4};
    static const size_t inputs[] = {256, 768, 1280};
    static const int rows[] = {1, 2, 3, 4, 5, 13, 70};
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        rig_open_integers(&r, b, shape_acts[a], 2,
                          &(struct device_limits){.rows = 530, .hidden = 1280});
        for (size_t i = 0; i < COUNT(codecs) * COUNT(inputs); i++) {
            const struct codec *c = codecs[i % COUNT(codecs)];
            size_t k = inputs[i / COUNT(codecs)];
            int n = i + 1 < COUNT(codecs) * COUNT(inputs) ? rows[(i + a) % COUNT(rows)] : 530;
            rig_at(&r, "linear of integers: weights %s, n 50, k %zu, rows %d", c->name, k, n);
            struct linear_inputs in = coded(&r, c, 50, k, 0);
            in.integers = true;
            check_linear(&r, &in, n);
        }
        for (size_t s = 0; s < COUNT(shapes); s++)
            for (size_t f = a; f < COUNT(forms); f += 2) {
                bool int8 = forms[f].keep == WEIGHT_INT8;
                int n = shape_rows[(s + f) % COUNT(shape_rows)];
                rig_at(&r, "linear of integers: weights %s%s, n %zu, k %zu, rows %d",
                       dtype_name(forms[f].dtype), int8 ? " as int8" : "", shapes[s].n, shapes[s].k,
                       n);
                struct linear_inputs in = {rig_weight(&r, forms[f].dtype, shapes[s].n, shapes[s].k,
                                                      shapes[s].row0, shapes[s].col0),
                                           forms[f].keep, DTYPE_F32, NULL, int8};
                check_linear(&r, &in, n);
            }
        check_inside(&r, true);
        check_groups(&r, true);
        failures += rig_close(&r);
    }
    return failures;
}

/* A row with a NaN or an infinity is NaN, in all its outputs; zeros give zeros. */
int case_linear_integers_edges(const struct backend *b)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0};
    struct rig r;
    rig_open_integers(&r, b, DTYPE_F32, 1, &(struct device_limits){.rows = 8, .hidden = 256});
    rig_at(&r, "linear of integers: NaN, infinities, zeros");
    struct linear_inputs in = coded(&r, &codec_q4_1, 33, 256, 0);
    float *x = rig_values(&r, DTYPE_F32, 5 * 256, 1);
    for (size_t i = 0; i < 4; i++)
        x[i * 256 + 37] = odd[i];
    memset(x + 3 * 256, 0, 256 * sizeof *x);
    in.x = x;
    const float *y = (float *)(void *)run_linear(&r, &in, (const int[]){0, 1, 2, 3, 4}, 5);
    for (size_t i = 0; i < 5 * 33; i++)
        if (isnan(y[i]) != (i / 33 < 3) || (i / 33 == 3 && y[i] != 0))
            rig_fail(&r, "row %zu is %g", i / 33, (double)y[i]);
    return rig_close(&r);
}

/* Fills what |terms| of the equation add up to for output j (of d x value and of m), per input. */
static void terms_of(const struct rig_weight *w, size_t j, int8_t *codes, struct form_group *groups,
                     float *scratch, double *size)
{
    struct weight_form f = weight_form(&w->part, WEIGHT_KEEP);
    weight_row_grouped(&w->part, WEIGHT_KEEP, &f, j, codes, groups, scratch);
    for (size_t l = 0; l < w->part.k; l++) {
        const struct form_group *g = &groups[l / f.inner];
        int value = f.kind == FORM_I4 ? f.values[codes[l]] : codes[l];
        size[l] = fabs((double)g->d * g->scale * value) + fabs((double)g->m * g->min);
    }
}

/* y of rows x: off by no more than product.c says. */
static void check_bound(struct rig *r, const struct linear_inputs *in, const float *got,
                        size_t rows)
{
    size_t n = in->w.part.n, k = in->w.part.k;
    struct weight_form f = weight_form(&in->w.part, in->keep);
    double run = (double)form_run(&f), steps = 2 * (run + (double)k / run);
    const double *w = rig_kept(r, &in->w, in->keep);
    int8_t *codes = rig_host(r, k, 1);
    struct form_group *groups = rig_host(r, k, sizeof *groups);
    float *scratch = rig_host(r, k, sizeof *scratch);
    double *sizes = rig_host(r, k, sizeof *sizes);
    for (size_t j = 0; j < n; j++) {
        terms_of(&in->w, j, codes, groups, scratch, sizes);
        for (size_t row = 0; row < rows; row++) {
            const float *x = in->x + row * k;
            double want = 0, size = 0, y = (double)got[row * n + j];
            for (size_t l = 0; l < k; l++) {
                want += w[j * k + l] * (double)x[l];
                size += sizes[l] * fabs((double)x[l]);
            }
            if (!(fabs(y - want) <= steps * 0x1p-24 * size))
                rig_fail(r, "y[%zu][%zu] is %g, wanted %g, of terms of %g", row, j, y, want, size);
        }
    }
}

/* Inputs that are nearly alike, of weights between large minima: sums of runs cancel, and the error stays what
 * kernels/cpu/plain/product.c says. */
int case_linear_cancels(const struct backend *b)
{
    enum { N = 37, K = 1280, ROWS = 13 };
    static const struct codec *const codecs[] = {&codec_q4_1, &codec_q4_k, &codec_q5_k,
                                                 &codec_q2_k};
    int failures = 0, all[ROWS];
    struct device_limits limits = {.rows = ROWS, .hidden = K};
    for (size_t i = 0; i < 2 * COUNT(codecs); i++) {
        struct rig r;
        rig_open(&r, b, shape_acts[i % 2], DTYPE_BF16, 2, &limits);
        rig_at(&r, "linear: weights %s, inputs around 1", codecs[i / 2]->name);
        struct linear_inputs in = coded(&r, codecs[i / 2], N, K, 0);
        float *x = rig_values(&r, r.act, ROWS * K, 0.0625);
        for (size_t j = 0; j < ROWS * K; j++)
            x[j] = f32_from_bf16(bf16_from_f32(1 + x[j]));
        for (int row = 0; row < ROWS; row++)
            all[row] = row;
        in.x = x;
        const float *got = (const float *)(const void *)run_linear(&r, &in, all, ROWS);
        check_bound(&r, &in, got, ROWS);
        failures += rig_close(&r);
    }
    return failures;
}

int case_linear_invariance(const struct backend *b)
{
    int failures = 0, total = 131;
    for (size_t a = 0; a < COUNT(shape_acts); a++)
        for (size_t f = 0; f < COUNT(forms); f++) {
            struct rig r;
            if (forms[f].keep == WEIGHT_INT8 && a == f % 2)
                rig_open_integers(&r, b, shape_acts[a], 1, &rig_limits);
            else
                rig_open(&r, b, shape_acts[a], DTYPE_BF16, 1, &rig_limits);
            for (size_t s = 2 + (a + f) % 2; s < 7; s += 2) {
                rig_at(&r, "weights %s%s, n %zu, k %zu", dtype_name(forms[f].dtype),
                       forms[f].keep == WEIGHT_INT8 ? " as int8" : "", shapes[s].n, shapes[s].k);
                struct linear_inputs in = {rig_weight(&r, forms[f].dtype, shapes[s].n, shapes[s].k,
                                                      shapes[s].row0, shapes[s].col0),
                                           forms[f].keep, f % 2 ? DTYPE_F32 : r.act, NULL, false};
                in.x = rig_values(&r, r.act, (size_t)total * shapes[s].k, 1);
                rig_keep(&r);
                struct row_op op = {"linear", &in, shapes[s].n * sizeof(float), true, run_linear};
                rig_invariance(&r, &op, total);
            }
            failures += rig_close(&r);
        }
    static const struct codec *const codecs[] = {&codec_q4_k, &codec_q6_k, &codec_mxfp4};
    for (size_t i = 0; i < COUNT(codecs); i++) {
        struct rig r;
        rig_open(&r, b, DTYPE_BF16, DTYPE_BF16, 1, &rig_limits);
        rig_at(&r, "weights %s, n 40, k 256", codecs[i]->name);
        struct linear_inputs in = coded(&r, codecs[i], 40, 256, 0);
        in.x = rig_values(&r, DTYPE_BF16, (size_t)total * 256, 1);
        rig_keep(&r);
        struct row_op op = {"linear", &in, 40 * sizeof(float), true, run_linear};
        rig_invariance(&r, &op, total);
        failures += rig_close(&r);
    }
    return failures;
}
