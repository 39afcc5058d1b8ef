/* case_wire.c - the number formats of the exchange. */
#include "tests/kernels/cases.h"
#include "tests/kernels/rig.h"
#include "tests/kernels/shapes.h"

#include <math.h>
#include <string.h>

struct wire_inputs {
    const float *x;
    int width;
    enum dtype wire;
};

static size_t groups_of(int width)
{
    return ((size_t)width + 127) / 128;
}

/* Encodes and decodes the rows: rows of wire, scales (FP8), and rows of the activation dtype. */
static unsigned char *run_wire(struct rig *r, const void *inputs, const int *rows, int n)
{
    const struct wire_inputs *in = inputs;
    size_t width = (size_t)in->width, count = (size_t)n * width, groups = groups_of(in->width);
    size_t coded = width * dtype_size(in->wire), scaled = groups * sizeof(float);
    size_t plain = width * dtype_size(r->act);
    void *x = rig_put_values(r, r->act, rig_pick(r, in->x, width, rows, n), count);
    bool fp8 = in->wire == DTYPE_F8E4M3;
    unsigned char *to = rig_room(r, (size_t)n * coded);
    float *scales = fp8 ? rig_room(r, (size_t)n * scaled) : NULL;
    unsigned char *back = rig_room(r, (size_t)n * plain);
    const struct rows own = {r->act, x, NULL, width}, sent = {in->wire, to, scales, width};
    const struct rows again = {r->act, back, NULL, width};
    r->ops->copy(r->d, r->s, &own, &sent, n, in->width);
    r->ops->copy(r->d, r->s, &sent, &again, n, in->width);

    const unsigned char *codes = rig_get(r, to, (size_t)n * coded);
    const unsigned char *decoded = rig_get(r, back, (size_t)n * plain);
    const unsigned char *s = fp8 ? rig_get(r, scales, (size_t)n * scaled) : NULL;
    unsigned char *out = rig_host(r, (size_t)n, coded + scaled + plain), *p = out;
    for (size_t i = 0; i < (size_t)n; i++, p += coded + scaled + plain) {
        memcpy(p, codes + i * coded, coded);
        if (fp8)
            memcpy(p + coded, s + i * scaled, scaled);
        memcpy(p + coded + scaled, decoded + i * plain, plain);
    }
    return out;
}

/* One row of FP8: the scale, that each code is a nearest one, and that decoding multiplies. */
static void check_fp8_row(struct rig *r, const float *x, size_t width, const unsigned char *codes,
                          const float *scales, const float *back)
{
    for (size_t first = 0; first < width; first += 128) {
        size_t end = first + 128 < width ? first + 128 : width;
        double most = 0, scale = (double)scales[first / 128];
        for (size_t j = first; j < end; j++)
            most = fmax(most, fabs((double)x[j]));
        double wanted = most > 0 ? most / 448 : 1;
        if (!(fabs(scale - wanted) <= 1e-6 * wanted))
            rig_fail(r, "the scale of column %zu is %.9g, wanted %.9g", first, scale, wanted);
        for (size_t j = first; j < end; j++) {
            double got = (double)f32_from_f8e4m3(codes[j]) * scale, value = (double)x[j];
            double half_step = fmax(fabs(value) / 16, scale / 1024) * (1 + 1e-5);
            if (!(fabs(got - value) <= half_step))
                rig_fail(r, "column %zu: %.9g became code %02x, %.9g", j, value, codes[j], got);
            if (!(fabs((double)back[j] - got) <=
                  fabs(got) * (r->act == DTYPE_F32 ? 1e-6 : 1.0 / 256)))
                rig_fail(r, "column %zu: %.9g was decoded as %.9g", j, got, (double)back[j]);
        }
    }
}

static void check_wire(struct rig *r, const struct wire_inputs *in, int n)
{
    int rows[64];
    for (int i = 0; i < n; i++)
        rows[i] = i;
    size_t width = (size_t)in->width;
    size_t coded = width * dtype_size(in->wire), scaled = groups_of(in->width) * sizeof(float);
    const unsigned char *p = run_wire(r, in, rows, n);
    for (size_t i = 0; i < (size_t)n; i++) {
        const float *x = in->x + i * width;
        float *scales = rig_host(r, scaled, 1);
        memcpy(scales, p + coded, scaled);
        const float *back = rig_decode(r, r->act, p + coded + scaled, width);
        if (in->wire == DTYPE_F8E4M3) {
            check_fp8_row(r, x, width, p, scales, back);
        } else {
            rig_same_bytes(r, "row", p, rig_encode(r, in->wire, x, width), coded);
            const float *sent = rig_decode(r, in->wire, p, width);
            rig_same_bytes(r, "decoded", rig_encode(r, r->act, back, width),
                           rig_encode(r, r->act, sent, width), width * dtype_size(r->act));
        }
        p += coded + scaled + width * dtype_size(r->act);
    }
    rig_clear(r);
}

/* Rows of all magnitudes, some groups all zero, one group all zero but for its last column. */
static struct wire_inputs wire_inputs(struct rig *r, int width, int n, enum dtype wire)
{
    size_t w = (size_t)width;
    float *x = rig_values(r, r->act, (size_t)n * w, 1);
    for (size_t i = 0; i < (size_t)n; i++)
        for (size_t j = 0; j < w; j++) {
            x[i * w + j] *= ldexpf(1, (int)(i % 7) * 8 - 24);
            if (i % 3 == 1 && (j / 128 + i / 3) % 2 == 0)
                x[i * w + j] = 0;
            if (i % 3 == 2 && j + 1 < w && j < 128)
                x[i * w + j] = 0;
        }
    return (struct wire_inputs){x, width, wire};
}

int case_wire(const struct backend *b)
{
    static const enum dtype wires[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F8E4M3};
    static const int widths[] = {1, 65, 127, 128, 129, 300};
    int failures = 0;
    for (size_t a = 0; a < COUNT(shape_acts); a++) {
        struct rig r;
        rig_open(&r, b, shape_acts[a], DTYPE_BF16, 2, &rig_limits);
        for (size_t t = 0; t < COUNT(wires); t++)
            for (size_t w = 0; w < COUNT(widths); w++)
                for (size_t n = 0; n < COUNT(shape_rows); n++) {
                    rig_at(&r, "wire %s: width %d, rows %d", dtype_name(wires[t]), widths[w],
                           shape_rows[n]);
                    struct wire_inputs in = wire_inputs(&r, widths[w], shape_rows[n], wires[t]);
                    check_wire(&r, &in, shape_rows[n]);
                }
        rig_at(&r, "wire fp8");
        struct wire_inputs in = wire_inputs(&r, 129, 131, DTYPE_F8E4M3);
        rig_keep(&r);
        size_t row = 129 + 2 * sizeof(float) + 129 * dtype_size(r.act);
        rig_invariance(&r, &(struct row_op){"wire", &in, row, true, run_wire}, 131);
        failures += rig_close(&r);
    }
    return failures;
}
