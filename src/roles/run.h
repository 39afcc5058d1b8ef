/* run.h - `tandem run`: the whole job, from the job file to the merged output.
 */
#ifndef TANDEM_ROLES_RUN_H
#define TANDEM_ROLES_RUN_H

#include "base/err.h"
#include "roles/comm.h"
#include "roles/probe.h"

#include <stddef.h>

struct run_options {
    const char *job;              /* the job file */
    const char *const *overrides; /* --set key=value */
    size_t n_overrides;
    enum role role; /* --role */
    /* --max-restarts: what would end as unfinished ends with EXIT_RUN instead, so that nobody starts it
     * again, when Slurm has restarted the job so often, or has restarted it and it drew no token.
     * -1: never. */
    int max_restarts;
    bool retry_errors;       /* --retry-errors: what failed in an earlier run is decoded again */
    bool selftest;           /* only test kernels and exchange (roles/selftest.h) */
    struct probe probe;      /* of the prompts, before MPI started */
    const struct err *wrong; /* what it found; NULL: nothing */
};

/* Called by every rank, after comm_start(). Errors have been printed when it returns; the same
 * status on every rank. */
enum exit_status run_job(struct comm *c, const struct run_options *options);

/* Of this program. */
const char *run_version(void);

#endif
