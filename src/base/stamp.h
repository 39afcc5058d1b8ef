/* stamp.h - files as they were when they were opened: whether they still are.
 *
 * A file that is written again, replaced or cut off has another inode, size or time of change of its
 * contents. Equal stamps on two hosts mean the same file of a shared file system, or copies of one
 * that kept its time: copies are given it when they are complete. One rank and thread per list.
 */
#ifndef TANDEM_BASE_STAMP_H
#define TANDEM_BASE_STAMP_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Plain bytes without holes: sent between ranks as they are. */
struct stamp {
    uint64_t inode, bytes;
    int64_t seconds, nanoseconds;
};

/* Of the file as it is now; of an open file. -1: errno says why. */
int stamp_take(struct stamp *s, const char *path);
int stamp_take_open(struct stamp *s, int fd);

bool stamp_same(const struct stamp *a, const struct stamp *b);

/* Zero-initialized is empty. */
struct stamps {
    char **paths;
    struct stamp *stamps;
    size_t n;
};

/* Adds the file as it is now; before it is opened. -1: it is not there. */
int stamps_add(struct stamps *s, const char *path, struct err *e);

/* 0: file i is what it was. -1: it was changed or is gone; or, with errno left in *fault (else 0),
 * its file system does not say. */
int stamps_check(const struct stamps *s, size_t i, int *fault, struct err *e);

void stamps_free(struct stamps *s);

#endif
