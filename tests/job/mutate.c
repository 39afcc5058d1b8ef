/* Broken copies of jobs/example.yaml: each is read or refused with a message, and never crashes,
 * leaks (with sanitizers), or is read as something that cannot be written and read again. */
#include "text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROUNDS 4000

struct dice {
    uint64_t state;
};

/* SplitMix64: the same mutations in every run. */
static size_t roll(struct dice *d, size_t sides)
{
    uint64_t z = d->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (size_t)((z ^ z >> 31) % sides);
}

static size_t replace(char *text, size_t bytes, size_t room, size_t at, size_t take,
                      const char *put, size_t n)
{
    if (take > bytes - at)
        take = bytes - at;
    if (bytes - take + n > room)
        return bytes;
    memmove(text + at + n, text + at + take, bytes - at - take);
    memcpy(text + at, put, n);
    return bytes - take + n;
}

/* What YAML and the job file give a meaning to. */
static const char *const pieces[] = {"{",
                                     "}",
                                     "[",
                                     "]",
                                     ":",
                                     ": ",
                                     "\n",
                                     "\t",
                                     "- ",
                                     "&a ",
                                     "*a",
                                     "!!",
                                     "\"",
                                     "'",
                                     "#",
                                     "|",
                                     ">",
                                     "\\",
                                     "---\n",
                                     "...\n",
                                     "? ",
                                     "%",
                                     "\xff",
                                     "\xc3",
                                     "@",
                                     "0",
                                     "-1",
                                     "99999999999999999999",
                                     "1e9",
                                     "null",
                                     "~",
                                     "true",
                                     "auto",
                                     "none",
                                     "4 GiB",
                                     "23h50m",
                                     "\xe2\x80\xa8",
                                     "nan",
                                     "inf",
                                     "cuda",
                                     "nccl",
                                     "local",
                                     "fp8",
                                     "slots:",
                                     "layout:",
                                     "<<: ",
                                     "\r",
                                     " ",
                                     "  ",
                                     "model:",
                                     "file",
                                     "{prompt}",
                                     "\"\\0\"",
                                     "\xef\xbb\xbf",
                                     "\x01",
                                     ","};

static size_t mutate(struct dice *d, char *text, size_t bytes, size_t room)
{
    size_t at = roll(d, bytes + 1);
    switch (roll(d, 4)) {
    case 0: { /* a piece goes in, perhaps in place of something */
        const char *piece = pieces[roll(d, sizeof pieces / sizeof *pieces)];
        return replace(text, bytes, room, at, roll(d, 6), piece, strlen(piece));
    }
    case 1: /* some bytes go */
        return replace(text, bytes, room, at, roll(d, 40), "", 0);
    case 2: { /* a part of the file comes again somewhere else */
        char copy[64];
        size_t from = roll(d, bytes + 1), n = roll(d, sizeof copy);
        if (n > bytes - from)
            n = bytes - from;
        memcpy(copy, text + from, n);
        return replace(text, bytes, room, at, 0, copy, n);
    }
    default: { /* one byte becomes another */
        char byte = (char)roll(d, 256);
        return replace(text, bytes, room, at, 1, &byte, 1);
    }
    }
}

static void broken_copies(void **state)
{
    (void)state;
    enum { ROOM = 1 << 16 };
    size_t bytes;
    char *example = read_file("jobs/example.yaml", &bytes), *text = malloc(ROOM);
    struct dice dice = {7};
    int rounds = getenv("QUICK") ? ROUNDS / 20 : ROUNDS;
    int read = 0;
    assert_true(bytes < ROOM / 2);
    for (int i = 0; i < rounds; i++) {
        memcpy(text, example, bytes);
        size_t n = bytes;
        for (size_t times = 1 + roll(&dice, 4); times > 0; times--)
            n = mutate(&dice, text, n, ROOM);
        struct job job, again;
        struct err e = {""};
        if (read_text(&job, text, n, NULL, 0, &e) != 0) {
            assert_true(strlen(e.text) > 10 && strlen(e.text) < sizeof e.text - 1);
            if (strchr(e.text, '\n'))
                fail_msg("round %d: more than one line: %s", i, e.text);
            continue;
        }
        read++;
        char *yaml = job_yaml(&job), *json = job_sampling_json(&job);
        if (read_text(&again, yaml, strlen(yaml), NULL, 0, &e) != 0)
            fail_msg("round %d: %s in\n%s", i, e.text, yaml);
        char *yaml_again = job_yaml(&again);
        assert_string_equal(yaml, yaml_again);
        free(yaml);
        free(yaml_again);
        free(json);
        job_free(&job);
        job_free(&again);
    }
    print_message("%d of %d broken copies could be read\n", read, rounds);
    assert_in_range(read, rounds / 20, rounds - rounds / 20);
    free(text);
    free(example);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(broken_copies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
