/* suggest.h - the known word a misspelled one was probably meant to be. Pure; any thread. */
#ifndef TANDEM_JOB_SUGGEST_H
#define TANDEM_JOB_SUGGEST_H

#include <stddef.h>

/* Letters to insert, delete, replace, or swap with their neighbour, to turn a into b. Of words
 * longer than 63 bytes only the beginning counts. Case does not count. */
size_t suggest_edits(const char *a, const char *b);

/* The nearest of n known words (the first of several), or NULL when none is near: more than a
 * third of its letters would have to change. Empty words (and NULL) in `known` are passed over. */
const char *suggest_nearest(const char *word, const char *const *known, size_t n);

/* What a parameter of other programs (vLLM, OpenAI, llama.cpp) is called here; NULL: nothing is known. */
const char *suggest_same(const char *word);

#endif
