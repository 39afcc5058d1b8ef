/* inputs.h - everything a job reads, opened and checked before anything is decoded.
 *
 * Job file, model description, checkpoint, prompts, tokenizer: what a run and the dry run have in
 * common. Every rank has the job and opens the checkpoint; ranks that decode (attention ranks, the
 * dry run) also prompts and tokenizer. In a run the first rank goes first, and what it has read of small
 * files and headers is what the others find (base/file_cache.h).
 */
#ifndef TANDEM_ROLES_INPUTS_H
#define TANDEM_ROLES_INPUTS_H

#include "data/checkpoint.h"
#include "base/stamp.h"
#include "job/job.h"
#include "model/model.h"
#include "roles/probe.h"
#include "roles/prompting.h"

#include <stdio.h>

struct inputs {
    struct job job;
    struct model model;
    struct checkpoint *checkpoint;
    struct prompts *prompts; /* NULL: this rank reads none, and prompting is empty */
    struct prompting prompting;
    const struct backend *backend; /* whoever opens the inputs chooses it */
    uint64_t n_prompts, units;     /* rows of the job, and rows x samples */
    uint64_t first_of_all;         /* the first row of all its parts, and */
    uint64_t end_of_all;           /* the one behind the last */
    size_t max_context;
    struct stamps weights;      /* the checkpoint's files */
    struct stamps prompts_file; /* one, or none */
    struct probe probe;         /* what is known of it already */
};

/* The job file alone. */
int inputs_read_job(struct inputs *in, const char *job_path, const char *const *overrides, size_t n,
                    struct err *e);

/* Then everything it names; with_prompts: also prompts and tokenizer. -1: what was opened is closed by
 * inputs_close(). */
int inputs_open(struct inputs *in, bool with_prompts, struct err *e);
void inputs_close(struct inputs *in);

/* -1: the output, or the trace, will have no directory where files can be made; for the writer. */
int inputs_may_write(const struct job *job, struct err *e);

/* How the job wants weights kept. */
enum weight_keep inputs_keep(const struct job *job);

/* All of it at once, where there are no other ranks, with this backend; NULL: with the fastest kernels of
 * this host. -1: nothing is open. */
int inputs_open_alone(struct inputs *in, const char *job_path, const char *const *overrides,
                      size_t n, const struct backend *backend, struct err *e);

/* A model alone, for measuring: the job of defaults for it, one colocated rank, without prompts and
 * tokenizer. -1: nothing is open. */
int inputs_open_model(struct inputs *in, const char *model, const char *const *overrides, size_t n,
                      struct err *e);

/* -1: the file is not any more what it was when it was opened; which, and what to do. The weights are
 * looked at when they have been loaded, the prompts with every row (roles/feeder.h) and at the end. */
int inputs_same_weights(const struct inputs *in, struct err *e);
int inputs_same_prompts(const struct inputs *in, struct err *e);

/* A line for each thing that the job asks for and can hardly mean. */
void inputs_doubts(const struct inputs *in, const char *prefix, FILE *out);

#endif
