#include "roles/handover.h"

#include "base/clock.h"
#include "base/median.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 101
/* Work between two words, longer than anybody spins for one: the other sleeps. */
#define WORK 200e-6

struct word {
    _Atomic uint32_t value;
    double said;
};

static void say(struct word *w, uint32_t value)
{
    w->said = clock_now();
    atomic_store(&w->value, value);
    syscall(SYS_futex, &w->value, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Whether the other process is still there: both look once a second. */
typedef bool (*alive)(pid_t other, int *status);

static bool child_lives(pid_t child, int *status)
{
    return waitpid(child, status, WNOHANG) == 0;
}

static bool parent_lives(pid_t parent, int *status)
{
    (void)status;
    return getppid() == parent;
}

/* Seconds from the word to the awakening; -1: whoever should say it is gone, *status of a child. */
static double hear(struct word *w, uint32_t value, alive lives, pid_t other, int *status)
{
    const struct timespec second = {.tv_sec = 1};
    for (uint32_t now; (now = atomic_load(&w->value)) < value;)
        if (syscall(SYS_futex, &w->value, FUTEX_WAIT, now, &second, NULL, 0) != 0 &&
            errno == ETIMEDOUT && !lives(other, status) && atomic_load(&w->value) < value)
            return -1;
    return clock_now() - w->said;
}

static void work(void)
{
    for (double start = clock_now(); clock_now() - start < WORK;)
        ;
}

static void answer(struct word *w, pid_t parent)
{
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        if (hear(&w[0], i, parent_lives, parent, NULL) < 0)
            _exit(1);
        work();
        say(&w[1], i);
    }
    _exit(0);
}

static int ask(struct word *w, pid_t child, double *seconds, struct err *e)
{
    double took[ROUNDS];
    int status = 0;
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        work();
        say(&w[0], i);
        took[i - 1] = hear(&w[1], i, child_lives, child, &status);
        if (took[i - 1] < 0)
            return err_set(e, "measuring a word between processes: the other process ended (%s %d)",
                           WIFSIGNALED(status) ? "signal" : "status",
                           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    waitpid(child, NULL, 0);
    *seconds = median(took, ROUNDS);
    return 0;
}

int handover_measure(double *seconds, struct err *e)
{
    pid_t parent = getpid();
    struct word *w =
        mmap(NULL, 2 * sizeof *w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (w == MAP_FAILED)
        return err_set(e, "measuring a word between processes: no shared memory: %s",
                       strerror(errno));
    pid_t child = fork();
    if (child == 0)
        answer(w, parent);
    int rc = child < 0 ? err_set(e, "measuring a word between processes: no second process: %s",
                                 strerror(errno))
                       : ask(w, child, seconds, e);
    munmap(w, 2 * sizeof *w);
    return rc;
}
