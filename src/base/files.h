/* files.h - files that survive a kill and a power loss, or were never there.
 *
 * A file becomes visible under its name only when it is complete and on disk: written under another
 * name, fsynced, renamed, and the directory fsynced. One rank and thread per file.
 */
#ifndef TANDEM_BASE_FILES_H
#define TANDEM_BASE_FILES_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* malloc'd "directory/name"; malloc'd directory part of a path ("." when it has none); the part
 * behind the last slash, inside path. */
char *files_join(const char *directory, const char *name);
char *files_directory(const char *path);
const char *files_name(const char *path);

/* Is that the end of the path? Capitals do not count. */
bool files_ends_with(const char *path, const char *end);

/* Anything of that name, and a directory (links are followed). */
bool files_exist(const char *path);
bool files_is_directory(const char *path);

/* The message that `path` cannot be opened, from errno; of a link to nothing: where it points.
 * Returns -1. */
int files_err_open(const char *path, struct err *e);

/* 0: files can be made in the directory that `path` is or will be in. -1: which directory is not
 * there, or why nothing can be written there. */
int files_may_create(const char *path, struct err *e);

/* Forces a file's contents, a directory's entries to disk. */
int files_sync(const char *path, struct err *e);
int files_sync_directory(const char *directory, struct err *e);

/* fsync(from), rename(from, to), fsync(directory of to). Replaces `to`. */
int files_publish(const char *from, const char *to, struct err *e);

/* Writes n bytes to directory/name through directory/name.tmp, and publishes it. */
int files_write(const char *directory, const char *name, const void *data, size_t n, struct err *e);

/* -1 and an error: the n bytes at the beginning of the file are a Git LFS pointer, a text that stands for it. */
int files_refuse_pointer(const char *path, const void *data, size_t n, struct err *e);

#define FILES_BYTES_MAX ((size_t)1 << 30) /* a tokenizer of a million tokens has 50 MB */

/* The whole file, malloc'd, with a NUL behind it; NULL and a message when it cannot be read, has
 * more than `most` bytes or is a Git LFS pointer. A pipe or a device is not waited for: it is an error; files_read_any() reads
 * those too. What the file cache has is taken from there (base/file_cache.h). */
char *files_read(const char *path, size_t most, size_t *n, struct err *e);
char *files_read_any(const char *path, size_t most, size_t *n, struct err *e);

#endif
