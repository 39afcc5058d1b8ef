/* Ids and text against Hugging Face tokenizers: the fixtures are made by make_fixtures.py.
 *
 * The environment variable TANDEM_DEEPSEEK_TOKENIZER names a DeepSeek-V3 tokenizer.json, which is
 * too large to be kept here; without it the test with the real vocabulary is skipped, and says so.
 */
#include "base/mem.h"
#include "text/tokenizer.h"

#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define FIXTURES "tests/text/fixtures/"

static json_t *load(const char *path)
{
    json_error_t e;
    json_t *j = json_load_file(path, JSON_ALLOW_NUL, &e);
    if (!j)
        fail_msg("%s:%d: %s", path, e.line, e.text);
    return j;
}

static struct tokenizer *open_file(const char *path)
{
    struct tokenizer *t;
    struct err e = {{0}};
    if (tokenizer_open(&t, path, &e) != 0)
        fail_msg("%s", e.text);
    return t;
}

/* A text and its ids, both ways. */
static void check_ids(const struct tokenizer *t, const char *name, json_t *text, json_t *want)
{
    int32_t *ids;
    size_t n;
    struct err e = {{0}};
    const char *s = json_string_value(text);
    if (tokenizer_encode(t, s, json_string_length(text), &ids, &n, &e) != 0)
        fail_msg("%s: \"%s\": %s", name, s, e.text);
    bool same = n == json_array_size(want);
    for (size_t i = 0; i < n && same; i++)
        same = ids[i] == json_integer_value(json_array_get(want, i));
    if (!same) {
        char *dump = json_dumps(want, JSON_COMPACT);
        for (size_t i = 0; i < n; i++)
            print_error("%d ", ids[i]);
        fail_msg("%s: \"%s\": above are our %zu ids, wanted %s", name, s, n, dump);
    }
    free(ids);
}

static void check_text(const struct tokenizer *t, json_t *list, bool skip, json_t *want)
{
    size_t n = json_array_size(list), bytes, lossy_bytes;
    int32_t *ids = mem_new(n, sizeof *ids);
    char *text, *lossy;
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    assert_int_equal(tokenizer_decode(t, ids, n, skip, &text, &bytes), 0);
    tokenizer_utf8_lossy(text, bytes, &lossy, &lossy_bytes);
    assert_int_equal(lossy_bytes, json_string_length(want));
    assert_memory_equal(lossy, json_string_value(want), lossy_bytes);
    free(ids);
    free(text);
    free(lossy);
}

static void small_vocabulary(void **state)
{
    (void)state;
    static const char *const files[] = {FIXTURES "small.json", FIXTURES "small_strings.json"};
    json_t *rows = load(FIXTURES "small_ids.json"), *row;
    assert_true(json_array_size(rows) > 250);
    for (size_t f = 0; f < 2; f++) {
        struct tokenizer *t = open_file(files[f]);
        size_t i;
        json_array_foreach(rows, i, row)
        {
            check_ids(t, files[f], json_array_get(row, 0), json_array_get(row, 1));
            check_text(t, json_array_get(row, 1), false, json_array_get(row, 2));
            check_text(t, json_array_get(row, 1), true, json_array_get(row, 3));
        }
        tokenizer_close(t);
    }
    json_decref(rows);
}

/* Takes a token out of the vocabulary, and the merges that use it; ids stay. */
static void drop(json_t *model, const char *token)
{
    json_t *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
    char name[64];
    snprintf(name, sizeof name, "dropped %s", token);
    json_object_set(vocab, name, json_object_get(vocab, token));
    json_object_del(vocab, token);
    for (size_t i = json_array_size(merges); i-- > 0;) {
        json_t *merge = json_array_get(merges, i);
        for (size_t side = 0; side < 2; side++)
            if (strcmp(json_string_value(json_array_get(merge, side)), token) == 0) {
                json_array_remove(merges, i);
                break;
            }
    }
}

/* What make_fixtures.vary() does. */
static struct tokenizer *open_variant(json_t *base, json_t *parts)
{
    json_t *all = json_deep_copy(base), *value;
    const char *key;
    char path[] = "/tmp/tandem-tokenizer-XXXXXX";
    json_object_foreach(parts, key, value)
    {
        size_t i;
        json_t *token;
        if (strcmp(key, "model") == 0)
            json_object_update(json_object_get(all, "model"), value);
        else if (strcmp(key, "drop") != 0)
            json_object_set(all, key, value);
        else
            json_array_foreach(value, i, token)
                drop(json_object_get(all, "model"), json_string_value(token));
    }
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(json_dumpfd(all, fd, 0), 0);
    close(fd);
    struct tokenizer *t = open_file(path);
    unlink(path);
    json_decref(all);
    return t;
}

static void other_configurations(void **state)
{
    (void)state;
    json_t *base = load(FIXTURES "small.json"), *variants = load(FIXTURES "variants.json"), *v,
           *row;
    size_t i, k;
    json_array_foreach(variants, i, v)
    {
        struct tokenizer *t = open_variant(base, json_array_get(v, 1));
        json_array_foreach(json_array_get(v, 2), k, row)
            check_ids(t, json_string_value(json_array_get(v, 0)), json_array_get(row, 0),
                      json_array_get(row, 1));
        tokenizer_close(t);
    }
    assert_true(i > 60);
    json_decref(base);
    json_decref(variants);
}

static void deepseek_vocabulary(void **state)
{
    (void)state;
    const char *path = getenv("TANDEM_DEEPSEEK_TOKENIZER");
    if (!path || !*path) {
        print_message("SKIPPED: TANDEM_DEEPSEEK_TOKENIZER is not set to the path of a DeepSeek-V3 "
                      "tokenizer.json, so the real vocabulary was not tested\n");
        skip();
    }
    struct tokenizer *t = open_file(path);
    assert_int_equal(tokenizer_size(t), 128815);
    assert_int_equal(tokenizer_id(t, "<|EOT|>"), 128805);
    json_t *rows = load(FIXTURES "deepseek_ids.json"), *row;
    size_t i;
    json_array_foreach(rows, i, row)
        check_ids(t, path, json_array_get(row, 0), json_array_get(row, 1));
    assert_true(i > 200);
    json_decref(rows);
    tokenizer_close(t);
}

static void names_and_numbers(void **state)
{
    (void)state;
    struct tokenizer *t = open_file(FIXTURES "small.json");
    struct tokenizer *other = open_file(FIXTURES "small_strings.json");
    size_t size = tokenizer_size(t);
    assert_int_equal(size, 607);
    for (int32_t id = 0; id < (int32_t)size; id++) {
        assert_non_null(tokenizer_token(t, id));
        assert_int_equal(tokenizer_id(t, tokenizer_token(t, id)), id);
    }
    assert_null(tokenizer_token(t, -1));
    assert_null(tokenizer_token(t, (int32_t)size));
    assert_null(tokenizer_token(t, INT32_MAX));
    assert_int_equal(tokenizer_id(t, "no such token"), -1);
    assert_int_equal(tokenizer_id(t, ""), -1);
    assert_true(tokenizer_is_special(t, tokenizer_id(t, "<|EOT|>")));
    assert_false(tokenizer_is_special(t, tokenizer_id(t, "New York")));
    assert_false(tokenizer_is_special(t, -5));
    assert_true(tokenizer_hash(t) != tokenizer_hash(other));
    assert_true(tokenizer_hash(t) != 0);
    tokenizer_close(t);
    tokenizer_close(other);
    tokenizer_close(NULL);
}

/* Halves of a character, ids that no token has, none at all. */
static void decodes_anything(void **state)
{
    (void)state;
    struct tokenizer *t = open_file(FIXTURES "small.json");
    /* The first two bytes of U+1F600, whose tokens are U+00F0 and U+0141 in the alphabet, then "A".
     */
    int32_t ids[] = {
        tokenizer_id(t, "\xc3\xb0"), tokenizer_id(t, "\xc5\x81"), -1, INT32_MAX, INT32_MIN,
        tokenizer_id(t, "A")};
    char *text, *lossy;
    size_t n;
    assert_true(ids[0] >= 0 && ids[1] >= 0);
    assert_int_equal(tokenizer_decode(t, ids, 6, false, &text, &n), 0);
    assert_int_equal(n, 3);
    assert_memory_equal(text,
                        "\xf0\x9f"
                        "A",
                        4);
    tokenizer_utf8_lossy(text, n, &lossy, &n);
    assert_string_equal(lossy, "\xef\xbf\xbd"
                               "A");
    free(text);
    free(lossy);
    assert_int_equal(tokenizer_decode(t, NULL, 0, true, &text, &n), 0);
    assert_int_equal(n, 0);
    assert_string_equal(text, "");
    free(text);
    tokenizer_close(t);
}

static void refuses_invalid_text(void **state)
{
    (void)state;
    struct tokenizer *t = open_file(FIXTURES "small.json");
    static const char *const texts[] = {"abc\xff", "\xe4\xb8\xad\xe4\xb8",
                                        "0123456789abcdef\xc0\x80"};
    static const char *const offsets[] = {"byte 0xff at byte offset 3 of 4", "offset 3 of 5",
                                          "offset 16 of 18"};
    for (size_t i = 0; i < 3; i++) {
        int32_t *ids = (int32_t *)&t;
        size_t n = 5;
        struct err e = {{0}};
        assert_int_equal(tokenizer_encode(t, texts[i], strlen(texts[i]), &ids, &n, &e), -1);
        assert_null(ids);
        assert_int_equal(n, 0);
        assert_non_null(strstr(e.text, offsets[i]));
    }
    tokenizer_close(t);
}

/* A megabyte in one piece, of every kind that one rule takes whole; it must come back, and soon. */
static void long_pieces(void **state)
{
    (void)state;
    struct tokenizer *t = open_file(FIXTURES "small.json");
    static const char *const units[] = {"a",   " ",         "the", "\xe4\xb8\xad", "!", "\n",
                                        " \n", "x\xcc\x81", "7"};
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        size_t length = strlen(units[u]), count = (1u << 20) / length, n, bytes;
        char *text = mem_new(count, length), *back;
        for (size_t i = 0; i < count; i++)
            memcpy(text + i * length, units[u], length);
        int32_t *ids;
        struct err e = {{0}};
        struct timespec from, to;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
        if (tokenizer_encode(t, text, count * length, &ids, &n, &e) != 0)
            fail_msg("%s", e.text);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
        /* Quadratic work would be hours; a sanitizer on a slow machine needs a few seconds. */
        assert_true(to.tv_sec - from.tv_sec < 60);
        tokenizer_decode(t, ids, n, false, &back, &bytes);
        assert_int_equal(bytes, count * length);
        assert_memory_equal(back, text, bytes);
        free(ids);
        free(back);
        free(text);
    }
    tokenizer_close(t);
}

struct reader {
    const struct tokenizer *t;
    json_t *rows;
    size_t wrong;
};

static void *read_all(void *arg)
{
    struct reader *r = arg;
    json_t *row;
    size_t i, k;
    for (int repeat = 0; repeat < 5; repeat++)
        json_array_foreach(r->rows, i, row)
        {
            json_t *text = json_array_get(row, 0), *want = json_array_get(row, 1);
            int32_t *ids;
            size_t n;
            struct err e;
            if (tokenizer_encode(r->t, json_string_value(text), json_string_length(text), &ids, &n,
                                 &e) != 0) {
                r->wrong++;
                continue;
            }
            bool same = n == json_array_size(want);
            for (k = 0; same && k < n; k++)
                same = ids[k] == json_integer_value(json_array_get(want, k));
            r->wrong += !same;
            free(ids);
        }
    return NULL;
}

static void several_threads(void **state)
{
    (void)state;
    struct tokenizer *t = open_file(FIXTURES "small.json");
    json_t *rows = load(FIXTURES "small_ids.json");
    struct reader readers[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        readers[i] = (struct reader){.t = t, .rows = rows};
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(readers[i].wrong, 0);
    }
    json_decref(rows);
    tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_vocabulary),    cmocka_unit_test(other_configurations),
        cmocka_unit_test(deepseek_vocabulary), cmocka_unit_test(names_and_numbers),
        cmocka_unit_test(decodes_anything),    cmocka_unit_test(refuses_invalid_text),
        cmocka_unit_test(long_pieces),         cmocka_unit_test(several_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
