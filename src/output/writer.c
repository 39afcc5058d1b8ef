#include "output/writer.h"

#include "base/mem.h"
#include "base/patience.h"

#include <errno.h>
#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct task {
    writer_do what;
    void *context;
    struct bytes batch;
    struct task *next;
};

struct writer {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct task *first, *last; /* the first is being done */
    size_t waiting;            /* bytes */
    bool leave;
    enum output_state failed; /* OUTPUT_FINE: not */
    struct err why;
};

static enum output_state judge(int why)
{
    return patience_may_mend(why) || why == EBADMSG || why == ECANCELED ? OUTPUT_LATER
                                                                        : OUTPUT_BROKEN;
}

/* A merge has OpenMP's threads help this one. Left alone they end some time after it, and nobody waits
 * for them: tools that look at all threads when the program ends do not like that. */
static void end_helpers(void)
{
#if defined __clang__ || __GNUC__ >= 9
    omp_pause_resource(omp_pause_hard, omp_get_initial_device());
#endif
}

static void *work(void *context)
{
    struct writer *w = context;
    pthread_mutex_lock(&w->mutex);
    for (;;) {
        struct task *t = w->first;
        if (!t && w->leave)
            break;
        if (!t) {
            pthread_cond_wait(&w->changed, &w->mutex);
            continue;
        }
        enum output_state state = w->failed;
        struct err why = {{0}};
        pthread_mutex_unlock(&w->mutex);
        if (state == OUTPUT_FINE && t->what(t->context, &t->batch, &why) != 0)
            state = judge(errno);
        pthread_mutex_lock(&w->mutex);
        if (w->failed == OUTPUT_FINE && state != OUTPUT_FINE) {
            w->failed = state;
            w->why = why;
        }
        w->waiting -= t->batch.used;
        w->first = t->next;
        if (!w->first)
            w->last = NULL;
        free(t->batch.data);
        free(t);
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->mutex);
    end_helpers();
    return NULL;
}

struct writer *writer_start(void)
{
    struct writer *w = mem_zeroed(1, sizeof *w);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->changed, NULL);
    sigset_t all, before; /* signals are the main thread's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->thread, NULL, work, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        die("no thread for writing: %s", strerror(rc));
    return w;
}

void writer_stop(struct writer *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->mutex);
    w->leave = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->mutex);
    pthread_cond_destroy(&w->changed);
    free(w);
}

void writer_push(struct writer *w, writer_do what, void *context, struct bytes *batch)
{
    struct task *t = mem_new(1, sizeof *t);
    *t = (struct task){what, context, *batch, NULL};
    *batch = (struct bytes){0};
    pthread_mutex_lock(&w->mutex);
    while (w->waiting > WRITER_WAITING_MAX && w->failed == OUTPUT_FINE)
        pthread_cond_wait(&w->changed, &w->mutex);
    if (w->last)
        w->last->next = t;
    else
        w->first = t;
    w->last = t;
    w->waiting += t->batch.used;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->mutex);
}

static enum output_state state_of(const struct writer *w, struct err *e)
{
    if (w->failed != OUTPUT_FINE)
        *e = w->why;
    return w->failed != OUTPUT_FINE ? w->failed : w->first ? OUTPUT_BUSY : OUTPUT_FINE;
}

enum output_state writer_state(struct writer *w, struct err *e)
{
    pthread_mutex_lock(&w->mutex);
    enum output_state state = state_of(w, e);
    pthread_mutex_unlock(&w->mutex);
    return state;
}

enum output_state writer_drain(struct writer *w, struct err *e)
{
    pthread_mutex_lock(&w->mutex);
    while (w->first && w->failed == OUTPUT_FINE)
        pthread_cond_wait(&w->changed, &w->mutex);
    enum output_state state = state_of(w, e);
    pthread_mutex_unlock(&w->mutex);
    return state;
}
