/* file_cache.h - small files that one rank reads for all: what stands in them, in memory.
 *
 * Many ranks that open and read the same few files at once keep a file system busy for minutes. So, while
 * a job starts, one rank reads them and keeps what it has read; the others are given that, and find in it
 * what they would read (roles/run.c). Nobody who reads a file has to know: files_read() looks here first,
 * and the pages of a mapped file that are all header come from here (data/mapped.h). What is here counts
 * only for a file with the same stamp, so a rank whose file is another one, a copy on a disk of its own,
 * still reads that, and what it says differs is named (roles/identity.h).
 *
 * One cache a process; closed, all of it does nothing. Main thread, and only while no other reads files.
 */
#ifndef TANDEM_BASE_FILE_CACHE_H
#define TANDEM_BASE_FILE_CACHE_H

#include "base/stamp.h"

#include <stddef.h>

void file_cache_open(void);
void file_cache_close(void); /* what it gave out is not valid any more */

/* The first bytes of the file of that path and stamp: *n of them. NULL: not here. Belongs to the cache. */
const void *file_cache_find(const char *path, const struct stamp *now, size_t *n);

/* Keeps a copy, unless the file is here with as many bytes. */
void file_cache_add(const char *path, const struct stamp *stamp, const void *data, size_t n);

/* All of it as one run of bytes, malloc'd, for another rank of the same program to add to its own. */
void *file_cache_pack(size_t *bytes);
void file_cache_unpack(const void *packed, size_t bytes);

#endif
