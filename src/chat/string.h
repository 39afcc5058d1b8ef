/* string.h - strings that know which of their bytes came from a message.
 *
 * Every string of a rendering carries a mark for each byte: 1 where the byte came from a
 * conversation, 0 where the template (or the job) wrote it. So what a user wrote stays text, however
 * the template cuts and joins it. Characters and white space are Python's. Part of chat/chat.h;
 * pure functions, and builders of one thread; all memory is the arena's.
 */
#ifndef TANDEM_CHAT_STRING_H
#define TANDEM_CHAT_STRING_H

#include "text/arena.h"

#include <stdbool.h>
#include <stddef.h>

/* Not NUL-terminated. mark NULL: all 0. Constant once made. */
struct string {
    const char *s, *mark;
    size_t n;
};

/* A string that grows. */
struct string_builder {
    struct arena *arena;
    char *s, *mark;
    size_t n, room;
};

void chat_append(struct string_builder *b, struct string piece);
void chat_append_text(struct string_builder *b, const char *text); /* unmarked */

/* One byte. */
void chat_append_byte(struct string_builder *b, char c, char mark);

struct string chat_built(const struct string_builder *b);

/* Bytes [from, to). */
struct string chat_part(struct string s, size_t from, size_t to);

bool chat_string_is(struct string s, const char *text);

/* As Python's comparison: below 0, 0, above 0 (order of code points is order of UTF-8 bytes). */
int chat_string_compare(struct string a, struct string b);

/* Where `what` begins in s at or behind `from`; SIZE_MAX: nowhere. */
size_t chat_find(struct string s, struct string what, size_t from);

/* Bytes of the white-space character (str.isspace()) at p; 0 when there is none. */
size_t chat_space_at(const char *p, size_t n);

/* How many bytes are left when white space at the end is removed. */
size_t chat_right_strip(const char *p, size_t n);

/* str.strip(chars); chars NULL: white space. */
struct string chat_strip(struct string s, const struct string *chars, bool left, bool right);

/* Characters (code points). */
size_t chat_characters(struct string s);

/* The byte where character i begins; s.n for i past the end. */
size_t chat_character_at(struct string s, size_t i);

#endif
