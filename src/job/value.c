#include "job/value.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    double times;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool all_digits(const char *text)
{
    if (!*text)
        return false;
    for (; *text; text++)
        if (!is_digit(*text))
            return false;
    return true;
}

bool value_int(const char *text, int64_t *out)
{
    if (!all_digits(text + (*text == '-')))
        return false;
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno != 0)
        return false;
    *out = value;
    return true;
}

bool value_uint(const char *text, uint64_t *out)
{
    if (!all_digits(text))
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (errno != 0)
        return false;
    *out = value;
    return true;
}

/* The number at the beginning of text, and where it ends; NULL when there is none. Digits are
 * asked for because strtod() also takes "inf", "nan" and hexadecimal numbers. */
static const char *leading_number(const char *text, bool exponent, double *out)
{
    const char *c = text + strspn(text, "0123456789");
    size_t digits = (size_t)(c - text);
    if (*c == '.') {
        size_t fraction = strspn(c + 1, "0123456789");
        digits += fraction;
        c += 1 + fraction;
    }
    if (digits == 0 || digits > 300)
        return NULL;
    if (exponent && (*c == 'e' || *c == 'E')) {
        const char *power = c + 1 + (c[1] == '-' || c[1] == '+');
        if (is_digit(*power))
            c = power + strspn(power, "0123456789");
    }
    char copy[400];
    size_t n = (size_t)(c - text);
    if (n >= sizeof copy)
        return NULL;
    memcpy(copy, text, n);
    copy[n] = 0;
    *out = strtod(copy, NULL);
    return c;
}

bool value_real(const char *text, double *out)
{
    double value = 0;
    bool minus = *text == '-';
    const char *end = leading_number(text + minus, true, &value);
    if (!end || *end || !isfinite(value))
        return false;
    *out = minus ? -value : value;
    return true;
}

/* The unit a text begins with, up to the first character that is no letter; its place in the
 * table, or -1. */
static int leading_unit(const struct unit *units, const char *text, const char **end)
{
    size_t n = 0;
    while ((text[n] >= 'a' && text[n] <= 'z') || (text[n] >= 'A' && text[n] <= 'Z'))
        n++;
    *end = text + n;
    for (int i = 0; units[i].name; i++)
        if (strlen(units[i].name) == n && strncasecmp(units[i].name, text, n) == 0)
            return i;
    return -1;
}

static const struct unit sizes[] = {
    {"B", 1},
    {"KiB", 1024.0},
    {"MiB", 1024.0 * 1024},
    {"GiB", 1024.0 * 1024 * 1024},
    {"TiB", 1024.0 * 1024 * 1024 * 1024},
    {"kB", 1e3},
    {"MB", 1e6},
    {"GB", 1e9},
    {"TB", 1e12},
    {NULL, 0},
};

bool value_size(const char *text, uint64_t *out)
{
    if (all_digits(text))
        return value_uint(text, out);
    double number = 0;
    const char *c = leading_number(text, false, &number);
    if (!c)
        return false;
    int unit = leading_unit(sizes, c + strspn(c, " "), &c);
    if (unit < 0 || *c)
        return false;
    double bytes = number * sizes[unit].times;
    if (!(bytes < 0x1p64))
        return false;
    *out = (uint64_t)bytes;
    return true;
}

/* Largest first: "1h 2d" is refused. */
static const struct unit durations[] = {
    {"d", 86400}, {"h", 3600}, {"m", 60}, {"min", 60}, {"s", 1}, {NULL, 0},
};

/* "24:00:00", "1-12:00:00": as Slurm writes times. */
static bool clock_seconds(const char *text, double *out)
{
    unsigned days = 0, hours, minutes, seconds;
    int end = 0;
    const char *dash = strchr(text, '-');
    if (dash && (sscanf(text, "%4u-%n", &days, &end) != 1 || text + end != dash + 1))
        return false;
    const char *clock = dash ? dash + 1 : text;
    if (strspn(clock, "0123456789:") != strlen(clock) ||
        sscanf(clock, "%6u:%2u:%2u%n", &hours, &minutes, &seconds, &end) != 3 || clock[end] ||
        minutes > 59 || seconds > 59)
        return false;
    *out = 86400.0 * days + 3600.0 * hours + 60.0 * minutes + seconds;
    return true;
}

bool value_seconds(const char *text, double *out)
{
    if (value_real(text, out) || clock_seconds(text, out))
        return true;
    double sum = 0, last = INFINITY;
    for (const char *c = text; *c;) {
        double number = 0;
        c = leading_number(c, false, &number);
        if (!c)
            return false;
        int unit = leading_unit(durations, c + strspn(c, " "), &c);
        if (unit < 0 || durations[unit].times >= last)
            return false;
        last = durations[unit].times;
        sum += number * last;
        c += strspn(c, " ");
    }
    if (!isfinite(sum) || isinf(last))
        return false;
    *out = sum;
    return true;
}

const char *value_real_text(double value, char *text, size_t size)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return text;
}

const char *value_size_text(uint64_t bytes, char *text, size_t size)
{
    static const char *const names[] = {"TiB", "GiB", "MiB", "KiB"};
    for (int i = 0; i < 4; i++) {
        uint64_t unit = UINT64_C(1) << (40 - 10 * i);
        if (bytes >= unit && bytes % unit == 0) {
            snprintf(text, size, "%" PRIu64 " %s", bytes / unit, names[i]);
            return text;
        }
    }
    snprintf(text, size, "%" PRIu64, bytes);
    return text;
}

const char *value_seconds_text(double seconds, char *text, size_t size)
{
    char number[32];
    snprintf(text, size, "%s s", value_real_text(seconds, number, sizeof number));
    double back;
    if (!value_seconds(text, &back) || back != seconds) /* a small or huge one: "1e-07" */
        snprintf(text, size, "%s", number);
    return text;
}
