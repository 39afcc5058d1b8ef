#include "format/schema_number.h"

#include <stdio.h>
#include <string.h>

#define DIGITS 15 /* of a number, so that reading it as a double rounds none to a bound */

/* Decimal numbers of n digits from low to high, digit by digit: what follows a digit may be anything
 * (between), at least the rest of low, at most the rest of high, or both. */
static void same_length(struct grammar *g, int32_t from, int32_t to, const char *low,
                        const char *high, size_t n)
{
    enum { BOTH, LOW, HIGH, FREE, WAYS };
    int32_t now[WAYS] = {from, -1, -1, -1};
    for (size_t i = 0; i < n; i++) {
        int32_t then[WAYS] = {-1, -1, -1, -1};
        for (int way = BOTH; way < WAYS; way++) {
            if (now[way] < 0)
                continue;
            char least = way == BOTH || way == LOW ? low[i] : '0';
            char most = way == BOTH || way == HIGH ? high[i] : '9';
            for (char c = least; c <= most; c++) {
                bool at_low = (way == BOTH || way == LOW) && c == low[i];
                bool at_high = (way == BOTH || way == HIGH) && c == high[i];
                int next = at_low && at_high ? BOTH : at_low ? LOW : at_high ? HIGH : FREE;
                if (then[next] < 0)
                    then[next] = i + 1 == n ? to : grammar_node(g);
                grammar_bytes(g, now[way], then[next], (uint8_t)c, (uint8_t)c);
            }
        }
        memcpy(now, then, sizeof now);
    }
}

/* low and high are 0 or more. */
static void naturals(struct grammar *g, int32_t from, int32_t to, int64_t low, int64_t high)
{
    for (int64_t least = 0, most = 9; least <= high; least = most + 1, most = most * 10 + 9) {
        int64_t a = low > least ? low : least, b = high < most ? high : most;
        char first[24], last[24];
        snprintf(first, sizeof first, "%lld", (long long)a);
        snprintf(last, sizeof last, "%lld", (long long)b);
        if (a <= b)
            same_length(g, from, to, first, last, strlen(first));
    }
}

static int64_t clamp(int64_t value)
{
    return value > SCHEMA_INTEGER_MOST    ? SCHEMA_INTEGER_MOST
           : value < -SCHEMA_INTEGER_MOST ? -SCHEMA_INTEGER_MOST
                                          : value;
}

static int32_t minus(struct grammar *g, int32_t from)
{
    int32_t node = grammar_node(g);
    grammar_bytes(g, from, node, '-', '-');
    return node;
}

void schema_integers(struct grammar *g, int32_t from, int32_t to, int64_t low, int64_t high)
{
    low = clamp(low);
    high = clamp(high);
    if (high >= 0 && low <= high)
        naturals(g, from, to, low > 0 ? low : 0, high);
    if (low < 0 && low <= high)
        naturals(g, minus(g, from), to, high < 0 ? -high : 1, -low);
}

/* A point and 1 .. most digits; `some`: not all of them 0. */
static void fraction(struct grammar *g, int32_t from, int32_t to, int most, bool some)
{
    int32_t zeros = grammar_node(g), other = -1;
    grammar_bytes(g, from, zeros, '.', '.');
    for (int i = 0; i < most; i++) {
        bool last = i + 1 == most;
        int32_t next_zeros = last ? -1 : grammar_node(g), next = last ? to : grammar_node(g);
        if (!last)
            grammar_bytes(g, zeros, next_zeros, '0', '0');
        if (!some)
            grammar_bytes(g, zeros, to, '0', '0');
        grammar_bytes(g, zeros, next, '1', '9');
        if (other >= 0)
            grammar_bytes(g, other, next, '0', '9');
        if (!last)
            grammar_empty(g, next, to);
        zeros = next_zeros;
        other = next;
    }
}

/* m.f for m in low .. high; `some`: of m = edge only with f above 0; edge -1: none is. */
static void with_fraction(struct grammar *g, int32_t from, int32_t to, int64_t low, int64_t high,
                          int64_t edge, int digits)
{
    int32_t whole = grammar_node(g), at_edge = grammar_node(g);
    if (low > high)
        return;
    if (edge < low || edge > high) {
        naturals(g, from, whole, low, high);
    } else {
        naturals(g, from, at_edge, edge, edge);
        fraction(g, at_edge, to, digits, true);
        if (low < edge)
            naturals(g, from, whole, low, edge - 1);
        if (edge < high)
            naturals(g, from, whole, edge + 1, high);
    }
    fraction(g, whole, to, digits, false);
}

static int digits_of(int64_t value)
{
    char text[24];
    return snprintf(text, sizeof text, "%lld", (long long)(value < 0 ? -value : value));
}

void schema_numbers(struct grammar *g, int32_t from, int32_t to, int64_t low, bool low_open,
                    int64_t high, bool high_open)
{
    low = clamp(low);
    high = clamp(high);
    int most = digits_of(low) > digits_of(high) ? digits_of(low) : digits_of(high);
    int digits = DIGITS - most < 1 ? 0 : DIGITS - most > 9 ? 9 : DIGITS - most;
    schema_integers(g, from, to, low + low_open, high - high_open);
    if (digits == 0)
        return;
    if (high > 0) /* m.f < high */
        with_fraction(g, from, to, low > 0 ? low : 0, high - 1, low_open && low >= 0 ? low : -1,
                      digits);
    if (low < 0) /* -m.f > low */
        with_fraction(g, minus(g, from), to, high < 0 ? -high : 0, -low - 1,
                      high_open && high <= 0 ? -high : -1, digits);
}

void schema_any_number(struct grammar *g, int32_t from, int32_t to)
{
    int32_t start = grammar_node(g), whole = grammar_node(g), part = grammar_node(g),
            exponent = grammar_node(g), sign = grammar_node(g), one = grammar_node(g);
    grammar_empty(g, from, start);
    grammar_empty(g, minus(g, from), start);
    naturals(g, start, whole, 0, SCHEMA_INTEGER_MOST);
    grammar_empty(g, whole, part);
    fraction(g, whole, part, 9, false);
    grammar_empty(g, part, to);
    grammar_bytes(g, part, exponent, 'e', 'e');
    grammar_bytes(g, part, exponent, 'E', 'E');
    grammar_empty(g, exponent, sign);
    grammar_bytes(g, exponent, sign, '+', '+');
    grammar_bytes(g, exponent, sign, '-', '-');
    grammar_bytes(g, sign, one, '0', '9');
    grammar_empty(g, one, to);
    grammar_bytes(g, one, to, '0', '9');
}
