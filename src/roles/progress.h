/* progress.h - one line that says how far the job is: redrawn on a terminal, now and then in a log.
 *
 * Written to stderr by the writer only.
 */
#ifndef TANDEM_ROLES_PROGRESS_H
#define TANDEM_ROLES_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool terminal;
    double started, last_shown; /* clock_now() */
    uint64_t total, before;     /* units of the job; finished by earlier runs */
    int64_t tokens;
    uint64_t finished; /* including `before` */
    bool line_open;    /* a redrawn line stands on the terminal */
};

void progress_start(struct progress *p, uint64_t total, uint64_t before);

/* "2026-01-31 23:59:59 +0100"; text has at least 32 bytes. */
const char *progress_time(char *text);

/* finished and tokens of this run, all ranks. Shows a line when it is time to, or was asked for by
 * SIGUSR2 (stop.h). */
void progress_update(struct progress *p, uint64_t finished, int64_t tokens);

/* Ends the line: nothing more is shown. */
void progress_end(struct progress *p);

/* True when what this process writes to stderr reaches a terminal; under mpirun, when mpirun's does
 * (ranks themselves write to a pipe, or to a pseudo-terminal of mpirun's own). */
bool progress_on_terminal(void);

/* "2h03m", "41s"; text has at least 32 bytes. */
const char *progress_duration(double seconds, char *text);

#endif
