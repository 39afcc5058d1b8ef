/* survey.h - what the dry run finds out by looking at all of a job: its prompts, its output, its disk.
 *
 * One process, without MPI; prints.
 */
#ifndef TANDEM_ROLES_SURVEY_H
#define TANDEM_ROLES_SURVEY_H

#include "roles/inputs.h"

#include <stdint.h>
#include <stdio.h>

/* Makes tokens of every prompt and prints how long they are, and why those that fail do. *most: tokens that
 * all completions together may have. -1: the file cannot be read, or changes meanwhile. */
int survey_prompts(const struct inputs *in, FILE *out, uint64_t *most, struct err *e);

/* Whether the output is new, unfinished (what is there is used) or finished. -1: it, or its unfinished
 * beginning, is another job's. */
int survey_output(struct inputs *in, FILE *out, struct err *e);

/* What the output may need of its disk while it is made, and what is free. most: of survey_prompts(), or
 * as many as the job allows. */
void survey_disk(const struct inputs *in, uint64_t most, FILE *out);

#endif
