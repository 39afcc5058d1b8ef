#include "roles/stop.h"

#include "base/err.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/* All that a signal handler may touch. */
static volatile sig_atomic_t wanted, gentle, aloud, asked, early = EXIT_UNFINISHED;

static void on_signal(int number)
{
    if (!gentle)
        _exit(early);
    if (number == SIGINT)
        signal(SIGINT, SIG_DFL);
    static const char text[] = "\ntandem: stops after this step; what is finished is kept\n";
    int why = errno;
    if (aloud && !wanted && write(STDERR_FILENO, text, sizeof text - 1) < 0)
        aloud = 0; /* nobody listens */
    errno = why;
    wanted = 1;
}

static void on_question(int number)
{
    (void)number;
    asked = 1;
}

void stop_on_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = on_question;
    sigaction(SIGUSR2, &action, NULL);
}

void stop_gently(void)
{
    gentle = 1;
}

void stop_early_status(int status)
{
    early = status;
}

int stop_restarts(void)
{
    const char *count = getenv("SLURM_RESTART_COUNT");
    return count ? atoi(count) : 0;
}

void stop_aloud(void)
{
    aloud = 1;
}

bool stop_progress_asked(void)
{
    bool was = asked;
    asked = 0;
    return was;
}

bool stop_wanted(void)
{
    return wanted != 0;
}
