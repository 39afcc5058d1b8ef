/* parts.h - one output of the outputs of a job that was cut into parts: a Slurm array's, or jobs over
 * ranges of the same prompts file.
 *
 * The result is an output like any other (merge.h): in the order of prompts, with the parts' own columns,
 * sealed. Ranks count through the parts. For the subcommand `merge`; one process, a few open files for any
 * number of parts.
 */
#ifndef TANDEM_OUTPUT_PARTS_H
#define TANDEM_OUTPUT_PARTS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Merges paths[n], in any order; siblings (*.tokens.h5, *.steps.h5) of others among them are passed over.
 * partial: rows that no part has are left out. -1, and nothing is written: `to` exists; a file is no
 * finished output; the parts are not of one job (what differs) or of one prompts file; two have the same
 * prompt, or (not partial) none has one. *rows: completions of the result. */
int parts_merge(const char *const *paths, size_t n, const char *to, bool partial, uint64_t *rows,
                struct err *e);

#endif
