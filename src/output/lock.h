/* lock.h - the directory of an unfinished job, and that only one job writes to it.
 *
 * The lock is an flock on a file in the directory; it ends with the process, however that ends. The
 * directory must belong to this user, and nobody else may write to it: others could plant links
 * there. Writer only.
 */
#ifndef TANDEM_OUTPUT_LOCK_H
#define TANDEM_OUTPUT_LOCK_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define LOCK_FILE "lock"

struct lock {
    int fd; /* negative: not held */
};

/* Makes the directory when it is not there, and takes its lock. -1: another job has it (says its
 * process and host), or the directory cannot be used. */
int lock_enter(struct lock *l, const char *directory, struct err *e);

void lock_leave(struct lock *l);

/* For others: does a job hold the lock of this directory now? `who`: its process and host, or "". Where the
 * file system has no flock nobody seems to. */
bool lock_is_held(const char *directory, char *who, size_t size);

#endif
