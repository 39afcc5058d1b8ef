#include "roles/stop.h"

#include "base/err.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

/* All that a signal handler may touch. */
static volatile sig_atomic_t wanted, gentle;

static void on_signal(int number)
{
    if (!gentle)
        _exit(EXIT_UNFINISHED);
    if (number == SIGINT)
        signal(SIGINT, SIG_DFL);
    wanted = 1;
}

void stop_on_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

void stop_gently(void)
{
    gentle = 1;
}

bool stop_wanted(void)
{
    return wanted != 0;
}
