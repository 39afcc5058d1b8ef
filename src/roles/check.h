/* check.h - `tandem check`: the dry run.
 *
 * Validates job, checkpoint and prompts as a run would, without MPI, and prints the layout, the
 * memory of every rank, and the first prompt as the model will see it.
 */
#ifndef TANDEM_ROLES_CHECK_H
#define TANDEM_ROLES_CHECK_H

#include "base/err.h"

#include <stddef.h>
#include <stdio.h>

/* Prints to `out`; -1 and the first thing that is wrong. */
int check_job(const char *job_path, const char *const *overrides, size_t n, FILE *out,
              struct err *e);

#endif
