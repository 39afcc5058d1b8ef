/* status.h - `tandem status`: how far a job is, seen from another shell.
 *
 * From the journals beside its output, which the running job writes every few seconds and at the latest
 * every minute; nothing of the job is asked or disturbed. One process; prints.
 */
#ifndef TANDEM_REPORT_STATUS_H
#define TANDEM_REPORT_STATUS_H

#include "base/err.h"

#include <stdio.h>

/* path: the output of the job. -1: there is no such job, or its journals cannot be read. */
int status_print(const char *path, FILE *out, struct err *e);

#endif
