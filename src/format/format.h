/* format.h - what a completion must be like: {"regex": ...}, {"choice": [...]} or {"json_schema": ...}.
 *
 * A struct follow goes along with one completion and knows which tokens may come next. Masks are worked
 * out by a thread of their own, from the bytes that follow_feed() was told, while the caller does
 * something else; follow_state() waits for it. Equal formats share an automaton, which is kept for a
 * while when nobody uses it.
 *
 * formats_new() and formats_free(): one thread. Different follows may be used by different threads.
 */
#ifndef TANDEM_FORMAT_FORMAT_H
#define TANDEM_FORMAT_FORMAT_H

#include "text/tokenizer.h"

#include <jansson.h>

struct formats;

/* The tokenizer outlives it; masks have vocab bits. Little is done before there is a first format. */
struct formats *formats_new(const struct tokenizer *t, int32_t vocab);
void formats_free(struct formats *f); /* NULL: nothing; its follows are gone */

struct follow;

/* NULL: the format is not supported, or nothing can be like it. The formats outlive it. */
struct follow *follow_new(struct formats *f, const json_t *format, struct err *e);
void follow_free(struct follow *f); /* NULL: nothing */

/* The completion goes on by n bytes. */
void follow_feed(struct follow *f, const char *bytes, size_t n);

struct follow_state {
    const uint32_t *mask; /* [(vocab + 31) / 32] tokens that may come; until the next feed */
    bool may_end;         /* what is there is whole */
    bool may_go_on;       /* the mask has a token */
};

struct follow_state follow_state(struct follow *f);

#endif
