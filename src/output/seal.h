/* seal.h - a checksum over a whole file, behind its end: one changed bit is noticed.
 *
 * HDF5 looks at its own part of the file and never at what follows. A file without a seal (somebody
 * opened it for writing, or copied its contents with another tool) is not refused: nothing is known
 * of it then. Any thread.
 */
#ifndef TANDEM_OUTPUT_SEAL_H
#define TANDEM_OUTPUT_SEAL_H

#include "base/err.h"

#include <stdbool.h>

/* Appends the seal to a finished file and forces the file to disk. */
int seal_put(const char *path, struct err *e);

/* Reads the whole file. -1: it cannot be read, or has changed since it was sealed. *sealed (may be
 * NULL): whether it has a seal. */
int seal_check(const char *path, bool *sealed, struct err *e);

#endif
