/* mapped.h - a file of weights, mapped read-only.
 *
 * Pages are read when touched. A file that is cut off while it is mapped, or whose disk fails,
 * raises SIGBUS at the touch: a handler, installed with the first mapping, names the file and ends
 * the job (die()); any other SIGBUS goes to whoever had it before. Opened and closed by one thread;
 * touched by any.
 *
 * A file begins with a header that every rank parses. Where another rank has read it (base/file_cache.h),
 * the pages that are all header hold what that one has read, and the file's are not touched.
 */
#ifndef TANDEM_DATA_MAPPED_H
#define TANDEM_DATA_MAPPED_H

#include "base/stamp.h"

#include <stddef.h>
#include <stdint.h>

/* Stays where it is while it is open. */
struct mapped {
    char *path;
    const uint8_t *data; /* NULL: not open */
    size_t bytes;
    struct stamp stamp;  /* when it was opened */
    struct mapped *next; /* all that are open, for the handler */
};

/* -1: no such file, a link to nothing, no regular file (a pipe is not waited for), or smaller than
 * `least` bytes, at least 1. */
int mapped_open(struct mapped *m, const char *path, size_t least, struct err *e);
void mapped_close(struct mapped *m); /* not open: nothing */

/* The first n bytes are the header, and were read. */
void mapped_had_header(const struct mapped *m, size_t n);

#endif
