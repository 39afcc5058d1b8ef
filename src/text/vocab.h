/* vocab.h - tokens by id and by text.
 *
 * A token has a text (as tokenizer.json writes it, in the byte-level alphabet: "Ġthe") and bytes
 * (what it stands for: " the"). In that alphabet every byte is one printable character: '!'..'~',
 * U+00A1..U+00AC and U+00AE..U+00FF are themselves, the 68 other bytes in order are U+0100 + 0,
 * 1, 2... (the scheme of GPT-2's encoder). A token with any other character, as added tokens have,
 * stands for its own UTF-8. Building is for one thread; after it any number of threads may ask. Any
 * rank.
 */
#ifndef TANDEM_TEXT_VOCAB_H
#define TANDEM_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VOCAB_ID_MAX                                                                               \
    16777215 /* ids are indices of arrays: a larger one is a mistake in the file                   \
              */

struct vocab_token {
    char *text;  /* NUL-terminated; NULL: no token has this id */
    char *bytes; /* in the same allocation; not NUL-terminated */
    size_t text_n, bytes_n;
    bool byte_level; /* every character of text is in the alphabet */
    bool special;
};

struct vocab;

struct vocab *vocab_new(void);
void vocab_free(struct vocab *v); /* NULL is allowed */

/* Adds a token; id in 0..VOCAB_ID_MAX must be free, the text (n bytes of UTF-8, copied) new. */
void vocab_put(struct vocab *v, int32_t id, const char *text, size_t n);
void vocab_set_special(struct vocab *v, int32_t id);

/* The largest id and one. */
size_t vocab_size(const struct vocab *v);

/* The token of an id, any number; NULL when there is none. Lives as long as the vocab; its strings
 * stay where they are, the struct itself moves with the next vocab_put(). */
const struct vocab_token *vocab_get(const struct vocab *v, int64_t id);

/* The id of a text, or -1. */
int32_t vocab_id(const struct vocab *v, const char *text, size_t n);

/* The id of the token that is the single byte, or -1. */
int32_t vocab_byte_id(const struct vocab *v, unsigned char byte);

#endif
