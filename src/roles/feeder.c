#include "roles/feeder.h"

#include "base/mem.h"
#include "base/patience.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct entry {
    struct fed fed;
    bool ready;
    struct entry *next;
};

struct feeder {
    struct feeder_job job;
    pthread_t thread;
    pthread_mutex_t lock; /* of everything below */
    pthread_cond_t work, done;
    struct entry *first, *last; /* all that is in it, in order */
    struct entry *todo;         /* the first that is not ready */
    int coming, ready;
    bool closing;
    enum feeder_state state;
    struct err error;
    /* The thread's own: the last prompt, for its other samples. */
    uint64_t prompt; /* row; UINT64_MAX: none */
    struct fed fed;
    json_t *overrides; /* of its row */
    struct request_context requests;
};

/* ---- one prompt, in the thread -------------------------------------------------------------- */

static void fed_free(struct fed *fed)
{
    free(fed->id);
    free(fed->tokens);
    free(fed->error);
    request_free(fed->request);
    *fed = (struct fed){0};
}

/* The row and its id, once. Returns its status; *fault: errno when the file system failed. */
static int read_once(struct prompts *p, size_t row, struct prompt *prompt, char **id, int *fault,
                     struct err *e)
{
    int status = prompts_read(p, row, prompt, e);
    *id = NULL;
    *fault = prompts_fault(p);
    if (*fault == 0) {
        *id = prompts_id(p, row);
        *fault = prompts_fault(p);
    }
    return status;
}

/* As it is in the file that was opened. What came out of a file that has changed meanwhile, also if it
 * was an error, is nothing. */
static enum feeder_state read_row(struct feeder *f, size_t row, struct prompt *prompt, char **id,
                                  int *status, struct err *e)
{
    for (struct patience patience = {0};;) {
        struct err changed;
        int fault, other;
        *status = read_once(f->job.prompts, row, prompt, id, &fault, e);
        bool same = stamps_check(f->job.file, 0, &other, &changed) == 0;
        if (same && fault == 0) {
            patience_end(&patience, f->job.file->paths[0]);
            return FEEDER_FINE;
        }
        prompt_free(prompt);
        free(*id);
        *id = NULL;
        if (!same)
            *e = changed;
        if (!same && other == 0)
            return FEEDER_CHANGED;
        errno = fault ? fault : other;
        if (!patience_again(&patience, f->job.file->paths[0], "be read"))
            return FEEDER_LATER;
    }
}

/* A prompt that does not fit loses one end, when the job wants that, so that the completion fits. The
 * bos token stays first. */
static void truncate_prompt(const struct feeder *f, size_t wanted, struct fed *fed)
{
    size_t context = f->job.max_context, keep = context > wanted ? context - wanted : 1;
    enum job_truncate how = request_truncate(fed->request);
    if (fed->n < context || how == TRUNCATE_NO)
        return;
    size_t head = how == TRUNCATE_LEFT && keep > 1 && fed->tokens[0] == f->job.prompting->bos;
    if (how == TRUNCATE_LEFT)
        memmove(fed->tokens + head, fed->tokens + fed->n - (keep - head),
                (keep - head) * sizeof *fed->tokens);
    size_t gone = how == TRUNCATE_LEFT ? fed->n - keep : 0;
    fed->score_from = fed->score_from > gone + 1 ? fed->score_from - gone : 1;
    fed->n = keep;
}

/* Most tokens the sequence may come to; -1 when not even one new token fits. */
static int find_limit(const struct feeder *f, int32_t max_new_tokens, struct fed *fed,
                      struct err *e)
{
    size_t context = f->job.max_context, n;
    bool own = max_new_tokens > 0 && !f->job.job->score;
    size_t wanted = (size_t)(own ? max_new_tokens : request_max_new_tokens(fed->request));
    fed->prompt_only = wanted == 0;
    wanted += fed->prompt_only; /* the place of a token that is drawn and not taken */
    truncate_prompt(f, wanted, fed);
    n = fed->n;
    if (request_prompt_logprobs(fed->request) < 0 || fed->score_from >= n)
        fed->score_from = 0;
    if (n >= context)
        return err_set(e, "the prompt has %zu tokens, but at most %zu fit the context of %zu", n,
                       context - 1, context);
    fed->limit = wanted < context - n ? n + wanted : context;
    return 0;
}

/* The request of a sample of the row. */
static struct request *request_of(struct feeder *f, uint64_t row, uint64_t unit, struct err *e)
{
    uint64_t samples = job_decoded(f->job.job);
    return request_new(&f->requests, f->overrides, row, (uint32_t)(unit % samples), e);
}

/* Fills f->fed. */
static enum feeder_state feed(struct feeder *f, uint64_t row, struct err *e)
{
    struct fed *fed = &f->fed;
    struct prompt prompt;
    int status;
    fed_free(fed);
    f->prompt = UINT64_MAX;
    enum feeder_state state = read_row(f, (size_t)row, &prompt, &fed->id, &status, e);
    if (state != FEEDER_FINE)
        return state;
    json_decref(f->overrides);
    f->overrides = json_incref(prompt.overrides);
    if (status == 0)
        status =
            prompting_encode(f->job.prompting, &prompt, &fed->tokens, &fed->n, &fed->score_from, e);
    if (status == 0)
        status = (fed->request = request_of(f, row, 0, e)) ? 0 : -1;
    if (status == 0)
        status = find_limit(f, prompt.max_new_tokens, fed, e);
    prompt_free(&prompt);
    if (status != 0) {
        fed->error = mem_string(e->text);
        free(fed->tokens);
        fed->tokens = NULL;
    }
    f->prompt = row;
    return FEEDER_FINE;
}

enum feeder_state feeder_survey(const struct feeder_job *job, uint64_t n, feeder_use use,
                                void *context, struct err *e)
{
    struct feeder f = {.job = *job, .requests = prompting_requests(job->prompting)};
    enum feeder_state state = FEEDER_FINE;
    for (uint64_t i = 0; i < n && state == FEEDER_FINE; i++) {
        state = feed(&f, job->job->prompts.first + i, e);
        if (state == FEEDER_FINE)
            use(context, &f.fed);
    }
    fed_free(&f.fed);
    json_decref(f.overrides);
    return state;
}

static void copy_fed(struct feeder *f, uint64_t row, struct fed *to)
{
    const struct fed *from = &f->fed;
    struct err e;
    to->id = mem_string(from->id);
    to->error = from->error ? mem_string(from->error) : NULL;
    to->n = from->n;
    to->limit = from->limit;
    to->score_from = from->score_from;
    to->prompt_only = from->prompt_only;
    if (!from->tokens)
        return;
    to->tokens = mem_new(from->n, sizeof *to->tokens);
    memcpy(to->tokens, from->tokens, from->n * sizeof *to->tokens);
    to->request = request_of(f, row, to->unit, &e); /* it was read before */
}

static uint64_t row_of(const struct feeder *f, uint64_t unit)
{
    const struct job *job = f->job.job;
    return job->prompts.first + unit / job_decoded(job);
}

static void *run(void *context)
{
    struct feeder *f = context;
    struct err e = {{0}};
    pthread_mutex_lock(&f->lock);
    for (;;) {
        while (!f->todo && !f->closing)
            pthread_cond_wait(&f->work, &f->lock);
        if (f->closing || f->state != FEEDER_FINE)
            break;
        struct entry *entry = f->todo;
        pthread_mutex_unlock(&f->lock);
        uint64_t row = row_of(f, entry->fed.unit);
        enum feeder_state state = row == f->prompt ? FEEDER_FINE : feed(f, row, &e);
        if (state == FEEDER_FINE)
            copy_fed(f, row, &entry->fed);
        pthread_mutex_lock(&f->lock);
        if (state != FEEDER_FINE) {
            f->error = e;
            f->state = state;
            break;
        }
        entry->ready = true;
        f->ready++;
        f->todo = entry->next;
        pthread_cond_signal(&f->done);
    }
    pthread_cond_signal(&f->done);
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* ---- the main thread ------------------------------------------------------------------------ */

struct feeder *feeder_open(const struct feeder_job *job)
{
    struct feeder *f = mem_zeroed(1, sizeof *f);
    pthread_condattr_t attributes;
    sigset_t all, before;
    f->job = *job;
    f->requests = prompting_requests(job->prompting);
    f->prompt = UINT64_MAX;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->work, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&f->done, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all); /* signals are for the main thread, but those that this one causes */
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int why = pthread_create(&f->thread, NULL, run, f);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (why != 0)
        die("a thread that reads prompts cannot be started: %s", strerror(why));
    return f;
}

void feeder_close(struct feeder *f)
{
    if (!f)
        return;
    pthread_mutex_lock(&f->lock);
    f->closing = true;
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    for (struct entry *entry = f->first, *next; entry; entry = next) {
        next = entry->next;
        fed_free(&entry->fed);
        free(entry);
    }
    fed_free(&f->fed);
    json_decref(f->overrides);
    pthread_cond_destroy(&f->done);
    pthread_cond_destroy(&f->work);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

void feeder_put(struct feeder *f, uint64_t unit, const void *with)
{
    struct entry *entry = mem_zeroed(1, sizeof *entry);
    entry->fed.unit = unit;
    entry->fed.with = with;
    pthread_mutex_lock(&f->lock);
    if (f->last)
        f->last->next = entry;
    else
        f->first = entry;
    f->last = entry;
    if (!f->todo)
        f->todo = entry;
    f->coming++;
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->lock);
}

bool feeder_take(struct feeder *f, struct fed *out)
{
    pthread_mutex_lock(&f->lock);
    struct entry *entry = f->first;
    bool ready = entry && entry->ready && f->state == FEEDER_FINE;
    if (ready) {
        *out = entry->fed;
        f->first = entry->next;
        if (!f->first)
            f->last = NULL;
        f->coming--;
        f->ready--;
    }
    pthread_mutex_unlock(&f->lock);
    if (ready)
        free(entry);
    return ready;
}

int feeder_coming(struct feeder *f)
{
    pthread_mutex_lock(&f->lock);
    int coming = f->coming;
    pthread_mutex_unlock(&f->lock);
    return coming;
}

enum feeder_state feeder_state(struct feeder *f, struct err *e)
{
    pthread_mutex_lock(&f->lock);
    enum feeder_state state = f->state;
    if (state != FEEDER_FINE)
        *e = f->error;
    pthread_mutex_unlock(&f->lock);
    return state;
}

static struct timespec in_milliseconds(long n)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += n * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

void feeder_wait(struct feeder *f)
{
    struct timespec end = in_milliseconds(100);
    bool some = false;
    int late = 0;
    pthread_mutex_lock(&f->lock);
    while (f->ready < f->coming && f->state == FEEDER_FINE && late != ETIMEDOUT) {
        if (f->ready > 0 && !some) {
            some = true;
            end = in_milliseconds(10);
        }
        late = pthread_cond_timedwait(&f->done, &f->lock, &end);
    }
    pthread_mutex_unlock(&f->lock);
}
