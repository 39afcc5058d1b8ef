#include "schedule/draft.h"

#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Tokens that must be the same for what follows them to be worth a row. Two often recur by chance,
 * four are seldom had. */
#define GRAM 3

/* Places of a table: 256 KiB, for contexts beyond that many tokens too. */
#define GRAMS_MAX ((size_t)1 << 16)

struct grams {
    size_t mask, seen;
    uint32_t
        *follower; /* [mask + 1] index of the token behind the last gram with this hash; 0: none */
};

static struct grams *grams_new(size_t tokens)
{
    struct grams *g = mem_zeroed(1, sizeof *g);
    size_t room = 64;
    while (room < tokens && room < GRAMS_MAX)
        room *= 2;
    g->mask = room - 1;
    g->seen = GRAM;
    g->follower = mem_zeroed(room, sizeof *g->follower);
    return g;
}

void grams_free(struct grams *g)
{
    if (g)
        free(g->follower);
    free(g);
}

/* The place of the gram that ends before tokens[end]; the upper bits are the well mixed ones. */
static uint32_t *place_of(const struct grams *g, const int32_t *tokens, size_t end)
{
    uint64_t hash = hash_bytes(HASH_START, tokens + end - GRAM, GRAM * sizeof *tokens);
    return &g->follower[(hash >> 32) & g->mask];
}

int draft_room(const struct sequence *q, int most)
{
    size_t room = q->limit - 1 - q->n_tokens;
    return room < (size_t)most ? (int)room : most;
}

void draft_from_grams(struct sequence *q, int most)
{
    size_t n = q->n_tokens + q->n_drafts;
    if (n < GRAM)
        return;
    if (!q->grams)
        q->grams = grams_new(q->limit);
    for (; q->grams->seen < q->n_tokens; q->grams->seen++) /* those with a token behind them */
        *place_of(q->grams, q->tokens, q->grams->seen) = (uint32_t)q->grams->seen;
    size_t from = *place_of(q->grams, q->tokens, n);
    if (from == 0 ||
        memcmp(q->tokens + from - GRAM, q->tokens + n - GRAM, GRAM * sizeof *q->tokens) != 0)
        return;
    /* What repeats itself within fewer tokens than are guessed goes on from its own guesses. */
    for (; q->n_drafts < (size_t)most; from++, n++, q->n_drafts++)
        q->tokens[n] = q->tokens[from];
}
