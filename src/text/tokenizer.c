#include "text/tokenizer.h"

#include "base/mem.h"
#include "text/load.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

struct tokenizer {
    struct load_parts parts;
};

/* What one call of tokenizer_encode() owns. */
struct encoding {
    const struct load_parts *parts;
    const char *text, *marks; /* the whole text, and its marks or NULL */
    struct pattern_work *pattern;
    struct split_work *split;
    struct bpe_work *bpe;
    struct bpe_ids out;
};

int tokenizer_open(struct tokenizer **out, const char *path, struct err *e)
{
    *out = NULL;
    struct tokenizer *t = mem_zeroed(1, sizeof *t);
    if (load_file(&t->parts, path, e) != 0) {
        tokenizer_close(t);
        return -1;
    }
    *out = t;
    return 0;
}

int tokenizer_open_text(struct tokenizer **out, const char *path, const char *text, size_t n,
                        struct err *e)
{
    struct tokenizer *t = mem_zeroed(1, sizeof *t);
    *out = NULL;
    if (load_text(&t->parts, path, text, n, e) != 0) {
        tokenizer_close(t);
        return -1;
    }
    *out = t;
    return 0;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    load_free(&t->parts);
    free(t);
}

static int encode_piece(void *arg, const char *piece, size_t n, struct err *e)
{
    (void)e;
    struct encoding *c = arg;
    bpe_encode(c->parts->bpe, c->bpe, piece, n, &c->out);
    return 0;
}

static int second_cut(void *arg, int32_t id, const char *gap, size_t n, struct err *e)
{
    struct encoding *c = arg;
    if (id < 0)
        return split_run(c->parts->split, c->split, gap, n, encode_piece, c, e);
    bpe_append(&c->out, id);
    return 0;
}

static int first_cut(void *arg, int32_t id, const char *gap, size_t n, struct err *e)
{
    struct encoding *c = arg;
    if (id < 0)
        return added_cut(c->parts->added[1], c->pattern, gap,
                         c->marks ? c->marks + (gap - c->text) : NULL, n, second_cut, c, e);
    bpe_append(&c->out, id);
    return 0;
}

static int check_text(const char *text, size_t bytes, struct err *e)
{
    size_t bad;
    if (bytes > INT32_MAX)
        return err_set(e, "a text of %zu bytes; at most %d can be tokenized", bytes, INT32_MAX);
    if (utf8_check(text, bytes, &bad) != 0)
        return err_set(e, "the text is not UTF-8: byte 0x%02x at byte offset %zu of %zu",
                       (unsigned)(unsigned char)text[bad], bad, bytes);
    return 0;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t bytes, int32_t **ids,
                     size_t *n, struct err *e)
{
    return tokenizer_encode_marked(t, text, NULL, bytes, ids, n, e);
}

int tokenizer_encode_marked(const struct tokenizer *t, const char *text, const char *marks,
                            size_t bytes, int32_t **ids, size_t *n, struct err *e)
{
    *ids = NULL;
    *n = 0;
    if (check_text(text, bytes, e) != 0)
        return -1;
    struct encoding c = {.parts = &t->parts,
                         .text = text,
                         .marks = marks,
                         .pattern = pattern_work_new(),
                         .split = split_work_new(),
                         .bpe = bpe_work_new()};
    c.out.room = bytes / 4 + 16;
    c.out.ids = mem_new(c.out.room, sizeof *c.out.ids);
    int rc = added_cut(t->parts.added[0], c.pattern, text, marks, bytes, first_cut, &c, e);
    pattern_work_free(c.pattern);
    split_work_free(c.split);
    bpe_work_free(c.bpe);
    if (rc != 0) {
        free(c.out.ids);
        return -1;
    }
    *ids = c.out.ids;
    *n = c.out.n;
    return 0;
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool skip_special,
                     char **text, size_t *bytes)
{
    size_t total = 0, used = 0;
    for (size_t i = 0; i < n; i++) {
        const struct vocab_token *token = vocab_get(t->parts.vocab, ids[i]);
        if (token && !(skip_special && token->special))
            total += token->bytes_n;
    }
    char *out = mem_new(total + 1, 1);
    for (size_t i = 0; i < n; i++) {
        const struct vocab_token *token = vocab_get(t->parts.vocab, ids[i]);
        if (!token || (skip_special && token->special))
            continue;
        memcpy(out + used, token->bytes, token->bytes_n);
        used += token->bytes_n;
    }
    out[used] = 0;
    *text = out;
    *bytes = used;
    return 0;
}

void tokenizer_utf8_lossy(const char *text, size_t bytes, char **out, size_t *out_bytes)
{
    utf8_lossy(text, bytes, out, out_bytes);
}

int32_t tokenizer_id(const struct tokenizer *t, const char *token)
{
    return vocab_id(t->parts.vocab, token, strlen(token));
}

const char *tokenizer_token(const struct tokenizer *t, int32_t id)
{
    const struct vocab_token *token = vocab_get(t->parts.vocab, id);
    return token ? token->text : NULL;
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
    const struct vocab_token *token = vocab_get(t->parts.vocab, id);
    return token && token->special;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return vocab_get(t->parts.vocab, t->parts.first) ? t->parts.first : -1;
}

size_t tokenizer_size(const struct tokenizer *t)
{
    return vocab_size(t->parts.vocab);
}

size_t tokenizer_longest(const struct tokenizer *t)
{
    size_t longest = 0;
    for (size_t id = 0; id < vocab_size(t->parts.vocab); id++) {
        const struct vocab_token *token = vocab_get(t->parts.vocab, (int64_t)id);
        if (token && token->bytes_n > longest)
            longest = token->bytes_n;
    }
    return longest;
}

uint64_t tokenizer_hash(const struct tokenizer *t)
{
    return t->parts.hash;
}
