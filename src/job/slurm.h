/* slurm.h - what a job takes from Slurm: its part of a job array, and numbers in paths.
 *
 * Reads the environment of this process; every rank of a job has the same. No other state.
 */
#ifndef TANDEM_JOB_SLURM_H
#define TANDEM_JOB_SLURM_H

#include "base/err.h"

/* Which part of the rows: "3/8" (part 3 of 8), or "slurm": this task's of its job array, whose tasks
 * may begin at any number and have steps. NULL is all: part 1 of 1. -1 with what was wanted. */
int slurm_part(const char *text, int *part, int *parts, struct err *e);

/* Puts Slurm's array task, array job and job in place of %a, %A and %j, as in sbatch --output. *path is
 * malloc'd and replaced. -1: a letter is there, but no such job. */
int slurm_path(char **path, struct err *e);

#endif
