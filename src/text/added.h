/* added.h - added tokens: strings that are one token wherever they stand in a text.
 *
 * A set of them cuts a text into tokens and the gaps between, before the pre-tokenizer sees the
 * gaps: leftmost match first, of several there the longest; flags as in Hugging Face's AddedToken.
 * Constant after added_finish(); any number of threads may cut with one. Any rank.
 */
#ifndef TANDEM_TEXT_ADDED_H
#define TANDEM_TEXT_ADDED_H

#include "text/pattern.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct added_token {
    const char *text; /* not empty; kept as a pointer: must outlive the set */
    size_t bytes;
    int32_t id;
    bool lstrip, rstrip; /* takes the white space to its left, right with it */
    bool single_word;    /* only where no word character touches it */
    bool special;        /* not seen in marked text */
};

struct added;

/* An empty set; the caller's until added_free() (NULL is allowed). */
struct added *added_new(void);
void added_free(struct added *a);

void added_put(struct added *a, struct added_token token);

/* Ends the building: -1 and a message when this PCRE2 cannot tell word characters. */
int added_finish(struct added *a, struct err *e);

/* Is called in the order of the text with gaps (id -1, never empty) and tokens (n is then 0). A
 * value other than 0 ends added_cut(). */
typedef int (*added_part)(void *arg, int32_t id, const char *gap, size_t n, struct err *e);

/* Cuts the n bytes of UTF-8 at `text`. 0, or what `part` returned, or -1 when matching failed. marks: a
 * byte for each of the text, or NULL; where one is not 0, special tokens are text as any other. */
int added_cut(const struct added *a, struct pattern_work *w, const char *text, const char *marks,
              size_t n, added_part part, void *arg, struct err *e);

#endif
