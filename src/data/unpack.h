/* unpack.h - files that other programs compressed, read through the program that reads them.
 *
 * zstd, xz and bzip2 need no library here: whoever has such files has the program. It runs beside this
 * process, and a second child hands it what the file has, so that pipes work like files. One thread.
 */
#ifndef TANDEM_DATA_UNPACK_H
#define TANDEM_DATA_UNPACK_H

#include "base/err.h"

#include <stddef.h>
#include <sys/types.h>
#include <zlib.h>

struct unpack {
    const char *program; /* NULL: nothing runs */
    pid_t reader, feeder;
};

/* The program for a file that begins so; NULL: none of those. */
const char *unpack_program(const char *head, size_t n);

/* What is left of `in` comes unpacked from the returned stream; `in` is closed. NULL: the program is not
 * installed, or cannot be started (then `in` stays open). */
gzFile unpack_open(struct unpack *u, const char *program, gzFile in, const char *name,
                   struct err *e);

/* At the end of the stream: has the program read all and found it whole? -1 with its status. */
int unpack_ended(struct unpack *u, const char *name, struct err *e);

/* After the stream is closed, read to its end or not. */
void unpack_close(struct unpack *u);

#endif
