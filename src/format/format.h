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

/* Behind it these tokens are guessed, until the next feed: n of them, with bytes[ends[i - 1]] to
 * bytes[ends[i]], which are copied. */
void follow_guess(struct follow *f, const char *bytes, const size_t *ends, int n);

struct follow_state {
    const uint32_t *mask; /* [(vocab + 31) / 32] tokens that may come; until the next feed or guess.
                             NULL: one of the guesses before may not come */
    bool may_end;         /* what is there is whole */
    bool may_go_on;       /* the mask has a token */
};

/* Behind `guesses` of the guesses. */
struct follow_state follow_state(struct follow *f, int guesses);

/* Waits until nothing is being worked out, but not longer than so many seconds. */
void formats_wait(struct formats *f, double seconds);

/* Where the text has no choice (a key, the rest of a name that has begun): its tokens, as the tokenizer cuts
 * it, until the next feed; *sure: so many can be no others. Returns how many; 0 also while that is still
 * being worked out. */
#define FOLLOW_FORCED 16
int follow_forced(struct follow *f, int32_t tokens[FOLLOW_FORCED], int *sure);

#endif
