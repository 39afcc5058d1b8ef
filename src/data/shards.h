/* shards.h - the sealed shards of an unfinished job: their names, adding one, keeping them few.
 *
 * `shard-A-B.h5` holds what was sealed as numbers A to B. A seal makes `shard-N-N.h5`. When the
 * last `fanout` shards are of one size class they become one shard, which spans their numbers; it
 * is published before they are removed, and a shard whose numbers lie inside another's is
 * superseded. So a kill at any moment leaves every completion there, and which copy counts is in
 * the names. With a fanout of 64, 262,144 seals leave at most 189 files, and every row is rewritten
 * three times.
 *
 * The directory belongs to attention rank 0 (completions.c locks it); export only reads.
 */
#ifndef TANDEM_DATA_SHARDS_H
#define TANDEM_DATA_SHARDS_H

#include "base/err.h"
#include "data/completions.h"
#include "data/shard.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARDS_FANOUT 64u /* at least 2 */

struct shard_name {
    uint32_t first, last;
};

struct shards {
    char *directory;
    uint64_t job; /* hash of the identity, in every shard */
    size_t fanout;
    struct shard_name *names; /* numbers rising, none superseded */
    size_t count;
};

/* Lists the directory. clean: removes leftover `.tmp` files and superseded shards (the owner of the
 * lock only). -1: cannot be read, or shards overlap in a way this program does not make. */
int shards_list(struct shards *s, const char *directory, uint64_t job, bool clean, struct err *e);
void shards_free(struct shards *s);

/* malloc'd path of shard i. */
char *shards_path(const struct shards *s, size_t i);

/* Seals as one shard; durable when 0 is returned. rows need no order. -1: nothing has changed. */
int shards_seal(struct shards *s, const struct completion *rows, size_t n,
                const struct step_timing *steps, size_t m, struct err *e);

/* Makes one shard of the last `fanout`, as long as that is due. -1: nothing was lost or changed. */
int shards_compact(struct shards *s, struct err *e);

/* Removes every shard, and .tmp files: after the output has been published. */
void shards_remove(struct shards *s);

/* Reading all shards, or some, in the order of units. */
struct shards_walk;

/* Shards begin .. begin + n - 1 of the list. */
int shards_walk_open(struct shards_walk **out, const struct shards *s, size_t begin, size_t n,
                     struct err *e);
void shards_walk_close(struct shards_walk *w); /* NULL: nothing */

/* What all of them hold. */
struct shard_size shards_walk_size(const struct shards_walk *w);

/* The completion with the least unit that was not given yet; the caller frees it. *unit is
 * UINT64_MAX (and out untouched) when there is none left. */
int shards_walk_next(struct shards_walk *w, uint64_t *unit, struct completion *out, struct err *e);

/* Calls `use` with the step timings, in the order they were sealed, a few thousand at a time. Stops
 * at the first -1. */
typedef int (*shards_use_steps)(void *context, const struct step_timing *steps, size_t n,
                                struct err *e);
int shards_walk_steps(struct shards_walk *w, shards_use_steps use, void *context, struct err *e);

#endif
