/* arena.h - memory that is given back all at once: syntax trees, the values of one rendering.
 *
 * One thread. What is taken lives until arena_free(); there is no way to give back less.
 */
#ifndef TANDEM_TEXT_ARENA_H
#define TANDEM_TEXT_ARENA_H

#include <stddef.h>

struct arena_chunk;

/* All zero is an empty arena. */
struct arena {
    struct arena_chunk *newest;
    size_t bytes; /* taken so far */
};

/* `count` objects of `size` bytes, all zero, aligned for every type. */
void *arena_take(struct arena *a, size_t count, size_t size);

/* A copy of n bytes with a NUL behind them. */
char *arena_string(struct arena *a, const char *s, size_t n);

/* Gives everything back; the arena is empty again. */
void arena_free(struct arena *a);

#endif
