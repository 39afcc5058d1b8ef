/* identity.h - which job a file belongs to: a list of names and values.
 *
 * Whoever knows the job (roles/) makes the list: one entry for everything that decides a
 * completion, "model" with a hash, "sampling.seed" with a number, and so on, all as text. This
 * folder only keeps it: in the header of every journal and in the attribute `identity` of finished
 * files, as one JSON object of strings. Two jobs are the same when both lists have the same names
 * with equal values, in whatever order. Any rank, any thread; no MPI.
 */
#ifndef TANDEM_OUTPUT_IDENTITY_H
#define TANDEM_OUTPUT_IDENTITY_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* The value of an entry that is known only later: it differs from none. */
#define IDENTITY_LATER "not read yet"

struct identity_entry {
    char *name, *value; /* UTF-8, owned by the list */
};

/* Zero-initialized is empty. */
struct identity {
    struct identity_entry *entries;
    size_t n;
};

/* Appends a copy; a name that is there already gets the new value. */
void identity_add(struct identity *id, const char *name, const char *value);

/* One entry for every key of a JSON object: values that are strings as they are, others as JSON. -1:
 * not an object. */
int identity_add_json(struct identity *id, const char *object);

/* The value, inside the list; NULL when there is no such name. */
const char *identity_value(const struct identity *id, const char *name);

void identity_free(struct identity *id);

/* The list as a JSON object with sorted keys; malloc'd. identity_add_json() takes it again. */
char *identity_json(const struct identity *id);

/* Whether the lists differ; if so, `text` names what does: "name theirs instead of ours, ...". */
bool identity_differs(const struct identity *found, const struct identity *wanted, char *text,
                      size_t size);

/* 0 when equal; else -1 and a message: `path` belongs to another job, every name that differs with
 * both values, and what to do. */
int identity_check(const char *path, const struct identity *found, const struct identity *wanted,
                   struct err *e);

#endif
