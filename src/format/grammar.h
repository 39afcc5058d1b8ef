/* grammar.h - which texts may come, byte by byte: rules of states and edges, made piece by piece.
 *
 * A grammar is a set of rules. A rule is a graph from its first to its last node whose edges take one
 * byte of a range, take nothing, or take what another rule takes (so rules may be recursive, as values
 * of JSON are). Rule 0 is the whole text. What is built with format/regex.h and format/schema.h is run by
 * format/automaton.h.
 *
 * Nodes and rules are numbers. One thread builds; a finished grammar is constant.
 */
#ifndef TANDEM_FORMAT_GRAMMAR_H
#define TANDEM_FORMAT_GRAMMAR_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GRAMMAR_NODES 200000 /* at most: what is larger is refused */

enum edge_kind { EDGE_BYTES, EDGE_EMPTY, EDGE_CALL };

struct grammar_edge {
    enum edge_kind kind;
    uint8_t low, high; /* EDGE_BYTES */
    int32_t rule;      /* EDGE_CALL */
    int32_t from, to;
    int32_t next; /* another edge of `from`, or -1 */
};

struct grammar_rule {
    int32_t first, last;
};

struct grammar {
    int32_t *edges_of; /* [n_nodes] the first edge of each, or -1 */
    size_t n_nodes, room_nodes;
    struct grammar_edge *edges;
    size_t n_edges, room_edges;
    struct grammar_rule *rules;
    size_t n_rules, room_rules;
};

struct grammar *grammar_new(void);    /* with rule 0, which takes nothing yet */
void grammar_free(struct grammar *g); /* NULL is allowed */

int32_t grammar_rule(struct grammar *g); /* a new one */
int32_t grammar_node(struct grammar *g);

void grammar_bytes(struct grammar *g, int32_t from, int32_t to, uint8_t low, uint8_t high);
void grammar_empty(struct grammar *g, int32_t from, int32_t to);
void grammar_call(struct grammar *g, int32_t from, int32_t to, int32_t rule);
void grammar_text(struct grammar *g, int32_t from, int32_t to, const char *text, size_t n);

/* One character of low .. high in UTF-8; what are no characters (surrogates) is left out. */
void grammar_chars(struct grammar *g, int32_t from, int32_t to, uint32_t low, uint32_t high);

/* When all is built: takes edges away that lead nowhere. -1: it is larger than GRAMMAR_NODES, no text at
 * all can come, or a rule begins with itself. */
int grammar_finish(struct grammar *g, struct err *e);

#endif
