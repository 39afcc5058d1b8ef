/* Broken and unsupported tokenizer.json files: always an error that names the place, never a crash.
 * The random part is meant for a build with -fsanitize=address,undefined as well. */
#include "base/mem.h"
#include "text/pattern.h"
#include "text/tokenizer.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SMALL "tests/text/fixtures/small.json"

static char path[] = "/tmp/tandem-bad-tokenizer-XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static char *read_small(size_t *n)
{
    FILE *f = fopen(SMALL, "rb");
    assert_non_null(f);
    char *text = mem_new(1 << 20, 1);
    *n = fread(text, 1, 1 << 20, f);
    fclose(f);
    return text;
}

/* Opens the n bytes as a file. An error must begin with the path. */
static int open_bytes(struct tokenizer **t, const char *text, size_t n, struct err *e)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    fclose(f);
    e->text[0] = 0;
    int rc = tokenizer_open(t, path, e);
    if (rc != 0) {
        assert_int_equal(rc, -1);
        assert_null(*t);
        assert_memory_equal(e->text, path, strlen(path));
    } else {
        assert_non_null(*t);
    }
    return rc;
}

struct edit {
    const char *place;  /* keys and indices with '/'; the last is set */
    const char *value;  /* JSON; NULL: removed */
    const char *wanted; /* in the message */
};

static const struct edit edits[] = {
    {"version", "\"2.0\"", "version: only \"1.0\" is supported"},
    {"version", NULL, "version: only"},
    {"version", "1.0", "version: only"},
    {"surprise", "1", "the file: unknown key \"surprise\""},
    {"truncation", "{\"max_length\": 5}", "truncation: only null"},
    {"padding", "{}", "padding: only null"},
    {"normalizer", "{\"type\": \"NFC\"}", "normalizer.type: \"NFC\" is not supported"},
    {"normalizer", "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFKC\"}]}",
     "normalizer.normalizers[0].type: \"NFKC\""},
    {"normalizer", "5", "normalizer: wanted an object with a \"type\", found an integer"},
    {"pre_tokenizer", "null", "pre_tokenizer: wanted an object with a \"type\", found null"},
    {"pre_tokenizer", NULL, "pre_tokenizer: wanted an object with a \"type\", found missing"},
    {"pre_tokenizer", "{\"type\": \"Whitespace\"}", "pre_tokenizer.type: \"Whitespace\""},
    {"pre_tokenizer/pretokenizers", "[]", "pre_tokenizer.pretokenizers: wanted an array"},
    {"pre_tokenizer/pretokenizers/3", "{\"type\": \"Metaspace\"}",
     "pre_tokenizer.pretokenizers[3].type: \"Metaspace\""},
    {"pre_tokenizer/pretokenizers/0", "{\"type\": \"Punctuation\"}",
     "pre_tokenizer.pretokenizers[0].type: \"Punctuation\""},
    {"pre_tokenizer/pretokenizers/0", "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}",
     "ByteLevel as the last stage"},
    {"pre_tokenizer/pretokenizers/3/add_prefix_space", "1",
     "pretokenizers[3].add_prefix_space: wanted true or false, found an integer"},
    {"pre_tokenizer/pretokenizers/0/behavior", "\"Sideways\"",
     "pre_tokenizer.pretokenizers[0].behavior: wanted one of"},
    {"pre_tokenizer/pretokenizers/0/invert", "null",
     "pretokenizers[0].invert: wanted true or false"},
    {"pre_tokenizer/pretokenizers/0/pattern", "\"x\"",
     "pretokenizers[0].pattern: wanted {\"Regex\""},
    {"pre_tokenizer/pretokenizers/0/pattern/String", "\"x\"", "pattern: wanted {\"Regex\""},
    {"pre_tokenizer/pretokenizers/1/pattern/Regex", "\"a(b\"",
     "pretokenizers[1].pattern: the end inside a group"},
    {"pre_tokenizer/pretokenizers/1/pattern/Regex", "\"ab\\\\1\"", "pattern: \\1 at byte 2"},
    {"pre_tokenizer/pretokenizers/1/pattern/Regex", "\"[z-a]\"", "this range in a class at byte"},
    {"decoder", "null", "decoder: wanted an object"},
    {"decoder/type", "\"WordPiece\"", "decoder.type: \"WordPiece\" is not supported"},
    {"post_processor", "{\"type\": \"BertProcessing\"}", "post_processor.type: \"BertProcessing\""},
    {"post_processor", "{\"type\": \"Sequence\", \"processors\": [{\"type\": \"X\"}]}",
     "post_processor.processors[0].type: \"X\""},
    {"model", "null", "model: wanted an object, found null"},
    {"model/type", "\"Unigram\"", "model.type: only \"BPE\""},
    {"model/vocab", "[]", "model.vocab: wanted an object of tokens and ids, found an array"},
    {"model/vocab/!", "\"0\"", "model.vocab[\"!\"]: the id is not an integer"},
    {"model/vocab/!", "-1", "model.vocab[\"!\"]: the id -1 is not in 0.."},
    {"model/vocab/!", "4294967296", "model.vocab[\"!\"]: the id 4294967296 is not in 0.."},
    {"model/vocab/\"", "1", "the id 1 belongs to \"!\" already"},
    {"model/merges", "{}", "model.merges: wanted an array, found an object"},
    {"model/merges/7", "[\"a\", \"nonsense\"]",
     "model.merges[7]: \"nonsense\" is not in model.vocab"},
    {"model/merges/7", "[\"nonsense\", \"a\"]",
     "model.merges[7]: \"nonsense\" is not in model.vocab"},
    {"model/merges/7", "[\"!\", \"!\"]", "model.merges[7]: \"!!\" is not in model.vocab"},
    {"model/merges/7", "[\"a\"]", "model.merges[7]: wanted \"left right\""},
    {"model/merges/7", "[\"a\", 5]", "model.merges[7]: wanted"},
    {"model/merges/7", "\"ab\"", "model.merges[7]: wanted"},
    {"model/merges/7", "\"a b c\"", "model.merges[7]: wanted"},
    {"model/merges/7", "3", "model.merges[7]: wanted"},
    {"model/dropout", "0.1", "model.dropout: only null"},
    {"model/unk_token", "\"<missing>\"", "model.unk_token: the token is not in model.vocab"},
    {"model/unk_token", "7", "model.unk_token: wanted a string or null, found an integer"},
    {"model/byte_fallback", "true", "model.byte_fallback: only false"},
    {"model/byte_fallback", "\"no\"", "model.byte_fallback: wanted true or false, found a string"},
    {"model/ignore_merges", "1", "model.ignore_merges: wanted true or false"},
    {"model/fuse_unk", "1", "model.fuse_unk: wanted true or false"},
    {"model/continuing_subword_prefix", "\"##\"", "model.continuing_subword_prefix: only null"},
    {"model/end_of_word_suffix", "\"</w>\"", "model.end_of_word_suffix: only null"},
    {"model/max_length", "7", "model: unknown key \"max_length\""},
    {"added_tokens", "{}", "added_tokens: wanted an array, found an object"},
    {"added_tokens/2", "\"<s>\"", "added_tokens[2]: wanted an object, found a string"},
    {"added_tokens/2/id", "1.5", "added_tokens[2]: wanted an \"id\""},
    {"added_tokens/2/id", "-1", "added_tokens[2].id: -1 is not in 0.."},
    {"added_tokens/2/id", "99999999999", "added_tokens[2].id: 99999999999 is not in 0.."},
    {"added_tokens/2/id", "5", "added_tokens[2].id: 5 belongs to"},
    {"added_tokens/2/id", "600", "added_tokens[2].id: 600 belongs to \"<|EOT|>\" already"},
    {"added_tokens/2/content", "\"\"", "added_tokens[2]: wanted an \"id\""},
    {"added_tokens/2/content", "\"<|EOT|>\"",
     "added_tokens[2] (\"<|EOT|>\"): the token is listed twice"},
    {"added_tokens/2/content", "\"!\"", "but model.vocab gives \"!\" the id 1"},
    {"added_tokens/2/special", NULL,
     "added_tokens[2].special: wanted true or false, found missing"},
    {"added_tokens/2/lstrip", "\"yes\"", "added_tokens[2].lstrip: wanted true or false"},
    {"added_tokens/2/more", "1", "added_tokens[2]: unknown key \"more\""},
};

static void apply(json_t *root, const struct edit *edit)
{
    char key[64];
    const char *place = edit->place;
    json_t *at = root, *value = edit->value ? json_loads(edit->value, JSON_DECODE_ANY, NULL) : NULL;
    assert_true(!edit->value || value);
    for (;;) {
        size_t n = strcspn(place, "/");
        snprintf(key, sizeof key, "%.*s", (int)n, place);
        if (!place[n])
            break;
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(key)) : json_object_get(at, key);
        assert_non_null(at);
        place += n + 1;
    }
    if (json_is_array(at))
        assert_int_equal(json_array_set_new(at, (size_t)atoi(key), value), 0);
    else if (value)
        assert_int_equal(json_object_set_new(at, key, value), 0);
    else
        assert_int_equal(json_object_del(at, key), 0);
}

static void names_the_field(void **state)
{
    (void)state;
    json_t *base = json_load_file(SMALL, 0, NULL);
    size_t wrong = 0;
    assert_non_null(base);
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        json_t *all = json_deep_copy(base);
        struct tokenizer *t;
        struct err e;
        apply(all, &edits[i]);
        char *text = json_dumps(all, 0);
        if (open_bytes(&t, text, strlen(text), &e) == 0)
            fail_msg("%s = %s was accepted", edits[i].place, edits[i].value);
        if (!strstr(e.text, edits[i].wanted) && ++wrong)
            print_error("%s = %s: %s\n", edits[i].place,
                        edits[i].value ? edits[i].value : "(removed)", e.text);
        free(text);
        json_decref(all);
    }
    json_decref(base);
    assert_int_equal(wrong, 0);
}

static void not_json(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", ":1:0: not valid JSON"},
        {"{\n  \"version\": 1.0,,\n}", ":2:18: not valid JSON"},
        {"{\"version\": \"1.0\"} x", ":1:20: not valid JSON"},
        {"{\"version\": \"1.0\", \"version\": \"1.0\"}", ": not valid JSON: duplicate object key"},
        {"{\"version\": \"\xff\"}", ": not valid JSON: "},
        {"[]", ": the file: wanted an object, found an array"},
    };
    struct tokenizer *t;
    struct err e;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(open_bytes(&t, cases[i][0], strlen(cases[i][0]), &e), -1);
        if (!strstr(e.text, cases[i][1]))
            fail_msg("\"%s\": %s", cases[i][0], e.text);
    }
    assert_int_equal(tokenizer_open(&t, "/nonexistent/tokenizer.json", &e), -1);
    assert_non_null(strstr(e.text, "/nonexistent/tokenizer.json: cannot be opened: No such file"));
    assert_int_equal(tokenizer_open(&t, "/tmp", &e), -1);
    assert_non_null(strstr(e.text, "/tmp: wanted a file, found a directory"));
    char fifo[] = "/tmp/tandem-fifo-XXXXXX"; /* nobody writes: not waited for */
    assert_true(mkstemp(fifo) >= 0 && unlink(fifo) == 0 && mkfifo(fifo, 0600) == 0);
    assert_int_equal(tokenizer_open(&t, fifo, &e), -1);
    assert_non_null(strstr(e.text, "wanted a file, found something else"));
    unlink(fifo);
}

static void truncated(void **state)
{
    (void)state;
    size_t n;
    char *text = read_small(&n);
    while (n > 0 && text[n - 1] != '}')
        n--;
    for (size_t cut = 0; cut < n; cut += 1 + cut / 40) {
        struct tokenizer *t;
        struct err e;
        assert_int_equal(open_bytes(&t, text, cut, &e), -1);
        assert_non_null(strstr(e.text, "not valid JSON"));
    }
    free(text);
}

/* A small generator with a fixed seed, so that a failure comes again. */
static uint32_t next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* Random bytes changed. Most files are no JSON; what opens must work. */
static void random_changes(void **state)
{
    (void)state;
    static const char alphabet[] = "0123456789[]{}\",:-\\u.eaE(|)+*?^$ truefalsn";
    static const char text[] =
        "Hello  12345 <|EOT|> \xe4\xb8\xad\xe6\x96\x87 New York\r\n\xf0\x9f\x98\x80";
    size_t n, opened = 0;
    char *original = read_small(&n), *changed = mem_new(n, 1);
    uint64_t seed = 11;
    for (int round = 0; round < 1500; round++) {
        struct tokenizer *t;
        struct err e;
        memcpy(changed, original, n);
        /* The tables are most of the file; the front has the fields. */
        for (uint32_t edit = 0; edit < 1 + next(&seed) % 3; edit++)
            changed[next(&seed) % (next(&seed) % 2 ? 2600 : n)] =
                alphabet[next(&seed) % (sizeof alphabet - 1)];
        if (open_bytes(&t, changed, n, &e) != 0)
            continue;
        int32_t *ids;
        size_t count, bytes;
        char *back;
        opened++;
        if (tokenizer_encode(t, text, sizeof text - 1, &ids, &count, &e) == 0) {
            tokenizer_decode(t, ids, count, false, &back, &bytes);
            free(back);
            free(ids);
        }
        tokenizer_close(t);
    }
    assert_true(opened > 10);
    free(original);
    free(changed);
}

/* What Oniguruma and PCRE2 would read differently is refused with its place. */
static void unsupported_patterns(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "\\b",          "a\\Gb",        "\\K",           "\\R",        "\\X",
        "(?<name>a)",   "\\k<name>",    "(?m:a)",        "(?x)a",      "a(?i)b",
        "[[:alpha:]]",  "[a[bc]]",      "[a&&b]",        "[]a]",       "[\\s-a]",
        "[a-\\s]",      "[^\\P{L}]",    "[\\W]",         "\\pL",       "\\p{Greek",
        "\\p{C}",       "\\p{Klingon}", "(?i:\xc3\xa9)", "(?i:class)", "(?i:first)",
        "(?i:\\p{Lu})", "\\xff",        "\\x{110000}",   "\\ud800",    "\\u12",
        "a{2}?",        "*a",           "a**",           "(a",         "a)",
        "[a",           "[z-a]",        "a\\",           "\\q",        "\\0",
        "(?#x)",        "\\Q",          "(?<=a+)b",      "\xff",       "[^a&&[b]]",
        "[a&&[b]c]",    "[&&[a]]",      "(?i:[a&&[A]])",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct pattern *p = (struct pattern *)&patterns;
        struct err e = {{0}};
        if (pattern_compile(&p, patterns[i], &e) == 0)
            fail_msg("%s was accepted as %s", patterns[i], pattern_translated(p));
        assert_null(p);
        if (!strstr(e.text, "byte"))
            fail_msg("%s: %s", patterns[i], e.text);
    }
}

/* Random patterns from the pieces of the syntax: an error or something that matches, no crash. */
static void random_patterns(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "a",       "b",
        "(",       ")",
        "(?:",     "(?=",
        "(?!",     "(?i:",
        "|",       "[",
        "]",       "^",
        "-",       "\\",
        "\\s",     "\\S",
        "\\w",     "\\p{L}",
        "\\P{N}",  "{1,3}",
        "{2",      "}",
        "+",       "*",
        "?",       "{,2}",
        "\\x{41}", "\\u00e9",
        "\\r",     "\\d",
        ".",       "$",
        " ",       "\xe4\xb8\xad",
        "&&",      "\\]",
    };
    uint64_t seed = 5;
    struct pattern_work *w = pattern_work_new();
    size_t compiled = 0;
    for (int round = 0; round < 20000; round++) {
        char regex[256] = "";
        struct pattern *p;
        struct err e = {{0}};
        for (uint32_t i = 0; i < 1 + next(&seed) % 8; i++)
            strcat(regex, pieces[next(&seed) % (sizeof pieces / sizeof pieces[0])]);
        if (pattern_compile(&p, regex, &e) != 0) {
            assert_true(e.text[0] != 0);
            continue;
        }
        size_t start, end, n = strlen(regex);
        int found = pattern_find(p, w, regex, n, 0, &start, &end, &e);
        assert_true(found >= 0);
        assert_true(found == 0 || (start <= end && end <= n));
        compiled++;
        pattern_free(p);
    }
    assert_true(compiled > 1000);
    pattern_work_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_the_field),
        cmocka_unit_test(not_json),
        cmocka_unit_test(truncated),
        cmocka_unit_test(random_changes),
        cmocka_unit_test(unsupported_patterns),
        cmocka_unit_test(random_patterns),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
