/* Number formats: every bf16 and e4m3 code, every tie between two of them, and tables made by
 * make_dtype_tables.py. */
#include "base/dtype.h"

#include "tests/base/dtype_tables.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static float f32_of(uint32_t bits)
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

/* The number a bf16 code stands for, by the definition of the format. */
static double bf16_meaning(unsigned code)
{
    int exponent = code >> 7 & 255, mantissa = code & 127;
    double sign = code & 0x8000 ? -1.0 : 1.0;
    if (exponent == 255)
        return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(mantissa, -126 - 7);
    return sign * ldexp(128 + mantissa, exponent - 127 - 7);
}

static void test_bf16_every_code(void **state)
{
    (void)state;
    for (unsigned code = 0; code < 65536; code++) {
        float f = f32_from_bf16((bf16_t)code);
        double meaning = bf16_meaning(code);
        if (isnan(meaning)) {
            assert_true(isnan(f));
            assert_true(isnan(f32_from_bf16(bf16_from_f32(f))));
            continue;
        }
        assert_true((double)f == meaning);
        assert_int_equal(signbit(f) != 0, code >> 15);
        assert_int_equal(bf16_from_f32(f), code);
    }
}

/* Half way to the next code goes to the even one of the two, any less stays, any more moves on. */
static void test_bf16_every_tie(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 65536; code++) {
        if ((code & 0x7f80) == 0x7f80)
            continue; /* infinity and NaN have no next */
        uint32_t even = code & 1 ? code + 1 : code;
        assert_int_equal(bf16_from_f32(f32_of(code << 16 | 0x7fff)), code);
        assert_int_equal(bf16_from_f32(f32_of(code << 16 | 0x8000)), even);
        assert_int_equal(bf16_from_f32(f32_of(code << 16 | 0x8001)), code + 1);
    }
}

/* Every NaN stays one, also where only bits that bf16 lacks are set. */
static void test_bf16_nan(void **state)
{
    (void)state;
    static const uint32_t nans[] = {0x7f800001, 0x7f80ffff, 0x7fc00000, 0x7fffffff,
                                    0xff800001, 0xffbfffff, 0xffffffff};
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++) {
        bf16_t b = bf16_from_f32(f32_of(nans[i]));
        assert_true(isnan(f32_from_bf16(b)));
        assert_int_equal(b >> 15, nans[i] >> 31);
    }
}

/* The compiler's own half type decides. */
static void test_f16(void **state)
{
    (void)state;
    for (unsigned code = 0; code < 65536; code++) {
        _Float16 h;
        f16_t bits = (f16_t)code;
        memcpy(&h, &bits, sizeof h);
        float f = f32_from_f16(bits), up, down;
        if (isnan(f)) {
            assert_true((code & 0x7fff) > 0x7c00 && isnan(f32_from_f16(f16_from_f32(f))));
            continue;
        }
        assert_true(f == (float)h && (signbit(f) != 0) == code >> 15);
        assert_int_equal(f16_from_f32(f), code);
        /* The tie with the next code, and its neighbours. */
        float tie = f * (1.0f + 0x1p-11f);
        up = nextafterf(tie, INFINITY);
        down = nextafterf(tie, -INFINITY);
        const float near[] = {tie, up, down};
        for (int i = 0; i < 3; i++) {
            _Float16 want = (_Float16)near[i];
            f16_t found = f16_from_f32(near[i]);
            assert_memory_equal(&found, &want, sizeof want);
        }
    }
}

static void test_e4m3_every_code(void **state)
{
    (void)state;
    for (unsigned code = 0; code < 256; code++) {
        float f = f32_from_f8e4m3((f8e4m3_t)code);
        if ((code & 127) == 127) {
            assert_true(isnan(f));
            assert_int_equal(f8e4m3_from_f32(f) & 127, 127);
            continue;
        }
        assert_int_equal(bits_of(f), e4m3_values[code]);
        assert_int_equal(f8e4m3_from_f32(f), code);
    }
}

static void test_e4m3_every_tie(void **state)
{
    (void)state;
    for (unsigned code = 0; code < 126; code++)
        for (unsigned sign = 0; sign < 256; sign += 128) {
            float s = sign ? -1.0f : 1.0f;
            float tie = (f32_of(e4m3_values[code]) + f32_of(e4m3_values[code + 1])) / 2;
            unsigned even = code & 1 ? code + 1 : code;
            assert_int_equal(f8e4m3_from_f32(s * tie), sign | even);
            assert_int_equal(f8e4m3_from_f32(s * nextafterf(tie, 0)), sign | code);
            assert_int_equal(f8e4m3_from_f32(s * nextafterf(tie, 1000)), sign | (code + 1));
        }
}

static void test_e4m3_saturates(void **state)
{
    (void)state;
    static const float large[] = {448, 448.1f, 464, 465, 480, 512, 1e30f, INFINITY};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++) {
        assert_int_equal(f8e4m3_from_f32(large[i]), 0x7e);
        assert_int_equal(f8e4m3_from_f32(-large[i]), 0xfe);
    }
}

static void test_roundings(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof roundings / sizeof *roundings; i++) {
        float f = f32_of(roundings[i].f32);
        assert_int_equal(bf16_from_f32(f), roundings[i].bf16);
        assert_int_equal(f8e4m3_from_f32(f), roundings[i].e4m3);
    }
}

static void test_names_and_sizes(void **state)
{
    (void)state;
    assert_string_equal(dtype_name(DTYPE_F32), "f32");
    assert_string_equal(dtype_name(DTYPE_BF16), "bf16");
    assert_string_equal(dtype_name(DTYPE_F8E4M3), "fp8");
    assert_string_equal(dtype_name(DTYPE_I8), "int8");
    assert_string_equal(dtype_name(DTYPE_COUNT), "unknown");
    assert_int_equal(dtype_size(DTYPE_F32), 4);
    assert_int_equal(dtype_size(DTYPE_BF16), 2);
    assert_int_equal(dtype_size(DTYPE_F8E4M3), 1);
    assert_int_equal(dtype_size(DTYPE_I8), 1);
    assert_int_equal(dtype_size(DTYPE_F16), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bf16_every_code),
        cmocka_unit_test(test_bf16_every_tie),
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_bf16_nan),
        cmocka_unit_test(test_e4m3_every_code),
        cmocka_unit_test(test_e4m3_every_tie),
        cmocka_unit_test(test_e4m3_saturates),
        cmocka_unit_test(test_roundings),
        cmocka_unit_test(test_names_and_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
