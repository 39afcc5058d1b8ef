/* text.h - job files made from text, for the tests of job_read(). */
#ifndef TANDEM_TESTS_JOB_TEXT_H
#define TANDEM_TESTS_JOB_TEXT_H

#include "job/job.h"

/* Writes the text to a file of its own, reads it with job_read(), removes the file. The message's
 * leading path becomes "job.yaml", so that tests can compare the whole message. */
int read_text(struct job *job, const char *text, size_t bytes, const char *const *sets, size_t n,
              struct err *e);

/* The contents of a file of the repository, NUL-terminated; malloc'd. */
char *read_file(const char *path, size_t *bytes);

#endif
