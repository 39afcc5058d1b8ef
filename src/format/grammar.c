#include "format/grammar.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct grammar *grammar_new(void)
{
    struct grammar *g = mem_zeroed(1, sizeof *g);
    grammar_rule(g);
    return g;
}

void grammar_free(struct grammar *g)
{
    if (!g)
        return;
    free(g->edges_of);
    free(g->edges);
    free(g->rules);
    free(g);
}

/* Beyond the limit nothing is added any more: grammar_finish() says so. */
int32_t grammar_node(struct grammar *g)
{
    if (g->n_nodes > GRAMMAR_NODES)
        return (int32_t)g->n_nodes - 1;
    if (g->n_nodes == g->room_nodes) {
        g->room_nodes = g->room_nodes ? 2 * g->room_nodes : 64;
        g->edges_of = mem_resize(g->edges_of, g->room_nodes, sizeof *g->edges_of);
    }
    g->edges_of[g->n_nodes] = -1;
    return (int32_t)g->n_nodes++;
}

int32_t grammar_rule(struct grammar *g)
{
    if (g->n_rules == g->room_rules) {
        g->room_rules = g->room_rules ? 2 * g->room_rules : 16;
        g->rules = mem_resize(g->rules, g->room_rules, sizeof *g->rules);
    }
    int32_t first = grammar_node(g);
    g->rules[g->n_rules] = (struct grammar_rule){first, grammar_node(g)};
    return (int32_t)g->n_rules++;
}

static void add_edge(struct grammar *g, struct grammar_edge edge)
{
    if (g->n_nodes > GRAMMAR_NODES || g->n_edges > 8u * GRAMMAR_NODES)
        return;
    if (g->n_edges == g->room_edges) {
        g->room_edges = g->room_edges ? 2 * g->room_edges : 128;
        g->edges = mem_resize(g->edges, g->room_edges, sizeof *g->edges);
    }
    edge.next = g->edges_of[edge.from];
    g->edges_of[edge.from] = (int32_t)g->n_edges;
    g->edges[g->n_edges++] = edge;
}

void grammar_bytes(struct grammar *g, int32_t from, int32_t to, uint8_t low, uint8_t high)
{
    add_edge(g, (struct grammar_edge){EDGE_BYTES, low, high, 0, from, to, -1});
}

void grammar_empty(struct grammar *g, int32_t from, int32_t to)
{
    add_edge(g, (struct grammar_edge){EDGE_EMPTY, 0, 0, 0, from, to, -1});
}

void grammar_call(struct grammar *g, int32_t from, int32_t to, int32_t rule)
{
    add_edge(g, (struct grammar_edge){EDGE_CALL, 0, 0, rule, from, to, -1});
}

void grammar_text(struct grammar *g, int32_t from, int32_t to, const char *text, size_t n)
{
    if (n == 0)
        grammar_empty(g, from, to);
    for (size_t i = 0; i < n; i++) {
        int32_t next = i + 1 < n ? grammar_node(g) : to;
        grammar_bytes(g, from, next, (uint8_t)text[i], (uint8_t)text[i]);
        from = next;
    }
}

/* ---- characters ----------------------------------------------------------------------------- */

static int encode(uint32_t c, uint8_t out[4])
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t marks[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (int i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (uint8_t)(0x80 | (c & 0x3f));
    out[0] = (uint8_t)(marks[n] | c);
    return n;
}

/* low and high have n bytes each, and the characters between them are all byte strings between. */
static void add_range(struct grammar *g, int32_t from, int32_t to, const uint8_t *low,
                      const uint8_t *high, int n)
{
    static const uint8_t least[] = {0x80, 0x80, 0x80}, most[] = {0xbf, 0xbf, 0xbf};
    if (n == 1) {
        grammar_bytes(g, from, to, low[0], high[0]);
        return;
    }
    if (low[0] == high[0]) {
        int32_t next = grammar_node(g);
        grammar_bytes(g, from, next, low[0], low[0]);
        add_range(g, next, to, low + 1, high + 1, n - 1);
        return;
    }
    uint8_t first = low[0], last = high[0];
    if (memcmp(low + 1, least, (size_t)n - 1) != 0) {
        int32_t next = grammar_node(g);
        grammar_bytes(g, from, next, first, first);
        add_range(g, next, to, low + 1, most, n - 1);
        first++;
    }
    if (memcmp(high + 1, most, (size_t)n - 1) != 0) {
        int32_t next = grammar_node(g);
        grammar_bytes(g, from, next, last, last);
        add_range(g, next, to, least, high + 1, n - 1);
        last--;
    }
    if (first > last)
        return;
    int32_t next = grammar_node(g);
    grammar_bytes(g, from, next, first, last);
    add_range(g, next, to, least, most, n - 1);
}

void grammar_chars(struct grammar *g, int32_t from, int32_t to, uint32_t low, uint32_t high)
{
    static const uint32_t ends[] = {0x7f, 0x7ff, 0xd7ff, 0xffff, 0x10ffff};
    uint32_t begin = 0;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        uint32_t a = low > begin ? low : begin, b = high < ends[i] ? high : ends[i];
        uint8_t x[4], y[4];
        if (a <= b) {
            int n = encode(a, x);
            encode(b, y);
            add_range(g, from, to, x, y, n);
        }
        begin = ends[i] == 0xd7ff ? 0xe000 : ends[i] + 1;
    }
}

/* ---- what leads somewhere ------------------------------------------------------------------- */

/* Marks the nodes from which the end of their rule can be reached; with `nothing` without a byte. */
static uint8_t *reaching(const struct grammar *g, bool nothing)
{
    uint8_t *is = mem_zeroed(g->n_nodes, 1);
    for (size_t r = 0; r < g->n_rules; r++)
        is[g->rules[r].last] = 1;
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = g->n_edges; i-- > 0;) {
            const struct grammar_edge *edge = &g->edges[i];
            bool passes = edge->kind == EDGE_BYTES   ? !nothing
                          : edge->kind == EDGE_EMPTY ? true
                                                     : is[g->rules[edge->rule].first];
            if (passes && is[edge->to] && !is[edge->from]) {
                is[edge->from] = 1;
                changed = true;
            }
        }
    }
    return is;
}

static void prune(struct grammar *g, const uint8_t *reaches)
{
    for (size_t n = 0; n < g->n_nodes; n++) {
        int32_t *at = &g->edges_of[n];
        while (*at >= 0) {
            struct grammar_edge *edge = &g->edges[*at];
            bool dead = !reaches[edge->to] ||
                        (edge->kind == EDGE_CALL && !reaches[g->rules[edge->rule].first]);
            if (dead)
                *at = edge->next;
            else
                at = &edge->next;
        }
    }
}

/* What a rule can begin with, among rules: a depth-first search for one that begins with itself. */
struct search {
    const struct grammar *g;
    const uint8_t *nullable;
    uint8_t *state;   /* [n_rules] 0: not seen; 1: on the way; 2: done */
    uint32_t *seen;   /* [n_nodes] rule + 1 whose beginning the node is of */
    int32_t *waiting; /* [n_nodes] nodes still to be looked at, of all rules on the way */
    size_t n_waiting;
};

static void reach(struct search *s, int32_t rule, int32_t node)
{
    if (s->seen[node] == (uint32_t)rule + 1)
        return;
    s->seen[node] = (uint32_t)rule + 1;
    s->waiting[s->n_waiting++] = node;
}

static bool begins_with_itself(struct search *s, int32_t rule, int depth)
{
    size_t mine = s->n_waiting;
    if (s->state[rule] == 1 || depth > 2000)
        return true;
    if (s->state[rule] == 2)
        return false;
    s->state[rule] = 1;
    reach(s, rule, s->g->rules[rule].first);
    while (s->n_waiting > mine) {
        int32_t node = s->waiting[--s->n_waiting];
        for (int32_t i = s->g->edges_of[node]; i >= 0; i = s->g->edges[i].next) {
            const struct grammar_edge *edge = &s->g->edges[i];
            bool call = edge->kind == EDGE_CALL;
            if (call && begins_with_itself(s, edge->rule, depth + 1))
                return true;
            if (edge->kind == EDGE_EMPTY || (call && s->nullable[s->g->rules[edge->rule].first]))
                reach(s, rule, edge->to);
        }
    }
    s->state[rule] = 2;
    return false;
}

int grammar_finish(struct grammar *g, struct err *e)
{
    if (g->n_nodes > GRAMMAR_NODES || g->n_edges > 8u * GRAMMAR_NODES)
        return err_set(e, "is too large: it comes to more than %d states", GRAMMAR_NODES);
    uint8_t *reaches = reaching(g, false), *nullable = reaching(g, true);
    bool possible = reaches[g->rules[0].first];
    prune(g, reaches);
    struct search s = {.g = g,
                       .nullable = nullable,
                       .state = mem_zeroed(g->n_rules, 1),
                       .seen = mem_zeroed(g->n_nodes, sizeof *s.seen),
                       .waiting = mem_new(g->n_nodes, sizeof *s.waiting)};
    bool loops = false;
    for (size_t r = 0; r < g->n_rules && !loops; r++)
        loops = begins_with_itself(&s, (int32_t)r, 0);
    free(s.state);
    free(s.seen);
    free(s.waiting);
    free(reaches);
    free(nullable);
    if (!possible)
        return err_set(e, "no text at all is like that");
    return loops ? err_set(e, "refers to itself without anything between") : 0;
}
