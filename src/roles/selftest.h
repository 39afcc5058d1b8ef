/* selftest.h - before a job trusts a GPU: do its kernels and its wires do what they should?
 *
 * A kind of device that has not passed before - name, driver, version of Tandem and shapes of the model,
 * noted in a file of the user's cache directory - runs every operation once (kernels/selftest.h), and then
 * every rank's exchange carries known numbers (exchange/trial.h). CPUs are left out: their kernels are
 * tested where Tandem is built. `tandem selftest JOB.yaml` does both on any device, and ends.
 *
 * What differs is named on stderr with what to send to the authors, and ends the job.
 */
#ifndef TANDEM_ROLES_SELFTEST_H
#define TANDEM_ROLES_SELFTEST_H

#include "roles/comm.h"
#include "roles/engine.h"

/* Where what has passed is noted: $XDG_CACHE_HOME/tandem/selftest, or under $HOME/.cache. */

/* The kernels of a device of every host, if they have not passed before; `always`: of every rank. The engine is planned,
 * nothing is loaded. *tested: some rank of the world has run them. Collective over the world; false: said. */
bool selftest_kernels_of(struct comm *c, const struct engine *g, const char *version, bool always,
                         bool *tested);

/* The exchange, and how long it takes: a line a rail, shown, and in *said, malloc'd, at the first rank, else
 * NULL. The engine's exchange is open. note: what selftest_kernels_of() tested has passed. Collective over
 * the world; false: said why. */
bool selftest_exchange_of(struct comm *c, const struct engine *g, const char *version, bool note,
                          char **said);

/* Without a job: every device of this host that is asked for ("cpu", "cuda", NULL: all), one operation or
 * all (NULL), shapes of the test's own. Returns the exit status. */
enum exit_status selftest_alone(const char *device, const char *only, const char *version);

#endif
