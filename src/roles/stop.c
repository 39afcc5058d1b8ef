#include "roles/stop.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t wanted; /* the one thing a signal handler may touch */

static void on_signal(int number)
{
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

bool stop_wanted(void)
{
    return wanted != 0;
}
