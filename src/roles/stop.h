/* stop.h - the signals that ask a job to stop.
 *
 * SIGUSR1 (what Slurm sends before a time limit), SIGTERM and SIGINT. Until completions are being
 * decoded there is nothing to keep, and whatever the program is busy with (other people's files, a
 * library that loops) must not make it deaf: the process ends at once, with EXIT_UNFINISHED.
 * Afterwards a signal is only remembered: the step loop ends after the step it is in, commits
 * everything finished, and the program exits with EXIT_UNFINISHED. A second SIGINT ends it at once.
 *
 * SIGUSR2 asks for a line of progress and stops nothing.
 */
#ifndef TANDEM_ROLES_STOP_H
#define TANDEM_ROLES_STOP_H

#include <stdbool.h>

/* First call of a run, before MPI starts or a file is read. */
void stop_on_signals(void);

/* From here on signals are remembered; before the barrier after which any rank may decode. */
void stop_gently(void);

bool stop_wanted(void);

/* The status that a signal ends the process with before anything is decoded; at first
 * EXIT_UNFINISHED. */
void stop_early_status(int status);

/* How often Slurm has restarted this job. */
int stop_restarts(void);

/* The rank that talks to the user answers a signal at once, from the handler. */
void stop_aloud(void);

/* Was there a SIGUSR2 since the last call? */
bool stop_progress_asked(void);

#endif
