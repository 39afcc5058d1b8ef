/* Numbers, sizes, durations, and near words. */
#include "job/suggest.h"
#include "job/value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"65536", 65536},
        {"18446744073709551615", UINT64_MAX},
        {"1B", 1},
        {"4 GiB", UINT64_C(4) << 30},
        {"4gib", UINT64_C(4) << 30},
        {"1.5 KiB", 1536},
        {".5MiB", 1 << 19},
        {"3   TiB", UINT64_C(3) << 40},
        {"2 kB", 2000},
        {"2 MB", 2000000},
        {"0.1 GB", 100000000},
        {"1 TB", UINT64_C(1000000000000)},
    };
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "GiB",
                                      "4 G",
                                      "4 gigs",
                                      "-1",
                                      "1e3",
                                      "4 GiBs",
                                      "0x10",
                                      "4 GiB 3B",
                                      "1..5 GiB",
                                      ". GiB",
                                      "inf GiB",
                                      "1,5 GiB",
                                      "4.5",
                                      "nan",
                                      "99999999 TiB",
                                      "18446744073709551616"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t bytes = 1234, back = 0;
        char text[32];
        if (!value_size(good[i].text, &bytes) || bytes != good[i].bytes)
            fail_msg("'%s' became %llu", good[i].text, (unsigned long long)bytes);
        assert_true(value_size(value_size_text(bytes, text, sizeof text), &back));
        assert_true(back == bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t bytes = 1234;
        if (value_size(bad[i], &bytes) || bytes != 1234)
            fail_msg("'%s' was taken", bad[i]);
    }
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double seconds;
    } good[] = {
        {"0", 0},
        {"90", 90},
        {"0.25", 0.25},
        {"90 s", 90},
        {"90s", 90},
        {"2 min", 120},
        {"2m", 120},
        {"23h50m", 85800},
        {"1d 12h", 129600},
        {"1d2h3m4s", 93784},
        {"1.5h", 5400},
        {"1 h 30 min", 5400},
        {"1e3", 1000},
        {"0.1 s", 0.1},
        {"2H", 7200},
        {"23:50:00", 85800},
        {"1-12:00:00", 129600},
        {"0:0:7", 7},
    };
    static const char *const bad[] = {"",       "s",       "h5",     "5 x",      "5 ms",
                                      "50m23h", "1h1h",    "1m1min", "1h 5",     " 1h",
                                      "1h,2m",  "1 d h",   "inf",    "1h -5m",   "0x1p3",
                                      "23:50",  "1:60:00", "1-2:3",  "-1:00:00", "1:2:3:4"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        double seconds = -7, back = 0;
        char text[40];
        if (!value_seconds(good[i].text, &seconds) || !(seconds == good[i].seconds))
            fail_msg("'%s' became %g", good[i].text, seconds);
        assert_true(value_seconds(value_seconds_text(seconds, text, sizeof text), &back));
        assert_true(back == seconds);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double seconds = -7;
        if (value_seconds(bad[i], &seconds) || !(seconds == -7))
            fail_msg("'%s' was taken", bad[i]);
    }
}

static void numbers(void **state)
{
    (void)state;
    int64_t i = 77;
    uint64_t u = 77;
    double d = 77;
    assert_true(value_int("-9223372036854775808", &i) && i == INT64_MIN);
    assert_true(value_int("0012", &i) && i == 12);
    i = 77;
    assert_false(value_int("9223372036854775808", &i) || value_int("-", &i) || value_int("", &i) ||
                 value_int("+1", &i) || value_int("1 ", &i) || value_int("--1", &i));
    assert_int_equal(i, 77);
    assert_true(value_uint("18446744073709551615", &u) && u == UINT64_MAX);
    u = 77;
    assert_false(value_uint("-1", &u) || value_uint("18446744073709551616", &u));
    assert_int_equal(u, 77);
    assert_true(value_real("-1.5e-3", &d) && d == -0.0015);
    assert_true(value_real("2.", &d) && d == 2);
    d = 77;
    assert_false(value_real("1e", &d) || value_real("0x1", &d) || value_real("infinity", &d) ||
                 value_real("1e400", &d) || value_real("1.2.3", &d) || value_real("-", &d) ||
                 value_real("- 1", &d) || value_real("1,5", &d) || value_real("nan", &d));
    assert_true(d == 77);
}

static void a_long_number_is_refused(void **state)
{
    (void)state;
    char digits[1000];
    memset(digits, '9', sizeof digits - 1);
    digits[sizeof digits - 1] = 0;
    double d = 77;
    uint64_t u = 77;
    assert_false(value_real(digits, &d) || value_seconds(digits, &d) || value_size(digits, &u));
    memcpy(digits, "1e", 2);
    assert_false(value_real(digits, &d));
}

static void reals_come_back(void **state)
{
    (void)state;
    static const double values[] = {0, 0.1, 1.0 / 3, 1e-300, 1e300, 123456789.123, 0x1p-1074, 0.95};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char text[32];
        double back = -1;
        assert_true(value_real(value_real_text(values[i], text, sizeof text), &back));
        assert_true(back == values[i]);
    }
    char text[32];
    assert_string_equal(value_real_text(0.95, text, sizeof text), "0.95");
}

static void near_words(void **state)
{
    (void)state;
    assert_int_equal(suggest_edits("", "abc"), 3);
    assert_int_equal(suggest_edits("abc", "abc"), 0);
    assert_int_equal(suggest_edits("ABC", "abc"), 0);
    assert_int_equal(suggest_edits("kitten", "sitting"), 3);
    assert_int_equal(suggest_edits("modle", "model"), 1); /* neighbours swapped */
    assert_int_equal(suggest_edits("ncll", "nccl"), 1);
    char long_word[500];
    memset(long_word, 'x', sizeof long_word - 1);
    long_word[sizeof long_word - 1] = 0;
    assert_int_equal(suggest_edits(long_word, "x"), 62);

    const char *const known[] = {"slots", "", NULL, "prefill_chunk", "kv_memory", "file"};
    assert_string_equal(suggest_nearest("slotz", known, 6), "slots");
    assert_string_equal(suggest_nearest("prefil_chunks", known, 6), "prefill_chunk");
    assert_string_equal(suggest_nearest("fiel", known, 6), "file");
    assert_null(suggest_nearest("temperature", known, 6));
    assert_null(suggest_nearest("", known, 6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),           cmocka_unit_test(durations),
        cmocka_unit_test(numbers),         cmocka_unit_test(a_long_number_is_refused),
        cmocka_unit_test(reals_come_back), cmocka_unit_test(near_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
