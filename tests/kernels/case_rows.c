/* case_rows.c - the device itself, and the operations that go through rows one by one: embed,
 * residual_norm, norm, sum, gather. */
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"
#include "tests/kernels/shapes.h"

#include <math.h>
#include <string.h>

/* ---- device ---------------------------------------------------------------------------------- */

/* Copies keep their bytes and order, zero() zeroes just what it is told, events happen. */
int case_device(const struct backend *b)
{
    struct rig r;
    rig_open(&r, b, DTYPE_F32, DTYPE_F32, 1, &rig_limits);
    rig_at(&r, "device");
    char text[200] = "";
    b->device->describe(r.d, text, sizeof text);
    if (strlen(text) == 0 || b->device->memory_free(r.d) < 1 << 20)
        rig_fail(&r, "description \"%s\", %zu bytes free", text, b->device->memory_free(r.d));
    for (size_t i = 0; i < COUNT(shape_widths); i++) {
        size_t bytes = (size_t)shape_widths[i] * 3;
        unsigned char *from = b->device->alloc_host(r.d, bytes), *to = rig_host(&r, bytes, 1);
        for (size_t j = 0; j < bytes; j++)
            from[j] = (unsigned char)(j * 7 + 1);
        unsigned char *device = rig_room(&r, bytes);
        struct event *begin = b->device->event_create(r.d), *end = b->device->event_create(r.d);
        struct stream *second = b->device->stream_create(r.d);
        b->device->event_record(r.d, begin, r.s);
        b->device->upload(r.d, r.s, device, from, bytes);
        b->device->zero(r.d, r.s, device + 1, bytes / 2);
        b->device->event_record(r.d, end, r.s);
        b->device->stream_wait(r.d, second, end);
        b->device->download(r.d, second, to, device, bytes);
        b->device->stream_sync(r.d, second);
        memset(from + 1, 0, bytes / 2);
        rig_same_bytes(&r, "copy", to, from, bytes);
        if (!b->device->event_done(r.d, begin) || !b->device->event_done(r.d, end) ||
            !(b->device->event_seconds(r.d, begin, end) >= 0))
            rig_fail(&r, "events before a synchronized stream have not happened");
        b->device->event_destroy(r.d, begin);
        b->device->event_destroy(r.d, end);
        b->device->stream_destroy(r.d, second);
        b->device->release_host(r.d, from);
        rig_clear(&r);
    }
    return rig_close(&r);
}

/* ---- embed ----------------------------------------------------------------------------------- */

struct embed_inputs {
    struct rig_weight table;
    const int32_t *ids;
    int width;
};

static int32_t *picked_ids(struct rig *r, const int32_t *ids, const int *rows, int n)
{
    int32_t *picked = rig_host(r, (size_t)n, sizeof *picked);
    for (int i = 0; i < n; i++)
        picked[i] = ids[rows[i]];
    return picked;
}

static unsigned char *run_embed(struct rig *r, const void *inputs, const int *rows, int n)
{
    const struct embed_inputs *in = inputs;
    size_t bytes = (size_t)n * (size_t)in->width * sizeof(float);
    struct weight *table = r->ops->table_create(r->d, &in->table.part);
    int32_t *ids = rig_put(r, picked_ids(r, in->ids, rows, n), (size_t)n * sizeof *ids);
    float *x = rig_room(r, bytes);
    r->ops->embed(r->d, r->s, table, ids, n, x);
    unsigned char *out = rig_get(r, x, bytes);
    r->ops->weight_destroy(r->d, table);
    return out;
}

static struct embed_inputs embed_inputs(struct rig *r, enum dtype t, int width, int n)
{
    size_t vocab = 131;
    struct embed_inputs in = {rig_weight(r, t, vocab, (size_t)width, 0, 0), NULL, width};
    int32_t *ids = rig_host(r, (size_t)n, sizeof *ids);
    for (int i = 0; i < n; i++)
        ids[i] = i == 0 ? 130 : (int32_t)(rig_uniform(r) * (double)vocab);
    in.ids = ids;
    return in;
}

static void check_embed(struct rig *r, enum dtype t, int width, int n)
{
    int rows[64];
    for (int i = 0; i < n; i++)
        rows[i] = i;
    struct embed_inputs in = embed_inputs(r, t, width, n);
    const float *x = (const float *)(const void *)run_embed(r, &in, rows, n);
    double *want = rig_host(r, (size_t)n * (size_t)width, sizeof *want);
    for (int i = 0; i < n; i++)
        memcpy(want + i * width, in.table.value + in.ids[i] * width, (size_t)width * sizeof *want);
    /* The FP8 table is a product with its scale, rounded once; the others are exact. */
    rig_compare(r, "x", x, want, (size_t)n, (size_t)width, NULL, t == DTYPE_F8E4M3 ? 1e-6 : 0);
    rig_clear(r);
}

int case_embed(const struct backend *b)
{
    static const enum dtype tables[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F8E4M3};
    struct rig r;
    rig_open(&r, b, DTYPE_BF16, DTYPE_BF16, 2, &rig_limits);
    for (size_t t = 0; t < COUNT(tables); t++)
        for (size_t w = 0; w < COUNT(shape_widths); w++)
            for (size_t n = 0; n < COUNT(shape_rows); n++) {
                rig_at(&r, "embed: table %s, width %d, rows %d", dtype_name(tables[t]),
                       shape_widths[w], shape_rows[n]);
                check_embed(&r, tables[t], shape_widths[w], shape_rows[n]);
            }
    return rig_close(&r);
}

/* ---- residual_norm --------------------------------------------------------------------------- */

#define MAX_PARTS 5

struct norm_inputs {
    const float *x, *gain, *parts[MAX_PARTS];
    int n_parts, width;
    enum dtype part;
    bool only_add;
};

static struct norm_inputs norm_inputs(struct rig *r, int width, int n, int n_parts, enum dtype part)
{
    struct norm_inputs in = {.n_parts = n_parts, .width = width, .part = part};
    size_t count = (size_t)n * (size_t)width;
    in.x = rig_values(r, DTYPE_F32, count, 3);
    in.gain = rig_values(r, DTYPE_F32, (size_t)width, 2);
    for (int p = 0; p < n_parts; p++)
        in.parts[p] = rig_values(r, part == DTYPE_F64 ? DTYPE_F32 : part, count, p == 1 ? 1000 : 1);
    return in;
}

/* Of f64 parts the second has what f32 could not hold beside it. */
static void *put_part(struct rig *r, enum dtype t, int p, const float *values, size_t n)
{
    if (t != DTYPE_F64)
        return rig_put_values(r, t, values, n);
    double *wide = rig_host(r, n, sizeof *wide);
    for (size_t i = 0; i < n; i++)
        wide[i] = p == 1 ? (double)values[i] + 0x1p-30 : (double)values[i];
    return rig_put(r, wide, n * sizeof *wide);
}

static float reference_sum(const struct norm_inputs *in, size_t at)
{
    float sum = in->x[at]; /* f32 additions in order: exactly these */
    double exact = 0;
    for (int p = 0; p < in->n_parts; p++) {
        sum += in->parts[p][at];
        exact += p == 1 ? (double)in->parts[p][at] + 0x1p-30 : (double)in->parts[p][at];
    }
    return in->part == DTYPE_F64 && in->n_parts > 0 ? in->x[at] + (float)exact : sum;
}

/* Rows of x as it is afterwards, then rows of y as f32. */
static unsigned char *run_residual_norm(struct rig *r, const void *inputs, const int *rows, int n)
{
    const struct norm_inputs *in = inputs;
    size_t width = (size_t)in->width, count = (size_t)n * width;
    float *x = rig_put_values(r, DTYPE_F32, rig_pick(r, in->x, width, rows, n), count);
    float *gain = rig_put_values(r, DTYPE_F32, in->gain, width);
    const void *parts[MAX_PARTS];
    for (int p = 0; p < in->n_parts; p++)
        parts[p] = put_part(r, in->part, p, rig_pick(r, in->parts[p], width, rows, n), count);
    void *y = in->only_add ? NULL : rig_room(r, count * dtype_size(r->act));
    r->ops->residual_norm(r->d, r->s, x, parts, in->n_parts, in->part, gain, 1e-5f, n, in->width,
                          y);
    const float *sums = rig_get(r, x, count * sizeof(float));
    const float *norms = y ? rig_get_values(r, r->act, y, count) : sums;
    float *out = rig_host(r, 2 * count, sizeof *out);
    for (size_t i = 0; i < (size_t)n; i++) {
        memcpy(out + 2 * i * width, sums + i * width, width * sizeof *out);
        memcpy(out + (2 * i + 1) * width, norms + i * width, width * sizeof *out);
    }
    return (unsigned char *)out;
}

static void reference_norm(const float *x, const float *gain, size_t width, double *y)
{
    double sum = 0;
    for (size_t j = 0; j < width; j++)
        sum += (double)x[j] * (double)x[j];
    for (size_t j = 0; j < width; j++)
        y[j] = (double)x[j] / sqrt(sum / (double)width + 1e-5) * (double)gain[j];
}

static void check_residual_norm(struct rig *r, const struct norm_inputs *in, int n)
{
    int rows[64];
    for (int i = 0; i < n; i++)
        rows[i] = i;
    size_t width = (size_t)in->width;
    const float *got = (const float *)(const void *)run_residual_norm(r, in, rows, n);
    float *sum = rig_host(r, width, sizeof *sum);
    double *want = rig_host(r, width, sizeof *want);
    for (size_t i = 0; i < (size_t)n; i++) {
        for (size_t j = 0; j < width; j++)
            sum[j] = reference_sum(in, i * width + j);
        rig_same_bytes(r, "x", got + 2 * i * width, sum, width * sizeof *sum);
        reference_norm(sum, in->gain, width, want);
        if (!in->only_add)
            rig_compare(r, "y", got + (2 * i + 1) * width, want, 1, width, NULL,
                        rig_tolerance(r->act));
    }
    rig_clear(r);
}

int case_residual_norm(const struct backend *b)
{
    static const int part_counts[] = {0, 1, 2, MAX_PARTS};
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        rig_open(&r, b, shape_acts[a], DTYPE_BF16, 2, &rig_limits);
        for (size_t w = 0; w < COUNT(shape_widths); w++)
            for (size_t n = 0; n < COUNT(shape_rows); n++)
                for (size_t p = 0; p < COUNT(part_counts); p++) {
                    static const enum dtype formats[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F64};
                    enum dtype part = formats[(w + n + p) % COUNT(formats)];
                    rig_at(&r, "residual_norm: width %d, rows %d, %d parts %s", shape_widths[w],
                           shape_rows[n], part_counts[p], dtype_name(part));
                    struct norm_inputs in =
                        norm_inputs(&r, shape_widths[w], shape_rows[n], part_counts[p], part);
                    in.only_add = n % 3 == 1;
                    check_residual_norm(&r, &in, shape_rows[n]);
                }
        failures += rig_close(&r);
    }
    return failures;
}

/* ---- norm ------------------------------------------------------------------------------------ */

static unsigned char *run_norm(struct rig *r, const void *inputs, const int *rows, int n)
{
    const struct norm_inputs *in = inputs;
    size_t width = (size_t)in->width, count = (size_t)n * width;
    void *x = rig_put_values(r, r->act, rig_pick(r, in->x, width, rows, n), count);
    float *gain = rig_put_values(r, DTYPE_F32, in->gain, width);
    void *y = in->only_add ? x : rig_room(r, count * dtype_size(r->act)); /* in place as well */
    const struct rows from = {r->act, x, NULL, width}, to = {r->act, y, NULL, width};
    r->ops->norm(r->d, r->s, &from, gain, 1e-5f, n, in->width, &to);
    return (unsigned char *)rig_get_values(r, r->act, y, count);
}

int case_norm(const struct backend *b)
{
    int failures = 0, rows[64];
    for (int i = 0; i < 64; i++)
        rows[i] = i;
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        rig_open(&r, b, shape_acts[a], DTYPE_BF16, 2, &rig_limits);
        for (size_t w = 0; w < COUNT(shape_widths); w++)
            for (size_t i = 0; i < COUNT(shape_rows); i++) {
                int n = shape_rows[i];
                size_t width = (size_t)shape_widths[w];
                struct norm_inputs in = norm_inputs(&r, shape_widths[w], n, 0, DTYPE_F32);
                in.x = rig_values(&r, r.act, (size_t)n * width, 1e-3 * pow(10, (double)(i % 4)));
                in.only_add = i % 2;
                rig_at(&r, "norm: width %zu, rows %d", width, n);
                double *want = rig_host(&r, (size_t)n * width, sizeof *want);
                for (size_t row = 0; row < (size_t)n; row++)
                    reference_norm(in.x + row * width, in.gain, width, want + row * width);
                rig_compare(&r, "y", (const float *)(const void *)run_norm(&r, &in, rows, n), want,
                            (size_t)n, width, NULL, rig_tolerance(r.act));
                rig_clear(&r);
            }
        failures += rig_close(&r);
    }
    return failures;
}

/* ---- sum ------------------------------------------------------------------------------------- */

/* Additions in f32 and in order, then one rounding: exactly these numbers. */
static void check_sum(struct rig *r, enum dtype t, size_t count, int n_parts, int n, int width)
{
    const float *values[MAX_PARTS];
    const void *parts[MAX_PARTS];
    for (int p = 0; p < n_parts; p++) {
        values[p] = rig_values(r, t, count, p == 1 ? 1000 : 1);
        parts[p] = rig_put_values(r, t, values[p], count);
    }
    float *want = rig_host(r, count, sizeof *want);
    for (size_t i = 0; i < count; i++) {
        want[i] = values[0][i];
        for (int p = 1; p < n_parts; p++)
            want[i] += values[p][i];
    }
    void *out = rig_room(r, count * dtype_size(t));
    r->ops->sum(r->d, r->s, parts, n_parts, t, n, width, out);
    rig_same_bytes(r, "out", rig_get(r, out, count * dtype_size(t)), rig_encode(r, t, want, count),
                   count * dtype_size(t));
    rig_clear(r);
}

int case_sum(const struct backend *b)
{
    static const int part_counts[] = {1, 2, 3, MAX_PARTS};
    struct rig r;
    rig_open(&r, b, DTYPE_BF16, DTYPE_BF16, 2, &rig_limits);
    for (size_t w = 0; w < COUNT(shape_widths); w++)
        for (size_t n = 0; n < COUNT(shape_rows); n++)
            for (size_t p = 0; p < COUNT(part_counts); p++)
                for (size_t t = 0; t < COUNT(shape_acts); t++) {
                    size_t count = (size_t)shape_rows[n] * (size_t)shape_widths[w];
                    rig_at(&r, "sum: %d parts %s, width %d, rows %d", part_counts[p],
                           dtype_name(shape_acts[t]), shape_widths[w], shape_rows[n]);
                    check_sum(&r, shape_acts[t], count, part_counts[p], shape_rows[n],
                              shape_widths[w]);
                }
    return rig_close(&r);
}

/* ---- gather ---------------------------------------------------------------------------------- */

int case_gather(const struct backend *b)
{
    struct rig r;
    rig_open(&r, b, DTYPE_BF16, DTYPE_BF16, 2, &rig_limits);
    for (size_t w = 0; w < COUNT(shape_widths); w++)
        for (size_t i = 0; i < COUNT(shape_rows); i++) {
            size_t width = (size_t)shape_widths[w], n = (size_t)shape_rows[i], from = 19;
            rig_at(&r, "gather: width %zu, rows %zu", width, n);
            const float *x = rig_values(&r, DTYPE_F32, from * width, 1);
            int32_t *index = rig_host(&r, n, sizeof *index);
            float *want = rig_host(&r, n * width, sizeof *want);
            for (size_t j = 0; j < n; j++) {
                index[j] = j == 0 ? 18 : (int32_t)(rig_uniform(&r) * (double)from);
                memcpy(want + j * width, x + (size_t)index[j] * width, width * sizeof *want);
            }
            float *y = rig_room(&r, n * width * sizeof *y);
            r.ops->gather(r.d, r.s, rig_put(&r, x, from * width * sizeof *x),
                          rig_put(&r, index, n * sizeof *index), (int)n, (int)width, y);
            rig_same_bytes(&r, "y", rig_get(&r, y, n * width * sizeof *y), want,
                           n * width * sizeof *want);
            rig_clear(&r);
        }
    return rig_close(&r);
}

/* ---- invariance ------------------------------------------------------------------------------ */

int case_rows_invariance(const struct backend *b)
{
    int failures = 0, total = 131;
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        rig_open(&r, b, shape_acts[a], DTYPE_BF16, 1, &rig_limits);
        for (size_t w = 1; w < COUNT(shape_widths); w += 2) {
            int width = shape_widths[w];
            rig_at(&r, "width %d", width);
            struct norm_inputs in = norm_inputs(&r, width, total, 3, DTYPE_BF16);
            struct norm_inputs plain = in;
            plain.x = rig_values(&r, r.act, (size_t)total * (size_t)width, 1);
            struct embed_inputs embed = embed_inputs(&r, DTYPE_F8E4M3, width, total);
            rig_keep(&r);
            size_t row = (size_t)width * sizeof(float);
            rig_invariance(&r,
                           &(struct row_op){"residual_norm", &in, 2 * row, true, run_residual_norm},
                           total);
            rig_invariance(&r, &(struct row_op){"norm", &plain, row, true, run_norm}, total);
            rig_invariance(&r, &(struct row_op){"embed", &embed, row, false, run_embed}, total);
        }
        failures += rig_close(&r);
    }
    return failures;
}
