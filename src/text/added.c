#include "text/added.h"

#include "base/mem.h"
#include "text/unicode.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

struct added {
    struct added_token *tokens; /* sorted by their bytes after added_finish() */
    size_t n;
    size_t first[257];    /* tokens that begin with byte b: first[b] .. first[b + 1] - 1 */
    struct pattern *word; /* one word character; NULL when no token asks */
};

struct added *added_new(void)
{
    return mem_zeroed(1, sizeof(struct added));
}

void added_free(struct added *a)
{
    if (!a)
        return;
    pattern_free(a->word);
    free(a->tokens);
    free(a);
}

void added_put(struct added *a, struct added_token token)
{
    a->tokens = mem_resize(a->tokens, a->n + 1, sizeof *a->tokens);
    a->tokens[a->n++] = token;
}

static int by_bytes(const void *left, const void *right)
{
    const struct added_token *a = left, *b = right;
    int order = memcmp(a->text, b->text, a->bytes < b->bytes ? a->bytes : b->bytes);
    if (order)
        return order;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

int added_finish(struct added *a, struct err *e)
{
    bool words = false;
    if (a->n)
        qsort(a->tokens, a->n, sizeof *a->tokens, by_bytes);
    for (size_t i = 0; i < a->n; i++) {
        a->first[(unsigned char)a->tokens[i].text[0] + 1]++;
        words |= a->tokens[i].single_word;
    }
    for (size_t b = 0; b < 256; b++)
        a->first[b + 1] += a->first[b];
    /* The joiners are word characters for the reference, although not for Oniguruma's \w. */
    return words ? pattern_compile(&a->word, "\\A[\\w\\x{200c}\\x{200d}]", e) : 0;
}

/* The end (exclusive) of the tokens in low..high - 1 whose byte at `depth` is not above b, or, with
 * below, is below b. All of them are longer than depth. */
static size_t bound(const struct added *a, size_t low, size_t high, size_t depth, unsigned char b,
                    bool below)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        unsigned char c = (unsigned char)a->tokens[middle].text[depth];
        if (c < b || (c == b && !below))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest token at the start of text, or NULL. */
static const struct added_token *longest(const struct added *a, const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    const struct added_token *best = NULL;
    size_t low = a->first[s[0]], high = a->first[s[0] + 1];
    for (size_t depth = 1; low < high; depth++) {
        /* Of equal beginnings the shortest is sorted first: it may end here. */
        if (a->tokens[low].bytes == depth)
            best = &a->tokens[low++];
        if (depth == n)
            break;
        size_t from = bound(a, low, high, depth, s[depth], true);
        high = bound(a, from, high, depth, s[depth], false);
        low = from;
    }
    return best;
}

static int is_word(const struct added *a, struct pattern_work *w, const char *text, size_t n,
                   struct err *e)
{
    size_t start, end;
    return pattern_find(a->word, w, text, n, 0, &start, &end, e);
}

/* 1 when no word character touches text[start..stop - 1], 0 when one does, -1 on an error. */
static int stands_alone(const struct added *a, struct pattern_work *w, const char *text, size_t n,
                        size_t start, size_t stop, struct err *e)
{
    int touched = 0;
    if (start > 0) {
        size_t last = start - 1;
        while (last > 0 && ((unsigned char)text[last] & 0xc0) == 0x80)
            last--;
        touched = is_word(a, w, text + last, start - last, e);
    }
    if (touched == 0 && stop < n)
        touched = is_word(a, w, text + stop, n - stop < 4 ? n - stop : 4, e);
    return touched < 0 ? -1 : !touched;
}

static size_t spaces_before(const char *text, size_t at)
{
    while (at > 0) {
        size_t last = at - 1, length;
        uint32_t code;
        while (last > 0 && ((unsigned char)text[last] & 0xc0) == 0x80)
            last--;
        if (!utf8_read(text + last, at - last, &code, &length) || !unicode_is_space(code))
            break;
        at = last;
    }
    return at;
}

static size_t spaces_behind(const char *text, size_t n, size_t at)
{
    uint32_t code;
    size_t length;
    while (at < n && utf8_read(text + at, n - at, &code, &length) && unicode_is_space(code))
        at += length;
    return at;
}

int added_cut(const struct added *a, struct pattern_work *w, const char *text, const char *marks,
              size_t n, added_part part, void *arg, struct err *e)
{
    size_t done = 0;
    int rc;
    for (size_t at = 0; at < n;) {
        const struct added_token *t = longest(a, text + at, n - at);
        if (!t || (marks && t->special && memchr(marks + at, 1, t->bytes))) {
            at++;
            continue;
        }
        size_t start = at, stop = at + t->bytes;
        /* The search goes on behind a match even where the match does not count. */
        at = stop;
        if (t->single_word) {
            int alone = stands_alone(a, w, text, n, start, stop, e);
            if (alone < 0)
                return -1;
            if (!alone)
                continue;
        }
        if (t->lstrip) {
            start = spaces_before(text, start);
            start = start > done ? start : done;
        }
        if (t->rstrip)
            stop = spaces_behind(text, n, stop);
        if (done < start && (rc = part(arg, -1, text + done, start - done, e)) != 0)
            return rc;
        if ((rc = part(arg, t->id, NULL, 0, e)) != 0)
            return rc;
        done = stop;
    }
    return done == n ? 0 : part(arg, -1, text + done, n - done, e);
}
