#include "text/vocab.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

#define ALPHABET_END 0x144 /* behind the largest code point of the byte-level alphabet */

struct vocab {
    struct vocab_token *tokens; /* by id */
    size_t size, room;
    int32_t *slots; /* ids hashed by text; -1 empty */
    size_t slot_count, used;
    int16_t byte_of[ALPHABET_END]; /* -1: not in the alphabet */
};

struct vocab *vocab_new(void)
{
    struct vocab *v = mem_zeroed(1, sizeof *v);
    memset(v->byte_of, 0xff, sizeof v->byte_of);
    int16_t next = 0x100;
    for (int16_t b = 0; b < 256; b++) {
        bool itself = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        v->byte_of[itself ? b : next++] = b;
    }
    v->slot_count = 1024;
    v->slots = mem_new(v->slot_count, sizeof *v->slots);
    memset(v->slots, 0xff, v->slot_count * sizeof *v->slots);
    return v;
}

void vocab_free(struct vocab *v)
{
    if (!v)
        return;
    for (size_t i = 0; i < v->size; i++)
        free(v->tokens[i].text);
    free(v->tokens);
    free(v->slots);
    free(v);
}

static int32_t *find(const struct vocab *v, const char *text, size_t n)
{
    size_t at = hash_bytes(HASH_START, text, n) & (v->slot_count - 1);
    for (;; at = (at + 1) & (v->slot_count - 1)) {
        int32_t id = v->slots[at];
        if (id < 0)
            return &v->slots[at];
        const struct vocab_token *t = &v->tokens[id];
        if (t->text_n == n && memcmp(t->text, text, n) == 0)
            return &v->slots[at];
    }
}

static void grow_slots(struct vocab *v)
{
    free(v->slots);
    v->slot_count *= 2;
    v->slots = mem_new(v->slot_count, sizeof *v->slots);
    memset(v->slots, 0xff, v->slot_count * sizeof *v->slots);
    for (size_t i = 0; i < v->size; i++)
        if (v->tokens[i].text)
            *find(v, v->tokens[i].text, v->tokens[i].text_n) = (int32_t)i;
}

static void grow_tokens(struct vocab *v, size_t size)
{
    if (size > v->room) {
        size_t room = 2 * size;
        v->tokens = mem_resize(v->tokens, room, sizeof *v->tokens);
        memset(v->tokens + v->room, 0, (room - v->room) * sizeof *v->tokens);
        v->room = room;
    }
    if (size > v->size)
        v->size = size;
}

/* The bytes that a text in the alphabet stands for; false when it is not all in the alphabet. */
static bool to_bytes(const struct vocab *v, const char *text, size_t n, char *bytes,
                     size_t *bytes_n)
{
    *bytes_n = 0;
    for (size_t i = 0; i < n;) {
        uint32_t code;
        size_t length;
        if (!utf8_read(text + i, n - i, &code, &length) || code >= ALPHABET_END ||
            v->byte_of[code] < 0)
            return false;
        bytes[(*bytes_n)++] = (char)v->byte_of[code];
        i += length;
    }
    return true;
}

void vocab_put(struct vocab *v, int32_t id, const char *text, size_t n)
{
    if (2 * (v->used + 1) > v->slot_count)
        grow_slots(v);
    grow_tokens(v, (size_t)id + 1);
    struct vocab_token *t = &v->tokens[id];
    t->text = mem_new(2 * n + 1, 1);
    t->text_n = n;
    memcpy(t->text, text, n);
    t->text[n] = 0;
    t->bytes = t->text + n + 1;
    t->byte_level = to_bytes(v, text, n, t->bytes, &t->bytes_n);
    if (!t->byte_level) {
        memcpy(t->bytes, text, n);
        t->bytes_n = n;
    }
    *find(v, t->text, n) = id;
    v->used++;
}

void vocab_set_special(struct vocab *v, int32_t id)
{
    v->tokens[id].special = true;
}

size_t vocab_size(const struct vocab *v)
{
    return v->size;
}

const struct vocab_token *vocab_get(const struct vocab *v, int64_t id)
{
    if (id < 0 || (uint64_t)id >= v->size || !v->tokens[id].text)
        return NULL;
    return &v->tokens[id];
}

int32_t vocab_id(const struct vocab *v, const char *text, size_t n)
{
    return *find(v, text, n);
}

int32_t vocab_byte_id(const struct vocab *v, unsigned char byte)
{
    char text[4];
    for (uint32_t code = 0; code < ALPHABET_END; code++)
        if (v->byte_of[code] == byte)
            return vocab_id(v, text, utf8_write(text, code));
    return -1;
}
