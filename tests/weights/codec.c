/* Checkpoint formats: random blocks decode to what the libraries that made the formats say, bit for
 * bit (codec_tables.h); parts of rows are the same numbers; what is quantized at load is near.
 *
 *     codec FORMAT < blocks > f32      for make_codec_tables.py, which compares many */
#include "kernels/weights/codec.h"

#include "base/mem.h"
#include "tests/weights/codec_tables.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT 64 /* blocks of a format, as in make_codec_tables.py */
#define OUT   24
#define IN    96

/* n bytes of splitmix64. */
static uint8_t *random_bytes(uint64_t seed, size_t n)
{
    uint8_t *bytes = mem_new(n + 8, 1);
    for (size_t i = 0; i < n; i += 8) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15u);
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        memcpy(bytes + i, &z, 8);
    }
    return bytes;
}

static uint64_t fnv(uint64_t h, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return h;
}

static const struct codec *find(const char *name)
{
    for (size_t i = 0; codec_all()[i]; i++)
        if (strcmp(codec_all()[i]->name, name) == 0)
            return codec_all()[i];
    fail_msg("no codec %s", name);
    return NULL;
}

/* Random blocks with finite f16 numbers; two rows of them. */
static uint8_t *random_rows(const struct blocks *b, size_t index, struct weight_part *w)
{
    uint8_t *data = random_bytes(100 + index, COUNT * b->bytes);
    for (size_t i = 0; i < COUNT; i++)
        for (int h = 0; h < 2; h++)
            if (b->halves[h] >= 0)
                data[i * b->bytes + (size_t)b->halves[h] + 1] &= 0xbf;
    size_t columns = COUNT / 2 * b->columns;
    *w = (struct weight_part){
        .codec = find(b->name), .data = data, .stride = columns, .n = 2, .k = columns};
    return data;
}

static void test_blocks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        struct weight_part w;
        uint8_t *data = random_rows(&blocks[i], i, &w);
        float *row = mem_new(w.k, sizeof *row);
        uint64_t h = 0xcbf29ce484222325u;
        assert_int_equal(w.codec->block, blocks[i].columns);
        assert_int_equal(weight_data_bytes(&w, 2), COUNT * blocks[i].bytes);
        for (size_t r = 0; r < 2; r++) {
            weight_row(&w, r, row);
            h = fnv(h, row, w.k * sizeof *row);
        }
        if (h != blocks[i].hash)
            fail_msg("%s decodes differently", blocks[i].name);
        free(row);
        free(data);
    }
}

/* gpt-oss's own arrangement of MXFP4, whole and as even and odd rows, is what GGUF's is. */
static void test_mxfp4_apart(void **state)
{
    (void)state;
    enum { GROUPS = COUNT / 4 }; /* of each of four rows */
    uint8_t *ggml = random_bytes(7, COUNT * 17), codes[COUNT][16], exponents[COUNT];
    for (size_t b = 0; b < COUNT; b++) {
        const uint8_t *from = ggml + b * 17;
        exponents[b] = from[0];
        for (size_t v = 0; v < 32; v += 2) {
            uint8_t low = (uint8_t)(v < 16 ? from[1 + v] & 15 : from[1 + v - 16] >> 4);
            uint8_t high = (uint8_t)(v < 16 ? from[2 + v] & 15 : from[2 + v - 16] >> 4);
            codes[b][v / 2] = (uint8_t)(low | high << 4);
        }
    }
    struct weight_part w = {
        .codec = &codec_mxfp4, .data = ggml, .n = 4, .k = 32 * GROUPS, .stride = 32 * GROUPS};
    struct weight_part split = w, odd;
    split.codec = &codec_mxfp4_apart;
    split.data = codes;
    split.scale = exponents;
    split.scale_stride = GROUPS;
    odd = split;
    odd.stride = 2 * w.stride;
    odd.scale_stride = 2 * GROUPS;
    odd.col0 = w.k;
    float wanted[32 * GROUPS], found[32 * GROUPS];
    for (size_t r = 0; r < 4; r++) {
        weight_row(&w, r, wanted);
        weight_row(&split, r, found);
        assert_memory_equal(found, wanted, sizeof wanted);
        if (r % 2 == 1)
            weight_row(&odd, r / 2, found);
        assert_memory_equal(found, wanted, sizeof wanted);
    }
    free(ggml);
}

/* Parts that begin and end anywhere are the same bits; so is the grouped form, computed by hand. */
static void check_parts(const struct weight_part *whole)
{
    static const size_t cuts[][2] = {{0, 1},   {16, 16}, {32, 95}, {33, 7},
                                     {31, 65}, {0, 0},   {64, 32}};
    float *row = mem_new(whole->k, sizeof *row), *some = mem_new(whole->k, sizeof *some);
    int8_t *codes = mem_new(whole->k, 1);
    struct form_group *groups = mem_new(whole->k, sizeof *groups);
    weight_row(whole, 1, row);
    for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
        if (cuts[c][0] + cuts[c][1] > whole->k)
            continue;
        struct weight_part part = *whole;
        part.row0 = 1;
        part.n = 1;
        part.col0 = cuts[c][0];
        part.k = cuts[c][1];
        weight_row(&part, 0, some);
        assert_memory_equal(some, row + part.col0, part.k * sizeof *some);
        struct weight_form f = weight_form(&part, WEIGHT_KEEP);
        if (f.kind != FORM_I8 && f.kind != FORM_I4)
            continue;
        weight_row_grouped(&part, WEIGHT_KEEP, &f, 0, codes, groups, some);
        for (size_t i = 0; i < part.k; i++) {
            float w =
                form_value(&groups[i / f.inner], f.kind == FORM_I4 ? f.values[codes[i]] : codes[i]);
            assert_memory_equal(&w, row + part.col0 + i, sizeof w);
            const struct form_group *g = &groups[i / f.inner],
                                    *o = &groups[i / f.outer * f.outer / f.inner];
            assert_true(g->d == o->d && g->m == o->m);
            assert_true(f.scales || g->scale == 1);
            assert_true(f.mins == MINS_NONE ? g->m == 0 : f.mins == MINS_SHARED ? g->m == g->d : 1);
            assert_true(f.mins != MINS_OUTER || g->min == 1);
        }
    }
    free(row);
    free(some);
    free(codes);
    free(groups);
}

static void test_parts_of_blocks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        struct weight_part w;
        uint8_t *data = random_rows(&blocks[i], i, &w);
        check_parts(&w);
        free(data);
    }
}

/* Scales: f16 numbers that are not negative. */
static uint8_t *halves(uint64_t seed, size_t n)
{
    uint8_t *data = random_bytes(seed, n * 2);
    for (size_t i = 0; i < n; i++)
        data[2 * i + 1] &= 0x3f;
    return data;
}

static void check_apart(const struct weight_part *w, size_t index)
{
    float *row = mem_new(w->k, sizeof *row);
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t r = 0; r < w->n; r++) {
        weight_row(w, r, row);
        h = fnv(h, row, w->k * sizeof *row);
    }
    if (h != apart[index])
        fail_msg("%s, case %zu decodes differently", w->codec->name, index);
    free(row);
    check_parts(w);
}

/* Formats whose scales stand in tensors of their own. */
static void test_apart(void **state)
{
    (void)state;
    static const size_t awq_groups[] = {32, 96};
    for (size_t i = 0; i < 2; i++) {
        size_t g = awq_groups[i];
        uint8_t *q = random_bytes(1, IN * OUT / 2), *z = random_bytes(2, IN / g * OUT / 2);
        uint8_t *s = halves(3, IN / g * OUT);
        struct weight_part w = {.codec = &codec_awq, .data = q, .stride = OUT / 8, .scale = s};
        w.scale_dtype = DTYPE_F16;
        w.scale_columns = g;
        w.scale_stride = OUT;
        w.zero = z;
        w.zero_stride = OUT / 8;
        w.n = OUT;
        w.k = w.inputs = IN;
        check_apart(&w, i);
        free(q);
        free(z);
        free(s);
    }
    static const struct {
        size_t bits, columns, group;
        bool symmetric;
    } kinds[] = {{4, 96, 32, true}, {4, 96, 32, false}, {4, 90, 0, true},
                 {8, 96, 32, true}, {8, 96, 32, false}, {8, 90, 0, false}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t per = 32 / kinds[i].bits, groups = kinds[i].group ? 96 / kinds[i].group : 1;
        uint8_t *q = random_bytes(4, OUT * ((kinds[i].columns + per - 1) / per) * 4);
        uint8_t *z = random_bytes(5, (OUT + per - 1) / per * groups * 4),
                *s = halves(6, OUT * groups);
        struct weight_part w = {.codec = per == 8 ? &codec_packed4 : &codec_packed8, .data = q};
        w.stride = w.k = kinds[i].columns;
        w.n = OUT;
        w.scale = s;
        w.scale_dtype = DTYPE_F16;
        w.scale_rows = 1;
        w.scale_columns = kinds[i].group;
        w.scale_stride = w.zero_stride = groups;
        w.zero = kinds[i].symmetric ? NULL : z;
        check_apart(&w, 2 + i);
        free(q);
        free(z);
        free(s);
    }
    uint8_t *q = random_bytes(7, OUT * IN), *s = halves(6, OUT);
    struct weight_part w = {.codec = &codec_int8, .data = q, .stride = IN, .n = OUT, .k = IN};
    w.scale = s;
    w.scale_dtype = DTYPE_F16;
    w.scale_rows = w.scale_stride = 1;
    check_apart(&w, 8);
    free(q);
    free(s);
}

/* FP8: 128 x 128 blocks are kept as they are, other scales are read as numbers. */
static void test_fp8(void **state)
{
    (void)state;
    enum { N = 130, K = 300 };
    uint8_t *q = random_bytes(8, N * K);
    float scale[2 * 3] = {1, 2, 0.5f, 3, 4, 0.25f}, row[K], per_row[N];
    struct weight_part w = {.codec = &codec_fp8, .data = q, .stride = K, .n = 2, .k = K - 100};
    w.scale = scale;
    w.scale_rows = w.scale_columns = 128;
    w.scale_stride = 3;
    w.row0 = 127;
    w.col0 = 100;
    assert_int_equal(weight_form(&w, WEIGHT_KEEP).kind, FORM_F8);
    assert_int_equal(weight_granule(&w), 128);
    for (size_t r = 0; r < 2; r++) {
        uint8_t codes[K];
        weight_row(&w, r, row);
        weight_row_f8(&w, r, codes);
        for (size_t i = 0; i < w.k; i++) {
            float s = scale[(127 + r) / 128 * 3 + (100 + i) / 128];
            float want = f32_from_f8e4m3(q[(127 + r) * K + 100 + i]) * s;
            assert_true(isnan(want) ? isnan(row[i]) : row[i] == want);
            assert_int_equal(codes[i], q[(127 + r) * K + 100 + i]);
            assert_true(weight_scale(&w, r, i) == s);
        }
    }
    for (size_t r = 0; r < N; r++)
        per_row[r] = (float)r;
    w.scale = per_row;
    w.scale_rows = w.scale_stride = 1;
    w.scale_columns = 0;
    assert_int_equal(weight_form(&w, WEIGHT_KEEP).kind, FORM_F32);
    weight_row(&w, 1, row);
    for (size_t i = 0; i < w.k; i++) {
        float want = f32_from_f8e4m3(q[128 * K + 100 + i]) * 128;
        assert_true(isnan(want) ? isnan(row[i]) : row[i] == want);
    }
    free(q);
}

/* No value is further away than half a step, plus what rounding d and m to F16 moves. */
static void test_quantized_at_load(void **state)
{
    (void)state;
    enum { K = 77 };
    float row[K], scratch[K];
    int8_t codes[K];
    struct form_group groups[K];
    for (int i = 0; i < K; i++)
        row[i] = i < 40 ? sinf((float)i) : i == 76 ? 3.0f : 0.0f;
    struct weight_part w = {.codec = &codec_f32, .data = row, .stride = K, .n = 1, .k = K};
    static const enum weight_keep keeps[] = {WEIGHT_INT8, WEIGHT_INT4};
    for (size_t j = 0; j < 2; j++) {
        struct weight_form f = weight_form(&w, keeps[j]);
        weight_row_grouped(&w, keeps[j], &f, 0, codes, groups, scratch);
        for (size_t i = 0; i < K; i++) {
            const struct form_group *g = &groups[i / f.inner];
            float value = form_value(g, f.kind == FORM_I4 ? f.values[codes[i]] : codes[i]);
            assert_true(fabsf(value - row[i]) <= g->d * 0.51f + 0.002f * (fabsf(g->m) + 15 * g->d));
            assert_true(f.kind != FORM_I4 || (codes[i] >= 0 && codes[i] < 16));
        }
    }
    assert_int_equal(form_row_bytes(&(struct weight_form){.kind = FORM_BF16}, 7), 14);
    struct weight_form f = weight_form(&w, WEIGHT_INT4);
    assert_int_equal(form_row_bytes(&f, 64), 32 + 2 * 4);
}

static int decode_stdin(const char *name)
{
    const struct codec *c = find(name);
    uint8_t *block = mem_new(c->block_bytes, 1);
    float *row = mem_new(c->block, sizeof *row);
    struct weight_part w = {.codec = c, .data = block, .stride = c->block, .n = 1, .k = c->block};
    while (fread(block, c->block_bytes, 1, stdin) == 1) {
        weight_row(&w, 0, row);
        fwrite(row, sizeof *row, c->block, stdout);
    }
    free(block);
    free(row);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return decode_stdin(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mxfp4_apart),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_parts_of_blocks),
        cmocka_unit_test(test_apart),
        cmocka_unit_test(test_fp8),
        cmocka_unit_test(test_quantized_at_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
