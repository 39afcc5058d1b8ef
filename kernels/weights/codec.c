#include "kernels/weights/codec.h"

#include "base/err.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Longest block of a codec, in columns. */
#define BLOCK_MAX 256
/* Inputs in a group of WEIGHT_INT4. */
#define INT4_GROUP 32

const int8_t codec_identity[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
const int8_t codec_centered[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
const int8_t codec_curve[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                1,    13,   25,  38,  53,  69,  89,  113};

const struct codec *const *codec_all(void)
{
    static const struct codec *const all[] = {
        &codec_f32,        &codec_bf16,
        &codec_f16,        &codec_fp8,
        &codec_int8,       &codec_q8_0,
        &codec_q4_0,       &codec_q4_1,
        &codec_q5_0,       &codec_q5_1,
        &codec_q2_k,       &codec_q3_k,
        &codec_q4_k,       &codec_q5_k,
        &codec_q6_k,       &codec_iq4_nl,
        &codec_iq4_xs,     &codec_mxfp4,
        &codec_awq,        &codec_packed4,
        &codec_packed8,    &codec_mxfp4_apart,
        &codec_turned_f32, &codec_turned_bf16,
        &codec_turned_f16, NULL,
    };
    return all;
}

const struct codec *codec_of(enum dtype t)
{
    static const struct codec *const of[DTYPE_COUNT] = {[DTYPE_F32] = &codec_f32,
                                                        [DTYPE_BF16] = &codec_bf16,
                                                        [DTYPE_F8E4M3] = &codec_fp8,
                                                        [DTYPE_I8] = &codec_int8,
                                                        [DTYPE_F16] = &codec_f16};
    return of[t];
}

const struct codec *codec_turned(enum dtype t)
{
    return t == DTYPE_F32    ? &codec_turned_f32
           : t == DTYPE_BF16 ? &codec_turned_bf16
           : t == DTYPE_F16  ? &codec_turned_f16
                             : NULL;
}

float codec_number(const void *array, enum dtype t, size_t at)
{
    if (t == DTYPE_F32)
        return ((const float *)array)[at];
    uint16_t bits = ((const uint16_t *)array)[at];
    return t == DTYPE_F16 ? f32_from_f16(bits) : f32_from_bf16(bits);
}

float codec_scale(const struct weight_part *w, size_t row, size_t column)
{
    size_t i = w->scale_rows ? row / w->scale_rows : 0;
    size_t j = w->scale_columns ? column / w->scale_columns : 0;
    return codec_number(w->scale, w->scale_dtype, i * w->scale_stride + j);
}

/* ---- the form of a part --------------------------------------------------------------------- */

static struct weight_form form_int8(size_t k)
{
    return (struct weight_form){.kind = FORM_I8,
                                .factor = DTYPE_F32,
                                .outer = form_whole_row(k),
                                .inner = form_whole_row(k)};
}

static struct weight_form form_int4(void)
{
    return (struct weight_form){.kind = FORM_I4,
                                .values = codec_identity,
                                .factor = DTYPE_F16,
                                .outer = INT4_GROUP,
                                .inner = INT4_GROUP,
                                .mins = MINS_OUTER};
}

struct weight_form weight_form(const struct weight_part *w, enum weight_keep keep)
{
    static const struct weight_form plain = {.kind = FORM_F32};
    struct weight_form f = {0};
    if (keep == WEIGHT_INT8)
        return form_int8(w->k);
    if (keep == WEIGHT_INT4)
        return form_int4();
    w->codec->form(w, &f);
    if (!form_is_grouped(f.kind))
        return f;
    /* 0: the whole row. A part of it is one group as well. */
    if (f.outer == 0)
        f.outer = f.inner = form_whole_row(w->k);
    else if (w->col0 % f.inner)
        return plain;
    else if (w->col0 % f.outer)
        f.outer = f.inner; /* d and m are then repeated for every inner group */
    return f;
}

size_t form_row_bytes(const struct weight_form *f, size_t k)
{
    static const size_t bits[] = {
        [FORM_F32] = 32, [FORM_BF16] = 16, [FORM_F8] = 8, [FORM_I8] = 8, [FORM_I4] = 4};
    size_t bytes = (mem_mul(k, bits[f->kind]) + 7) / 8;
    if (!form_is_grouped(f->kind))
        return bytes;
    size_t factors = f->mins == MINS_OUTER || f->mins == MINS_INNER ? 2 : 1;
    size_t smalls = (f->scales ? 1 : 0) + (f->mins == MINS_INNER || f->mins == MINS_SHARED ? 1 : 0);
    return bytes + form_groups(k, f->outer) * factors * dtype_size(f->factor) +
           form_groups(k, f->inner) * smalls;
}

size_t weight_granule(const struct weight_part *w)
{
    struct weight_form f = {0};
    w->codec->form(w, &f);
    if (f.kind == FORM_F8)
        return 128;
    return form_is_grouped(f.kind) && f.outer ? f.inner : 1;
}

struct weight_stored weight_stored(const struct weight_part *w)
{
    const struct codec *c = w->codec;
    size_t step = w->step ? w->step : 1;
    if (c->word) {
        bool numbers = c->numbers; /* else eight to a word */
        return (struct weight_stored){mem_mul(w->stride, c->word), numbers ? 1 : 8, c->word * step,
                                      true};
    }
    struct weight_stored s = {.unit = c->block, .unit_bytes = c->block_bytes};
    if (c == &codec_packed4 || c == &codec_packed8)
        s = (struct weight_stored){.unit = c == &codec_packed4 ? 8 : 4, .unit_bytes = 4};
    s.row_bytes = mem_mul((w->stride + s.unit - 1) / s.unit, s.unit_bytes * step);
    return s;
}

size_t weight_data_bytes(const struct weight_part *w, size_t rows)
{
    const struct codec *c = w->codec;
    return mem_mul(mem_mul(rows, w->stride / c->block), c->block_bytes);
}

/* ---- rows ----------------------------------------------------------------------------------- */

/* Columns first .. first + n - 1 of the whole matrix's row, for codecs that read whole blocks. */
static void codes_of(const struct weight_part *w, size_t row, size_t first, size_t n, int8_t *to)
{
    size_t block = w->codec->block, lead = first % block;
    int8_t one[BLOCK_MAX];
    if (lead && n) {
        size_t some = block - lead < n ? block - lead : n;
        w->codec->codes(w, row, first - lead, block, one);
        memcpy(to, one + lead, some);
        first += some;
        to += some;
        n -= some;
    }
    size_t whole = n / block * block;
    if (whole)
        w->codec->codes(w, row, first, whole, to);
    if (n > whole) {
        w->codec->codes(w, row, first + whole, block, one);
        memcpy(to + whole, one, n - whole);
    }
}

/* A grouped codec in f32. first may lie inside a group. */
static void decode(const struct weight_part *w, size_t row, float *to)
{
    struct weight_form f = {0};
    w->codec->form(w, &f);
    size_t end = w->col0 + w->k;
    for (size_t at = w->col0; at < end;) {
        int8_t codes[BLOCK_MAX];
        struct form_group g = {0};
        size_t begin = f.inner ? at / f.inner * f.inner : 0;
        size_t stop = f.inner && begin + f.inner < end ? begin + f.inner : end;
        w->codec->group(w, row, begin, &g);
        while (at < stop) {
            size_t n = stop - at < BLOCK_MAX ? stop - at : BLOCK_MAX;
            codes_of(w, row, at, n, codes);
            for (size_t i = 0; i < n; i++)
                *to++ = form_value(&g, f.kind == FORM_I4 ? f.values[codes[i]] : codes[i]);
            at += n;
        }
    }
}

static size_t stored_row(const struct weight_part *w, size_t row)
{
    return (w->row0 + row) * (w->step ? w->step : 1) + w->phase;
}

void weight_row(const struct weight_part *w, size_t row, float *to)
{
    if (w->codec->numbers)
        w->codec->numbers(w, stored_row(w, row), w->col0, w->k, to);
    else
        decode(w, stored_row(w, row), to);
}

static float step_int8(const float *row, size_t k)
{
    float most = 0;
    for (size_t i = 0; i < k; i++)
        most = fmaxf(most, fabsf(row[i]));
    return most / 127.0f;
}

static int8_t nearest_int8(float value, float d)
{
    return d > 0 ? (int8_t)lrintf(value / d) : 0;
}

/* The step of a row is that of the whole matrix's row: however columns are shared out, it is the same. */
static float whole_step_int8(const struct weight_part *w, size_t row, const float *values)
{
    size_t columns = w->codec->word ? w->inputs : w->stride;
    if (w->most)
        return w->most[row] / 127.0f;
    if (w->k == columns)
        return step_int8(values, w->k);
    struct weight_part whole = *w;
    whole.col0 = 0;
    whole.k = columns;
    float *all = mem_new(whole.k, sizeof *all);
    weight_row(&whole, row, all);
    float step = step_int8(all, whole.k);
    free(all);
    return step;
}

/* Steps from the smallest to the largest value. Both factors are rounded to F16 before the codes are
 * chosen, so that every code is the nearest to what will be computed with. */
static void quantize_int4(const float *row, size_t n, int8_t *codes, struct form_group *g)
{
    float low = row[0], high = row[0];
    for (size_t i = 1; i < n; i++) {
        low = fminf(low, row[i]);
        high = fmaxf(high, row[i]);
    }
    float d = f32_from_f16(f16_from_f32((high - low) / 15.0f));
    float m = f32_from_f16(f16_from_f32(-low));
    *g = (struct form_group){.d = d, .m = m, .scale = 1, .min = 1};
    for (size_t i = 0; i < n; i++) {
        float q = d > 0 ? rintf((row[i] + m) / d) : 0;
        codes[i] = (int8_t)(q < 0 ? 0 : q > 15 ? 15 : q);
    }
}

void weight_row_grouped(const struct weight_part *w, enum weight_keep keep,
                        const struct weight_form *f, size_t row, int8_t *codes,
                        struct form_group *groups, float *scratch)
{
    if (keep == WEIGHT_KEEP) {
        size_t stored = stored_row(w, row), n = form_groups(w->k, f->inner);
        codes_of(w, stored, w->col0, w->k, codes);
        for (size_t i = 0; i < n; i++)
            w->codec->group(w, stored, w->col0 + i * f->inner, &groups[i]);
        return;
    }
    weight_row(w, row, scratch);
    if (keep == WEIGHT_INT8) {
        if (w->k)
            *groups = (struct form_group){.d = whole_step_int8(w, row, scratch), .scale = 1};
        for (size_t i = 0; i < w->k; i++)
            codes[i] = nearest_int8(scratch[i], groups->d);
        return;
    }
    for (size_t first = 0; first < w->k; first += INT4_GROUP) {
        size_t n = w->k - first < INT4_GROUP ? w->k - first : INT4_GROUP;
        quantize_int4(scratch + first, n, codes + first, groups + first / INT4_GROUP);
    }
}

void weight_row_kept(const struct weight_part *w, enum weight_keep keep, size_t row, float *to)
{
    int8_t codes[INT4_GROUP];
    struct form_group g;
    weight_row(w, row, to);
    if (keep == WEIGHT_KEEP)
        return;
    if (keep == WEIGHT_INT8) {
        float d = whole_step_int8(w, row, to);
        for (size_t i = 0; i < w->k; i++)
            to[i] = d * (float)nearest_int8(to[i], d);
        return;
    }
    for (size_t first = 0; first < w->k; first += INT4_GROUP) {
        size_t n = w->k - first < INT4_GROUP ? w->k - first : INT4_GROUP;
        quantize_int4(to + first, n, codes, &g);
        for (size_t i = 0; i < n; i++)
            to[first + i] = form_value(&g, codes[i]);
    }
}

void weight_row_f8(const struct weight_part *w, size_t row, uint8_t *codes)
{
    memcpy(codes, codec_block(w, stored_row(w, row), w->col0), w->k);
}

float weight_scale(const struct weight_part *w, size_t row, size_t column)
{
    return codec_scale(w, stored_row(w, row), w->col0 + column);
}
