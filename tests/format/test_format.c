/* Grammars, automata and masks: regular expressions against PCRE2, masks against every token of a
 * vocabulary. (JSON schemas: tests/mpi/structure.sh, against Python's jsonschema.) */
#include "base/mem.h"
#include "format/automaton.h"
#include "format/format.h"
#include "format/regex.h"
#include "format/schema.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t dice = 3;

/* SplitMix64. */
static size_t roll(size_t sides)
{
    uint64_t z = dice += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (size_t)((z ^ z >> 31) % sides);
}

static struct automaton *automaton_of(const char *pattern, const struct trie *trie)
{
    struct grammar *g = grammar_new();
    struct err e;
    if (regex_add(g, REGEX_WHOLE, pattern, g->rules[0].first, g->rules[0].last, &e) != 0 ||
        grammar_finish(g, &e) != 0)
        fail_msg("%s: %s", pattern, e.text);
    return automaton_new(g, trie);
}

static bool accepts(struct automaton *a, const char *text, size_t n)
{
    int32_t state = AUTOMATON_START;
    for (size_t i = 0; i < n; i++)
        state = automaton_next(a, state, (uint8_t)text[i]);
    return automaton_accepts(a, state);
}

static bool matches(const pcre2_code *code, const char *text, size_t n)
{
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(code, NULL);
    int found =
        pcre2_match(code, (PCRE2_SPTR)text, n, 0, PCRE2_ANCHORED | PCRE2_ENDANCHORED, data, NULL);
    pcre2_match_data_free(data);
    return found >= 0;
}

static const char *const patterns[] = {
    "abc|a|",
    "(a|b)*c?",
    "a{2,4}b{0}c{3,}",
    "(?:ab?){1,3}|(?<name>x)+",
    "[a-c]+[^b-z1]?",
    "\\d{1,3}(\\.\\d+)?",
    "\\w+\\s?\\w*",
    "[\\]\\-a]+|[^1 ]b",
    ".+b",
    "(a*)*b|(a?b?)*1",
    "\\x41?\u00e9[\u00e0-\u4e2d]*",
    "(a|ab)(c|bcd)*?",
    "^(a|b)+$|^1$",
    "\\S [^\\]]",
    "[^ab]?[\\w-]b",
};

/* What a random walk comes to matches; random texts are taken exactly when they match. */
static void expressions_are_those_of_pcre2(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a",
                                         "b",
                                         "c",
                                         "d",
                                         "1",
                                         ".",
                                         " ",
                                         "-",
                                         "]",
                                         "x",
                                         "A",
                                         "\xc3\xa9",
                                         "\xc3\xa0",
                                         "\xe4\xb8\xad",
                                         "\xf0\x9f\x8c\x8d"};
    size_t all = 0;
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
        int why;
        size_t at, accepted = 0;
        pcre2_code *code = pcre2_compile((PCRE2_SPTR)patterns[p], PCRE2_ZERO_TERMINATED, PCRE2_UTF,
                                         &why, &at, NULL);
        struct automaton *a = automaton_of(patterns[p], NULL);
        assert_non_null(code);
        for (int i = 0; i < 4000; i++) {
            char text[64] = "";
            for (size_t n = roll(7); n > 0; n--)
                strcat(text, pieces[roll(roll(2) ? 3 : sizeof pieces / sizeof *pieces)]);
            bool wanted = matches(code, text, strlen(text));
            if (accepts(a, text, strlen(text)) != wanted)
                fail_msg("%s: '%s' matches: %d", patterns[p], text, wanted);
            accepted += wanted;
        }
        for (int i = 0; i < 300; i++) {
            char text[64];
            size_t n = 0;
            int32_t now = AUTOMATON_START;
            for (int tries = 0; n < 40 && tries < 400; tries++) {
                uint8_t byte = roll(2) ? (uint8_t)roll(128) : (uint8_t)roll(256);
                int32_t next = automaton_next(a, now, byte);
                if (next == AUTOMATON_DEAD)
                    continue;
                text[n++] = (char)byte;
                now = next;
                if (automaton_accepts(a, now) && !memchr(text, '\n', n) && !matches(code, text, n))
                    fail_msg("%s: '%.*s' is accepted", patterns[p], (int)n, text);
            }
        }
        all += accepted > 0;
        automaton_free(a);
        pcre2_code_free(code);
    }
    assert_true(all > 12);
}

static void what_is_not_supported_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *why;
    } bad[] = {
        {"(?=a)b", "(? of this kind"},
        {"(?<a)b>c", "(? of this kind"},
        {"(?<1>c)", "(? of this kind"},
        {"(a)\\1", "\\1 is not supported"},
        {"a**", "double repetition"},
        {"a\\b", "\\b is not supported"},
        {"[b-a]", "a range that is none"},
        {"(a", ") is missing"},
        {"a)", ") without ("},
        {"a^b", "at the ends only"},
        {"a{2,1}", "wanted {m}"},
        {"[", "] is missing"},
        {"\\", "a backslash at the end"},
        {"((a{9999}){9999}){9999}", "too large"},
        {"(((((((((((((((((((((((((a*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*)*",
         "too large"},
        {"\xff", "UTF-8"},
        {"\\ud800", "no character"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct grammar *g = grammar_new();
        struct err e = {{0}};
        int status =
            regex_add(g, REGEX_WHOLE, bad[i].pattern, g->rules[0].first, g->rules[0].last, &e);
        if (status == 0)
            status = grammar_finish(g, &e);
        if (status == 0 || !strstr(e.text, bad[i].why))
            fail_msg("%s: %s", bad[i].pattern, e.text);
        grammar_free(g);
    }
}

/* Every token by itself; the walk over the vocabulary does not look at most of it. */
static void expect_mask(struct automaton *a, const struct tokenizer *t, const char *begin)
{
    int32_t state = AUTOMATON_START;
    for (const char *c = begin; *c; c++)
        state = automaton_next(a, state, (uint8_t)*c);
    const uint32_t *mask = automaton_mask(a, state);
    for (int32_t token = 0; token < (int32_t)tokenizer_size(t); token++) {
        char *text;
        size_t n;
        int32_t next = state;
        tokenizer_decode(t, &token, 1, true, &text, &n);
        for (size_t i = 0; i < n; i++)
            next = automaton_next(a, next, (uint8_t)text[i]);
        if ((mask[token / 32] >> (token % 32) & 1) != (n > 0 && next != AUTOMATON_DEAD))
            fail_msg("after '%s' token %d ('%.*s')", begin, token, (int)n, text);
        free(text);
    }
}

static void masks_are_those_of_every_token(void **state)
{
    (void)state;
    struct tokenizer *t;
    struct err e;
    if (tokenizer_open(&t, "input/demo/tokenizer.json", &e) != 0)
        fail_msg("%s", e.text);
    struct trie *trie = trie_new(t, (int32_t)tokenizer_size(t));
    struct automaton *a = automaton_of("(the|a) [a-z]{3,8}( of .*)?\\.", trie);
    static const char *const begins[] = {
        "", "t", "the ", "the har", "a harbor", "a harbor of x", "a harbor.", "no"};
    expect_mask(a, t, "the ab");
    assert_true(automaton_visited(a) < trie->n / 2);
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        expect_mask(a, t, begins[i]);
    automaton_free(a);
    trie_free(trie);
    tokenizer_close(t);
}

/* Values of JSON nest without an end: rules that call themselves. */
static void nesting_is_followed(void **state)
{
    (void)state;
    struct grammar *g = grammar_new();
    struct err e;
    json_t *any = json_true();
    assert_int_equal(schema_add(g, any, g->rules[0].first, g->rules[0].last, &e), 0);
    assert_int_equal(grammar_finish(g, &e), 0);
    struct automaton *a = automaton_new(g, NULL);
    char text[400] = "";
    for (int depth = 1; depth < 90; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        assert_true(accepts(a, text, (size_t)depth * 2));
        assert_false(accepts(a, text, (size_t)depth * 2 - 1));
        assert_false(accepts(a, text + 1, (size_t)depth * 2 - 1));
    }
    static const char good[] = "{\"a\": [1, -2.5e3, {\"\\u00e9\": null}], \"b\":\"\\\"\"}";
    assert_true(accepts(a, good, sizeof good - 1));
    assert_false(accepts(a, "[1,]", 4) || accepts(a, "01", 2) || accepts(a, "\"\n\"", 3));
    automaton_free(a);
}

static void say(const struct tokenizer *t, int32_t token, char *text, size_t *n)
{
    char *said;
    size_t bytes;
    tokenizer_decode(t, &token, 1, true, &said, &bytes);
    memcpy(text + *n, said, bytes);
    *n += bytes;
    free(said);
}

static int32_t any_of(const uint32_t *mask, int32_t vocab)
{
    int32_t token = (int32_t)roll((size_t)vocab);
    while (!(mask[token / 32] >> (token % 32) & 1))
        token = (token + 1) % vocab;
    return token;
}

/* What comes behind guesses is what comes when they are fed; a text without a choice is found, and no other
 * token can come where it is sure. */
static void guesses_are_looked_past(void **state)
{
    (void)state;
    struct tokenizer *t;
    struct err e;
    if (tokenizer_open(&t, "input/demo/tokenizer.json", &e) != 0)
        fail_msg("%s", e.text);
    int32_t vocab = (int32_t)tokenizer_size(t);
    size_t words = ((size_t)vocab + 31) / 32;
    struct formats *all = formats_new(t, vocab);
    json_t *format =
        json_loads("{\"json_schema\": {\"type\": \"object\", \"properties\": {\"sheltered\":"
                   "{\"enum\": [\"harbor\", \"haven\"]}, \"number\": {\"type\": \"integer\"}},"
                   "\"required\": [\"sheltered\", \"number\"]}}",
                   0, &(json_error_t){0});
    int forced = 0, certain = 0, wrong = 0;
    for (int round = 0; round < 40; round++) {
        struct follow *f = follow_new(all, format, &e), *plain = follow_new(all, format, &e);
        struct follow_state now = follow_state(f, 0);
        assert_false(follow_state(f, 1).mask);
        for (int step = 0; step < 60 && now.may_go_on; step++) {
            int32_t list[FOLLOW_FORCED], token = any_of(now.mask, vocab);
            int sure, n = follow_forced(f, list, &sure);
            char text[4096];
            size_t bytes = 0, ends[4], count = (size_t)__builtin_popcount(now.mask[0]);
            for (size_t i = 1; i < words; i++)
                count += (size_t)__builtin_popcount(now.mask[i]);
            assert_true(count == 1 ? sure > 0 && list[0] == token : sure == 0);
            forced += n;
            certain += sure;
            if (n > 0 && step % 2)
                token = list[0];
            say(t, token, text, &bytes);
            ends[0] = bytes;
            say(t, (int32_t)roll((size_t)vocab), text, &bytes);
            ends[1] = bytes;
            follow_guess(f, text, ends, 2);
            follow_feed(plain, text, ends[0]);
            struct follow_state ahead = follow_state(f, 1), behind = follow_state(plain, 0);
            assert_memory_equal(ahead.mask, behind.mask, words * sizeof *ahead.mask);
            assert_true(ahead.may_end == behind.may_end && ahead.may_go_on == behind.may_go_on);
            wrong += !follow_state(f, 2).mask;
            follow_feed(f, text, ends[0]);
            now = follow_state(f, 0);
        }
        follow_free(f);
        follow_free(plain);
    }
    assert_true(forced > 100 && certain > 20 && wrong > 100);
    json_decref(format);
    formats_free(all);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_are_those_of_pcre2),
        cmocka_unit_test(what_is_not_supported_is_refused),
        cmocka_unit_test(masks_are_those_of_every_token),
        cmocka_unit_test(nesting_is_followed),
        cmocka_unit_test(guesses_are_looked_past),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
