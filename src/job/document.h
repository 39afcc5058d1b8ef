/* document.h - YAML text as a tree of nodes that know their line and column.
 *
 * A thin layer over libyaml for files people write by hand: mappings, sequences and scalars.
 * Refused, with the place: anchors and aliases, tags, several documents, a key twice in one
 * mapping, keys that are not scalars, NUL characters, nesting deeper than 16. What a scalar means
 * (number, size, ...) is decided by whoever reads it. Pure functions; any thread.
 */
#ifndef TANDEM_JOB_DOCUMENT_H
#define TANDEM_JOB_DOCUMENT_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum node_kind { NODE_SCALAR, NODE_SEQUENCE, NODE_MAPPING };

struct node {
    enum node_kind kind;
    int line, column;      /* where it begins, from 1 */
    char *text;            /* scalar: its characters, NUL-terminated UTF-8; else NULL */
    bool plain;            /* scalar: written without quotes and not as a block (| or >) */
    struct node *children; /* sequence: items; mapping: key, value, key, value ... */
    size_t count;          /* number of children */
};

/* Reads a whole file, or a text. 0, and *root is the caller's until document_free(); an empty
 * document is a plain scalar with empty text. -1 with "path:line:column: what is wrong", or what
 * the file system said. `name` stands for the path in messages about a text. */
int document_read_file(struct node *root, const char *path, struct err *e);
int document_read_text(struct node *root, const char *name, const char *text, size_t bytes,
                       struct err *e);
void document_free(struct node *root);

/* A plain scalar that stands for nothing: empty, "~" or "null". */
bool document_is_null(const struct node *n);

/* The node as JSON: plain scalars are numbers, true, false or null where they read as such, else
 * texts. The caller's until json_decref(); NULL when the message is set: a key that is no scalar, or
 * a text that is not UTF-8. */
json_t *document_json(const struct node *n, struct err *e);

/* For messages: "a list", "a mapping", "nothing", or the scalar in quotes, shortened, on one line.
 * Written to `text`, and returned. */
const char *document_describe(const struct node *n, char *text, size_t size);

#endif
