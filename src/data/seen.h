/* seen.h - which texts were there before: ids that occur twice.
 *
 * Kept as hashes of 64 bits, so that a million ids take megabytes: two different texts are as good as
 * never taken for equal. One thread.
 */
#ifndef TANDEM_DATA_SEEN_H
#define TANDEM_DATA_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is an empty set. */
struct seen {
    uint64_t *hash; /* a table that grows, 0 for an empty place */
    size_t n, room;
};

/* Was the text there before? It is from now on. */
bool seen_before(struct seen *s, const char *text);
void seen_free(struct seen *s);

#endif
