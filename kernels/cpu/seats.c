#include "kernels/cpu/seats.h"

#include "base/mem.h"

#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

struct seats {
    int threads;
    pid_t *thread; /* [threads] */
    int *core;     /* [threads] on which each is, [0]: was when last looked */
};

static void bind_thread(const struct seats *s, int i)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)s->core[i], &one);
    /* A team that was made anew has other threads: those of others are left alone. */
    if (syscall(SYS_tgkill, getpid(), s->thread[i], 0) == 0)
        sched_setaffinity(s->thread[i], sizeof one, &one);
}

struct seats *seats_new(int threads)
{
    cpu_set_t mask;
    if (threads < 2 || omp_get_proc_bind() != omp_proc_bind_false ||
        sched_getaffinity(0, sizeof mask, &mask) != 0 || CPU_COUNT(&mask) != threads)
        return NULL;
    struct seats *s = mem_new(1, sizeof *s);
    s->threads = threads;
    s->thread = mem_zeroed((size_t)threads, sizeof *s->thread);
    s->core = mem_new((size_t)threads, sizeof *s->core);
    for (int core = 0, n = 0; core < CPU_SETSIZE && n < threads; core++)
        if (CPU_ISSET((size_t)core, &mask))
            s->core[n++] = core;
#pragma omp parallel num_threads(threads)
    s->thread[omp_get_thread_num()] = (pid_t)syscall(SYS_gettid);
    for (int i = 1; i < threads; i++)
        bind_thread(s, i);
    return s;
}

void seats_free(struct seats *s)
{
    if (!s)
        return;
    free(s->thread);
    free(s->core);
    free(s);
}

void seats_take(struct seats *s)
{
    int now = s ? sched_getcpu() : -1;
    if (now < 0 || now == s->core[0])
        return;
    for (int i = 1; i < s->threads; i++)
        if (s->core[i] == now) {
            s->core[i] = s->core[0];
            s->core[0] = now;
            bind_thread(s, i);
        }
}
