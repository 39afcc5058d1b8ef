/* load.h - tokenizer.json into the parts of a tokenizer. Used by tokenizer.c only. */
#ifndef TANDEM_TEXT_LOAD_H
#define TANDEM_TEXT_LOAD_H

#include "base/err.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/split.h"
#include "text/vocab.h"

#include <stdint.h>

/* All parts are owned by whoever has the struct; zero it before, load_free() it after. */
struct load_parts {
    struct vocab *vocab;
    struct bpe *bpe; /* points into vocab */
    struct split *split;
    struct added
        *added[2]; /* not normalized, which are cut out first, and normalized; into vocab */
    uint64_t hash;
    int32_t first; /* what the post-processor puts before a text; -1: nothing */
};

/* Fills *parts from the file. -1 and a message that begins with the path: not readable, not JSON
 * (path:line:column), a value that is wrong or not supported (path: field). *parts must be freed in
 * either case. */
int load_file(struct load_parts *parts, const char *path, struct err *e);

/* The same from n bytes of text, which stand in the file `path` in whatever way. */
int load_text(struct load_parts *parts, const char *path, const char *text, size_t n,
              struct err *e);

void load_free(struct load_parts *parts);

#endif
