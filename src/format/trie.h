/* trie.h - the tokens of a vocabulary by their bytes, in the order of a walk.
 *
 * Nodes stand in depth-first order: behind a node those below it, and `skip` is the node behind these.
 * So a walk that knows of a node that nothing below it is wanted goes on there. Special tokens and
 * tokens without bytes are not in it. Constant once made; any thread.
 */
#ifndef TANDEM_FORMAT_TRIE_H
#define TANDEM_FORMAT_TRIE_H

#include "text/tokenizer.h"

struct trie_node {
    uint8_t byte;
    uint16_t depth; /* from 1 on */
    uint32_t skip;
    int32_t token; /* the first one with these bytes, or -1; others: trie.same */
};

struct trie {
    struct trie_node *nodes;
    size_t n;
    int32_t *same;  /* [vocab] the next token with the same bytes, or -1 */
    size_t deepest; /* the largest depth */
    int32_t vocab;
};

struct trie *trie_new(const struct tokenizer *t, int32_t vocab);
void trie_free(struct trie *t); /* NULL is allowed */

#endif
