#include "kernels/cpu/seats.h"

#include "base/mem.h"

#include <omp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct seats {
    int users;      /* devices that share it */
    cpu_set_t mask; /* of the calling thread, and of the others before */
    int threads;
    pid_t *thread; /* [threads] */
    int *core;     /* [threads] on which each is, [0]: was when last looked */
    bool dropped;  /* nothing is bound any more */
};

/* OpenMP has one pool of threads for each thread that begins regions, so there is one map for it too. */
static _Thread_local struct seats *of_this_thread;

/* The id may be free by now where the team was made anew. */
static bool set_mask(const struct seats *s, int i, const cpu_set_t *mask)
{
    return syscall(SYS_tgkill, getpid(), s->thread[i], 0) == 0 &&
           sched_setaffinity(s->thread[i], sizeof *mask, mask) == 0;
}

static bool bind_thread(const struct seats *s, int i)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)s->core[i], &one);
    return set_mask(s, i, &one);
}

/* Those that are gone need nothing: new threads have the mask of the one that makes them. */
static void drop(struct seats *s)
{
    for (int i = 1; i < s->threads && !s->dropped; i++)
        set_mask(s, i, &s->mask);
    s->dropped = true;
}

static struct seats *bind_team(const cpu_set_t *mask, int threads)
{
    struct seats *s = mem_zeroed(1, sizeof *s);
    s->mask = *mask;
    s->threads = threads;
    s->thread = mem_zeroed((size_t)threads, sizeof *s->thread);
    s->core = mem_new((size_t)threads, sizeof *s->core);
    for (int core = 0, n = 0; core < CPU_SETSIZE && n < threads; core++)
        if (CPU_ISSET((size_t)core, mask))
            s->core[n++] = core;
#pragma omp parallel num_threads(threads)
    s->thread[omp_get_thread_num()] = (pid_t)syscall(SYS_gettid);
    for (int i = 1; i < threads && !s->dropped; i++)
        if (!bind_thread(s, i))
            drop(s);
    return s;
}

struct seats *seats_new(int threads)
{
    cpu_set_t mask;
    if (threads < 2 || omp_get_proc_bind() != omp_proc_bind_false ||
        sched_getaffinity(0, sizeof mask, &mask) != 0 || CPU_COUNT(&mask) != threads)
        return NULL;
    struct seats *s = of_this_thread;
    if (s && !CPU_EQUAL(&s->mask, &mask))
        return NULL;
    if (!s)
        s = of_this_thread = bind_team(&mask, threads);
    s->users++;
    return s;
}

void seats_free(struct seats *s)
{
    if (!s || --s->users > 0)
        return;
    drop(s);
    of_this_thread = NULL;
    free(s->thread);
    free(s->core);
    free(s);
}

void seats_take(struct seats *s)
{
    int now = s && !s->dropped ? sched_getcpu() : -1;
    if (now < 0 || now == s->core[0])
        return;
    for (int i = 1; i < s->threads; i++)
        if (s->core[i] == now) {
            s->core[i] = s->core[0];
            s->core[0] = now;
            if (!bind_thread(s, i))
                drop(s);
            return;
        }
}
