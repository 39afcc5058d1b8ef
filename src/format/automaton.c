#include "format/automaton.h"

#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define STATES_MOST 50000              /* then tidy() forgets */
#define MASKS_MOST  ((size_t)64 << 20) /* bytes */

/* Where a called rule goes on, on top of another stack. 0: the empty one. */
struct frame {
    int32_t below, node;
    int depth;
};

/* A place: a node under a stack. */
typedef uint64_t place;

struct state {
    place *places; /* sorted; those with edges that take bytes */
    size_t n;
    bool accepts;
    int32_t *next; /* [256] -1: not known; NULL: none is */
    uint32_t *mask;
};

struct table { /* of numbers, by hash; 0: free */
    uint32_t *slots;
    size_t room, used;
};

struct automaton {
    struct grammar *g;
    const struct trie *trie;
    struct frame *frames;
    size_t n_frames, room_frames;
    struct state *states;
    size_t n_states, room_states;
    struct table frame_table, state_table;
    uint8_t *ends; /* [nodes] is it the last of a rule? */
    place *list;   /* scratch of one step, */
    size_t n_list, room_list;
    struct table list_table; /* and where in it a place is */
    size_t mask_bytes;
    int32_t *path; /* [deepest + 1] */
    uint64_t visited;
};

/* ---- tables --------------------------------------------------------------------------------- */

static void table_clear(struct table *t)
{
    if (t->room)
        memset(t->slots, 0, t->room * sizeof *t->slots);
    t->used = 0;
}

/* The slot that `same` says holds it, or a free one. */
static uint32_t *table_find(struct table *t, uint64_t hash, const void *context,
                            bool (*same)(const void *context, uint32_t number))
{
    for (size_t i = hash & (t->room - 1);; i = (i + 1) & (t->room - 1))
        if (t->slots[i] == 0 || same(context, t->slots[i]))
            return &t->slots[i];
}

/* Room for one more; hash_of: of what is there. */
static void table_grow(struct table *t, const void *context,
                       uint64_t (*hash_of)(const void *context, uint32_t number))
{
    if (2 * (t->used + 1) <= t->room)
        return;
    struct table wide = {.room = t->room ? 2 * t->room : 64, .used = t->used};
    wide.slots = mem_zeroed(wide.room, sizeof *wide.slots);
    for (size_t i = 0; i < t->room; i++) {
        if (!t->slots[i])
            continue;
        size_t at = hash_of(context, t->slots[i]) & (wide.room - 1);
        while (wide.slots[at])
            at = (at + 1) & (wide.room - 1);
        wide.slots[at] = t->slots[i];
    }
    free(t->slots);
    *t = wide;
}

/* ---- stacks --------------------------------------------------------------------------------- */

struct wanted_frame {
    const struct automaton *a;
    int32_t below, node;
};

static uint64_t frame_hash(int32_t below, int32_t node)
{
    return hash_u64(HASH_START, (uint64_t)(uint32_t)below << 32 | (uint32_t)node);
}

static uint64_t hash_of_frame(const void *context, uint32_t number)
{
    const struct automaton *a = context;
    return frame_hash(a->frames[number].below, a->frames[number].node);
}

static bool same_frame(const void *context, uint32_t number)
{
    const struct wanted_frame *w = context;
    const struct frame *f = &w->a->frames[number];
    return f->below == w->below && f->node == w->node;
}

/* The stack with one more on top; -1: it is too deep. */
static int32_t push(struct automaton *a, int32_t below, int32_t node)
{
    int depth = a->frames[below].depth + 1;
    if (depth > AUTOMATON_DEPTH)
        return -1;
    table_grow(&a->frame_table, a, hash_of_frame);
    const struct wanted_frame w = {a, below, node};
    uint32_t *slot = table_find(&a->frame_table, frame_hash(below, node), &w, same_frame);
    if (*slot)
        return (int32_t)*slot;
    if (a->n_frames == a->room_frames) {
        a->room_frames *= 2;
        a->frames = mem_resize(a->frames, a->room_frames, sizeof *a->frames);
    }
    a->frames[a->n_frames] = (struct frame){below, node, depth};
    *slot = (uint32_t)a->n_frames;
    a->frame_table.used++;
    return (int32_t)a->n_frames++;
}

/* ---- closures ------------------------------------------------------------------------------- */

static uint64_t hash_of_place(const void *context, uint32_t number)
{
    return hash_u64(HASH_START, ((const struct automaton *)context)->list[number - 1]);
}

struct wanted_place {
    const struct automaton *a;
    place is;
};

static bool same_place(const void *context, uint32_t number)
{
    const struct wanted_place *w = context;
    return w->a->list[number - 1] == w->is;
}

static void reach(struct automaton *a, int32_t stack, int32_t node)
{
    const struct wanted_place w = {a, (uint64_t)(uint32_t)stack << 32 | (uint32_t)node};
    table_grow(&a->list_table, a, hash_of_place);
    uint32_t *slot = table_find(&a->list_table, hash_u64(HASH_START, w.is), &w, same_place);
    if (*slot)
        return;
    if (a->n_list == a->room_list) {
        a->room_list = a->room_list ? 2 * a->room_list : 64;
        a->list = mem_resize(a->list, a->room_list, sizeof *a->list);
    }
    a->list[a->n_list++] = w.is;
    *slot = (uint32_t)a->n_list;
    a->list_table.used++;
}

/* A place at the end of its rule goes on where the rule was called. Returns whether it was rule 0. */
static bool go_back(struct automaton *a, int32_t stack, int32_t node)
{
    if (!a->ends[node])
        return false;
    if (stack == 0)
        return true;
    reach(a, a->frames[stack].below, a->frames[stack].node);
    return false;
}

static int by_number(const void *a, const void *b)
{
    place x = *(const place *)a, y = *(const place *)b;
    return (x > y) - (x < y);
}

/* Everything that a->list comes to without a byte; then only places with bytes are kept, sorted. */
static bool close_list(struct automaton *a)
{
    bool accepts = false;
    size_t kept = 0;
    for (size_t i = 0; i < a->n_list; i++) {
        int32_t stack = (int32_t)(a->list[i] >> 32), node = (int32_t)(uint32_t)a->list[i];
        accepts = go_back(a, stack, node) || accepts;
        for (int32_t k = a->g->edges_of[node]; k >= 0; k = a->g->edges[k].next) {
            const struct grammar_edge *edge = &a->g->edges[k];
            int32_t above = edge->kind == EDGE_CALL ? push(a, stack, edge->to) : -1;
            if (edge->kind == EDGE_EMPTY)
                reach(a, stack, edge->to);
            else if (above >= 0)
                reach(a, above, a->g->rules[edge->rule].first);
        }
    }
    for (size_t i = 0; i < a->n_list; i++) {
        int32_t node = (int32_t)(uint32_t)a->list[i];
        bool takes = false;
        for (int32_t k = a->g->edges_of[node]; k >= 0; k = a->g->edges[k].next)
            takes = takes || a->g->edges[k].kind == EDGE_BYTES;
        if (takes)
            a->list[kept++] = a->list[i];
    }
    a->n_list = kept;
    qsort(a->list, kept, sizeof *a->list, by_number);
    return accepts;
}

/* ---- states --------------------------------------------------------------------------------- */

static uint64_t places_hash(const place *places, size_t n, bool accepts)
{
    return hash_u64(hash_bytes(HASH_START, places, n * sizeof *places), accepts);
}

static uint64_t hash_of_state(const void *context, uint32_t number)
{
    const struct state *s = &((const struct automaton *)context)->states[number];
    return places_hash(s->places, s->n, s->accepts);
}

struct wanted_state {
    const struct automaton *a;
    bool accepts;
};

static bool same_state(const void *context, uint32_t number)
{
    const struct wanted_state *w = context;
    const struct state *s = &w->a->states[number];
    return s->n == w->a->n_list && s->accepts == w->accepts &&
           (s->n == 0 || memcmp(s->places, w->a->list, s->n * sizeof *s->places) == 0);
}

static int32_t new_state(struct automaton *a, bool accepts)
{
    if (a->n_states == a->room_states) {
        a->room_states = a->room_states ? 2 * a->room_states : 64;
        a->states = mem_resize(a->states, a->room_states, sizeof *a->states);
    }
    struct state *s = &a->states[a->n_states];
    *s = (struct state){.n = a->n_list, .accepts = accepts};
    s->places = mem_new(s->n, sizeof *s->places);
    if (s->n)
        memcpy(s->places, a->list, s->n * sizeof *s->places);
    return (int32_t)a->n_states++;
}

/* The state of what a->list comes to. */
static int32_t find_state(struct automaton *a)
{
    const struct wanted_state w = {a, close_list(a)};
    if (a->n_list == 0 && !w.accepts)
        return AUTOMATON_DEAD;
    table_grow(&a->state_table, a, hash_of_state);
    uint32_t *slot =
        table_find(&a->state_table, places_hash(a->list, a->n_list, w.accepts), &w, same_state);
    if (*slot == 0) {
        *slot = (uint32_t)a->n_states;
        a->state_table.used++;
        new_state(a, w.accepts);
    }
    return (int32_t)*slot;
}

static void clear_list(struct automaton *a)
{
    table_clear(&a->list_table);
    a->n_list = 0;
}

static void begin(struct automaton *a)
{
    a->n_frames = 1;
    a->frames[0] = (struct frame){0, 0, 0};
    clear_list(a);
    new_state(a, false); /* AUTOMATON_DEAD */
    reach(a, 0, a->g->rules[0].first);
    find_state(a); /* AUTOMATON_START: a finished grammar has a text */
}

struct automaton *automaton_new(struct grammar *g, const struct trie *trie)
{
    struct automaton *a = mem_zeroed(1, sizeof *a);
    a->g = g;
    a->trie = trie;
    a->room_frames = 64;
    a->frames = mem_new(a->room_frames, sizeof *a->frames);
    a->path = mem_new(trie ? trie->deepest + 1 : 1, sizeof *a->path);
    a->ends = mem_zeroed(g->n_nodes, 1);
    for (size_t r = 0; r < g->n_rules; r++)
        a->ends[g->rules[r].last] = 1;
    begin(a);
    return a;
}

static void forget(struct automaton *a)
{
    for (size_t i = 0; i < a->n_states; i++) {
        free(a->states[i].places);
        free(a->states[i].next);
        free(a->states[i].mask);
    }
    a->n_states = a->mask_bytes = 0;
    table_clear(&a->state_table);
    table_clear(&a->frame_table);
}

void automaton_free(struct automaton *a)
{
    if (!a)
        return;
    forget(a);
    free(a->states);
    free(a->frames);
    free(a->list);
    free(a->frame_table.slots);
    free(a->state_table.slots);
    free(a->list_table.slots);
    free(a->path);
    free(a->ends);
    grammar_free(a->g);
    free(a);
}

bool automaton_tidy(struct automaton *a)
{
    if (a->n_states <= STATES_MOST && a->n_frames <= 4 * STATES_MOST)
        return false;
    forget(a);
    begin(a);
    return true;
}

int32_t automaton_next(struct automaton *a, int32_t state, uint8_t byte)
{
    if (state == AUTOMATON_DEAD)
        return AUTOMATON_DEAD;
    struct state *s = &a->states[state];
    if (!s->next) {
        s->next = mem_new(256, sizeof *s->next);
        memset(s->next, -1, 256 * sizeof *s->next);
    }
    if (s->next[byte] >= 0)
        return s->next[byte];
    clear_list(a);
    for (size_t i = 0; i < s->n; i++) {
        int32_t stack = (int32_t)(s->places[i] >> 32), node = (int32_t)(uint32_t)s->places[i];
        for (int32_t k = a->g->edges_of[node]; k >= 0; k = a->g->edges[k].next) {
            const struct grammar_edge *edge = &a->g->edges[k];
            if (edge->kind == EDGE_BYTES && byte >= edge->low && byte <= edge->high)
                reach(a, stack, edge->to);
        }
    }
    int32_t next = find_state(a);
    a->states[state].next[byte] = next; /* where it is now */
    return next;
}

bool automaton_accepts(const struct automaton *a, int32_t state)
{
    return a->states[state].accepts;
}

int automaton_forced(const struct automaton *a, int32_t state)
{
    const struct state *s = &a->states[state];
    int only = -1;
    for (size_t i = 0; i < s->n && !s->accepts; i++) {
        int32_t node = (int32_t)(uint32_t)s->places[i];
        for (int32_t k = a->g->edges_of[node]; k >= 0; k = a->g->edges[k].next) {
            const struct grammar_edge *edge = &a->g->edges[k];
            if (edge->kind != EDGE_BYTES)
                continue;
            if (edge->low != edge->high || (only >= 0 && edge->low != only))
                return -1;
            only = edge->low;
        }
    }
    return only;
}

static void walk(struct automaton *a, int32_t state, uint32_t *mask)
{
    const struct trie *t = a->trie;
    a->path[0] = state;
    for (size_t i = 0; i < t->n;) {
        const struct trie_node *node = &t->nodes[i];
        int32_t next = automaton_next(a, a->path[node->depth - 1], node->byte);
        a->visited++;
        if (next == AUTOMATON_DEAD) {
            i = node->skip;
            continue;
        }
        a->path[node->depth] = next;
        for (int32_t token = node->token; token >= 0; token = t->same[token])
            mask[token / 32] |= 1u << (token % 32);
        i++;
    }
}

const uint32_t *automaton_mask(struct automaton *a, int32_t state)
{
    size_t words = ((size_t)a->trie->vocab + 31) / 32;
    if (a->states[state].mask)
        return a->states[state].mask;
    if (a->mask_bytes > MASKS_MOST) {
        for (size_t i = 0; i < a->n_states; i++) {
            free(a->states[i].mask);
            a->states[i].mask = NULL;
        }
        a->mask_bytes = 0;
    }
    uint32_t *mask = mem_zeroed(words, sizeof *mask);
    if (state != AUTOMATON_DEAD)
        walk(a, state, mask);
    a->states[state].mask = mask;
    a->mask_bytes += words * sizeof *mask;
    return mask;
}

uint64_t automaton_visited(const struct automaton *a)
{
    return a->visited;
}

size_t automaton_states(const struct automaton *a)
{
    return a->n_states;
}
