#include "data/seen.h"

#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>

static size_t place_of(const struct seen *s, uint64_t hash)
{
    size_t i = (hash >> 1) % s->room;
    while (s->hash[i] && s->hash[i] != hash)
        i = (i + 1) % s->room;
    return i;
}

static void grow(struct seen *s)
{
    struct seen wide = {.room = s->room ? 2 * s->room : 1024, .n = s->n};
    wide.hash = mem_zeroed(wide.room, sizeof *wide.hash);
    for (size_t i = 0; i < s->room; i++)
        if (s->hash[i])
            wide.hash[place_of(&wide, s->hash[i])] = s->hash[i];
    free(s->hash);
    *s = wide;
}

bool seen_before(struct seen *s, const char *text)
{
    uint64_t hash = hash_string(HASH_START, text) | 1;
    if (2 * s->n >= s->room)
        grow(s);
    size_t i = place_of(s, hash);
    if (s->hash[i])
        return true;
    s->hash[i] = hash;
    s->n++;
    return false;
}

void seen_free(struct seen *s)
{
    free(s->hash);
    *s = (struct seen){0};
}
