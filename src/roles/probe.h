/* probe.h - reads the prompts file once where it can do no harm.
 *
 * HDF5 trusts what it reads: a damaged or hostile file makes the library crash, loop or take all
 * memory. So the file is first read whole, every row of the job, in a child process with little
 * memory that is watched, before MPI starts. If the child dies, that is wrong input, status 1, and
 * no error of a rank in the middle of a job. What it has read is not read again for the job's
 * identity: the child says the hash of the rows.
 */
#ifndef TANDEM_ROLES_PROBE_H
#define TANDEM_ROLES_PROBE_H

#include "base/stamp.h"
#include "job/job.h"

/* Every rank holds one bit for each completion: 512 MiB. Files of more rows are damaged, or meant
 * badly; they are not read. */
#define INPUTS_MAX_UNITS ((uint64_t)1 << 32)

/* What is known of the prompts file after a probe. */
struct probe {
    bool done; /* false: nothing */
    uint64_t first, n, hash;
    struct stamp stamp; /* of the file that was read */
};

/* Most bytes the child may take beside what it begins with, and most seconds for a thousand rows. */
struct probe_limits {
    size_t bytes;
    int seconds;
};
extern const struct probe_limits probe_limits; /* 4 GiB, 60 s */

/* The rows of the job, in a child of this process; to be called before it has threads or MPI. -1: the
 * file is no prompts file, or its child died or was ended; which of it, and what to do. Where no
 * child can be made *p is empty, and that is no error. */
int probe_prompts(struct probe *p, const struct job *job, const struct probe_limits *limits,
                  struct err *e);

/* The same for the job that a command line names, on the launcher's first rank: the others would read
 * the same file. What is wrong with the job itself is no error here. */
int probe_job(struct probe *p, const char *job_path, const char *const *overrides, size_t n,
              struct err *e);

#endif
