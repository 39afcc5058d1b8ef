/* inputs.h - everything a job reads, opened and checked before anything is decoded.
 *
 * Job file, model description, checkpoint, prompts, tokenizer: what a run and the dry run have in
 * common. Every rank opens them (FFN ranks without the prompts); the same errors on every rank.
 */
#ifndef TANDEM_ROLES_INPUTS_H
#define TANDEM_ROLES_INPUTS_H

#include "data/checkpoint.h"
#include "data/completions.h"
#include "job/job.h"
#include "model/model.h"
#include "roles/prompting.h"

struct inputs {
    struct job job;
    struct model model;
    struct checkpoint *checkpoint;
    struct prompts *prompts;
    struct prompting prompting;
    const struct backend *backend;
    uint64_t n_prompts, units; /* rows of the job, and rows x samples */
    size_t max_context;
};

/* Reads the job file, then everything it names. */
int inputs_open(struct inputs *in, const char *job_path, const char *const *overrides, size_t n,
                struct err *e);
void inputs_close(struct inputs *in);

/* A hash of what must be equal on all ranks. Reads the sampled parts of the checkpoint. */
uint64_t inputs_hash(const struct inputs *in);

/* What the output records, and compares when a job is continued; `sampling` is malloc'd. Reads the
 * whole prompts file: the writer's work. */
struct completions_identity inputs_identity(const struct inputs *in);

#endif
