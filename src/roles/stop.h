/* stop.h - the wish to stop: SIGUSR1 (Slurm's warning), SIGTERM, SIGINT.
 *
 * A signal only sets a flag; the rank says so in the next step contract and all ranks stop together
 * after that step, with everything finished sealed. A second SIGINT acts as usual.
 */
#ifndef TANDEM_ROLES_STOP_H
#define TANDEM_ROLES_STOP_H

#include <stdbool.h>

/* Installs the handlers; once, after MPI has started (it installs its own). */
void stop_on_signals(void);

bool stop_wanted(void);

#endif
