/* disk.h - calls of the file system that are tried again (patience.h), finish what they began, and
 * say what went wrong.
 *
 * path: the file's name for messages. -1: a message in e, and errno says why. No call follows a
 * symbolic link in the last part of a name. Any thread.
 */
#ifndef TANDEM_BASE_DISK_H
#define TANDEM_BASE_DISK_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A regular file; flags as for open(2), close-on-exec and O_NOFOLLOW added. Returns the
 * descriptor. A file that is not there is no error with a message: -2. */
int disk_open(const char *path, int flags, struct err *e);

/* Reads up to n bytes at `at`; *got is less only at the end of the file. */
int disk_read(int fd, const char *path, void *to, size_t n, uint64_t at, size_t *got,
              struct err *e);

/* Writes n bytes at `at`. After -1 some may be there. _once: what fails is not tried again. */
int disk_write(int fd, const char *path, const void *from, size_t n, uint64_t at, struct err *e);
int disk_write_once(int fd, const char *path, const void *from, size_t n, uint64_t at,
                    struct err *e);

/* Cuts the file to n bytes. */
int disk_cut(int fd, const char *path, uint64_t n, struct err *e);

/* fdatasync, once: after a failure the kernel may have forgotten what was not written, so trying
 * again means writing again. */
int disk_sync(int fd, const char *path, struct err *e);

/* Whether there is something of that name, a link included. */
int disk_exists(const char *path, bool *there, struct err *e);

int disk_size(int fd, const char *path, uint64_t *bytes, struct err *e);

/* Forces the entries of a directory to disk; a file system that cannot is no error. */
int disk_sync_directory(const char *path, struct err *e);

/* Renames; replaces `to`. Both names are then forced to disk by the caller. */
int disk_rename(const char *from, const char *to, struct err *e);

/* Removes a file, or an empty directory; 0 when it is not there. */
int disk_remove(const char *path, struct err *e);

/* The names in a directory, sorted; malloc'd, each and the array. */
int disk_list(const char *path, char ***names, size_t *n, struct err *e);
void disk_list_free(char **names, size_t n);

#endif
