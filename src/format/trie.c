#include "format/trie.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define DEEPEST 60000 /* bytes; longer tokens are left out */

struct word {
    char *bytes;
    size_t n;
    int32_t token;
};

static int by_bytes(const void *a, const void *b)
{
    const struct word *x = a, *y = b;
    int order = memcmp(x->bytes, y->bytes, x->n < y->n ? x->n : y->n);
    if (order != 0)
        return order;
    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

static size_t collect(const struct tokenizer *t, int32_t vocab, struct word *words)
{
    size_t n = 0;
    for (int32_t token = 0; token < vocab; token++) {
        struct word *w = &words[n];
        if (!tokenizer_token(t, token))
            continue;
        tokenizer_decode(t, &token, 1, true, &w->bytes, &w->n);
        w->token = token;
        if (w->n > 0 && w->n <= DEEPEST)
            n++;
        else
            free(w->bytes);
    }
    qsort(words, n, sizeof *words, by_bytes);
    return n;
}

static size_t common(const struct word *a, const struct word *b)
{
    size_t i = 0;
    while (i < a->n && i < b->n && a->bytes[i] == b->bytes[i])
        i++;
    return i;
}

/* The words are in order: each adds what it does not share with the one before. */
static void build(struct trie *t, const struct word *words, size_t n)
{
    size_t room = 0, *open; /* [depth] the node of the path to the last word */
    for (size_t i = 0; i < n; i++) {
        room += words[i].n;
        t->deepest = words[i].n > t->deepest ? words[i].n : t->deepest;
    }
    t->nodes = mem_new(room, sizeof *t->nodes);
    open = mem_new(t->deepest + 1, sizeof *open);
    for (size_t i = 0; i < n; i++) {
        const struct word *w = &words[i];
        size_t shared = i ? common(&words[i - 1], w) : 0;
        for (size_t d = shared + 1; i && d <= words[i - 1].n; d++)
            t->nodes[open[d]].skip = (uint32_t)t->n;
        for (size_t d = shared + 1; d <= w->n; d++) {
            open[d] = t->n;
            t->nodes[t->n++] = (struct trie_node){(uint8_t)w->bytes[d - 1], (uint16_t)d, 0, -1};
        }
        struct trie_node *end = &t->nodes[open[w->n]];
        if (end->token < 0) {
            end->token = w->token;
        } else {
            t->same[w->token] = t->same[end->token];
            t->same[end->token] = w->token;
        }
    }
    for (size_t d = 1; n && d <= words[n - 1].n; d++)
        t->nodes[open[d]].skip = (uint32_t)t->n;
    free(open);
}

struct trie *trie_new(const struct tokenizer *tokenizer, int32_t vocab)
{
    struct trie *t = mem_zeroed(1, sizeof *t);
    struct word *words = mem_new((size_t)vocab, sizeof *words);
    t->vocab = vocab;
    t->same = mem_new((size_t)vocab, sizeof *t->same);
    for (int32_t i = 0; i < vocab; i++)
        t->same[i] = -1;
    size_t n = collect(tokenizer, vocab, words);
    build(t, words, n);
    for (size_t i = 0; i < n; i++)
        free(words[i].bytes);
    free(words);
    return t;
}

void trie_free(struct trie *t)
{
    if (!t)
        return;
    free(t->nodes);
    free(t->same);
    free(t);
}
