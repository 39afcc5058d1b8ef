/* automaton.h - runs a grammar over bytes, and says which tokens can come next.
 *
 * A state is what the bytes so far can have been: a set of places in the grammar, each with the rules
 * that it has to go back to. States are made when they are met, and their steps are remembered; so are
 * their masks, which take a walk over the vocabulary (format/trie.h) that leaves out what cannot come.
 * Rules nest at most AUTOMATON_DEPTH deep: deeper is as if the grammar did not allow it.
 *
 * States are numbers that hold until automaton_tidy(). What comes out is a function of the grammar and
 * the bytes alone, never of what was asked before. One thread at a time.
 */
#ifndef TANDEM_FORMAT_AUTOMATON_H
#define TANDEM_FORMAT_AUTOMATON_H

#include "format/grammar.h"
#include "format/trie.h"

#define AUTOMATON_DEPTH 256
#define AUTOMATON_DEAD  0 /* no text begins like that */
#define AUTOMATON_START 1

struct automaton;

/* Takes over the grammar, which is finished; the trie outlives it (NULL: no masks are asked for). */
struct automaton *automaton_new(struct grammar *g, const struct trie *trie);
void automaton_free(struct automaton *a); /* NULL is allowed */

int32_t automaton_next(struct automaton *a, int32_t state, uint8_t byte);

/* The only byte that may come, where the text may not end; -1: there is a choice. */
int automaton_forced(const struct automaton *a, int32_t state);

/* May the text end here? */
bool automaton_accepts(const struct automaton *a, int32_t state);

/* [(vocab + 31) / 32] bits: the tokens after which the text can still be met. Until the next call. */
const uint32_t *automaton_mask(struct automaton *a, int32_t state);

/* Between two texts: forgets all states but DEAD and START when they have become too many. True: it
 * did. */
bool automaton_tidy(struct automaton *a);

/* Nodes of the trie that were looked at, states that were made, so far. */
uint64_t automaton_visited(const struct automaton *a);
size_t automaton_states(const struct automaton *a);

#endif
