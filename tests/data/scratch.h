/* scratch.h - what the tests of src/data/ and src/output/ share: a directory of their own, messages, files.
 */
#ifndef TANDEM_TESTS_DATA_SCRATCH_H
#define TANDEM_TESTS_DATA_SCRATCH_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* A new directory below $TMPDIR, /dev/shm or /tmp, removed with everything in it by scratch_end().
 */
const char *scratch_begin(void);
void scratch_end(void);

/* The path of `name` in it; valid until the end. */
const char *scratch_path(const char *name);

/* Makes, or empties, a directory in it. */
void scratch_directory(const char *name);
void scratch_remove(const char *path); /* with everything in it; need not be there */

void scratch_write(const char *path, const void *data, size_t n);
void scratch_text(const char *path, const char *text);
char *scratch_read(const char *path, size_t *n); /* malloc'd, a NUL behind it */

/* Fails the test unless rc is -1 and the message has every one of the given texts (NULL ends). */
void expect_error(int rc, const struct err *e, ...) __attribute__((sentinel));

/* Fails the test with the message unless rc is 0. */
void expect_ok(int rc, const struct err *e);

/* Python with h5py and numpy, from $PYTHON or /usr/bin/python3; NULL when there is none. */
const char *scratch_python(void);

/* Tests that take many trials take few under valgrind (QUICK=1). */
int scratch_trials(int normally);

/* Reproducible random numbers: prints the seed once. $SEED overrides it. */
uint32_t scratch_random(void);

#endif
