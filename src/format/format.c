#include "format/format.h"

#include "base/mem.h"
#include "format/automaton.h"
#include "format/regex.h"
#include "format/schema.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_MOST 64 /* formats that nobody uses */

struct format {
    char *text;                  /* its JSON */
    struct automaton *automaton; /* the thread's */
    uint64_t generation;         /* how often that has forgotten its states */
    int users;
    struct format *next;
};

struct follow {
    struct formats *all;
    struct format *format;
    char *bytes; /* of the completion */
    size_t n, room;
    bool waits; /* for the thread */
    struct follow *next;
    /* The thread's, while it waits. */
    size_t done;
    int32_t state;
    uint64_t generation;
    bool may_end, may_go_on;
    uint32_t *mask;
};

struct formats {
    const struct tokenizer *tokenizer;
    int32_t vocab;
    pthread_mutex_t making; /* of formats: one is made after the other */
    struct trie *trie;
    struct format *first;
    pthread_mutex_t lock; /* of the rest, and of what follows say */
    pthread_cond_t work, done;
    struct follow *head, *tail; /* waiting */
    bool started, closing;
    pthread_t thread;
};

/* ---- the thread ----------------------------------------------------------------------------- */

/* Steps over the bytes that are new, all of them when the states were forgotten. */
static void go_along(struct follow *f, const char *bytes, size_t from, size_t n)
{
    struct automaton *a = f->format->automaton;
    size_t words = ((size_t)f->all->vocab + 31) / 32;
    for (size_t i = from; i < n; i++)
        f->state = automaton_next(a, f->state, (uint8_t)bytes[i]);
    memcpy(f->mask, automaton_mask(a, f->state), words * sizeof *f->mask);
    f->may_end = automaton_accepts(a, f->state);
    f->may_go_on = false;
    for (size_t i = 0; i < words && !f->may_go_on; i++)
        f->may_go_on = f->mask[i] != 0;
    f->done = n;
}

static void serve(struct follow *f, char **copy)
{
    struct format *format = f->format;
    size_t n = f->n;
    *copy = mem_resize(*copy, n + 1, 1);
    if (n)
        memcpy(*copy, f->bytes, n);
    pthread_mutex_unlock(&f->all->lock);
    if (automaton_tidy(format->automaton))
        format->generation++;
    if (f->generation != format->generation) {
        f->generation = format->generation;
        f->state = AUTOMATON_START;
        f->done = 0;
    }
    go_along(f, *copy, f->done, n);
    pthread_mutex_lock(&f->all->lock);
}

static void *run(void *context)
{
    struct formats *all = context;
    char *copy = NULL;
    pthread_mutex_lock(&all->lock);
    while (!all->closing) {
        struct follow *f = all->head;
        if (!f) {
            pthread_cond_wait(&all->work, &all->lock);
            continue;
        }
        serve(f, &copy);
        if (f->done < f->n) /* it was fed meanwhile */
            continue;
        all->head = f->next;
        if (!all->head)
            all->tail = NULL;
        f->waits = false;
        pthread_cond_broadcast(&all->done);
    }
    pthread_mutex_unlock(&all->lock);
    free(copy);
    return NULL;
}

static void start(struct formats *all)
{
    sigset_t every, before;
    sigfillset(&every); /* signals are for the main thread, but those that this one causes */
    sigdelset(&every, SIGSEGV);
    sigdelset(&every, SIGBUS);
    sigdelset(&every, SIGFPE);
    sigdelset(&every, SIGILL);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    int why = pthread_create(&all->thread, NULL, run, all);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (why != 0)
        die("a thread for the formats of completions cannot be started: %s", strerror(why));
    all->started = true;
}

/* ---- formats -------------------------------------------------------------------------------- */

struct formats *formats_new(const struct tokenizer *t, int32_t vocab)
{
    struct formats *all = mem_zeroed(1, sizeof *all);
    all->tokenizer = t;
    all->vocab = vocab;
    pthread_mutex_init(&all->making, NULL);
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->work, NULL);
    pthread_cond_init(&all->done, NULL);
    return all;
}

static void format_free(struct format *f)
{
    automaton_free(f->automaton);
    free(f->text);
    free(f);
}

void formats_free(struct formats *all)
{
    if (!all)
        return;
    pthread_mutex_lock(&all->lock);
    all->closing = true;
    pthread_cond_signal(&all->work);
    pthread_mutex_unlock(&all->lock);
    if (all->started)
        pthread_join(all->thread, NULL);
    while (all->first) {
        struct format *f = all->first;
        all->first = f->next;
        format_free(f);
    }
    trie_free(all->trie);
    pthread_cond_destroy(&all->work);
    pthread_cond_destroy(&all->done);
    pthread_mutex_destroy(&all->lock);
    pthread_mutex_destroy(&all->making);
    free(all);
}

static int add_choices(struct grammar *g, const json_t *list, struct grammar_rule r, struct err *e)
{
    const json_t *item;
    size_t i;
    if (!json_is_array(list) || json_array_size(list) == 0)
        return err_set(e, "choice wants a list of texts");
    json_array_foreach(list, i, item)
    {
        if (!json_is_string(item))
            return err_set(e, "choice wants a list of texts; number %zu is none", i + 1);
        grammar_text(g, r.first, r.last, json_string_value(item), json_string_length(item));
    }
    return 0;
}

static int add_format(struct grammar *g, const json_t *format, struct err *e)
{
    const json_t *regex = json_object_get(format, "regex"),
                 *choice = json_object_get(format, "choice"),
                 *schema = json_object_get(format, "json_schema");
    struct grammar_rule r = g->rules[0];
    if (json_object_size(format) != 1 || (!regex && !choice && !schema))
        return err_set(e, "wants {regex: text}, {choice: list} or {json_schema: schema}");
    if (regex && !json_is_string(regex))
        return err_set(e, "regex wants a text");
    int status = regex    ? regex_add(g, REGEX_WHOLE, json_string_value(regex), r.first, r.last, e)
                 : choice ? add_choices(g, choice, r, e)
                          : schema_add(g, schema, r.first, r.last, e);
    if (status == 0)
        status = grammar_finish(g, e);
    const char *name = regex ? "regex" : choice ? "choice" : "json_schema";
    return status == 0 ? 0 : err_prefix(e, "%s", name);
}

/* Formats beyond those that are kept go, the oldest first. */
static void drop_unused(struct formats *all)
{
    int unused = 0;
    for (struct format **at = &all->first; *at;) {
        struct format *f = *at;
        unused += f->users == 0;
        if (f->users > 0 || unused <= KEPT_MOST) {
            at = &f->next;
            continue;
        }
        *at = f->next;
        format_free(f);
    }
}

/* The one with this JSON, which now has one user more. */
static struct format *find_format(struct formats *all, const char *text)
{
    struct format *f;
    pthread_mutex_lock(&all->lock);
    for (f = all->first; f && strcmp(f->text, text) != 0; f = f->next)
        ;
    if (f)
        f->users++;
    pthread_mutex_unlock(&all->lock);
    return f;
}

static struct format *make_format(struct formats *all, const json_t *format, const char *text,
                                  struct err *e)
{
    struct grammar *g = grammar_new();
    if (add_format(g, format, e) != 0) {
        grammar_free(g);
        return NULL;
    }
    if (!all->trie)
        all->trie = trie_new(all->tokenizer, all->vocab);
    struct format *f = mem_zeroed(1, sizeof *f);
    f->text = mem_string(text);
    f->automaton = automaton_new(g, all->trie);
    f->users = 1;
    pthread_mutex_lock(&all->lock);
    drop_unused(all);
    f->next = all->first;
    all->first = f;
    if (!all->started)
        start(all);
    pthread_mutex_unlock(&all->lock);
    return f;
}

/* ---- one completion ------------------------------------------------------------------------- */

/* With the lock held. */
static void enqueue(struct follow *f)
{
    struct formats *all = f->all;
    if (f->waits)
        return;
    f->waits = true;
    f->next = NULL;
    if (all->tail)
        all->tail->next = f;
    else
        all->head = f;
    all->tail = f;
    pthread_cond_signal(&all->work);
}

struct follow *follow_new(struct formats *all, const json_t *format, struct err *e)
{
    char *text = json_dumps(format, JSON_COMPACT | JSON_ENCODE_ANY);
    pthread_mutex_lock(&all->making);
    struct format *shared = find_format(all, text);
    if (!shared)
        shared = make_format(all, format, text, e);
    pthread_mutex_unlock(&all->making);
    free(text);
    if (!shared)
        return NULL;
    struct follow *f = mem_zeroed(1, sizeof *f);
    f->all = all;
    f->format = shared;
    f->generation = UINT64_MAX; /* it begins at the start */
    f->mask = mem_zeroed(((size_t)all->vocab + 31) / 32, sizeof *f->mask);
    pthread_mutex_lock(&all->lock);
    enqueue(f);
    pthread_mutex_unlock(&all->lock);
    return f;
}

/* With the lock held. */
static void wait_for(struct follow *f)
{
    while (f->waits)
        pthread_cond_wait(&f->all->done, &f->all->lock);
}

void follow_free(struct follow *f)
{
    if (!f)
        return;
    pthread_mutex_lock(&f->all->lock);
    wait_for(f);
    f->format->users--;
    pthread_mutex_unlock(&f->all->lock);
    free(f->bytes);
    free(f->mask);
    free(f);
}

void follow_feed(struct follow *f, const char *bytes, size_t n)
{
    pthread_mutex_lock(&f->all->lock);
    if (f->n + n > f->room) {
        f->room = 2 * (f->n + n) + 64;
        f->bytes = mem_resize(f->bytes, f->room, 1);
    }
    if (n)
        memcpy(f->bytes + f->n, bytes, n);
    f->n += n;
    enqueue(f);
    pthread_mutex_unlock(&f->all->lock);
}

struct follow_state follow_state(struct follow *f)
{
    pthread_mutex_lock(&f->all->lock);
    wait_for(f);
    pthread_mutex_unlock(&f->all->lock);
    return (struct follow_state){f->mask, f->may_end, f->may_go_on};
}
