#include "chat/string.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

static void reserve(struct string_builder *b, size_t more)
{
    if (b->room - b->n >= more)
        return;
    size_t room = b->room ? 2 * b->room : 128;
    if (room - b->n < more)
        room = b->n + more;
    char *s = arena_take(b->arena, room, 1), *mark = arena_take(b->arena, room, 1);
    if (b->n) {
        memcpy(s, b->s, b->n);
        memcpy(mark, b->mark, b->n);
    }
    b->s = s;
    b->mark = mark;
    b->room = room;
}

void chat_append(struct string_builder *b, struct string piece)
{
    if (piece.n == 0)
        return;
    reserve(b, piece.n);
    memcpy(b->s + b->n, piece.s, piece.n);
    if (piece.mark)
        memcpy(b->mark + b->n, piece.mark, piece.n);
    b->n += piece.n;
}

void chat_append_text(struct string_builder *b, const char *text)
{
    chat_append(b, (struct string){.s = text, .n = strlen(text)});
}

void chat_append_byte(struct string_builder *b, char c, char mark)
{
    reserve(b, 1);
    b->s[b->n] = c;
    b->mark[b->n++] = mark;
}

struct string chat_built(const struct string_builder *b)
{
    return (struct string){.s = b->s ? b->s : "", .mark = b->mark, .n = b->n};
}

struct string chat_part(struct string s, size_t from, size_t to)
{
    if (to > s.n)
        to = s.n;
    if (from >= to)
        return (struct string){.s = ""};
    return (struct string){s.s + from, s.mark ? s.mark + from : NULL, to - from};
}

bool chat_string_is(struct string s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.s, text, s.n) == 0;
}

int chat_string_compare(struct string a, struct string b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n ? memcmp(a.s, b.s, n) : 0;
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

size_t chat_find(struct string s, struct string what, size_t from)
{
    if (from > s.n)
        return SIZE_MAX;
    if (what.n == 0)
        return from;
    const char *hit = memmem(s.s + from, s.n - from, what.s, what.n);
    return hit ? (size_t)(hit - s.s) : SIZE_MAX;
}

size_t chat_space_at(const char *p, size_t n)
{
    uint32_t code;
    size_t length;
    if (n == 0 || !utf8_read(p, n, &code, &length))
        return 0;
    bool space = (code >= 9 && code <= 13) || (code >= 0x1c && code <= 0x20) || code == 0x85 ||
                 code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) ||
                 code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f ||
                 code == 0x3000;
    return space ? length : 0;
}

/* Where the last character of the n > 0 bytes begins. */
static size_t last_character(const char *p, size_t n)
{
    size_t at = n - 1;
    while (at > 0 && n - at < 4 && ((unsigned char)p[at] & 0xc0) == 0x80)
        at--;
    return at;
}

size_t chat_right_strip(const char *p, size_t n)
{
    while (n > 0) {
        size_t at = last_character(p, n);
        if (chat_space_at(p + at, n - at) == 0)
            break;
        n = at;
    }
    return n;
}

/* The n bytes at p are one character: is it to be stripped? */
static bool stripped(const char *p, size_t n, const struct string *chars)
{
    if (!chars)
        return chat_space_at(p, n) > 0;
    return memmem(chars->s, chars->n, p, n) != NULL;
}

struct string chat_strip(struct string s, const struct string *chars, bool left, bool right)
{
    size_t from = 0, to = s.n;
    while (left && from < to) {
        size_t next = from + 1;
        while (next < to && ((unsigned char)s.s[next] & 0xc0) == 0x80)
            next++;
        if (!stripped(s.s + from, next - from, chars))
            break;
        from = next;
    }
    while (right && from < to) {
        size_t at = from + last_character(s.s + from, to - from);
        if (!stripped(s.s + at, to - at, chars))
            break;
        to = at;
    }
    return chat_part(s, from, to);
}

size_t chat_characters(struct string s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.s[i] & 0xc0) != 0x80;
    return n;
}

size_t chat_character_at(struct string s, size_t i)
{
    size_t at = 0;
    for (; at < s.n; at++)
        if (((unsigned char)s.s[at] & 0xc0) != 0x80 && i-- == 0)
            break;
    return at;
}
