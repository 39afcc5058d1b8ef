/* check.h - `tandem check`: the dry run.
 *
 * Validates job, checkpoint, prompts and output as a run would, without MPI, and prints the layout, the
 * memory of every rank, what ends a completion, how long the prompts are, what is done already, and the
 * first prompt as the model will see it.
 */
#ifndef TANDEM_ROLES_CHECK_H
#define TANDEM_ROLES_CHECK_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct check_options {
    const char *const *overrides; /* --set key=value */
    size_t n_overrides;
    bool quick; /* prompts are not all tokenized */
    /* A job for GPUs is checked for cards of so much memory, on a host that need have none: a name for
     * messages; NULL: for those of this host. */
    const char *card;
    size_t card_bytes;
};

/* Prints to `out`; -1 and the first thing that is wrong. */
int check_job(const char *job_path, const struct check_options *o, FILE *out, struct err *e);

#endif
